// Attention in float32, compiled anew with the flags of every instruction set that includes it.
// Keys: tiles (head_dim, 16 frames); values: (frames, head_dim padded to 16).

namespace littlefoot {
namespace {

inline long up16(long n) { return (n + 15) / 16 * 16; }

size_t f32_packed_bytes(long frames, long head_dim) {
    return static_cast<size_t>(up16(frames) * up16(head_dim)) * sizeof(float);
}

constexpr long kQueries = 4;

size_t f32_scratch(long frames, long head_dim) {
    (void)head_dim;
    return static_cast<size_t>(kQueries * up16(frames)) * sizeof(float);
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

void f32_attend(const AttentionRows& a) {
    float* scores = static_cast<float*>(a.scratch);
    const long frames = up16(a.frames), padded = up16(a.head_dim);
    const float* keys = static_cast<const float*>(a.keys);
    const float* values = static_cast<const float*>(a.values);
    for (long first = 0; first < a.rows; first += kQueries) {
        const long rows = a.rows - first < kQueries ? a.rows - first : kQueries;
        const float* query[kQueries];
        for (long r = 0; r < kQueries; ++r)
            query[r] = a.query + (first + (r < rows ? r : 0)) * a.query_stride;
        for (long f = 0; f < frames; f += 16) {
            const float* tile = keys + f * a.head_dim;
            Float16 s0 = {}, s1 = {}, s2 = {}, s3 = {};
            for (long k = 0; k < a.head_dim; ++k) {
                const Float16 key = *reinterpret_cast<const Float16*>(tile + k * 16);
                s0 += query[0][k] * key;
                s1 += query[1][k] * key;
                s2 += query[2][k] * key;
                s3 += query[3][k] * key;
            }
            *reinterpret_cast<Float16*>(scores + f) = s0 * a.scale;
            *reinterpret_cast<Float16*>(scores + frames + f) = s1 * a.scale;
            *reinterpret_cast<Float16*>(scores + 2 * frames + f) = s2 * a.scale;
            *reinterpret_cast<Float16*>(scores + 3 * frames + f) = s3 * a.scale;
        }
        float sums[kQueries];
        for (long r = 0; r < kQueries; ++r) {
            float* row = scores + r * frames;
            if (a.bias && r < rows) add(row, a.bias + (first + r) * a.bias_stride, a.frames, row);
            sums[r] = exponentials(row, a.frames);
        }
        for (long k = 0; k < padded; k += 16) {
            Float16 y0 = {}, y1 = {}, y2 = {}, y3 = {};
            for (long f = 0; f < a.frames; ++f) {
                const Float16 value = *reinterpret_cast<const Float16*>(values + f * padded + k);
                y0 += scores[f] * value;
                y1 += scores[frames + f] * value;
                y2 += scores[2 * frames + f] * value;
                y3 += scores[3 * frames + f] * value;
            }
            const Float16 y[kQueries] = {y0, y1, y2, y3};
            for (long r = 0; r < rows; ++r)
                for (long j = 0; j < 16 && k + j < a.head_dim; ++j)
                    a.out[(first + r) * a.out_stride + k + j] = y[r][j] / sums[r];
        }
    }
}

}  // namespace
}  // namespace littlefoot
