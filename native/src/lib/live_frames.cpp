#include <algorithm>
#include <cmath>

#include "failure.h"
#include "live.h"

namespace littlefoot {

namespace {

constexpr long kMostChunk = 1 << 12;  // frames

void append(std::vector<float>& to, const float* from, long count) { to.insert(to.end(), from, from + count); }

// Of a streaming model: the logits of the whole recording, chunk by chunk.
class ChunkedFrames : public Frames {
  public:
    ChunkedFrames(std::shared_ptr<const Model> model, long chunk)
        : model_(std::move(model)),
          chunk_(chunk),
          right_(model_->limits.right),
          state_(model_->chunks().begin(chunk + right_)) {
        const long most = chunk_ + right_;
        held_.reserve(static_cast<size_t>(samples(most)));
        if (model_->chunks().prepared(most)) return;
        held_.assign(static_cast<size_t>(samples(most)), 0.0f);  // the longest call takes all memory that is needed
        std::vector<float> logits;
        step(most, most, logits);
        model_->chunks().restart(state_);
        held_.clear();
        begun_ = false;
    }

    double latency() const override {
        return static_cast<double>((chunk_ + right_ - 1) * model_->stride + model_->receptive_field) / kSampleRate;
    }

    void feed(const float* given, long count, std::vector<float>& logits) override {
        while (count > 0) {
            const long missing = samples(next()) - static_cast<long>(held_.size());
            const long taken = std::min(count, missing);
            append(held_, given, taken);
            given += taken;
            count -= taken;
            if (taken == missing) step(next(), next(), logits);
        }
    }

    void finish(std::vector<float>& logits) override {
        long real = model_->frames(static_cast<long>(held_.size()));
        long total = real || begun_ ? real + right_ : 0;  // silence behind the end is decided about with the last frames
        while (total > 0) {
            const long count = std::min(next(), total);
            step(count, std::min(count, real), logits);
            total -= count;
            real = std::max(0L, real - count);
        }
        held_.clear();
    }

  private:
    long next() const { return chunk_ + (begun_ ? 0 : right_); }  // new frames of the next chunk
    long samples(long frames) const { return (frames - 1) * model_->stride + model_->receptive_field; }

    // So many frames, the first ``real`` of which are computed, and silence.
    void step(long count, long real, std::vector<float>& logits) {
        model_->chunks().play({state_, held_.data(), real > 0 ? samples(real) : 0, real, count - real, logits});
        held_.erase(held_.begin(),
                    held_.begin() + std::min(count * model_->stride, static_cast<long>(held_.size())));
        begun_ = true;
    }

    std::shared_ptr<const Model> model_;
    const long chunk_, right_;
    ChunkState state_;
    std::vector<float> held_;
    bool begun_ = false;
};

// Of any other model: windows that overlap, each of which decides one second, as littlefoot.runtime.frames has them.
class WindowedFrames : public Frames {
  public:
    explicit WindowedFrames(std::shared_ptr<const Model> model) : model_(std::move(model)) {
        const auto frames = [&](double seconds) {
            return std::lrint(seconds * static_cast<double>(kSampleRate) / static_cast<double>(model_->stride));
        };
        left_ = frames(kLeft);
        hop_ = frames(kHop);
        right_ = frames(kRight);
        const long most = samples(left_ + hop_ + right_) + model_->stride;
        held_.reserve(static_cast<size_t>(most));
        prepared_.assign(static_cast<size_t>(most), 0.0f);
        std::vector<float> logits;  // the longest call takes all memory that is needed
        model_->run(prepared_, 0, 0, logits);
    }

    double latency() const override { return kHop + kRight; }

    void feed(const float* given, long count, std::vector<float>& logits) override {
        while (count > 0) {
            const long missing = samples(first_ + hop_ + right_) - static_cast<long>(held_.size());
            const long taken = std::min(count, missing);
            append(held_, given, taken);
            given += taken;
            count -= taken;
            if (taken == missing) decide(first_ + hop_, logits);
        }
    }

    void finish(std::vector<float>& logits) override {
        if (const long count = model_->frames(static_cast<long>(held_.size())); count > first_) decide(count, logits);
    }

  private:
    static constexpr double kLeft = 6, kHop = 1, kRight = 1;  // seconds: context before, decided, context after

    long samples(long frames) const { return (frames - 1) * model_->stride + model_->receptive_field; }

    // Frames up to ``end``, with what is held behind them as context.
    void decide(long end, std::vector<float>& logits) {
        const long frames = model_->frames(static_cast<long>(held_.size()));
        model_->prepare(held_.data(), samples(frames), prepared_);
        model_->run(prepared_, first_, end, logits);
        const long drop = std::max(0L, end - left_);
        held_.erase(held_.begin(),
                    held_.begin() + std::min(drop * model_->stride, static_cast<long>(held_.size())));
        first_ = end - drop;
    }

    std::shared_ptr<const Model> model_;
    long left_, hop_, right_;
    long first_ = 0;  // frame of ``held_`` from which nothing is decided yet
    std::vector<float> held_, prepared_;
};

}  // namespace

std::unique_ptr<Frames> make_frames(std::shared_ptr<const Model> model, long chunk) {
    if (!model->streams()) {
        if (chunk != 0)
            throw Failure(LF_INVALID_ARGUMENT, "the model was not made for streams: its chunks have a fixed length, so "
                                               "chunk_frames must be 0");
        return std::make_unique<WindowedFrames>(std::move(model));
    }
    if (chunk < 0 || chunk > kMostChunk)
        throw Failure(LF_INVALID_ARGUMENT, "chunk_frames is " + std::to_string(chunk) + ", but must be 0, or 1 to " +
                                               std::to_string(kMostChunk));
    const long frames = chunk ? chunk : model->limits.chunk;
    return std::make_unique<ChunkedFrames>(std::move(model), frames);
}

}  // namespace littlefoot
