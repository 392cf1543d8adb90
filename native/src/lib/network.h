// The steps behind the front end, as the file has them: a Program takes them, or a chunk player.
#pragma once

#include <vector>

#include "program.h"

namespace littlefoot {

struct Network {
    std::vector<long> widths;  // of the values: 0 is the input, and number i + 1 is what step i makes
    std::vector<Step> steps;
};

struct StreamLimits {
    long chunk = 0, left = 0, right = 0;  // frames; no chunk: the model was not made for streams
};

}  // namespace littlefoot
