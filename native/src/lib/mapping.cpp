#include "mapping.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "failure.h"

#if defined(__unix__) || defined(__APPLE__)
#define LITTLEFOOT_MMAP 1
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace littlefoot {

namespace {

[[noreturn]] void refuse(const std::string& path, const char* why) {
    throw Failure(LF_CANNOT_READ, "the model cannot be read: " + path + ": " + why);
}

}  // namespace

#ifdef LITTLEFOOT_MMAP

Mapping::Mapping(const std::string& path) {
    struct Descriptor {
        int number;
        ~Descriptor() {
            if (number >= 0) close(number);
        }
    } const file{open(path.c_str(), O_RDONLY | O_CLOEXEC)};
    if (file.number < 0) refuse(path, std::strerror(errno));
    struct stat status;
    if (fstat(file.number, &status) != 0) refuse(path, std::strerror(errno));
    if (!S_ISREG(status.st_mode)) refuse(path, "it is not a regular file");
    size_ = static_cast<size_t>(status.st_size);
    if (size_ == 0) return;
    void* const mapped = mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.number, 0);
    if (mapped == MAP_FAILED) refuse(path, std::strerror(errno));
    data_ = static_cast<const uint8_t*>(mapped);
}

Mapping::~Mapping() {
    if (data_) munmap(const_cast<uint8_t*>(data_), size_);
}

void Mapping::release(std::span<const uint8_t> part) const {
    constexpr uintptr_t kAround = 64 << 10;  // Linux maps so much around a page that is read; a multiple of its size
    const uintptr_t begin = reinterpret_cast<uintptr_t>(part.data()), first = begin / kAround * kAround;
    const uintptr_t end = (begin + part.size() + kAround - 1) / kAround * kAround;
    const uintptr_t mapped = reinterpret_cast<uintptr_t>(data_), behind = mapped + size_;
    const uintptr_t from = std::max(first, mapped);
    madvise(reinterpret_cast<void*>(from), std::min(end, behind) - from, MADV_DONTNEED);  // advice, which may fail
}

#else

Mapping::Mapping(const std::string& path) {
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) refuse(path, std::strerror(errno));
    if (std::fseek(file.get(), 0, SEEK_END) != 0) refuse(path, std::strerror(errno));
    const long size = std::ftell(file.get());
    if (size < 0) refuse(path, std::strerror(errno));
    std::rewind(file.get());
    read_.reserve(static_cast<size_t>(size));
    if (std::fread(read_.data(), 1, static_cast<size_t>(size), file.get()) != static_cast<size_t>(size))
        refuse(path, "it ends early");
    data_ = read_.data();
    size_ = static_cast<size_t>(size);
}

Mapping::~Mapping() = default;

void Mapping::release(std::span<const uint8_t>) const {}

#endif

}  // namespace littlefoot
