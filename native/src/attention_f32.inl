// Attention in float32, compiled anew with the flags of every instruction set that includes it, behind floats.inl.
// Keys: tiles (head_dim, 16 frames); values: (frames, head_dim padded to 16).

#include "attention_map.h"

namespace littlefoot {
namespace {

inline long up16(long n) { return (n + 15) / 16 * 16; }

size_t f32_packed_bytes(long frames, long head_dim) {
    return static_cast<size_t>(up16(frames) * up16(head_dim)) * sizeof(float);
}

constexpr int kQueries = 4;

size_t f32_map_row(long frames) { return static_cast<size_t>(up16(frames)) * sizeof(float); }

size_t f32_scratch(long frames, long head_dim) {
    (void)head_dim;
    return kQueries * f32_map_row(frames);
}

void f32_pack_keys(const float* x, long stride, long first, long rows, long frames, long head_dim, float scale,
                   void* packed) {
    (void)frames, (void)scale;
    float* out = static_cast<float*>(packed) + first * head_dim;
    for (long r = 0; r < up16(rows); ++r)
        for (long k = 0; k < head_dim; ++k)
            out[(r / 16 * head_dim + k) * 16 + r % 16] = r < rows ? x[r * stride + k] : 0.0f;
}

void f32_pack_values(const float* x, long stride, long first, long rows, long head_dim, void* packed) {
    const long padded = up16(head_dim);
    float* out = static_cast<float*>(packed) + first * padded;
    for (long r = 0; r < up16(rows); ++r)
        for (long k = 0; k < padded; ++k)
            out[r * padded + k] = r < rows && k < head_dim ? x[r * stride + k] : 0.0f;
}

// As many columns of 16 as have their sums in registers at once.
constexpr int kVectors = (16 / LITTLEFOOT_FLOATS) < kTile[1] ? 16 / LITTLEFOOT_FLOATS : kTile[1];
constexpr int kPart = kVectors * LITTLEFOOT_FLOATS;

// sums (kQueries, kPart) = rows of ``left`` (count,) times ``right`` (count, kPart), whose rows are ``stride`` apart.
inline void multiply(const float* const (&left)[kQueries], const float* right, long stride, long count,
                     Floats (&sums)[kQueries][kVectors]) {
#pragma GCC unroll 4
    for (long r = 0; r < kQueries; ++r)
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[r][v] = Floats{};
    accumulate(left, right, stride, count, sums);
}

// The weights of rows ``first`` ... ``first + rows`` of the map (kQueries, up16(frames)), and their sums.
void map_rows(const AttentionRows& a, long first, long rows, float* scores, float* totals) {
    const long frames = up16(a.frames);
    const float* keys = static_cast<const float*>(a.keys);
    Floats sums[kQueries][kVectors];
    const float* query[kQueries];
    for (long r = 0; r < kQueries; ++r)
        query[r] = a.query + (first + (r < rows ? r : 0)) * a.query_stride;
    for (long f = 0; f < frames; f += kPart) {
        multiply(query, keys + f / 16 * 16 * a.head_dim + f % 16, 16, a.head_dim, sums);
#pragma GCC unroll 4
        for (long r = 0; r < kQueries; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) {
                const Floats scaled = sums[r][v] * a.scale;
                __builtin_memcpy(scores + r * frames + f + v * LITTLEFOOT_FLOATS, &scaled, sizeof scaled);
            }
    }
    for (long r = 0; r < kQueries; ++r) {
        float* row = scores + r * frames;
        if (a.bias && r < rows) add(row, a.bias + (first + r) * a.bias_stride, a.frames, row);
        totals[r] = exponentials(row, a.frames);
    }
}

void f32_attend(const AttentionRows& a) {
    float* scores = static_cast<float*>(a.scratch);
    const long frames = up16(a.frames), padded = up16(a.head_dim);
    const float* values = static_cast<const float*>(a.values);
    const float* const weights[kQueries] = {scores, scores + frames, scores + 2 * frames, scores + 3 * frames};
    Floats sums[kQueries][kVectors];
    for (long first = 0; first < a.rows; first += kQueries) {
        const long rows = a.rows - first < kQueries ? a.rows - first : kQueries;
        float totals[kQueries];
        if (a.known) {
            recall(a, first, rows, f32_map_row(a.frames), scores, totals);
        } else {
            map_rows(a, first, rows, scores, totals);
            keep(a, first, rows, f32_map_row(a.frames), scores, totals);
        }
        for (long k = 0; k < padded; k += kPart) {
            multiply(weights, values + k, padded, a.frames, sums);
            for (long r = 0; r < rows; ++r) {
                float y[kPart];
                __builtin_memcpy(y, sums[r], sizeof y);
                for (long j = 0; j < kPart && k + j < a.head_dim; ++j)
                    a.out[(first + r) * a.out_stride + k + j] = y[j] / totals[r];
            }
        }
    }
}

}  // namespace
}  // namespace littlefoot
