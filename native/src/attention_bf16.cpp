// Attention with products in bfloat16 and sums in float32 (AVX512-BF16). The softmax is computed in float32.
// Keys: tiles of 16 frames, (pairs of channels, 16 frames, 2); values: (pairs of frames, channels padded
// to 16, 2).
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "rows.inl"

namespace littlefoot {

namespace {

inline long up(long n, long to) { return (n + to - 1) / to * to; }

constexpr long kQueries = 6, kTile = 4;  // rows, and vectors of 16 keys or channels, of a tile in registers

inline uint16_t rounded(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Adds a (kRows, 2 * pairs) times b (pairs, 16 * kWidth, 2) to zero.
template <int kRows, int kWidth>
inline void product(const uint16_t* a, long a_stride, const uint16_t* b, long b_stride, long pairs,
                    __m512 (&sum)[kRows][kWidth]) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v) sum[r][v] = _mm512_setzero_ps();
    for (long p = 0; p < pairs; ++p) {
        __m512i right[kWidth];
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v) right[v] = _mm512_loadu_si512(b + p * b_stride + v * 32);
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            int32_t pair;
            __builtin_memcpy(&pair, a + r * a_stride + 2 * p, 4);
            const __m512bh left = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int v = 0; v < kWidth; ++v)
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, (__m512bh)right[v]);
        }
    }
}

}  // namespace

size_t bf16_packed_bytes(long frames, long head_dim) {
    return static_cast<size_t>(up(frames, 16 * kTile) * up(head_dim, 16)) * sizeof(uint16_t);
}

size_t bf16_scratch(long frames, long head_dim) {
    const long wide = up(frames, 16 * kTile);
    return static_cast<size_t>(kQueries * (wide * 6 + up(head_dim, 16) * 2));
}

void bf16_pack_keys(const float* x, long stride, long first, long rows, long head_dim, void* packed) {
    const long wide = up(head_dim, 2);
    uint16_t* out = static_cast<uint16_t*>(packed) + first * wide;
    for (long r = 0; r < up(rows, 16); ++r) {
        uint16_t* tile = out + r / 16 * wide * 16 + r % 16 * 2;
        for (long k = 0; k < wide; ++k)
            tile[k / 2 * 32 + k % 2] = r < rows && k < head_dim ? rounded(x[r * stride + k]) : 0;
    }
}

void bf16_pack_values(const float* x, long stride, long first, long rows, long head_dim, void* packed) {
    const long wide = up(head_dim, 16);
    uint16_t* out = static_cast<uint16_t*>(packed) + first * wide;
    for (long r = 0; r < up(rows, 16); ++r)
        for (long k = 0; k < wide; ++k)
            out[r / 2 * wide * 2 + k * 2 + r % 2] = r < rows && k < head_dim ? rounded(x[r * stride + k]) : 0;
}

void bf16_attend(const AttentionRows& a) {
    const long wide = up(a.frames, 16 * kTile);      // keys, and the row length of the scores
    const long keys = up(a.frames, 16);              // that are packed
    const long pairs = up(a.head_dim, 2) / 2, channels = up(a.head_dim, 16);
    float* scores = static_cast<float*>(a.scratch);  // (kQueries, wide)
    uint16_t* weights = reinterpret_cast<uint16_t*>(scores + kQueries * wide);  // (kQueries, wide)
    uint16_t* queries = weights + kQueries * wide;                              // (kQueries, channels)
    const uint16_t* packed_keys = static_cast<const uint16_t*>(a.keys);
    const uint16_t* packed_values = static_cast<const uint16_t*>(a.values);
    for (long first = 0; first < a.rows; first += kQueries) {
        const long rows = a.rows - first < kQueries ? a.rows - first : kQueries;
        for (long r = 0; r < kQueries; ++r) {
            const float* row = a.query + (first + (r < rows ? r : 0)) * a.query_stride;
            for (long k = 0; k < channels; ++k)
                queries[r * channels + k] = k < a.head_dim ? rounded(row[k] * a.scale) : 0;
        }
        for (long f = 0; f < keys; f += 16) {
            __m512 sum[kQueries][1];
            product<kQueries, 1>(queries, channels, packed_keys + f * pairs * 2, 32, pairs, sum);
#pragma GCC unroll 8
            for (int r = 0; r < kQueries; ++r) _mm512_storeu_ps(scores + r * wide + f, sum[r][0]);
        }
        float sums[kQueries];
        for (long r = 0; r < kQueries; ++r) {
            float* row = scores + r * wide;
            if (a.bias && r < rows) add(row, a.bias + (first + r) * a.bias_stride, a.frames, row);
            sums[r] = exponentials(row, a.frames);
            for (long f = a.frames; f < keys; ++f) row[f] = 0.0f;
            for (long f = 0; f < keys; f += 16)
                _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + r * wide + f),
                                    (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(row + f)));
        }
        for (long k = 0; k < channels; k += 16) {
            __m512 sum[kQueries][1];
            product<kQueries, 1>(weights, wide, packed_values + k * 2, channels * 2, keys / 2, sum);
            const long count = a.head_dim - k < 16 ? a.head_dim - k : 16;
            const __mmask16 valid = static_cast<__mmask16>((1 << count) - 1);
            for (long r = 0; r < rows; ++r)
                _mm512_mask_storeu_ps(a.out + (first + r) * a.out_stride + k, valid,
                                      _mm512_div_ps(sum[r][0], _mm512_set1_ps(sums[r])));
        }
    }
}

}  // namespace littlefoot

#endif
