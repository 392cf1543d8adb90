// Attention as in attention_bf16.cpp, on the same packed keys and values, with products of tiles: 16 queries at once.
// Every head of up to 64 channels takes this way, however few its queries are: so a row's sums do not depend on others.
#include "kernels.h"

#if defined(LITTLEFOOT_AMX)
#include <immintrin.h>

#include "rows.inl"
#include "softmax_bf16.inl"
#include "tiles.inl"

namespace littlefoot {

// attention_bf16.cpp
size_t bf16_scratch(long frames, long head_dim);
void bf16_attend(const AttentionRows& a);

namespace {

constexpr long kMostChannels = 64;

// Parts of the scratch memory, for ``kTile`` queries; ``weights`` may be of a kept map, whose rows are as long
// (``bf16_map_row``). Rows a multiple of 4096 bytes apart would share their places in the cache.
struct Room {
    Room(void* scratch, long frames)
        : wide(width(frames)), scores(static_cast<float*>(scratch)), mixed(scores + kTile * wide),
          queries(reinterpret_cast<uint16_t*>(mixed + kTile * kMostChannels)),
          weights(queries + kTile * kMostChannels) {}
    static long width(long frames) { return up(frames, 16) + 16; }
    static size_t bytes(long frames) { return static_cast<size_t>(kTile * (width(frames) * 6 + kMostChannels * 6)); }
    long wide;          // of a row of scores or weights
    float* scores;      // (kTile, wide)
    float* mixed;       // (kTile, kMostChannels)
    uint16_t* queries;  // (kTile, kMostChannels), or as many bytes
    uint16_t* weights;  // (kTile, wide)
};

// Scores of 8 bits: a tile of keys has 16 frames, and all their channels.
void score8(const AttentionRows& a, const float* query, long rows, const Room& room) {
    const long fours = up(a.head_dim, 4) / 4, keys = up(a.frames, 16);
    const float factor = a.scale / a.query_scale;
    int8_t* const levels = reinterpret_cast<int8_t*>(room.queries);
    for (long r = 0; r < rows; ++r) {
        const float* const row = query + r * a.query_stride;
        int8_t* const to = levels + r * kMostChannels;
#pragma omp simd
        for (long k = 0; k < a.head_dim; ++k) to[k] = static_cast<int8_t>(level(row[k] * factor));
        for (long k = a.head_dim; k < fours * 4; ++k) to[k] = 0;
    }
    written();
    const Shape scores = {rows, 64}, of_keys = {fours, 64}, of_queries = {rows, fours * 4};
    shape_tiles({scores, scores, of_keys, of_keys, of_queries, of_queries, of_queries, of_queries});
    _tile_loadd(4, levels, kMostChannels);
    const int8_t* const packed = static_cast<const int8_t*>(a.keys);
    for (long f = 0; f < keys; f += 16) {
        _tile_zero(0);
        _tile_loadd(2, packed + f * fours * 4, 64);
        _tile_dpbssd(0, 4, 2);
        _tile_stored(0, room.scores + f, room.wide * 4);
    }
    const __m512 scale = _mm512_set1_ps(a.query_scale * a.key_scale);
    for (long r = 0; r < rows; ++r)
        for (long f = 0; f < keys; f += 16) {
            float* const at = room.scores + r * room.wide + f;
            _mm512_storeu_ps(at, _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_loadu_si512(at)), scale));
        }
}

// Scores in bfloat16: up to 32 channels of 16 frames in a tile of keys.
void score(const AttentionRows& a, const float* query, long rows, const Room& room) {
    const long pairs = up(a.head_dim, 2) / 2, keys = up(a.frames, 16);
    for (long r = 0; r < rows; ++r) {
        const float* const row = query + r * a.query_stride;
        uint16_t* const to = room.queries + r * kMostChannels;
#pragma omp simd
        for (long k = 0; k < a.head_dim; ++k) to[k] = rounded(row[k] * a.scale);
        for (long k = a.head_dim; k < pairs * 2; ++k) to[k] = 0;
    }
    written();
    const long first = pairs < kTile ? pairs : kTile, second = pairs - first;
    const Shape scores = {rows, 64}, whole = {kTile, 64};
    shape_tiles({scores, scores, {first, 64}, second ? Shape{second, 64} : whole, {rows, first * 4},
                 second ? Shape{rows, second * 4} : whole, whole, whole});
    _tile_loadd(4, room.queries, kMostChannels * 2);
    if (second) _tile_loadd(5, room.queries + 2 * kTile, kMostChannels * 2);
    const uint16_t* const packed = static_cast<const uint16_t*>(a.keys);
    for (long f = 0; f < keys; f += 16) {
        const uint16_t* const tile = packed + f * pairs * 2;
        _tile_zero(0);
        _tile_loadd(2, tile, 64);
        _tile_dpbf16ps(0, 4, 2);
        if (second) {
            _tile_loadd(3, tile + kTile * 32, 64);
            _tile_dpbf16ps(0, 5, 3);
        }
        _tile_stored(0, room.scores + f, room.wide * 4);
    }
}

