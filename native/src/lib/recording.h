// Recognition of a whole recording.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "model.h"

namespace littlefoot {

struct Recognised {
    std::vector<float> logits;  // (frames, tokens)
    std::vector<Best> best;     // of each frame
    std::string text, arena;    // all of it, and the words' texts with zero bytes between
    std::vector<Word> words;    // in the arena
};

// Beyond 20 s it is computed in windows of 20 s, each of which decides all but the first and last 2 s that it shares
// with its neighbours.
Recognised recognise(const Model& model, const float* samples, size_t count);

}  // namespace littlefoot
