// A model as a file describes it, ready to run.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "chunk_batches.h"
#include "front_end.h"
#include "load.h"
#include "network.h"
#include "vocabulary.h"

namespace littlefoot {

constexpr long kSampleRate = 16000;

class Model {
  public:
    // Verifies and reads a file's content, which is not needed afterwards. ``release``: Loader's. Throws Failure.
    Model(std::span<const uint8_t> file, const Kernels& kernels, int threads, Loader::Release release = {});

    const Kernels& kernels;
    std::string description;  // JSON, for people
    bool normalize = false;
    StreamLimits limits;
    Vocabulary vocabulary;
    long stride = 1, receptive_field = 1;       // samples

    size_t tokens() const { return vocabulary.written.size(); }
    double frame_seconds() const { return static_cast<double>(stride) / kSampleRate; }
    long frames(long samples) const { return front_end_->frames(samples); }

    // Prepares a window's samples as the model was trained; ``prepared`` keeps its memory.
    void prepare(const float* samples, long count, std::vector<float>& prepared) const;
    // Frames first ... end of a window's prepared samples, behind the logits that are there already. Threads wait for
    // each other.
    void run(const std::vector<float>& prepared, long first, long end, std::vector<float>& logits) const;

    bool streams() const { return chunked_ != nullptr; }  // whether the model was made for streams
    // The chunks of all its streams. Throws Failure (LF_UNSUPPORTED) for a network that cannot be played in chunks.
    ChunkBatches& chunks() const;

  private:
    int threads_;
    std::vector<FrontEndLayer> layers_;       // for chunks, which share their matrices
    std::shared_ptr<const Network> chunked_;  // likewise
    mutable std::mutex chunks_mutex_;
    mutable std::unique_ptr<ChunkBatches> chunks_;
    bool masked_ = false;  // whether attention sees chunks, not the whole window
    std::unique_ptr<FrontEnd> front_end_;
    std::unique_ptr<Program> program_;
    mutable std::mutex mutex_;
    mutable std::vector<float> features_, window_, mask_;
    mutable std::vector<Bias> biases_;
    mutable long mask_frames_ = 0;
};

}  // namespace littlefoot
