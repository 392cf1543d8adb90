// Where littlefoot/web/static/engine.js finds the members of the header's structures.
#include <cstddef>

#include "littlefoot.h"

static_assert(sizeof(lf_error) == 260 && offsetof(lf_error, message) == 4);
static_assert(sizeof(lf_word) == 32 && offsetof(lf_word, text) == 0 && offsetof(lf_word, start) == 8 &&
              offsetof(lf_word, end) == 16 && offsetof(lf_word, confidence) == 24);
static_assert(sizeof(lf_segment) == 32 && offsetof(lf_segment, text) == 0 && offsetof(lf_segment, start) == 8 &&
              offsetof(lf_segment, end) == 16 && offsetof(lf_segment, words) == 24 &&
              offsetof(lf_segment, word_count) == 28);
static_assert(sizeof(lf_update) == 20 && offsetof(lf_update, partial) == 0 && offsetof(lf_update, segments) == 4 &&
              offsetof(lf_update, segment_count) == 8 && offsetof(lf_update, logits) == 12 &&
              offsetof(lf_update, frames) == 16);
