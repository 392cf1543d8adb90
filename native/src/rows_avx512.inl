// The functions of rows_plain.inl for AVX-512. Compilers make division and exponential of the plain GELU two thirds of
// its time; here it is a polynomial, with coefficients from registers.

namespace littlefoot {
namespace {

// All 16 floats of a register, or the first few.
struct Whole {};
struct First {
    __mmask16 mask;
};

inline __m512 load(const float* from, Whole) { return _mm512_loadu_ps(from); }
inline __m512 load(const float* from, First f) { return _mm512_maskz_loadu_ps(f.mask, from); }
inline __m512i load(const int32_t* from, Whole) { return _mm512_loadu_si512(from); }
inline __m512i load(const int32_t* from, First f) { return _mm512_maskz_loadu_epi32(f.mask, from); }
inline void store(float* to, __m512 x, Whole) { _mm512_storeu_ps(to, x); }
inline void store(float* to, __m512 x, First f) { _mm512_mask_storeu_ps(to, f.mask, x); }
inline void store(uint8_t* to, __m512i x, Whole) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(x));
}
inline void store(uint8_t* to, __m512i x, First f) { _mm512_mask_cvtepi32_storeu_epi8(to, f.mask, x); }
inline __m512i kept(__m512i x, Whole) { return x; }
inline __m512i kept(__m512i x, First f) { return _mm512_maskz_mov_epi32(f.mask, x); }
inline __m512 kept(__m512 x, Whole) { return x; }
inline __m512 kept(__m512 x, First f) { return _mm512_maskz_mov_ps(f.mask, x); }

template <typename Each>
inline __attribute__((always_inline)) void by_registers(long count, const Each& each) {
    long i = 0;
    for (; i + 16 <= count; i += 16) each(i, Whole{});
    if (i < count) each(i, First{static_cast<__mmask16>((1 << (count - i)) - 1)});
}

// The normal distribution beyond t >= 0: polynomials of t / kWidth - i, for each i the one of least error within half of
// its neighbours (on t up to kEnd in all, where it is zero). Absolute error below 1.2e-7.
constexpr float kWidth = 0.354f, kEnd = 15.25f * kWidth;
alignas(64) constexpr float kTail[5][16] = {
    {0.5f, 0.361669451f, 0.239472628f, 0.144117847f, 0.0783877522f, 0.0383635685f, 0.0168350693f, 0.00660605635f,
     0.00231289235f, 0.000721273303f, 0.000200063834f, 4.93025182e-05f, 1.07844553e-05f, 2.09229688e-06f,
     3.59805171e-07f, 2.12122817e-08f},
    {-0.141225234f, -0.132647425f, -0.10991703f, -0.0803540647f, -0.0518234707f, -0.0294862371f, -0.0148007795f,
     -0.00655420497f, -0.00256048725f, -0.000882448629f, -0.000268297561f, -7.19615418e-05f, -1.70269141e-05f,
     -3.55400516e-06f, -6.54396672e-07f, -1.06480563e-07f},
    {-5.32606236e-06f, 0.00831122324f, 0.0137740746f, 0.0151042175f, 0.0129884826f, 0.00923773181f, 0.00556438928f,
     0.00287479558f, 0.0012835454f, 0.000497671834f, 0.000168129351f, 4.96065804e-05f, 1.28052188e-05f,
     2.89574245e-06f, 5.74251544e-07f, 9.95739526e-08f},
    {0.00297955447f, 0.00241107424f, 0.00114388461f, -0.000206411583f, -0.00107726548f, -0.00130632555f,
     -0.00108320313f, -0.000704709732f, -0.000377450284f, -0.000170299201f, -6.55652839e-05f, -2.17140878e-05f,
     -6.21957361e-06f, -1.54663508e-06f, -3.34843463e-07f, -6.04581984e-08f},
    {-6.87008214e-05f, -0.000247362128f, -0.000356803852f, -0.000293882826f, -0.000135199924f, 1.16895117e-05f,
     8.67939525e-05f, 9.38059675e-05f, 6.72683309e-05f, 3.73185831e-05f, 1.6885353e-05f, 6.39009568e-06f,
     2.05170932e-06f, 5.63951573e-07f, 1.33515528e-07f, 3.30617098e-08f}};

// max(x, 0) - |x| tail(|x|). The order of an instruction's operands decides that what is not a number stays so.
inline __m512 gelu(__m512 x) {
    const __m512 size = _mm512_min_ps(_mm512_abs_ps(x), _mm512_set1_ps(kEnd));
    const __m512 place = _mm512_mul_ps(size, _mm512_set1_ps(1.0f / kWidth));
    // 1.5 * 2^23, after which a float has no digits behind the point: the whole number is in its lowest bits.
    const __m512 large = _mm512_set1_ps(12582912.0f), whole = _mm512_add_ps(place, large);
    const __m512 r = _mm512_sub_ps(place, _mm512_sub_ps(whole, large));
    const auto coefficient = [&](int power) {
        return _mm512_permutexvar_ps(_mm512_castps_si512(whole), _mm512_load_ps(kTail[power]));
    };
    __m512 tail = coefficient(4);
#pragma GCC unroll 4
    for (int power = 3; power >= 0; --power) tail = _mm512_fmadd_ps(tail, r, coefficient(power));
    return _mm512_fnmadd_ps(size, tail, _mm512_max_ps(_mm512_setzero_ps(), x));
}

