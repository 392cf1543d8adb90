// A layer's weights, packed or in floating point, and what it does to rows before and behind its products.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "float_matrix.h"
#include "packed.h"

namespace littlefoot {

using Matrix = std::variant<std::shared_ptr<const PackedMatrix>, std::shared_ptr<const FloatMatrix>>;

const void* identity(const Matrix& matrix);  // what layers that share a matrix have in common
size_t bytes(const Matrix& matrix);
long outputs(const Matrix& matrix);
bool packed(const Matrix& matrix);

// How a layer's inputs become integers: round((x * smoothing - shift) / scale) + zero_point.
struct Rounding {
    float scale = 1;
    int zero_point = 0;
    std::vector<float> weight_scale;      // of each output
    std::vector<float> smoothing, shift;  // of the inputs' columns, or empty
};

class Weights {
  public:
    Weights() = default;
    // ``groups``: of the columns side by side, whose outputs are side by side too; a linear layer has one. A group
    // multiplies ``taps`` rows of its columns, one behind the other. ``rounding``: of packed matrices. ``bias`` of
    // each output, or empty. Throws std::invalid_argument where these do not fit one another.
    Weights(std::vector<Matrix> groups, long columns, long taps, std::optional<Rounding> rounding,
            std::vector<float> bias, Activation activation);

    explicit operator bool() const { return !groups_.empty(); }
    const std::vector<Matrix>& matrices() const { return groups_; }
    const Kernels& kernels() const { return *kernels_; }
    long groups() const { return static_cast<long>(groups_.size()); }
    long outputs() const { return outputs_; }    // of all groups
    long channels() const { return channels_; }  // of a group, in one row
    long taps() const { return taps_; }

    // Inputs as products read them: integers of a byte each, or floats.
    size_t input_bytes() const { return packed_ ? 1 : sizeof(float); }
    // Columns first ... first + count of a row -> inputs; returns the sum of integers.
    int32_t take(const float* x, long first, long count, uint8_t* inputs) const;
    // The same of zeros.
    int32_t take_zeros(long count, uint8_t* inputs) const;

    // Outputs of a group of rows of inputs, ``stride`` numbers apart; ``sums``: of each row's taps, one behind the
    // other.
    void multiply(long group, const uint8_t* inputs, long stride, long rows, const int32_t* sums, long sum_stride,
                  Scratch& scratch, const Output& output) const;
    // Outputs of rows, of a layer with one group and one tap.
    void apply(const float* x, long stride, long rows, Scratch& scratch, const Output& output) const;

  private:
    void set_rounding(Rounding&& rounding, long columns);

    const Kernels* kernels_ = nullptr;
    std::vector<Matrix> groups_;
    long outputs_ = 0, channels_ = 0, taps_ = 1, group_outputs_ = 0;
    bool packed_ = false;
    std::vector<float> bias_;
    Activation activation_ = Activation::none;
    // Of packed matrices:
    float factor_ = 1;
    int zero_point_ = 0, largest_ = 0;
    std::vector<float> factors_, shift_;  // of the columns, or empty, both
    std::vector<float> scale_;            // of the outputs
    std::vector<int32_t> correction_;
};

}  // namespace littlefoot
