// What attention in bfloat16 has in common, with products of vectors and of tiles.

namespace littlefoot {
namespace {

inline long up(long n, long to) { return (n + to - 1) / to * to; }

inline uint16_t rounded(float x) {
    uint32_t bits;
    __builtin_memcpy(&bits, &x, 4);
    return static_cast<uint16_t>((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

// Rounded to -128 ... 127, by adding 1.5 * 2^23, after which a float has no digits behind the point.
inline int32_t level(float x) {
    x = x > -128.0f ? (x < 127.0f ? x : 127.0f) : -128.0f;
    return static_cast<int32_t>((x + 12582912.0f) - 12582912.0f);
}

// e^(score - largest) of a row of scores (frames,) -> weights in bfloat16, zeros up to a multiple of 16; returns their sum
// before they are rounded. ``scores`` are overwritten behind ``frames``, up to a multiple of 16.
float weigh(float* scores, long frames, uint16_t* weights) {
    const float lowest = -__builtin_inff();
    for (long f = frames; f < up(frames, 16); ++f) scores[f] = lowest;
    __m512 most = _mm512_set1_ps(lowest);
    for (long f = 0; f < frames; f += 16) most = _mm512_max_ps(most, _mm512_loadu_ps(scores + f));
    const __m512 log2e = _mm512_set1_ps(1.44269504f), least = _mm512_set1_ps(-200.0f);
    const __m512 shift = _mm512_mul_ps(_mm512_set1_ps(_mm512_reduce_max_ps(most)), log2e);
    __m512 sum = _mm512_setzero_ps();
    for (long f = 0; f < frames; f += 16) {
        // 2^n * 2^r with |r| <= 1/2; the polynomial has a relative error below 3e-6. The least n gives zero. What is not a
        // number stays so.
        const __m512 x = _mm512_max_ps(least, _mm512_fmsub_ps(_mm512_loadu_ps(scores + f), log2e, shift));
        const __m512 n = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        const __m512 r = _mm512_sub_ps(x, n);
        __m512 p = _mm512_set1_ps(0.00957010128f);
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.0559178591f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.240247443f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.693121791f));
        p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.999999285f));
        const __m512 e = _mm512_scalef_ps(p, n);
        sum = _mm512_add_ps(sum, e);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(weights + f), (__m256i)_mm512_cvtneps_pbh(e));
    }
    return _mm512_reduce_add_ps(sum);
}

}  // namespace
}  // namespace littlefoot
