#include "recording.h"

#include <cmath>

namespace littlefoot {

namespace {

constexpr double kWindowSeconds = 20, kContextSeconds = 2;

}  // namespace

Recognised recognise(const Model& model, const float* samples, size_t count) {
    Recognised made;
    std::vector<float> prepared;
    const double rate = static_cast<double>(kSampleRate) / static_cast<double>(model.stride);
    const long context = std::lrint(kContextSeconds * rate);  // frames
    const long window = std::lrint(kWindowSeconds * rate);
    const float* held = samples;
    long left = static_cast<long>(count), first = 0;
    while (left > window * model.stride) {
        model.prepare(held, window * model.stride, prepared);
        model.run(prepared, first, window - context, made.logits);
        held += (window - 2 * context) * model.stride;
        left -= (window - 2 * context) * model.stride;
        first = context;
    }
    if (const long frames = model.frames(left); frames > first) {
        model.prepare(held, left, prepared);
        model.run(prepared, first, frames, made.logits);
    }
    append_best(made.logits.data(), made.logits.size() / model.tokens(), model.tokens(), made.best);
    WordMaker maker(model.vocabulary, model.frame_seconds());
    maker.add(made.best.data(), made.best.size(), 0);
    maker.join(0, made.text);
    made.arena = maker.text();
    made.words = maker.words();
    return made;
}

}  // namespace littlefoot
