#include "weights.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>

namespace littlefoot {

namespace {

[[noreturn]] void wrong(const std::string& what) { throw std::invalid_argument(what); }

void check_count(const std::vector<float>& numbers, long count, const char* what) {
    if (static_cast<long>(numbers.size()) != count)
        wrong(std::string(what) + " must have " + std::to_string(count) + " numbers, not " +
              std::to_string(numbers.size()));
}

template <typename Get>
auto of(const Matrix& matrix, const Get& get) {
    return std::visit([&](const auto& found) { return get(*found); }, matrix);
}

}  // namespace

const void* identity(const Matrix& matrix) {
    return of(matrix, [](const auto& found) { return static_cast<const void*>(&found); });
}

size_t bytes(const Matrix& matrix) {
    return of(matrix, [](const auto& found) { return found.bytes(); });
}

long outputs(const Matrix& matrix) {
    return of(matrix, [](const auto& found) { return found.outputs(); });
}

bool packed(const Matrix& matrix) { return std::holds_alternative<std::shared_ptr<const PackedMatrix>>(matrix); }

Weights::Weights(std::vector<Matrix> groups, long columns, long taps, std::optional<Rounding> rounding,
                 std::vector<float> bias, Activation activation)
    : groups_(std::move(groups)), taps_(taps), bias_(std::move(bias)), activation_(activation) {
    if (groups_.empty()) wrong("a layer needs a matrix");
    if (columns % this->groups())
        wrong(std::to_string(columns) + " channels do not make " + std::to_string(this->groups()) + " groups");
    kernels_ = of(groups_[0], [](const auto& found) { return &found.kernels(); });
    packed_ = packed(groups_[0]);
    channels_ = columns / this->groups();
    group_outputs_ = littlefoot::outputs(groups_[0]);
    outputs_ = group_outputs_ * this->groups();
    for (const Matrix& each : groups_) {
        const long inputs = of(each, [](const auto& found) { return found.inputs(); });
        if (inputs != channels_ * taps)
            wrong("the input has " + std::to_string(channels_) + " columns" +
                  (taps == 1 ? "" : " in each of " + std::to_string(taps) + " taps") + ", not " +
                  std::to_string(inputs));
        if (each.index() != groups_[0].index() ||
            littlefoot::outputs(each) != group_outputs_ ||
            of(each, [](const auto& found) { return &found.kernels(); }) != kernels_)
            wrong("the matrices of a layer's groups differ");
    }
    if (bias_.empty()) bias_.resize(static_cast<size_t>(outputs_), 0.0f);
    check_count(bias_, outputs_, "the bias");
    if (packed_ != rounding.has_value()) wrong("packed weights need rounded inputs, and floating point does not");
    if (rounding) set_rounding(std::move(*rounding), columns);
}

void Weights::set_rounding(Rounding&& rounding, long columns) {
    const auto at = [](const Matrix& matrix) -> const PackedMatrix& {
        return *std::get<std::shared_ptr<const PackedMatrix>>(matrix);
    };
    largest_ = (1 << at(groups_[0]).activation_bits()) - 1;
    if (!(rounding.scale > 0) || !std::isfinite(rounding.scale) || rounding.zero_point < 0 ||
        rounding.zero_point > largest_)
        wrong("the input's scale must be above 0, and its zero point 0 to " + std::to_string(largest_));
    factor_ = 1.0f / rounding.scale;
    zero_point_ = rounding.zero_point;
    scale_ = std::move(rounding.weight_scale);
    check_count(scale_, outputs_, "the weight's scale");
    for (float& scale : scale_) scale *= rounding.scale;
    factors_ = std::move(rounding.smoothing);
    shift_ = std::move(rounding.shift);
    if (factors_.empty() && !shift_.empty()) factors_.resize(static_cast<size_t>(columns), 1.0f);
    if (shift_.empty() && !factors_.empty()) shift_.resize(static_cast<size_t>(columns), 0.0f);
    if (!factors_.empty()) {
        check_count(factors_, columns, "smoothing");
        check_count(shift_, columns, "the shift");
    }
    for (float& factor : factors_) factor *= factor_;
    for (float& part : shift_) part *= factor_;
    for (const Matrix& each : groups_) {
        if ((1 << at(each).activation_bits()) - 1 != largest_) wrong("the matrices of a layer's groups differ");
        for (const int32_t sum : at(each).row_sums()) correction_.push_back(zero_point_ * sum);
    }
}

int32_t Weights::take(const float* x, long first, long count, uint8_t* inputs) const {
    if (!packed_) {
        std::memcpy(inputs, x + first, static_cast<size_t>(count) * sizeof(float));
        return 0;
    }
    const bool each = !factors_.empty();
    return kernels_->quantize(x + first, count, each ? factors_.data() + first : nullptr,
                              each ? shift_.data() + first : nullptr, factor_, zero_point_, largest_, inputs);
}

int32_t Weights::take_zeros(long count, uint8_t* inputs) const {
    std::memset(inputs, zero_point_, static_cast<size_t>(count) * input_bytes());
    return zero_point_ * static_cast<int32_t>(count);
}

void Weights::multiply(long group, const uint8_t* inputs, long stride, long rows, const int32_t* sums,
                       long sum_stride, Scratch& scratch, const Output& output) const {
    const long begin = group * group_outputs_;
    if (!packed_) {
        std::get<std::shared_ptr<const FloatMatrix>>(groups_[static_cast<size_t>(group)])
            ->multiply(reinterpret_cast<const float*>(inputs), stride, rows, scratch,
                       [&](Sums<float> totals) {
                           totals.column += begin;
                           kernels_->complete(totals, bias_.data(), activation_, output);
                       });
        return;
    }
    const PackedMatrix& matrix = *std::get<std::shared_ptr<const PackedMatrix>>(groups_[static_cast<size_t>(group)]);
    const Finish finish = {scale_.data(), correction_.data(), bias_.data(), matrix.alpha(), activation_};
    const int32_t* row_terms = nullptr;
    if (matrix.beta()) {
        if (static_cast<long>(scratch.row_terms.size()) < rows)
            scratch.row_terms.resize(static_cast<size_t>(std::max(rows, Scratch::kRows)));
        for (long r = 0; r < rows; ++r) {
            const int32_t* const of_taps = sums + r * sum_stride;
            scratch.row_terms[static_cast<size_t>(r)] = matrix.beta() * std::accumulate(of_taps, of_taps + taps_, 0);
        }
        row_terms = scratch.row_terms.data();
    }
    matrix.multiply(inputs, stride, rows, scratch, [&](Sums<int32_t> totals) {
        totals.column += begin;
        kernels_->finish(finish, totals, row_terms, output);
    });
}

void Weights::apply(const float* x, long stride, long rows, Scratch& scratch, const Output& output) const {
    if (!packed_) return multiply(0, reinterpret_cast<const uint8_t*>(x), stride, rows, nullptr, 0, scratch, output);
    const long padded = std::get<std::shared_ptr<const PackedMatrix>>(groups_[0])->padded_inputs();
    scratch.inputs.reserve(static_cast<size_t>(rows * padded));
    if (static_cast<long>(scratch.sums.size()) < rows) scratch.sums.resize(static_cast<size_t>(rows));
    for (long r = 0; r < rows; ++r) {
        uint8_t* const row = scratch.inputs.data() + r * padded;
        scratch.sums[static_cast<size_t>(r)] = take(x + r * stride, 0, channels_, row);
        std::memset(row + channels_, 0, static_cast<size_t>(padded - channels_));
    }
    multiply(0, scratch.inputs.data(), padded, rows, scratch.sums.data(), 1, scratch, output);
}

}  // namespace littlefoot
