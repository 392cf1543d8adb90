// Reads a model file. ``littlefoot/runtime/native/model_file.py`` writes it and describes its layout.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
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
    // Verifies checksums and sizes. Throws Failure, as all functions below. ``release``: called with a part of the file
    // when it is not needed for a while, so that a large file is never in memory as a whole; or empty.
    using Release = std::function<void(std::span<const uint8_t>)>;
    Loader(std::span<const uint8_t> file, const Kernels& kernels, Release release = {});

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
    enum class Type { bytes, floats, halves };
    struct Tensor {
        Type type;
        std::span<const uint8_t> bytes;
    };
    static constexpr uint64_t kAlignment = 64;  // of tensors
    static constexpr long kMostTaps = 1 << 12;

    static size_t number_bytes(Type type) { return type == Type::floats ? 4 : type == Type::halves ? 2 : 1; }
    const Tensor& tensor(const char* what);
    std::span<const float> floats(const char* what, uint64_t count);
    std::vector<float> copy(const char* what, size_t count);
    std::vector<float> copy_or(const char* what, size_t count, float otherwise);
    Activation activation();
    float positive(const char* what);
    Matrix matrix(const Tensor& tensor, long rows, long columns, int bits, int input_bits,
                  const std::vector<int>& levels);
    Matrix matrix(const char* what);
    Weights weights(std::vector<Matrix> groups, long columns, long taps, std::optional<Activation> activation = {});

    // load_network.cpp
    void check_window(const Network& network) const;
    int value(const char* what, const Network& network);
    int residual(const Network& network, long width);
    View view(const char* what, const Network& network, long width);
    Step step(Network& network, bool& masked);
    Linear linear(const Network& network);
    Linear float_linear(const Network& network);
    Convolution convolution(const Network& network);
    LayerNorm layer_norm(const Network& network);
    Attention attention(const Network& network, bool& masked);

    std::span<const uint8_t> file_;
    const Kernels& kernels_;
    Release release_;
    Reader reader_;
    StreamLimits limits_;
    long stride_ = 1;  // samples
    std::vector<Tensor> tensors_;
    std::vector<Matrix> matrices_;
    double expanded_ = 0;  // bytes of all matrices
};

}  // namespace littlefoot