template <Activation kind>
inline __m512 activate(__m512 x) {
    if (kind == Activation::gelu) return gelu(x);
    return kind == Activation::relu ? _mm512_max_ps(_mm512_setzero_ps(), x) : x;
}

int32_t quantize(const float* x, long count, const float* factors, const float* shift, float factor,
                 int zero_point, int largest, uint8_t* out) {
    __m512i sums = _mm512_setzero_si512();
    const __m512i zero = _mm512_set1_epi32(zero_point), top = _mm512_set1_epi32(largest);
    // What is too small, or not a number, becomes the smallest integer.
    const auto put = [&](long i, __m512 q, auto part) {
        const __m512i whole = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(65536.0f), q));
        const __m512i level =
            _mm512_min_epi32(_mm512_max_epi32(_mm512_add_epi32(whole, zero), _mm512_setzero_si512()), top);
        store(out + i, level, part);
        sums = _mm512_add_epi32(sums, kept(level, part));
    };
    if (factors)
        by_registers(count, [&](long i, auto part) {
            put(i, _mm512_fmsub_ps(load(x + i, part), load(factors + i, part), load(shift + i, part)), part);
        });
    else
        by_registers(count, [&](long i, auto part) {
            put(i, _mm512_mul_ps(load(x + i, part), _mm512_set1_ps(factor)), part);
        });
    return _mm512_reduce_add_epi32(sums);
}

// The activation and residual of all outputs, of which ``get(row, column, part)`` gives what comes before.
template <Activation kind, typename Number, typename Get>
inline void put_rows(const Sums<Number>& s, const Output& to, const Get& get) {
    for (long r = 0; r < s.rows; ++r) {
        float* const out = to.out + (s.row + r) * to.stride + s.column;
        if (!to.residual) {
            by_registers(s.columns, [&](long i, auto part) { store(out + i, activate<kind>(get(r, i, part)), part); });
            continue;
        }
        const float* const residual = to.residual + (s.row + r) * to.residual_stride + s.column;
        by_registers(s.columns, [&](long i, auto part) {
            store(out + i, _mm512_add_ps(activate<kind>(get(r, i, part)), load(residual + i, part)), part);
        });
    }
}

void finish(const Finish& f, const Sums<int32_t>& s, const int32_t* row_terms, const Output& to) {
    const float* const scale = f.scale + s.column;
    const float* const offset = f.offset + s.column;
    const int32_t* const correction = f.correction + s.column;
    const __m512i alpha = _mm512_set1_epi32(f.alpha);
    with(f.activation, [&]<Activation kind>() {
        put_rows<kind>(s, to, [&](long r, long i, auto part) {
            const __m512i term = _mm512_set1_epi32(row_terms ? row_terms[s.row + r] : 0);
            const __m512i products = _mm512_mullo_epi32(alpha, load(s.at + r * s.stride + i, part));
            const __m512i whole = _mm512_sub_epi32(_mm512_sub_epi32(products, term), load(correction + i, part));
            return _mm512_fmadd_ps(load(scale + i, part), _mm512_cvtepi32_ps(whole), load(offset + i, part));
        });
    });
}

void complete(const Sums<float>& s, const float* bias, Activation activation, const Output& to) {
    with(activation, [&]<Activation kind>() {
        put_rows<kind>(s, to, [&](long r, long i, auto part) {
            return _mm512_add_ps(load(s.at + r * s.stride + i, part), load(bias + s.column + i, part));
        });
    });
}

void layer_norm(const float* x, long count, const float* weight, const float* bias, float eps, Activation activation,
                float* out) {
    __m512 sums = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
    by_registers(count, [&](long i, auto part) { sums = _mm512_add_ps(sums, load(x + i, part)); });
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sums) / static_cast<float>(count));
    by_registers(count, [&](long i, auto part) {
        const __m512 away = kept(_mm512_sub_ps(load(x + i, part), mean), part);
        squares = _mm512_fmadd_ps(away, away, squares);
    });
    const float variance = _mm512_reduce_add_ps(squares) / static_cast<float>(count);
    const __m512 factor = _mm512_set1_ps(1.0f / __builtin_sqrtf(variance + eps));
    with(activation, [&]<Activation kind>() {
        by_registers(count, [&](long i, auto part) {
            const __m512 normed = _mm512_mul_ps(_mm512_sub_ps(load(x + i, part), mean), factor);
            store(out + i, activate<kind>(_mm512_fmadd_ps(normed, load(weight + i, part), load(bias + i, part))), part);
        });
    });
}

void activate_row(const float* x, long count, Activation activation, float* out) {
    with(activation, [&]<Activation kind>() {
        by_registers(count, [&](long i, auto part) { store(out + i, activate<kind>(load(x + i, part)), part); });
    });
}

}  // namespace
}  // namespace littlefoot
