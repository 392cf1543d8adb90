// Row-wise functions in plain loops, compiled anew with the flags of every instruction set that includes them.
// Everything has internal linkage and nothing of the standard library is used: a function shared between
// object files might be taken from the one that this processor cannot run.

namespace littlefoot {
namespace {

// Eight bytes of 0 and 1 as the bits of one: of all products of two bits, those in the highest byte are the bytes' own.
inline uint8_t bits_of(const uint8_t* eight) {
    uint64_t bytes;
    __builtin_memcpy(&bytes, eight, 8);
    return static_cast<uint8_t>(bytes * 0x0102040810204080u >> 56);
}

inline float exponential(float x) {
    // 2^n * e^r with |r| <= ln(2) / 2 and a Taylor polynomial of degree 7; below e^-87 it is that.
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    const float r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    // What is not a number stays so by p, and has no whole number.
    const int32_t bits = (static_cast<int32_t>(n > -127.0f ? n : -127.0f) + 127) << 23;
    float power;
    __builtin_memcpy(&power, &bits, 4);
    return p * power;
}

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

void split(const uint8_t* a, long count, uint8_t* low, uint8_t* high) {
#pragma omp simd
    for (long i = 0; i < count; ++i) {
        low[i] = a[i] & 15;
        high[i] = a[i] >> 4;
    }
}

void combine(const uint16_t* sums, long count, int shift, bool add, int32_t* total) {
    if (add) {
#pragma omp simd
        for (long i = 0; i < count; ++i) total[i] += static_cast<int32_t>(sums[i]) << shift;
    } else {
#pragma omp simd
        for (long i = 0; i < count; ++i) total[i] = static_cast<int32_t>(sums[i]) << shift;
    }
}

void restore(const int32_t* sums, long count, int32_t alpha, int32_t row_term, int32_t* out) {
#pragma omp simd
    for (long i = 0; i < count; ++i) out[i] = alpha * sums[i] - row_term;
}

template <Activation kind>
void finish_as(const Finish& f, const int32_t* sums, long first, long count, int32_t row_term,
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

void finish(const Finish& f, const int32_t* sums, long first, long count, int32_t row_term, const float* residual,
            float* out) {
    switch (f.activation) {
        case Activation::gelu: return finish_as<Activation::gelu>(f, sums, first, count, row_term, residual, out);
        case Activation::relu: return finish_as<Activation::relu>(f, sums, first, count, row_term, residual, out);
        default: return finish_as<Activation::none>(f, sums, first, count, row_term, residual, out);
    }
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
    switch (activation) {
        case Activation::gelu: return layer_norm_as<Activation::gelu>(x, count, weight, bias, eps, out);
        case Activation::relu: return layer_norm_as<Activation::relu>(x, count, weight, bias, eps, out);
        default: return layer_norm_as<Activation::none>(x, count, weight, bias, eps, out);
    }
}

void add(const float* a, const float* b, long count, float* out) {
#pragma omp simd
    for (long i = 0; i < count; ++i) out[i] = a[i] + b[i];
}

template <Activation kind>
void activate_as(const float* x, long count, float* out) {
#pragma omp simd
    for (long i = 0; i < count; ++i) out[i] = activate(x[i], kind);
}

void activate_row(const float* x, long count, Activation activation, float* out) {
    switch (activation) {
        case Activation::gelu: return activate_as<Activation::gelu>(x, count, out);
        case Activation::relu: return activate_as<Activation::relu>(x, count, out);
        default: return activate_as<Activation::none>(x, count, out);
    }
}

// Softmax of a row of scores (count,) in place, without the division: returns its sum.
float exponentials(float* scores, long count) {
    float largest = scores[0];
#if defined(__clang__)  // it makes no vectors of one largest number, but of sixteen side by side
    float each[16];
    for (int j = 0; j < 16; ++j) each[j] = largest;
    long done = 0;
    for (; done + 16 <= count; done += 16)
        for (int j = 0; j < 16; ++j) each[j] = scores[done + j] > each[j] ? scores[done + j] : each[j];
    for (; done < count; ++done) each[0] = scores[done] > each[0] ? scores[done] : each[0];
    for (int j = 0; j < 16; ++j) largest = each[j] > largest ? each[j] : largest;
#else
#pragma omp simd reduction(max : largest)
    for (long i = 0; i < count; ++i) largest = scores[i] > largest ? scores[i] : largest;
#endif
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (long i = 0; i < count; ++i) {
        const float e = exponential(scores[i] - largest);
        scores[i] = e;
        sum += e;
    }
    return sum;
}

}  // namespace
}  // namespace littlefoot
