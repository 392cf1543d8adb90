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

    // Fold the scale of the inputs into the rest. Before, factors and shift are as they are stored, where a layer has
    // them, the scale is that of the weights, and an offset may be missing. ``row_sums`` has a number for each output.
    void fold(float input_scale, long columns, const std::vector<int32_t>& row_sums) {
        input_factor = 1.0f / input_scale;
        if (!factors.empty() || !shift.empty()) {
            factors.resize(static_cast<size_t>(columns), 1.0f);
            shift.resize(static_cast<size_t>(columns), 0.0f);
        }
        for (float& factor : factors) factor *= input_factor;
        for (float& part : shift) part *= input_factor;
        for (float& each : scale) each *= input_scale;
        offset.resize(row_sums.size(), 0.0f);
        for (const int32_t sum : row_sums) correction.push_back(zero_point * sum);
    }
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
