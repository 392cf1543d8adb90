// The content of a file, mapped into memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace littlefoot {

class Mapping {
  public:
    // Throws Failure (LF_CANNOT_READ) where it cannot be opened or is not a regular file.
    explicit Mapping(const std::string& path);
    ~Mapping();
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;
    std::span<const uint8_t> bytes() const { return {data_, size_}; }
    // Gives the memory of a part back. It is read from the file again where it is used again.
    void release(std::span<const uint8_t> part) const;

  private:
    const uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

}  // namespace littlefoot
