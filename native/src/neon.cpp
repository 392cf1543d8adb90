// ARMv8.2 with the dot product extension: Cortex-A55/A76, Neoverse, Apple M1 and later.
#include "kernels.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#if defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#define LITTLEFOOT_FLOATS 4
#define LITTLEFOOT_TILE {6, 4}
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
    static const uint8_t kMasks[4][16] = {
        {0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255, 0, 255},
        {0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 255, 255, 0, 0, 255, 255},
        {0, 0, 0, 0, 255, 255, 255, 255, 0, 0, 0, 0, 255, 255, 255, 255},
        {0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255},
    };
    for (long g = 0; g < inputs / kGroup; ++g) {
        uint8x16_t sum = vdupq_n_u8(0);
        for (int k = 0; k < kGroup; ++k)
            sum = vaddq_u8(sum, vandq_u8(vld1q_u8(kMasks[k]), vdupq_n_u8(digits[g * kGroup + k])));
        vst1q_u8(tables + g * 16, sum);
    }
}

// ``between``: steps whose entries a byte can hold, before they are added to words.
template <int kRows>
void look_up_rows(const uint8_t* tables, long table_stride, const uint8_t* units, long steps, long between,
                  bool add, uint16_t* sums, long sum_stride) {
    uint16x8_t left[kRows], right[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
        left[r] = add ? vld1q_u16(sums + r * sum_stride) : vdupq_n_u16(0);
        right[r] = add ? vld1q_u16(sums + r * sum_stride + 8) : vdupq_n_u16(0);
    }
    for (long s = 0; s < steps; s += between) {
        uint8x16_t bytes[kRows];
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) bytes[r] = vdupq_n_u8(0);
        const long end = steps < s + between ? steps : s + between;
        for (long t = s; t < end; ++t) {
            const uint8x16_t both = vld1q_u8(units + t * kColumns);
            const uint8x16_t i0 = vandq_u8(both, vdupq_n_u8(15)), i1 = vshrq_n_u8(both, 4);
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r) {
                const uint8_t* entries = tables + r * table_stride + t * 32;
                bytes[r] = vaddq_u8(bytes[r], vqtbl1q_u8(vld1q_u8(entries), i0));
                bytes[r] = vaddq_u8(bytes[r], vqtbl1q_u8(vld1q_u8(entries + 16), i1));
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            left[r] = vaddw_u8(left[r], vget_low_u8(bytes[r]));
            right[r] = vaddw_high_u8(right[r], bytes[r]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
        vst1q_u16(sums + r * sum_stride, left[r]);
        vst1q_u16(sums + r * sum_stride + 8, right[r]);
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
    const uint8x16_t mask = vdupq_n_u8(static_cast<uint8_t>((1 << bits) - 1));
    for (long done = 0; done < bytes; packed += 64)
        for (int j = 0; j < 8; j += bits, done += 64)
            for (int v = 0; v < 64; v += 16)
                vst1q_s8(codes + done + v,
                         vreinterpretq_s8_u8(vandq_u8(vshlq_u8(vld1q_u8(packed + v), vdupq_n_s8(static_cast<int8_t>(-j))), mask)));
}

// Codes are signed and inputs are not: sum a * w = sum (a - 128) * w + 128 * sum w.
template <int kRows>
void dot_rows(const uint8_t* a, long a_stride, const int8_t* codes, long inputs, int32_t* sums, long sum_stride) {
    int32x4_t sum[kRows][4], ones[4];
    for (int v = 0; v < 4; ++v) ones[v] = vdupq_n_s32(0);
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < 4; ++v) sum[r][v] = vld1q_s32(sums + r * sum_stride + v * 4);
    for (long k = 0; k < inputs; k += 4) {
        int8x16_t w[4];
        for (int v = 0; v < 4; ++v) {
            w[v] = vld1q_s8(codes + k * kColumns + v * 16);
            ones[v] = vdotq_s32(ones[v], w[v], vdupq_n_s8(1));
        }
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            uint32_t four;
            __builtin_memcpy(&four, a + r * a_stride + k, 4);
            const int8x16_t x = vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
            for (int v = 0; v < 4; ++v) sum[r][v] = vdotq_s32(sum[r][v], x, w[v]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < 4; ++v)
            vst1q_s32(sums + r * sum_stride + v * 4, vaddq_s32(sum[r][v], vshlq_n_s32(ones[v], 7)));
}

void dot(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int bits, int32_t* sums,
         long sum_stride) {
    (void)bits;
    long r = 0;
    for (; r + 4 <= rows; r += 4)
        dot_rows<4>(a + r * a_stride, a_stride, codes, inputs, sums + r * sum_stride, sum_stride);
    for (; r < rows; ++r)
        dot_rows<1>(a + r * a_stride, a_stride, codes, inputs, sums + r * sum_stride, sum_stride);
}

void halves(const uint16_t* from, long count, float* out) {
    for (long i = 0; i < count; i += 4) vst1q_f32(out + i, vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from + i))));
}

const Kernels kKernels = {
    "neon",        kColumns,      kGroup,     kStep,         1,   pack_indices, build_tables,
    look_up,       kColumns,      expand,     dot,           quantize, split,   combine, restore,
    finish,        layer_norm,    add,        activate_row,
    kFloatColumns, halves, float_product, complete,
    false,         f32_packed_bytes, f32_scratch, f32_map_row, f32_pack_keys, f32_pack_values, f32_attend,
};

}  // namespace

const Kernels* neon_kernels() {
#if defined(__linux__)
    return getauxval(AT_HWCAP) & HWCAP_ASIMDDP ? &kKernels : nullptr;
#else
    return &kKernels;  // every ARM processor that Apple and Windows run on has it
#endif
}

}  // namespace littlefoot

#else

namespace littlefoot {
const Kernels* neon_kernels() { return nullptr; }
}  // namespace littlefoot

#endif
