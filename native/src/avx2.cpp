// AVX2 with FMA and F16C: every x86-64 processor since 2013 (Intel) and 2015 (AMD).
#include "kernels.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

#define LITTLEFOOT_FLOATS 8
#define LITTLEFOOT_TILE {6, 2}
#include "rows.inl"
#include "rows_plain.inl"
#include "floats.inl"
#include "attention_f32.inl"

namespace littlefoot {
namespace {

constexpr int kColumns = 32, kGroup = 4, kStep = 8;

// Byte lane: index of columns 0-3 of the step in the low half, of 4-7 in the high half. Even lanes hold the
// first 16 outputs, odd lanes the others, as ``look_up`` adds them up.
void pack_indices(const uint8_t* bits, uint8_t* unit) {
    for (int lane = 0; lane < kColumns; ++lane) unit[lane] = bits_of(bits + (lane / 2 + lane % 2 * 16) * kStep);
}

void build_tables(const uint8_t* digits, long inputs, uint8_t* tables) {
    const __m128i first = _mm_setr_epi8(-1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0, -1, 0);
    const __m128i second = _mm_setr_epi8(-1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1);
    const __m128i third = _mm_setr_epi8(-1, -1, -1, -1, 2, 2, 2, 2, -1, -1, -1, -1, 2, 2, 2, 2);
    const __m128i fourth = _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, 3, 3, 3, 3, 3, 3, 3, 3);
    for (long g = 0; g < inputs / kGroup; ++g) {
        int32_t four;
        __builtin_memcpy(&four, digits + g * kGroup, 4);
        const __m128i x = _mm_cvtsi32_si128(four);
        const __m128i low = _mm_add_epi8(_mm_shuffle_epi8(x, first), _mm_shuffle_epi8(x, second));
        const __m128i high = _mm_add_epi8(_mm_shuffle_epi8(x, third), _mm_shuffle_epi8(x, fourth));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(tables + g * 16), _mm_add_epi8(low, high));
    }
}

inline __m256i load(const void* from) { return _mm256_loadu_si256(static_cast<const __m256i*>(from)); }
inline void store(void* to, __m256i value) { _mm256_storeu_si256(static_cast<__m256i*>(to), value); }
inline __m256i table(const uint8_t* from) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
}

// ``between``: steps whose entries a byte can hold, before they are added to words.
template <int kRows>
void look_up_rows(const uint8_t* tables, long table_stride, const uint8_t* units, long steps, long between,
                  bool add, uint16_t* sums, long sum_stride) {
    const __m256i low4 = _mm256_set1_epi8(15);
    __m256i all[kRows], odd[kRows];  // words: all = even + 256 * odd, modulo 65536
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) all[r] = odd[r] = _mm256_setzero_si256();
    for (long s = 0; s < steps; s += between) {
        __m256i bytes[kRows];
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) bytes[r] = _mm256_setzero_si256();
        const long end = steps < s + between ? steps : s + between;
        for (long t = s; t < end; ++t) {
            const __m256i both = load(units + t * kColumns);
            const __m256i i0 = _mm256_and_si256(both, low4);
            const __m256i i1 = _mm256_and_si256(_mm256_srli_epi16(both, 4), low4);
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r) {
                const uint8_t* entries = tables + r * table_stride + t * 32;
                bytes[r] = _mm256_add_epi8(bytes[r], _mm256_add_epi8(_mm256_shuffle_epi8(table(entries), i0),
                                                                     _mm256_shuffle_epi8(table(entries + 16), i1)));
            }
        }
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            all[r] = _mm256_add_epi16(all[r], bytes[r]);
            odd[r] = _mm256_add_epi16(odd[r], _mm256_srli_epi16(bytes[r], 8));
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
        uint16_t* out = sums + r * sum_stride;
        const __m256i even = _mm256_sub_epi16(all[r], _mm256_slli_epi16(odd[r], 8));
        store(out, add ? _mm256_add_epi16(load(out), even) : even);
        store(out + 16, add ? _mm256_add_epi16(load(out + 16), odd[r]) : odd[r]);
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
    const __m256i mask = _mm256_set1_epi8(static_cast<char>((1 << bits) - 1));
    for (long done = 0; done < bytes; packed += 64) {
        const __m256i left = load(packed), right = load(packed + 32);
        for (int j = 0; j < 8; j += bits, done += 64) {
            const __m128i shift = _mm_cvtsi32_si128(j);
            store(codes + done, _mm256_and_si256(_mm256_srl_epi16(left, shift), mask));
            store(codes + done + 32, _mm256_and_si256(_mm256_srl_epi16(right, shift), mask));
        }
    }
}

// ``kHeld``: inputs whose products words can hold. Those of a pair are at most 7650 with codes of 4 bits, 3570 of 3.
template <int kRows, long kHeld>
void dot_narrow(const uint8_t* a, long a_stride, const int8_t* codes, long inputs, int32_t* sums,
                long sum_stride) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int half = 0; half < 2; ++half) {
        __m256i sum[kRows][2];
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < 2; ++v) sum[r][v] = load(sums + r * sum_stride + half * 16 + v * 8);
        for (long first = 0; first < inputs; first += kHeld) {
            __m256i words[kRows][2];
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r) words[r][0] = words[r][1] = _mm256_setzero_si256();
#pragma GCC unroll 4
            for (long k = first; k < first + kHeld; k += 4) {
                const __m256i w0 = load(codes + k * kColumns + half * 64);
                const __m256i w1 = load(codes + k * kColumns + half * 64 + 32);
#pragma GCC unroll 4
                for (int r = 0; r < kRows; ++r) {
                    int32_t four;
                    __builtin_memcpy(&four, a + r * a_stride + k, 4);
                    const __m256i x = _mm256_set1_epi32(four);
                    words[r][0] = _mm256_add_epi16(words[r][0], _mm256_maddubs_epi16(x, w0));
                    words[r][1] = _mm256_add_epi16(words[r][1], _mm256_maddubs_epi16(x, w1));
                    asm("" : "+x"(words[r][0]), "+x"(words[r][1]));  // or all products come first
                }
            }
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r)
                for (int v = 0; v < 2; ++v)
                    sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(words[r][v], ones));
        }
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r)
            for (int v = 0; v < 2; ++v) store(sums + r * sum_stride + half * 16 + v * 8, sum[r][v]);
    }
}

