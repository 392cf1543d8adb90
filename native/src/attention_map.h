// The map of an attention that several layers share: rows of weights and their sums.
#pragma once

#include <cstring>

#include "kernels.h"

namespace littlefoot {

// Takes rows of a known map; the first is row ``first`` of ``a``.
inline void recall(const AttentionRows& a, long first, long rows, size_t row_bytes, void* weights, float* sums) {
    std::memcpy(weights, static_cast<const char*>(a.map) + static_cast<size_t>(first) * row_bytes,
                static_cast<size_t>(rows) * row_bytes);
    std::memcpy(sums, a.sums + first, static_cast<size_t>(rows) * sizeof(float));
}

// Keeps rows of a map that was asked for.
inline void keep(const AttentionRows& a, long first, long rows, size_t row_bytes, const void* weights,
                 const float* sums) {
    if (!a.map) return;
    std::memcpy(static_cast<char*>(a.map) + static_cast<size_t>(first) * row_bytes, weights,
                static_cast<size_t>(rows) * row_bytes);
    std::memcpy(a.sums + first, sums, static_cast<size_t>(rows) * sizeof(float));
}

}  // namespace littlefoot