// The weights of rows ``first`` ... ``first + rows`` of the map, and their sums.
void map_rows(const AttentionRows& a, long first, long rows, const Room& room, float* sums) {
    const float* const query = a.query + first * a.query_stride;
    if (a.query_scale > 0)
        score8(a, query, rows, room);
    else
        score(a, query, rows, room);
    for (long r = 0; r < rows; ++r) {
        float* const row = room.scores + r * room.wide;
        if (a.bias) add(row, a.bias + (first + r) * a.bias_stride, a.frames, row);
        sums[r] = weigh(row, a.frames, room.weights + r * room.wide);
    }
}

// Values of up to 64 channels, 32 frames of 16 channels in a tile; the last 16 frames may be half a tile.
void mix(const AttentionRows& a, long rows, const float* sums, const Room& room, float* out) {
    const long keys = up(a.frames, 16), channels = up(a.head_dim, 16);
    const uint16_t* const values = static_cast<const uint16_t*>(a.values);
    written();
    const Shape mixed = {rows, 64};
    shape_tiles({mixed, mixed, mixed, mixed, {rows, 64}, {kTile, 64}, {rows, 32}, {kTile / 2, 64}});
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    const long step = channels * 4;  // bytes of two frames
    long f = 0;
    for (; f + 32 <= keys; f += 32) {
        const uint16_t* const at = values + f * channels;
        _tile_loadd(4, room.weights + f, room.wide * 2);
        _tile_loadd(5, at, step);
        _tile_dpbf16ps(0, 4, 5);
        if (channels > 16) {
            _tile_loadd(5, at + 32, step);
            _tile_dpbf16ps(1, 4, 5);
        }
        if (channels > 32) {
            _tile_loadd(5, at + 64, step);
            _tile_dpbf16ps(2, 4, 5);
        }
        if (channels > 48) {
            _tile_loadd(5, at + 96, step);
            _tile_dpbf16ps(3, 4, 5);
        }
    }
    if (f < keys) {
        const uint16_t* const at = values + f * channels;
        _tile_loadd(6, room.weights + f, room.wide * 2);
        _tile_loadd(7, at, step);
        _tile_dpbf16ps(0, 6, 7);
        if (channels > 16) {
            _tile_loadd(7, at + 32, step);
            _tile_dpbf16ps(1, 6, 7);
        }
        if (channels > 32) {
            _tile_loadd(7, at + 64, step);
            _tile_dpbf16ps(2, 6, 7);
        }
        if (channels > 48) {
            _tile_loadd(7, at + 96, step);
            _tile_dpbf16ps(3, 6, 7);
        }
    }
    _tile_stored(0, room.mixed, kMostChannels * 4);
    _tile_stored(1, room.mixed + 16, kMostChannels * 4);
    _tile_stored(2, room.mixed + 32, kMostChannels * 4);
    _tile_stored(3, room.mixed + 48, kMostChannels * 4);
    for (long r = 0; r < rows; ++r) {
        const float factor = 1.0f / sums[r];
#pragma omp simd
        for (long k = 0; k < a.head_dim; ++k) out[r * a.out_stride + k] = room.mixed[r * kMostChannels + k] * factor;
    }
}

}  // namespace

size_t amx_scratch(long frames, long head_dim) {
    return head_dim > kMostChannels ? bf16_scratch(frames, head_dim) : Room::bytes(frames);
}

void amx_attend(const AttentionRows& a) {
    if (a.head_dim > kMostChannels) return bf16_attend(a);
    Room room(a.scratch, a.frames);
    float own_sums[kTile];
    for (long first = 0; first < a.rows; first += kTile) {
        const long rows = a.rows - first < kTile ? a.rows - first : kTile;
        float* const sums = a.map ? a.sums + first : own_sums;
        if (a.map) room.weights = static_cast<uint16_t*>(a.map) + first * room.wide;
        if (!a.known) map_rows(a, first, rows, room, sums);
        mix(a, rows, sums, room, a.out + first * a.out_stride);
    }
    _tile_release();
}

}  // namespace littlefoot

#endif
