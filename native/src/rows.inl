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

// The function of an activation, with it as a constant.
template <typename Use>
inline void with(Activation activation, const Use& use) {
    switch (activation) {
        case Activation::gelu: return use.template operator()<Activation::gelu>();
        case Activation::relu: return use.template operator()<Activation::relu>();
        default: return use.template operator()<Activation::none>();
    }
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

void add(const float* a, const float* b, long count, float* out) {
#pragma omp simd
    for (long i = 0; i < count; ++i) out[i] = a[i] + b[i];
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
