// WebAssembly's 128-bit vectors: Chrome 91, Firefox 89, Safari 16.4 and later.
#include "kernels.h"

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>

#define LITTLEFOOT_FLOATS 4
#define LITTLEFOOT_TILE {4, 2}
#include "rows.inl"
#include "rows_plain.inl"
#include "floats.inl"
#include "attention_f32.inl"

namespace littlefoot {
namespace {

constexpr int kColumns = 16, kGroup = 4, kStep = 8;

// Byte c: index of columns 0-3 of the step in the low half, of 4-7 in the high half, of output c.
void pack_indices(const uint8_t* bits, uint8_t* unit) {
    for (int c = 0; c < kColumns; ++c) unit[c] = bits_of(bits + c * kStep);
}

void build_tables(const uint8_t* digits, long inputs, uint8_t* tables) {
    const v128_t masks[kGroup] = {
        wasm_i8x16_const(0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1),
        wasm_i8x16_const(0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1, 0, 0, -1, -1),
        wasm_i8x16_const(0, 0, 0, 0, -1, -1, -1, -1, 0, 0, 0, 0, -1, -1, -1, -1),
        wasm_i8x16_const(0, 0, 0, 0, 0, 0, 0, 0, -1, -1, -1, -1, -1, -1, -1, -1),
    };
    for (long g = 0; g < inputs / kGroup; ++g) {
        v128_t sum = wasm_i8x16_splat(0);
        for (int k = 0; k < kGroup; ++k)
            sum = wasm_i8x16_add(sum, wasm_v128_and(masks[k], wasm_v128_load8_splat(digits + g * kGroup + k)));
        wasm_v128_store(tables + g * 16, sum);
    }
}

// ``between``: steps whose entries a byte can hold, before they are added to words.
template <int kRows>
void look_up_rows(const uint8_t* tables, long table_stride, const uint8_t* units, long steps, long between,
                  bool add, uint16_t* sums, long sum_stride) {
    v128_t left[kRows], right[kRows];
    for (int r = 0; r < kRows; ++r) {
        left[r] = add ? wasm_v128_load(sums + r * sum_stride) : wasm_i16x8_splat(0);
        right[r] = add ? wasm_v128_load(sums + r * sum_stride + 8) : wasm_i16x8_splat(0);
    }
    for (long s = 0; s < steps; s += between) {
        v128_t bytes[kRows];
        for (int r = 0; r < kRows; ++r) bytes[r] = wasm_i8x16_splat(0);
        const long end = steps < s + between ? steps : s + between;
        for (long t = s; t < end; ++t) {
            const v128_t both = wasm_v128_load(units + t * kColumns);
            const v128_t i0 = wasm_v128_and(both, wasm_i8x16_splat(15)), i1 = wasm_u8x16_shr(both, 4);
            for (int r = 0; r < kRows; ++r) {
                const uint8_t* entries = tables + r * table_stride + t * 32;
                bytes[r] = wasm_i8x16_add(bytes[r], wasm_i8x16_swizzle(wasm_v128_load(entries), i0));
                bytes[r] = wasm_i8x16_add(bytes[r], wasm_i8x16_swizzle(wasm_v128_load(entries + 16), i1));
            }
        }
        for (int r = 0; r < kRows; ++r) {
            left[r] = wasm_i16x8_add(left[r], wasm_u16x8_extend_low_u8x16(bytes[r]));
            right[r] = wasm_i16x8_add(right[r], wasm_u16x8_extend_high_u8x16(bytes[r]));
        }
    }
    for (int r = 0; r < kRows; ++r) {
        wasm_v128_store(sums + r * sum_stride, left[r]);
        wasm_v128_store(sums + r * sum_stride + 8, right[r]);
    }
}

void look_up(const uint8_t* tables, long table_stride, int rows, const uint8_t* units, long steps, int largest,
             bool add, uint16_t* sums, long sum_stride) {
    const long between = largest <= 1 ? 31 : largest <= 3 ? 10 : largest <= 7 ? 4 : 2;
    int r = 0;
    for (; r + 4 <= rows; r += 4)
        look_up_rows<4>(tables + r * table_stride, table_stride, units, steps, between, add, sums + r * sum_stride,
                        sum_stride);
    for (; r < rows; ++r)
        look_up_rows<1>(tables + r * table_stride, table_stride, units, steps, between, add, sums + r * sum_stride,
                        sum_stride);
}

void expand(const uint8_t* packed, long bytes, int bits, int8_t* codes) {
    const v128_t mask = wasm_i8x16_splat(static_cast<int8_t>((1 << bits) - 1));
    for (long done = 0; done < bytes; packed += 64)
        for (int j = 0; j < 8; j += bits, done += 64)
            for (int v = 0; v < 64; v += 16)
                wasm_v128_store(codes + done + v, wasm_v128_and(wasm_u8x16_shr(wasm_v128_load(packed + v), j), mask));
}

// Products are of words: inputs and codes are widened first, a piece of the codes for all rows.
constexpr long kPiece = 256;  // inputs

// Codes (columns, 4) bytes for each four inputs -> (columns, 2) words for each two.
void widen(const int8_t* codes, long inputs, int16_t* wide) {
    for (long k = 0; k < inputs; k += 4)
        for (int c = 0; c < kColumns; c += 4) {
            const v128_t four = wasm_v128_load(codes + k * kColumns + c * 4);
            const v128_t left = wasm_i16x8_extend_low_i8x16(four), right = wasm_i16x8_extend_high_i8x16(four);
            wasm_v128_store(wide + k * kColumns + c * 2, wasm_i32x4_shuffle(left, right, 0, 2, 4, 6));
            wasm_v128_store(wide + (k + 2) * kColumns + c * 2, wasm_i32x4_shuffle(left, right, 1, 3, 5, 7));
        }
}

template <int kRows>
void dot_rows(const uint8_t* a, long a_stride, const int16_t* codes, long inputs, int32_t* sums, long sum_stride) {
    alignas(16) int16_t x[kRows][kPiece];
    for (int r = 0; r < kRows; ++r)
        for (long k = 0; k < inputs; k += 8)
            wasm_v128_store(x[r] + k, wasm_u16x8_load8x8(a + r * a_stride + k));
    v128_t sum[kRows][4];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < 4; ++v) sum[r][v] = wasm_v128_load(sums + r * sum_stride + v * 4);
    for (long k = 0; k < inputs; k += 2)
        for (int v = 0; v < 4; ++v) {
            const v128_t w = wasm_v128_load(codes + k * kColumns + v * 8);
            for (int r = 0; r < kRows; ++r)
                sum[r][v] = wasm_i32x4_add(sum[r][v], wasm_i32x4_dot_i16x8(wasm_v128_load32_splat(x[r] + k), w));
        }
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < 4; ++v) wasm_v128_store(sums + r * sum_stride + v * 4, sum[r][v]);
}

