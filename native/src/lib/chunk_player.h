// A network's steps for the chunks of one stream: what a chunk needs of the frames before it is kept from call to
// call, and nothing is allocated in between.
//
// A frame attends to its own chunk and ``left`` frames before it, as under the mask of the whole recording. The
// positional convolution reads ``right`` frames ahead, so steps behind it come that much later.
#pragma once

#include <memory>
#include <vector>

#include "network.h"

namespace littlefoot {

class ChunkPlayer {
  public:
    // ``most``: frames of a call. Throws Failure (LF_UNSUPPORTED) for steps that cannot be played in chunks.
    ChunkPlayer(const Kernels& kernels, std::shared_ptr<const Network> network, const StreamLimits& limits, long most);

    // features (fresh, inputs), then so many frames of silence behind the end -> rows of logits that they decide.
    long play(const float* features, long fresh, long silent);
    const float* logits();  // rows, ``stride`` apart
    long stride() const;
    void reset();  // to the beginning of a stream

  private:
    struct History {  // keys and values of an attention, (left + most, width)
        Bytes keys, values;
        long width = 0;
    };

    void check() const;
    float* at(int value);
    long stride(int value) const;
    void run(const PackedLinear& step);
    void run(const PackedConvolution& step);
    void run(const FloatLinear& step);
    void run(const LayerNorm& step);
    void run(const Add& step);
    void run(const Activate& step);
    void run(const Attention& step);
    void push(const PackedConvolution& step, long fresh, long silent);
    long rows(int value) const;

    const Kernels& kernels_;
    std::shared_ptr<const Network> network_;
    const StreamLimits limits_;
    const long most_;
    size_t convolution_;  // number of the step
    std::vector<Bytes> values_;
    std::vector<int> slots_;  // of each value among ``values_``
    std::vector<History> histories_;  // of each step
    Bytes quantized_, packed_keys_, packed_values_, attention_, windows_, delayed_;
    std::vector<int32_t> sums_, window_sums_;
    Scratch scratch_;
    long fresh_ = 0, decided_ = 0;  // rows of this call, before and behind the convolution
    long waiting_ = 0;              // rows of the convolution's residual that are not decided yet
    long filled_ = 0;               // rows in ``windows_`` before this call's
    long seen_ = 0;                 // frames in the histories
};

}  // namespace littlefoot
