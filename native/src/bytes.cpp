#include "bytes.h"

#include <cstring>
#include <new>
#include <utility>

namespace littlefoot {

namespace {

constexpr size_t kLine = 64;

}  // namespace

Bytes::Bytes(size_t size) { reserve(size); }

Bytes::Bytes(Bytes&& other) noexcept : data_(other.data_), size_(other.size_) {
    other.data_ = nullptr;
    other.size_ = 0;
}

Bytes& Bytes::operator=(Bytes&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
}

Bytes::~Bytes() { ::operator delete(data_, std::align_val_t{kLine}); }

void Bytes::reserve(size_t size) {
    if (size <= size_) return;
    ::operator delete(data_, std::align_val_t{kLine});
    data_ = nullptr;
    size_ = 0;
    const size_t whole = (size + 2 * kLine + kLine - 1) / kLine * kLine;
    data_ = static_cast<uint8_t*>(::operator new(whole, std::align_val_t{kLine}));
    std::memset(data_, 0, whole);
    size_ = size;
}

}  // namespace littlefoot
