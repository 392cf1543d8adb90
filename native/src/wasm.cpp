// WebAssembly's 128-bit vectors: Chrome 91, Firefox 89, Safari 16.4 and later. This file is compiled a second time for
// browsers with relaxed vectors, some of whose results depend on the processor: where its results may, it says so.
#include "kernels.h"

#if defined(__wasm_simd128__)
#include <wasm_simd128.h>

#define LITTLEFOOT_FLOATS 4
#define LITTLEFOOT_TILE {4, 2}
#if defined(__wasm_relaxed_simd__)
#define LITTLEFOOT_MULTIPLY_ADD(left, right, sum) \
    static_cast<Floats>(wasm_f32x4_relaxed_madd(wasm_f32x4_splat(left), right, sum))
#endif
#include "rows.inl"
#include "rows_plain.inl"
#include "floats.inl"
#include "attention_f32.inl"

namespace littlefoot {
namespace {

constexpr int kColumns = 16, kGroup = 4, kStep = 8;

// Entry i of a table of 16 bytes; all indices are below 16.
v128_t entries_at(v128_t table, v128_t i) {
#if defined(__wasm_relaxed_simd__)
    return wasm_i8x16_relaxed_swizzle(table, i);
#else
    return wasm_i8x16_swizzle(table, i);
#endif
}

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
                bytes[r] = wasm_i8x16_add(bytes[r], entries_at(wasm_v128_load(entries), i0));
                bytes[r] = wasm_i8x16_add(bytes[r], entries_at(wasm_v128_load(entries + 16), i1));
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

// Dot products: tiles of rows and of vectors of four sums each, which stay in registers while all inputs are read.
constexpr int kDotColumns = 32;

// sums (kRows, 4 * kVectors) += tile(sum, k) for each k.
template <int kRows, int kSums, typename Tile>
inline void add_tile(int32_t* sums, long sum_stride, const Tile& tile) {
    v128_t sum[kRows][kSums];
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kSums; ++v) sum[r][v] = wasm_v128_load(sums + r * sum_stride + v * 4);
    tile(sum);
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < kSums; ++v) wasm_v128_store(sums + r * sum_stride + v * 4, sum[r][v]);
}

// Rows in tiles of kRows, and the last ones one by one.
template <int kRows, typename Call>
inline void in_tiles(long rows, const Call& call) {
    long r = 0;
    for (; r + kRows <= rows; r += kRows) call.template operator()<kRows>(r);
    for (; r < rows; ++r) call.template operator()<1>(r);
}

// Products of words: inputs and codes are widened first, a piece of the codes for all rows.
constexpr long kPiece = 256;  // inputs

// Codes (columns, 4) bytes for each four inputs -> (columns, 2) words for each two.
void widen(const int8_t* codes, long inputs, int16_t* wide) {
    for (long k = 0; k < inputs; k += 4)
        for (int c = 0; c < kDotColumns; c += 4) {
            const v128_t four = wasm_v128_load(codes + k * kDotColumns + c * 4);
            const v128_t left = wasm_i16x8_extend_low_i8x16(four), right = wasm_i16x8_extend_high_i8x16(four);
            wasm_v128_store(wide + k * kDotColumns + c * 2, wasm_i32x4_shuffle(left, right, 0, 2, 4, 6));
            wasm_v128_store(wide + (k + 2) * kDotColumns + c * 2, wasm_i32x4_shuffle(left, right, 1, 3, 5, 7));
        }
}

template <int kRows>
void dot_words_rows(const uint8_t* a, long a_stride, const int16_t* codes, long inputs, int32_t* sums,
                    long sum_stride) {
    constexpr int kSums = 4;
    alignas(16) int16_t x[kRows][kPiece];
    for (int r = 0; r < kRows; ++r)
        for (long k = 0; k < inputs; k += 8)
            wasm_v128_store(x[r] + k, wasm_u16x8_load8x8(a + r * a_stride + k));
    for (int c = 0; c < kDotColumns; c += 4 * kSums)
        add_tile<kRows, kSums>(sums + c, sum_stride, [&](v128_t (&sum)[kRows][kSums]) {
            const int16_t* w = codes + c * 2;
            for (long k = 0; k < inputs; k += 2, w += 2 * kDotColumns) {
                v128_t two[kRows];
                for (int r = 0; r < kRows; ++r) two[r] = wasm_v128_load32_splat(x[r] + k);
                for (int v = 0; v < kSums; ++v) {
                    const v128_t column = wasm_v128_load(w + v * 8);
                    for (int r = 0; r < kRows; ++r)
                        sum[r][v] = wasm_i32x4_add(sum[r][v], wasm_i32x4_dot_i16x8(two[r], column));
                }
            }
        });
}

