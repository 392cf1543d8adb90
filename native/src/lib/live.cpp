#include "live.h"

#include <algorithm>
#include <cmath>

namespace littlefoot {

namespace {

constexpr double kEndpointSeconds = 0.8;  // so long a pause after speech ends a segment
constexpr double kMaxSeconds = 30;        // a segment without a pause ends at its last word after this

size_t frames_of(double seconds, double frame_seconds) {
    return static_cast<size_t>(std::max(1L, std::lrint(seconds / frame_seconds)));
}

}  // namespace

Live::Live(std::shared_ptr<const Model> model, long chunk)
    : model_(std::move(model)),
      frames_(make_frames(model_, chunk)),
      partial_(model_->vocabulary, model_->frame_seconds()),
      segments_(model_->vocabulary, model_->frame_seconds()) {
    const double frame = model_->frame_seconds();
    reserve(frames_of(kMaxSeconds + kEndpointSeconds, frame) + frames_of(frames_->latency() + 2, frame));
}

// Memory for a segment of so many frames, and for a call that decides as many.
void Live::reserve(size_t frames) {
    size_t longest = 0;
    for (const std::string& written : model_->vocabulary.written) longest = std::max(longest, written.size());
    const size_t bytes = frames * (longest + 1 + model_->vocabulary.separator.size());
    logits_.reserve(frames * model_->tokens());
    decided_.reserve(frames);
    best_.reserve(frames);
    partial_.reserve(frames);
    segments_.reserve(frames);
    for (std::string* text : {&partial_text_, &line_, &texts_}) text->reserve(bytes);
    parts_.reserve(frames);
    words_.reserve(frames);
    out_.reserve(frames);
}

void Live::feed(const float* samples, long count, lf_update& update) {
    logits_.clear();
    frames_->feed(samples, count, logits_);
    decode(false, update);
}

void Live::finish(lf_update& update) {
    finished_ = true;
    logits_.clear();
    frames_->finish(logits_);
    decode(true, update);
}

void Live::decode(bool last, lf_update& update) {
    const double frame = model_->frame_seconds();
    const size_t pause = frames_of(kEndpointSeconds, frame), longest = frames_of(kMaxSeconds, frame);
    const size_t tokens = model_->tokens(), frames = logits_.size() / tokens;
    decided_.clear();
    append_best(logits_.data(), frames, tokens, decided_);
    segments_.clear();
    parts_.clear();
    texts_.clear();
    const int blank = model_->vocabulary.blank, delimiter = model_->vocabulary.delimiter;
    const auto silent = [&](const Best& best) { return best.token == blank || best.token == delimiter; };
    for (size_t begin = 0; begin < frames; begin += pause) {  // a long call may contain many segments
        best_.insert(best_.end(), decided_.begin() + static_cast<long>(begin),
                     decided_.begin() + static_cast<long>(std::min(frames, begin + pause)));
        const auto spoken = std::find_if_not(best_.rbegin(), best_.rend(), silent);
        const size_t quiet = static_cast<size_t>(spoken - best_.rbegin());  // frames behind the last spoken one
        if (quiet == best_.size()) {
            drop(best_.size() - 1);
        } else if (quiet + 1 > pause) {
            end_segment(best_.size());
        } else if (best_.size() > longest) {
            const auto gap = std::find_if(best_.rbegin(), best_.rend(), silent);
            end_segment(gap == best_.rend() ? best_.size() : static_cast<size_t>(best_.rend() - gap));
        }
    }
    if (last) end_segment(best_.size());
    if (frames || last) {
        partial_.clear();
        partial_.add(best_.data(), best_.size(), begin_);
        partial_.join(0, partial_text_);
    }

    words_.clear();
    out_.clear();
    for (const Word& word : segments_.words())
        words_.push_back({segments_.text().data() + word.text, word.start, word.end, word.confidence});
    for (const Part& part : parts_)
        out_.push_back({texts_.data() + part.text, words_[part.first].start,
                        words_[part.first + part.count - 1].end, words_.data() + part.first, part.count});
    update = {partial_text_.c_str(), out_.data(), out_.size(), logits_.data(), frames};
}

// After so many frames.
void Live::end_segment(size_t frames) {
    const size_t first = segments_.words().size();
    segments_.add(best_.data(), frames, begin_);
    drop(frames);
    if (segments_.words().size() == first) return;
    segments_.join(first, line_);
    parts_.push_back({first, segments_.words().size() - first, texts_.size()});
    texts_.append(line_.c_str(), line_.size() + 1);
}

// Forget the first frames.
void Live::drop(size_t frames) {
    best_.erase(best_.begin(), best_.begin() + static_cast<long>(frames));
    begin_ += frames;
}

}  // namespace littlefoot
