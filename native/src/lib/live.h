// Live recognition: samples in, text and segments out, as littlefoot.runtime.stream makes them.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "littlefoot.h"
#include "model.h"

namespace littlefoot {

// Logits of a stream's frames, as soon as they are decided.
class Frames {
  public:
    virtual ~Frames() = default;
    virtual double latency() const = 0;  // seconds
    // Both append rows of logits.
    virtual void feed(const float* samples, long count, std::vector<float>& logits) = 0;
    virtual void finish(std::vector<float>& logits) = 0;
};

std::unique_ptr<Frames> make_frames(std::shared_ptr<const Model> model, long chunk);

class Live {
  public:
    Live(std::shared_ptr<const Model> model, long chunk);
    double latency() const { return frames_->latency(); }
    void feed(const float* samples, long count, lf_update& update);
    void finish(lf_update& update);
    bool finished() const { return finished_; }

  private:
    struct Part {  // a segment, as words of ``segments_``
        size_t first, count, text;
    };

    void decode(bool last, lf_update& update);
    void end_segment(size_t frames);
    void drop(size_t frames);
    void reserve(size_t frames);

    std::shared_ptr<const Model> model_;
    std::unique_ptr<Frames> frames_;
    std::vector<float> logits_;
    std::vector<Best> decided_, best_;  // of this call's frames, and of those of the current segment
    size_t begin_ = 0;                  // frames before the segment
    bool finished_ = false;
    WordMaker partial_, segments_;
    std::string partial_text_, line_, texts_;
    std::vector<Part> parts_;
    std::vector<lf_word> words_;
    std::vector<lf_segment> out_;
};

}  // namespace littlefoot