void dot_words(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int32_t* sums,
               long sum_stride) {
    alignas(16) int16_t wide[kPiece * kDotColumns];
    for (long first = 0; first < inputs; first += kPiece) {
        const long part = inputs - first < kPiece ? inputs - first : kPiece;
        widen(codes + first * kDotColumns, part, wide);
        in_tiles<2>(rows, [&]<int kRows>(long r) {
            dot_words_rows<kRows>(a + r * a_stride + first, a_stride, wide, part, sums + r * sum_stride, sum_stride);
        });
    }
}

#if defined(__wasm_relaxed_simd__)

// Sums of products of four signed bytes of ``w`` with four bytes of ``x``. What a byte of ``x`` above 127 stands for
// depends on the processor, and so does whether words between overflow.
v128_t add_dot(v128_t w, v128_t x, v128_t sum) {
#if defined(LITTLEFOOT_BYTES_SIGNED) || defined(LITTLEFOOT_BYTES_UNSIGNED)  // as other processors, for tests
#if defined(LITTLEFOOT_BYTES_SIGNED)
    const v128_t x0 = wasm_i16x8_extend_low_i8x16(x), x1 = wasm_i16x8_extend_high_i8x16(x);
#else
    const v128_t x0 = wasm_u16x8_extend_low_u8x16(x), x1 = wasm_u16x8_extend_high_u8x16(x);
#endif
    const v128_t left = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_low_i8x16(w), x0);
    const v128_t right = wasm_i32x4_dot_i16x8(wasm_i16x8_extend_high_i8x16(w), x1);
    return wasm_i32x4_add(sum, wasm_i32x4_add(wasm_i32x4_shuffle(left, right, 0, 2, 4, 6),
                                              wasm_i32x4_shuffle(left, right, 1, 3, 5, 7)));
#else
    return wasm_i32x4_relaxed_dot_i8x16_i7x16_add(w, x, sum);
#endif
}

enum class Bytes { with_sign, without_sign, neither };  // what add_dot takes them for without a fault

Bytes bytes_here() {
    const auto four = [](int w, int x) {
        volatile int8_t first = static_cast<int8_t>(w), second = static_cast<int8_t>(x);  // computed here, not before
        return wasm_i32x4_extract_lane(
            add_dot(wasm_i8x16_splat(first), wasm_i8x16_splat(second), wasm_i32x4_splat(0)), 0);
    };
    if (four(-128, 255) == 4 * -128 * 255 && four(127, 255) == 4 * 127 * 255) return Bytes::without_sign;
    if (four(-128, -128) == 4 * -128 * -128 && four(127, -128) == 4 * 127 * -128 && four(-128, -1) == 4 * 128)
        return Bytes::with_sign;
    return Bytes::neither;
}

// sums (columns,) += 128 * those of the codes: what sums of (a - 128) * w lack.
void add_codes(const int8_t* codes, long inputs, int32_t* sums) {
    for (int c = 0; c < kDotColumns; c += 4) {
        v128_t sum = wasm_i32x4_splat(0);
        for (long k = 0; k < inputs; k += 4) {
            const v128_t pairs = wasm_i16x8_extadd_pairwise_i8x16(wasm_v128_load(codes + k * kDotColumns + c * 4));
            sum = wasm_i32x4_add(sum, wasm_i32x4_extadd_pairwise_i16x8(pairs));
        }
        wasm_v128_store(sums + c, wasm_i32x4_add(wasm_v128_load(sums + c), wasm_i32x4_shl(sum, 7)));
    }
}

void add_codes_to_rows(const int8_t* codes, long inputs, long rows, int32_t* sums, long sum_stride) {
    alignas(16) int32_t lacking[kDotColumns] = {};
    add_codes(codes, inputs, lacking);
    for (long r = 0; r < rows; ++r)
        for (int c = 0; c < kDotColumns; ++c) sums[r * sum_stride + c] += lacking[c];
}

constexpr uint32_t kSigned = 0x80808080u;  // four bytes of inputs - 128, which have a sign

inline v128_t four_inputs(const uint8_t* a, uint32_t flipped) {
    uint32_t four;
    __builtin_memcpy(&four, a, 4);
    return wasm_i32x4_splat(static_cast<int32_t>(four ^ flipped));
}

