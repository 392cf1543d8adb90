// Reads a model file. ``littlefoot/runtime/native/model_file.py`` writes it and describes its layout.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "front_end.h"
#include "network.h"
#include "reader.h"
#include "vocabulary.h"

namespace littlefoot {

class Loader {
  public:
    // Verifies checksums and sizes. Throws Failure, as all functions below.
    Loader(std::span<const uint8_t> file, const Kernels& kernels);

    // The parts, to be read in this order.
    std::string description();
    bool normalize();
    StreamLimits limits();
    Vocabulary vocabulary();
    void tensors();
    void matrices();
    std::vector<FrontEndLayer> front_end(long& stride, long& receptive_field);
    // ``masked``: whether attention is limited to chunks. May be called again, for another copy.
    Network network(long inputs, size_t outputs, bool& masked);

  private:
    struct Tensor {
        bool floats;
        std::span<const uint8_t> bytes;
    };
    using Floats = std::span<const float>;

    void check_window(const Network& network) const;
    Floats floats(const char* what, uint64_t count);
    std::vector<float> copy(const char* what, size_t count);
    std::vector<float> copy_or(const char* what, size_t count, float otherwise);
    Activation activation();
    float positive(const char* what);
    std::shared_ptr<PackedMatrix> matrix(const char* what);
    Rounding rounding(long columns, const std::vector<int32_t>& row_sums, int input_bits);
    int value(const char* what, const Network& network);
    int residual(const Network& network, long width);
    View view(const char* what, const Network& network, long width);
    Step step(Network& network, bool& masked);
    Step packed_linear(const Network& network);
    Step packed_convolution(const Network& network);
    Step float_linear(const Network& network);
    Step layer_norm(const Network& network);
    Step attention(const Network& network, bool& masked);

    std::span<const uint8_t> file_;
    const Kernels& kernels_;
    Reader reader_;
    StreamLimits limits_;
    long stride_ = 1;  // samples
    std::vector<Tensor> tensors_;
    std::vector<std::shared_ptr<PackedMatrix>> matrices_;
};

}  // namespace littlefoot
