// Activations, norms and roundings of rows in plain loops, behind rows.inl. AVX-512 has its own (rows_avx512.inl).

namespace littlefoot {
namespace {

inline float gelu(float x) {
    // erf by Abramowitz and Stegun 7.1.26, absolute error below 1.5e-7.
    const float z = __builtin_fabsf(x) * 0.70710678f;
    const float t = 1.0f / (1.0f + 0.3275911f * z);
    float p = 1.061405429f;
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const float tail = 0.5f * p * t * exponential(-z * z);  // of the normal distribution beyond |x|
    return x * (x < 0 ? tail : 1.0f - tail);
}

inline float activate(float y, Activation kind) {
    return kind == Activation::gelu ? gelu(y) : kind == Activation::relu ? (y > 0 ? y : 0.0f) : y;
}

// Rounds by adding 1.5 * 2^23, after which a float has no digits behind the point.
inline int32_t nearest(float q, float zero_point, float largest) {
    q = q > -65536.0f ? (q < 65536.0f ? q : 65536.0f) : -65536.0f;  // not a number gives the lowest level
    q = ((q + 12582912.0f) - 12582912.0f) + zero_point;
    return static_cast<int32_t>(q > 0.0f ? (q < largest ? q : largest) : 0.0f);
}

int32_t quantize(const float* x, long count, const float* factors, const float* shift, float factor,
                 int zero_point, int largest, uint8_t* out) {
    int32_t sum = 0;
    const float zero = static_cast<float>(zero_point), top = static_cast<float>(largest);
    if (factors) {
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < count; ++i) {
            const int32_t level = nearest(x[i] * factors[i] - shift[i], zero, top);
            out[i] = static_cast<uint8_t>(level);
            sum += level;
        }
    } else {
#pragma omp simd reduction(+ : sum)
        for (long i = 0; i < count; ++i) {
            const int32_t level = nearest(x[i] * factor, zero, top);
            out[i] = static_cast<uint8_t>(level);
            sum += level;
        }
    }
    return sum;
}

template <Activation kind>
void finish_row(const Finish& f, const int32_t* sums, long first, long count, int32_t row_term,
                const float* residual, float* out) {
    const float* scale = f.scale + first;
    const float* offset = f.offset + first;
    const int32_t* correction = f.correction + first;
    const int32_t alpha = f.alpha;
    if (residual) {
#pragma omp simd
        for (long i = 0; i < count; ++i) {
            const float whole = static_cast<float>(alpha * sums[i] - row_term - correction[i]);
            out[i] = activate(scale[i] * whole + offset[i], kind) + residual[i];
        }
    } else {
#pragma omp simd
        for (long i = 0; i < count; ++i) {
            const float whole = static_cast<float>(alpha * sums[i] - row_term - correction[i]);
            out[i] = activate(scale[i] * whole + offset[i], kind);
        }
    }
}

inline const float* residual_of(const Output& to, long row, long column) {
    return to.residual ? to.residual + row * to.residual_stride + column : nullptr;
}

template <Activation kind>
void finish_as(const Finish& f, const Sums<int32_t>& s, const int32_t* row_terms, const Output& to) {
    for (long r = 0; r < s.rows; ++r)
        finish_row<kind>(f, s.at + r * s.stride, s.column, s.columns, row_terms ? row_terms[s.row + r] : 0,
                         residual_of(to, s.row + r, s.column), to.out + (s.row + r) * to.stride + s.column);
}

void finish(const Finish& f, const Sums<int32_t>& sums, const int32_t* row_terms, const Output& to) {
    with(f.activation, [&]<Activation kind>() { finish_as<kind>(f, sums, row_terms, to); });
}

template <Activation kind>
void layer_norm_as(const float* x, long count, const float* weight, const float* bias, float eps, float* out) {
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < count; ++i) sum += x[i];
    const float mean = sum / static_cast<float>(count);
    float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
    for (long i = 0; i < count; ++i) squares += (x[i] - mean) * (x[i] - mean);
    const float factor = 1.0f / __builtin_sqrtf(squares / static_cast<float>(count) + eps);
#pragma omp simd
    for (long i = 0; i < count; ++i) out[i] = activate((x[i] - mean) * factor * weight[i] + bias[i], kind);
}

void layer_norm(const float* x, long count, const float* weight, const float* bias, float eps, Activation activation,
                float* out) {
    with(activation, [&]<Activation kind>() { layer_norm_as<kind>(x, count, weight, bias, eps, out); });
}

template <Activation kind>
void activate_as(const float* x, long count, float* out) {
#pragma omp simd
    for (long i = 0; i < count; ++i) out[i] = activate(x[i], kind);
}

void activate_row(const float* x, long count, Activation activation, float* out) {
    with(activation, [&]<Activation kind>() { activate_as<kind>(x, count, out); });
}

template <Activation kind>
void complete_row(const float* sums, long count, const float* bias, const float* residual, float* out) {
    if (residual) {
#pragma omp simd
        for (long i = 0; i < count; ++i) out[i] = activate(sums[i] + bias[i], kind) + residual[i];
    } else {
#pragma omp simd
        for (long i = 0; i < count; ++i) out[i] = activate(sums[i] + bias[i], kind);
    }
}

template <Activation kind>
void complete_as(const Sums<float>& s, const float* bias, const Output& to) {
    for (long r = 0; r < s.rows; ++r)
        complete_row<kind>(s.at + r * s.stride, s.columns, bias + s.column, residual_of(to, s.row + r, s.column),
                           to.out + (s.row + r) * to.stride + s.column);
}

void complete(const Sums<float>& sums, const float* bias, Activation activation, const Output& to) {
    with(activation, [&]<Activation kind>() { complete_as<kind>(sums, bias, to); });
}

}  // namespace
}  // namespace littlefoot