void dot(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int bits, int32_t* sums,
         long sum_stride) {
    (void)bits;
    alignas(16) int16_t wide[kPiece * kColumns];
    for (long first = 0; first < inputs; first += kPiece) {
        const long part = inputs - first < kPiece ? inputs - first : kPiece;
        widen(codes + first * kColumns, part, wide);
        long r = 0;
        for (; r + 3 <= rows; r += 3)
            dot_rows<3>(a + r * a_stride + first, a_stride, wide, part, sums + r * sum_stride, sum_stride);
        for (; r < rows; ++r)
            dot_rows<1>(a + r * a_stride + first, a_stride, wide, part, sums + r * sum_stride, sum_stride);
    }
}

const Kernels kKernels = {
    "wasm",        kColumns,      kGroup,     kStep,         4,   pack_indices, build_tables,
    look_up,       kColumns,      expand,     dot,           quantize, split,   combine, restore,
    finish,        layer_norm,    add,        activate_row,
    kFloatColumns, expand_halves, float_product, complete,
    false,         f32_packed_bytes, f32_scratch, f32_pack_keys, f32_pack_values, f32_attend,
};

}  // namespace

const Kernels* wasm_kernels() { return &kKernels; }

}  // namespace littlefoot

#else

namespace littlefoot {
const Kernels* wasm_kernels() { return nullptr; }
}  // namespace littlefoot

#endif