// Eight bits: words would overflow, so inputs and codes are widened first, a piece of the codes for all rows.
constexpr long kPiece = 256;  // inputs

// Codes (columns, 4) bytes for each four inputs -> (columns, 2) words for each two.
void widen(const int8_t* codes, long inputs, int16_t* wide) {
    for (long k = 0; k < inputs; k += 4)
        for (int c = 0; c < kColumns; c += 8) {
            const int8_t* eight = codes + k * kColumns + c * 4;
            const __m256 left = _mm256_castsi256_ps(
                _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(eight))));
            const __m256 right = _mm256_castsi256_ps(
                _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(eight + 16))));
            // Of each half of a register, two columns come from either: 0 1 4 5 2 3 6 7.
            const __m256i first = _mm256_castps_si256(_mm256_shuffle_ps(left, right, 0x88));
            const __m256i second = _mm256_castps_si256(_mm256_shuffle_ps(left, right, 0xdd));
            store(wide + k * kColumns + c * 2, _mm256_permute4x64_epi64(first, 0xd8));
            store(wide + (k + 2) * kColumns + c * 2, _mm256_permute4x64_epi64(second, 0xd8));
        }
}

template <int kRows>
void dot_wide(const uint8_t* a, long a_stride, const int16_t* codes, long inputs, int32_t* sums, long sum_stride) {
    alignas(32) int16_t x[kRows][kPiece];
    for (int r = 0; r < kRows; ++r)
        for (long k = 0; k < inputs; k += 16)
            store(x[r] + k, _mm256_cvtepu8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(a + r * a_stride + k))));
    __m256i sum[kRows][4];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < 4; ++v) sum[r][v] = load(sums + r * sum_stride + v * 8);
    for (long k = 0; k < inputs; k += 2) {
        __m256i two[kRows];
#pragma GCC unroll 4
        for (int r = 0; r < kRows; ++r) {
            int32_t bits;
            __builtin_memcpy(&bits, x[r] + k, 4);
            two[r] = _mm256_set1_epi32(bits);
        }
#pragma GCC unroll 4
        for (int v = 0; v < 4; ++v) {
            const __m256i w = load(codes + k * kColumns + v * 16);
#pragma GCC unroll 4
            for (int r = 0; r < kRows; ++r) {
                sum[r][v] = _mm256_add_epi32(sum[r][v], _mm256_madd_epi16(two[r], w));
                asm("" : "+x"(sum[r][v]));  // or all products come first, and sums leave their registers
            }
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r)
        for (int v = 0; v < 4; ++v) store(sums + r * sum_stride + v * 8, sum[r][v]);
}

void dot_bytes(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int32_t* sums,
               long sum_stride) {
    alignas(32) int16_t wide[kPiece * kColumns];
    for (long first = 0; first < inputs; first += kPiece) {
        const long part = inputs - first < kPiece ? inputs - first : kPiece;
        widen(codes + first * kColumns, part, wide);
        long r = 0;
        for (; r + 3 <= rows; r += 3)
            dot_wide<3>(a + r * a_stride + first, a_stride, wide, part, sums + r * sum_stride, sum_stride);
        for (; r < rows; ++r)
            dot_wide<1>(a + r * a_stride + first, a_stride, wide, part, sums + r * sum_stride, sum_stride);
    }
}

template <long kHeld>
void dot_narrow_rows(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int32_t* sums,
                     long sum_stride) {
    long r = 0;
    for (; r + 3 <= rows; r += 3)
        dot_narrow<3, kHeld>(a + r * a_stride, a_stride, codes, inputs, sums + r * sum_stride, sum_stride);
    for (; r < rows; ++r)
        dot_narrow<1, kHeld>(a + r * a_stride, a_stride, codes, inputs, sums + r * sum_stride, sum_stride);
}

void dot(const uint8_t* a, long a_stride, long rows, const int8_t* codes, long inputs, int bits, int32_t* sums,
         long sum_stride) {
    if (bits == 8) return dot_bytes(a, a_stride, rows, codes, inputs, sums, sum_stride);
    const auto narrow = bits == 4 ? dot_narrow_rows<16> : dot_narrow_rows<32>;
    narrow(a, a_stride, rows, codes, inputs, sums, sum_stride);
}

void halves(const uint16_t* from, long count, float* out) {
    for (long i = 0; i < count; i += 8)
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + i))));
}

const Kernels kKernels = {
    "avx2",        kColumns,      kGroup,     kStep,         3,   pack_indices, build_tables,
    look_up,       kColumns,      expand,     dot,           quantize, split,   combine, restore,
    finish,        layer_norm,    add,        activate_row,
    kFloatColumns, halves, float_product, complete,
    false,         f32_packed_bytes, f32_scratch, f32_map_row, f32_pack_keys, f32_pack_values, f32_attend,
};

// Some compilers do not know the name of it.
bool has_f16c() {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && c & bit_F16C;
}

}  // namespace

const Kernels* avx2_kernels() {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c() ? &kKernels : nullptr;
}

}  // namespace littlefoot

#else

namespace littlefoot {
const Kernels* avx2_kernels() { return nullptr; }
}  // namespace littlefoot

#endif
