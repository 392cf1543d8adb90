// Attention with products in bfloat16 and sums in float32 (AVX512-BF16). The softmax is computed in float32.
// Keys: tiles of 16 frames, (pairs of channels, 16 frames, 2); values: (pairs of frames, channels padded
// to 16, 2). Where queries and keys have fixed scales their products are computed in 8 bits (VNNI). Keys are then
// tiles (fours of channels, 16 frames, 4), and behind all of them is -128 times the sum of each key: there begins its
// product with a query that 128 was added to, as the instruction takes one factor without sign.
#include "kernels.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include "attention_map.h"
#include "rows.inl"
#include "softmax_bf16.inl"

namespace littlefoot {

namespace {

constexpr int kQueries = 6;  // rows of a tile in registers

// a (kQueries, 2 * pairs) times b (pairs, kWidth vectors of 16, 2), with steps between pairs and vectors of b.
template <int kWidth>
inline void product(const uint16_t* a, long a_stride, const uint16_t* b, long pair_step, long vector_step,
                    long pairs, __m512 (&sum)[kQueries][kWidth]) {
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v) sum[r][v] = _mm512_setzero_ps();
    for (long p = 0; p < pairs; ++p) {
        __m512i right[kWidth];
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v) right[v] = _mm512_loadu_si512(b + p * pair_step + v * vector_step);
#pragma GCC unroll 8
        for (int r = 0; r < kQueries; ++r) {
            int32_t pair;
            __builtin_memcpy(&pair, a + r * a_stride + 2 * p, 4);
            const __m512bh left = (__m512bh)_mm512_set1_epi32(pair);
#pragma GCC unroll 4
            for (int v = 0; v < kWidth; ++v)
                sum[r][v] = _mm512_dpbf16_ps(sum[r][v], left, (__m512bh)right[v]);
        }
    }
}

constexpr long kPart = 64;  // channels of a row that are rounded at once

typedef int32_t Integers __attribute__((vector_size(64)));  // GCC 12 has arrays of these in registers, not of __m512i

template <int kWidth>
inline void score8(const uint8_t* queries, long channels, const int8_t* keys, const int32_t* begin, long fours,
                   float scale, float* scores, long wide) {
    Integers sum[kQueries][kWidth];
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v) sum[r][v] = (Integers)_mm512_loadu_si512(begin + v * 16);
    for (long p = 0; p < fours; ++p) {
        __m512i right[kWidth];
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v) right[v] = _mm512_loadu_si512(keys + (v * fours + p) * 64);
#pragma GCC unroll 8
        for (int r = 0; r < kQueries; ++r) {
            int32_t four;
            __builtin_memcpy(&four, queries + r * channels + 4 * p, 4);
            const __m512i left = _mm512_set1_epi32(four);
#pragma GCC unroll 4
            for (int v = 0; v < kWidth; ++v)
                sum[r][v] = (Integers)_mm512_dpbusd_epi32((__m512i)sum[r][v], left, right[v]);
        }
    }
    const __m512 factor = _mm512_set1_ps(scale);
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v)
            _mm512_storeu_ps(scores + r * wide + v * 16, _mm512_mul_ps(_mm512_cvtepi32_ps((__m512i)sum[r][v]), factor));
}

void pack_keys8(const float* x, long stride, long first, long rows, long frames, long head_dim, float scale,
                void* packed) {
    const long wide = up(head_dim, 4);
    int8_t* const out = static_cast<int8_t*>(packed) + first * wide;
    int32_t* const begin = reinterpret_cast<int32_t*>(static_cast<int8_t*>(packed) + up(frames, 16) * wide) + first;
    const float factor = 1.0f / scale;
    for (long r = 0; r < up(rows, 16); ++r) {
        int8_t* const tile = out + r / 16 * wide * 16 + r % 16 * 4;
        int32_t sum = 0;
        for (long first_channel = 0; first_channel < wide; first_channel += kPart) {
            int8_t levels[kPart] = {};
            const long count = r >= rows ? 0 : head_dim - first_channel < kPart ? head_dim - first_channel : kPart;
            const float* const row = x + r * stride + first_channel;
#pragma omp simd reduction(+ : sum)
            for (long k = 0; k < count; ++k) {
                const int32_t key = level(row[k] * factor);
                levels[k] = static_cast<int8_t>(key);
                sum += key;
            }
            for (long k = 0; k < kPart && first_channel + k < wide; k += 4)
                __builtin_memcpy(tile + (first_channel + k) / 4 * 64, levels + k, 4);
        }
        begin[r] = -128 * sum;
    }
}

