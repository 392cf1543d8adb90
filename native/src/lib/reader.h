// Numbers and texts of a model file's description, in their order. Every read is checked against the end.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "failure.h"

namespace littlefoot {

[[noreturn]] inline void damaged(const std::string& what) {
    throw Failure(LF_DAMAGED, "the model is damaged: " + what + ": get or export it again");
}

class Reader {
  public:
    explicit Reader(std::span<const uint8_t> bytes) : left_(bytes) {}

    uint32_t u32() { return number<uint32_t>(); }
    uint64_t u64() { return number<uint64_t>(); }
    float f32() { return number<float>(); }
    bool empty() const { return left_.empty(); }

    // A number from ``low`` to ``high``.
    long whole(const char* what, long low, long high) {
        const uint32_t found = u32();
        if (static_cast<long long>(found) < low || static_cast<long long>(found) > high)
            damaged(std::string(what) + " is " + std::to_string(found) + ", but must be " + std::to_string(low) +
                    " to " + std::to_string(high));
        return static_cast<long>(found);
    }

    // How many records follow, each of so many bytes at least.
    long count(const char* what, size_t bytes) {
        return whole(what, 0, static_cast<long>(left_.size() / bytes));
    }

    std::string text(const char* what) {
        const size_t size = static_cast<size_t>(count(what, 1));
        std::string found(reinterpret_cast<const char*>(take(size)), size);
        if (found.find('\0') != std::string::npos) damaged(std::string(what) + " contains a zero byte");
        return found;
    }

  private:
    const uint8_t* take(size_t size) {
        if (size > left_.size()) damaged("its description ends early");
        const uint8_t* const found = left_.data();
        left_ = left_.subspan(size);
        return found;
    }

    template <typename T>
    T number() {
        T value;
        std::memcpy(&value, take(sizeof value), sizeof value);
        return value;
    }

    std::span<const uint8_t> left_;
};

}  // namespace littlefoot