template <int kRows>
void dot_bytes_rows(const uint8_t* a, long a_stride, const int8_t* codes, long inputs, uint32_t flipped,
                    int32_t* sums, long sum_stride) {
    constexpr int kSums = 2;
    for (int c = 0; c < kDotColumns; c += 4 * kSums)
        add_tile<kRows, kSums>(sums + c, sum_stride, [&](v128_t (&sum)[kRows][kSums]) {
            const int8_t* w = codes + c * 4;
            for (long k = 0; k < inputs; k += 4, w += 4 * kDotColumns) {
                const v128_t left = wasm_v128_load(w), right = wasm_v128_load(w + 16);
                for (int r = 0; r < kRows; ++r) {
                    const v128_t x = four_inputs(a + r * a_stride + k, flipped);
                    sum[r][0] = add_dot(left, x, sum[r][0]);
                    sum[r][1] = add_dot(right, x, sum[r][1]);
                }
            }
        });
}

void dot_bytes(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, uint32_t flipped,
               int32_t* sums, long sum_stride) {
    if (flipped) add_codes_to_rows(codes, inputs, rows, sums, sum_stride);
    in_tiles<4>(rows, [&]<int kRows>(long r) {
        dot_bytes_rows<kRows>(a + r * a_stride, a_stride, codes, inputs, flipped, sums + r * sum_stride, sum_stride);
    });
}

// Codes up to 15 are bytes that all processors take for the same: sums of (a - 128) * w. Products of pairs are at most
// 3840, so words hold eight of them, of 32 inputs.
template <int kRows>
void dot_narrow_rows(const uint8_t* a, long a_stride, const int8_t* codes, long inputs, int32_t* sums,
                     long sum_stride) {
    constexpr int kSums = 2;
    for (int c = 0; c < kDotColumns; c += 4 * kSums)
        add_tile<kRows, kSums>(sums + c, sum_stride, [&](v128_t (&sum)[kRows][kSums]) {
            const int8_t* w = codes + c * 4;
            for (long first = 0; first < inputs; first += 32) {
                v128_t words[kRows][kSums];
                for (int r = 0; r < kRows; ++r) words[r][0] = words[r][1] = wasm_i16x8_splat(0);
                for (long k = first; k < first + 32; k += 4, w += 4 * kDotColumns) {
                    const v128_t left = wasm_v128_load(w), right = wasm_v128_load(w + 16);
                    for (int r = 0; r < kRows; ++r) {
                        const v128_t x = four_inputs(a + r * a_stride + k, kSigned);
                        words[r][0] = wasm_i16x8_add(words[r][0], wasm_i16x8_relaxed_dot_i8x16_i7x16(x, left));
                        words[r][1] = wasm_i16x8_add(words[r][1], wasm_i16x8_relaxed_dot_i8x16_i7x16(x, right));
                    }
                }
                for (int r = 0; r < kRows; ++r)
                    for (int v = 0; v < kSums; ++v)
                        sum[r][v] = wasm_i32x4_add(sum[r][v], wasm_i32x4_extadd_pairwise_i16x8(words[r][v]));
            }
        });
}

void dot_narrow(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int32_t* sums,
                long sum_stride) {
    add_codes_to_rows(codes, inputs, rows, sums, sum_stride);
    in_tiles<2>(rows, [&]<int kRows>(long r) {
        dot_narrow_rows<kRows>(a + r * a_stride, a_stride, codes, inputs, sums + r * sum_stride, sum_stride);
    });
}

void dot(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int bits, int32_t* sums,
         long sum_stride) {
    static const Bytes here = bytes_here();
    if (bits < 8)
        dot_narrow(a, a_stride, rows, codes, inputs, sums, sum_stride);
    else if (here == Bytes::neither)
        dot_words(a, a_stride, rows, codes, inputs, sums, sum_stride);
    else
        dot_bytes(a, a_stride, rows, codes, inputs, here == Bytes::with_sign ? kSigned : 0, sums, sum_stride);
}

#else

void dot(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int bits, int32_t* sums,
         long sum_stride) {
    (void)bits;
    dot_words(a, a_stride, rows, codes, inputs, sums, sum_stride);
}

#endif

const Kernels kKernels = {
    "wasm",        kColumns,      kGroup,     kStep,         4,   pack_indices, build_tables,
    look_up,       kDotColumns,   expand,     dot,           quantize, split,   combine, restore,
    finish,        layer_norm,    add,        activate_row,
    kFloatColumns, expand_halves, float_product, complete,
    false,         f32_packed_bytes, f32_scratch, f32_map_row, f32_pack_keys, f32_pack_values, f32_attend,
};

}  // namespace

const Kernels* wasm_kernels() { return &kKernels; }

}  // namespace littlefoot

#else

namespace littlefoot {
const Kernels* wasm_kernels() { return nullptr; }
}  // namespace littlefoot

#endif