template <int kWidth>
inline void score(const uint16_t* queries, long channels, const uint16_t* keys, long pairs, float* scores, long wide) {
    __m512 sum[kQueries][kWidth];
    product<kWidth>(queries, channels, keys, 32, pairs * 32, pairs, sum);
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v) _mm512_storeu_ps(scores + r * wide + v * 16, sum[r][v]);
}

// Channels k ... k + 16 * kWidth of the mixed values, of which ``count`` are real.
template <int kWidth>
inline void mix(const uint16_t* weights, long wide, const uint16_t* values, long channels, long pairs,
                const float* sums, long rows, long count, float* out, long out_stride) {
    __m512 sum[kQueries][kWidth];
    product<kWidth>(weights, wide, values, channels * 2, 32, pairs, sum);
#pragma GCC unroll 8
    for (int r = 0; r < kQueries; ++r) {
        if (r >= rows) break;
        const __m512 factor = _mm512_set1_ps(1.0f / sums[r]);
#pragma GCC unroll 4
        for (int v = 0; v < kWidth; ++v) {
            const long left = count - v * 16;
            const __mmask16 valid = static_cast<__mmask16>(left < 16 ? (1 << left) - 1 : 0xFFFF);
            _mm512_mask_storeu_ps(out + r * out_stride + v * 16, valid, _mm512_mul_ps(sum[r][v], factor));
        }
    }
}

// Scratch memory, for ``kQueries`` rows.
struct Room {
    Room(void* scratch, long frames, long head_dim)
        : wide(up(frames, 16) + 16), channels(up(head_dim, 16)), scores(static_cast<float*>(scratch)),
          weights(reinterpret_cast<uint16_t*>(scores + kQueries * wide)), queries(weights + kQueries * wide) {}
    long wide, channels;
    float* scores;      // (kQueries, wide)
    uint16_t* weights;  // (kQueries, wide)
    uint16_t* queries;  // (kQueries, channels)
};

// The weights of rows ``first`` ... ``first + rows`` of the map, and their sums.
void map_rows(const AttentionRows& a, long first, long rows, const Room& room, float* sums) {
    const long wide = room.wide, channels = room.channels;
    float* const scores = room.scores;
    uint16_t* const weights = room.weights;
    uint16_t* const queries = room.queries;
    const long keys = up(a.frames, 16), pairs = up(a.head_dim, 2) / 2, fours = up(a.head_dim, 4) / 4;
    const uint16_t* packed_keys = static_cast<const uint16_t*>(a.keys);
    const int8_t* keys8 = static_cast<const int8_t*>(a.keys);
    const int32_t* begin = reinterpret_cast<const int32_t*>(keys8 + keys * fours * 4);
    long f = 0;
    if (a.query_scale > 0) {
        const float factor = a.scale / a.query_scale, product_scale = a.query_scale * a.key_scale;
        uint8_t* const levels = reinterpret_cast<uint8_t*>(queries);
        for (long r = 0; r < kQueries; ++r) {
            const float* row = a.query + (first + (r < rows ? r : 0)) * a.query_stride;
            for (long k = a.head_dim; k < channels; ++k) levels[r * channels + k] = 128;
#pragma omp simd
            for (long k = 0; k < a.head_dim; ++k)
                levels[r * channels + k] = static_cast<uint8_t>(level(row[k] * factor) + 128);
        }
        for (; f + 64 <= keys; f += 64)
            score8<4>(levels, channels, keys8 + f * fours * 4, begin + f, fours, product_scale, scores + f, wide);
        for (; f < keys; f += 16)
            score8<1>(levels, channels, keys8 + f * fours * 4, begin + f, fours, product_scale, scores + f, wide);
    } else {
        for (long r = 0; r < kQueries; ++r) {
            const float* row = a.query + (first + (r < rows ? r : 0)) * a.query_stride;
            for (long k = a.head_dim; k < channels; ++k) queries[r * channels + k] = 0;
#pragma omp simd
            for (long k = 0; k < a.head_dim; ++k) queries[r * channels + k] = rounded(row[k] * a.scale);
        }
        for (; f + 64 <= keys; f += 64)
            score<4>(queries, channels, packed_keys + f * pairs * 2, pairs, scores + f, wide);
        for (; f < keys; f += 16)
            score<1>(queries, channels, packed_keys + f * pairs * 2, pairs, scores + f, wide);
    }
    for (long r = 0; r < kQueries; ++r) {
        float* row = scores + r * wide;
        if (a.bias && r < rows) add(row, a.bias + (first + r) * a.bias_stride, a.frames, row);
        sums[r] = weigh(row, a.frames, weights + r * wide);
    }
}

}  // namespace

