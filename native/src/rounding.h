// From numbers to integers before a product, and back behind it.
#pragma once

#include <cstdint>
#include <vector>

#include "packed.h"

namespace littlefoot {

// How inputs become integers, and the sums of their products outputs.
struct Rounding {
    float input_factor = 1;
    int zero_point = 0;
    std::vector<float> factors, shift;  // of the input's columns, or empty, both
    std::vector<float> scale, offset;   // of the outputs
    std::vector<int32_t> correction;
    Activation activation = Activation::none;
};

// Columns of a row, first ... first + count, to integers of so many bits; returns their sum.
inline int32_t quantize(const Kernels& kernels, const Rounding& rounding, const float* x, long first, long count,
                        int bits, uint8_t* out) {
    const bool each = !rounding.factors.empty();
    return kernels.quantize(x + first, count, each ? rounding.factors.data() + first : nullptr,
                            each ? rounding.shift.data() + first : nullptr, rounding.input_factor,
                            rounding.zero_point, (1 << bits) - 1, out);
}

inline Finish finishing(const Rounding& rounding, const PackedMatrix& matrix) {
    return {rounding.scale.data(), rounding.correction.data(), rounding.offset.data(), matrix.alpha(),
            rounding.activation};
}

}  // namespace littlefoot
