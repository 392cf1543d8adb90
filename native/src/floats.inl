// Products in floating point, compiled anew with the flags of every instruction set that includes it, behind rows.inl.
// LITTLEFOOT_FLOATS says how many floats a register holds, LITTLEFOOT_TILE how many rows and registers of columns
// have their sums in registers at once.

namespace littlefoot {
namespace {

// A register of the instruction set that includes this; compilers make poor code of wider ones. In memory it may lie
// anywhere, which is a type of its own: Clang drops such an attribute from a template's arguments.
typedef float Floats __attribute__((vector_size(LITTLEFOOT_FLOATS * sizeof(float))));
typedef float Unaligned __attribute__((vector_size(LITTLEFOOT_FLOATS * sizeof(float)), aligned(4), may_alias));

// Compilers join a product and a sum by themselves, but for WebAssembly.
#ifndef LITTLEFOOT_MULTIPLY_ADD
#define LITTLEFOOT_MULTIPLY_ADD(left, right, sum) ((sum) + (left) * (right))
#endif

inline Floats floats(const float* from) { return *reinterpret_cast<const Unaligned*>(from); }

// sums (kRows, kVectors registers) += rows (count,) times ``right`` (count, columns), whose rows are ``stride`` apart.
// A sum is that of its products in their order, whatever rows and columns are computed beside it.
template <int kRows, int kVectors>
inline void accumulate(const float* const (&left)[kRows], const float* right, long stride, long count,
                       Floats (&sums)[kRows][kVectors]) {
    for (long i = 0; i < count; ++i) {
        Floats row[kVectors];
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) row[v] = floats(right + i * stride + v * LITTLEFOOT_FLOATS);
#pragma GCC unroll 16
        for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 4
            for (int v = 0; v < kVectors; ++v) sums[r][v] = LITTLEFOOT_MULTIPLY_ADD(left[r][i], row[v], sums[r][v]);
    }
}

constexpr int kTile[2] = LITTLEFOOT_TILE;  // rows, registers of columns
constexpr int kFloatColumns = kTile[1] * LITTLEFOOT_FLOATS;

template <int kRows>
void float_product_rows(const float* x, long x_stride, const float* tile, long inputs, float* sums, long sum_stride) {
    const float* rows[kRows];
    Floats totals[kRows][kTile[1]];
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
        rows[r] = x + r * x_stride;
#pragma GCC unroll 4
        for (int v = 0; v < kTile[1]; ++v) totals[r][v] = floats(sums + r * sum_stride + v * LITTLEFOOT_FLOATS);
    }
    accumulate(rows, tile, kFloatColumns, inputs, totals);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r)
        __builtin_memcpy(sums + r * sum_stride, totals[r], sizeof totals[r]);
}

void float_product(const float* x, long x_stride, long rows, const float* tile, long inputs, float* sums,
                   long sum_stride) {
    long r = 0;
    const auto advance = [&]<int kRows>() {
        for (; r + kRows <= rows; r += kRows)
            float_product_rows<kRows>(x + r * x_stride, x_stride, tile, inputs, sums + r * sum_stride, sum_stride);
    };
    advance.template operator()<kTile[0]>();
    advance.template operator()<4>();
    advance.template operator()<2>();
    advance.template operator()<1>();
}

// By integers and a product, for instruction sets without a conversion: the product puts the exponent right, also of
// halves below 2^-14, which have no leading one.
[[maybe_unused]] void expand_halves(const uint16_t* halves, long count, float* out) {
#pragma omp simd
    for (long i = 0; i < count; ++i) {
        const uint32_t half = halves[i], bits = (half & 0x7FFF) << 13;
        float number;
        __builtin_memcpy(&number, &bits, sizeof number);
        number *= 0x1p112f;
        uint32_t whole;
        __builtin_memcpy(&whole, &number, sizeof whole);
        whole |= (half & 0x8000) << 16;
        __builtin_memcpy(out + i, &whole, sizeof whole);
    }
}

}  // namespace
}  // namespace littlefoot