size_t bf16_packed_bytes(long frames, long head_dim) {
    return static_cast<size_t>(up(frames, 16) * up(head_dim, 16)) * sizeof(uint16_t);
}

// Rows a multiple of 4096 bytes apart would share their places in the cache.
size_t bf16_map_row(long frames) { return static_cast<size_t>(up(frames, 16) + 16) * sizeof(uint16_t); }

size_t bf16_scratch(long frames, long head_dim) {
    const long wide = up(frames, 16) + 16;
    return static_cast<size_t>(kQueries * (wide * 6 + up(head_dim, 16) * 2));
}

void bf16_pack_keys(const float* x, long stride, long first, long rows, long frames, long head_dim, float scale,
                    void* packed) {
    if (scale > 0) return pack_keys8(x, stride, first, rows, frames, head_dim, scale, packed);
    const long wide = up(head_dim, 2);
    uint16_t* out = static_cast<uint16_t*>(packed) + first * wide;
    for (long r = 0; r < up(rows, 16); ++r) {
        uint16_t* const tile = out + r / 16 * wide * 16 + r % 16 * 2;
        for (long first_channel = 0; first_channel < wide; first_channel += kPart) {
            uint16_t values[kPart] = {};
            const long count = r >= rows ? 0 : head_dim - first_channel < kPart ? head_dim - first_channel : kPart;
            const float* const row = x + r * stride + first_channel;
#pragma omp simd
            for (long k = 0; k < count; ++k) values[k] = rounded(row[k]);
            for (long k = 0; k < kPart && first_channel + k < wide; k += 2)
                __builtin_memcpy(tile + (first_channel + k) / 2 * 32, values + k, 4);
        }
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
    const Room room(a.scratch, a.frames, a.head_dim);
    const long keys = up(a.frames, 16);
    const uint16_t* packed_values = static_cast<const uint16_t*>(a.values);
    for (long first = 0; first < a.rows; first += kQueries) {
        const long rows = a.rows - first < kQueries ? a.rows - first : kQueries;
        float sums[kQueries];
        if (a.known) {
            recall(a, first, rows, bf16_map_row(a.frames), room.weights, sums);
        } else {
            map_rows(a, first, rows, room, sums);
            keep(a, first, rows, bf16_map_row(a.frames), room.weights, sums);
        }
        float* out = a.out + first * a.out_stride;
        long k = 0;
        for (; k + 64 <= room.channels; k += 64)
            mix<4>(room.weights, room.wide, packed_values + k * 2, room.channels, keys / 2, sums, rows, a.head_dim - k, out + k,
                   a.out_stride);
        for (; k < room.channels; k += 16)
            mix<1>(room.weights, room.wide, packed_values + k * 2, room.channels, keys / 2, sums, rows, a.head_dim - k, out + k,
                   a.out_stride);
    }
}

}  // namespace littlefoot

#endif
