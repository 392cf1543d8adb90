// The front end: convolutions from the waveform to a row of features for every frame, in one call.
//
// Between two layers lie the numbers that the second one multiplies, channels side by side. The windows of a
// convolution are then rows of a product as they are, ``stride`` frames apart. A thread takes a few frames
// of the output through all layers; what its windows share with a neighbour's is computed twice.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "pool.h"
#include "weights.h"

namespace littlefoot {

enum class Over { none, channels, time };

struct FrontEndNorm {
    Over over = Over::none;
    std::vector<float> weight, bias;
    float eps = 0;
};

// The first layer has a ``kernel``, the others ``weights``.
struct FrontEndLayer {
    long taps = 1, stride = 1, outputs = 1;
    std::vector<float> kernel, bias;  // (outputs, taps), (outputs,)
    Weights weights;                  // (outputs, taps * channels), a tap's channels side by side
    FrontEndNorm norm;                // over time only of the first layer
    Activation activation = Activation::none;  // behind the norm
};

class FrontEnd {
  public:
    FrontEnd(const Kernels& kernels, int threads) : FrontEnd(kernels, std::make_shared<Pool>(threads)) {}
    FrontEnd(const Kernels& kernels, std::shared_ptr<Pool> pool) : kernels_(kernels), pool_(std::move(pool)) {}
    const Kernels& kernels() const { return kernels_; }
    bool empty() const { return layers_.empty(); }
    long channels() const { return empty() ? 1 : layers_.back().outputs; }
    size_t bytes() const;  // of the weights

    void add(FrontEndLayer layer);
    long frames(long samples) const;
    // waveform (samples,) -> out (frames, channels). Throws where these are not what its layers make.
    void run(const float* waveform, long samples, float* out, long frames, long channels);

  private:
    struct Range {
        long first, count;  // frames of a layer's output
    };
    struct Worker {
        std::vector<Range> ranges;  // of each layer
        Bytes inputs[2];  // of a layer, and what it makes for the next
        std::vector<int32_t> sums[2];
        Bytes rows;  // of a layer's output, in float
        Scratch scratch;
    };

    void fold(const float* waveform, long samples);
    void slice(const float* waveform, long first, long count, Worker& worker, float* out) const;
    void listen(const float* waveform, const Range& range, Worker& worker, float* out) const;
    void convolve(size_t number, const Range& range, Worker& worker, float* out) const;
    void deliver(size_t number, const Range& range, long row, long count, Worker& worker, float* out) const;

    const Kernels& kernels_;
    std::shared_ptr<Pool> pool_;
    std::vector<FrontEndLayer> layers_;
    std::vector<Worker> workers_;
    std::optional<FloatMatrix> kernel_;  // of the first layer, with a norm over time as its part
    std::vector<float> bias_;
};

}  // namespace littlefoot
