// A network's steps for the chunks of streams, of several side by side: their rows go through the products together,
// so that a weight is read once for all of them. A row's sums do not depend on the rows beside it, so a stream's results
// do not depend on the other streams.
//
// A frame attends to its own chunk and ``left`` frames before it, as under the mask of the whole recording. The
// positional convolution reads ``right`` frames ahead, so steps behind it come that much later.
#pragma once

#include <memory>
#include <vector>

#include "network.h"

namespace littlefoot {

// What the next chunk of a stream needs of those before it.
class ChunkState {
  public:
    long most() const { return most_; }  // frames of a chunk

  private:
    friend class ChunkPlayer;

    // Keys and values of an attention as the kernels pack them, in a ring of tiles of 16 frames, and as floats those
    // of the tile that is not full yet.
    struct History {
        Bytes keys, values, last_keys, last_values;
    };

    long most_ = 0;
    std::vector<History> histories_;     // of each step
    Bytes windows_, delayed_;            // inputs of the convolution, and the rows of its residual that wait
    std::vector<int32_t> window_sums_;
    long waiting_ = 0;   // rows of the residual
    long filled_ = 0;    // rows in ``windows_``
    long seen_ = 0;      // frames that the next chunk attends to besides its own
    long position_ = 0;  // of the next frame in the ring
};

class ChunkPlayer {
  public:
    // Throws Failure (LF_UNSUPPORTED) for steps that cannot be played in chunks.
    ChunkPlayer(const Kernels& kernels, std::shared_ptr<const Network> network, const StreamLimits& limits);

    // The beginning of a stream whose chunks have so many frames at most.
    ChunkState begin(long most) const;
    void restart(ChunkState& state) const;

    // A stream's share of a call.
    struct Part {
        ChunkState* state;
        long fresh, silent;  // rows of features, and frames of silence behind the end
        long first = 0;      // of the rows of features, and
        long decided = 0, first_decided = 0;  // of logits
    };

    // Room for the features of all parts, (rows, ``features_stride``); so many rows, with the silent ones.
    float* features(long rows);
    long features_stride() const { return stride(0); }
    // Computes the parts, whose features lie one behind the other, and sets what they decide.
    void play(std::vector<Part>& parts);
    const float* logits(const Part& part) { return at(last_) + part.first_decided * stride(last_); }
    long stride() const { return stride(last_); }
    long width() const { return network_->widths.back(); }

  private:
    void check() const;
    long ring(long most) const { return ((limits_.left + most + 15) / 16 + 1) * 16; }  // frames
    float* at(int value);
    long stride(int value) const;
    long rows(int value) const { return value <= static_cast<int>(convolution_) ? fresh_ : decided_; }
    void reserve(long rows);
    Output output(int target, int residual);
    void run(const Linear& step);
    void run(const Convolution& step);
    void run(const LayerNorm& step);
    void run(const Add& step);
    void run(const Activate& step);
    void run(const Attention& step);
    void take_zeros(const Convolution& step, ChunkState& state, long frames) const;
    void push(const Convolution& step, const Part& part);
    void convolve(const Convolution& step, const Part& part);
    void remember(const Attention& step, const Part& part);
    void attend(const Attention& step, const Part& part);

    const Kernels& kernels_;
    std::shared_ptr<const Network> network_;
    const StreamLimits limits_;
    size_t convolution_;  // number of the step
    int last_;            // value: the logits
    std::vector<Bytes> values_;
    std::vector<long> slot_widths_;
    std::vector<int> slots_;  // of each value among ``values_``
    long reserved_ = 0;       // rows in them
    Bytes fresh_keys_, fresh_values_, attention_;
    std::vector<float> mask_;
    Scratch scratch_;
    std::vector<Part>* parts_ = nullptr;
    long fresh_ = 0, decided_ = 0;  // rows of this call, before and behind the convolution
};

}  // namespace littlefoot
