// Memory that kernels read and write.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace littlefoot {

// Bytes aligned to cache lines and padded, so that kernels may read a vector beyond the end.
class Bytes {
  public:
    Bytes() = default;
    explicit Bytes(size_t size);
    Bytes(Bytes&& other) noexcept;
    Bytes& operator=(Bytes&& other) noexcept;
    ~Bytes();
    uint8_t* data() { return data_; }
    const uint8_t* data() const { return data_; }
    float* floats() { return reinterpret_cast<float*>(data_); }
    const float* floats() const { return reinterpret_cast<const float*>(data_); }
    size_t size() const { return size_; }
    // At least so many bytes; what was there is lost.
    void reserve(size_t size);

  private:
    uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

// What a thread needs while it multiplies.
struct Scratch {
    static constexpr long kRows = 64;  // room is made for so many at least, so that a stream's later products find it
    Bytes inputs;                                 // rounded rows,
    std::vector<int32_t> sums, row_terms;         // their sums, and what follows from them
    Bytes digits, tables, partial, total, codes;  // of the products
};

}  // namespace littlefoot
