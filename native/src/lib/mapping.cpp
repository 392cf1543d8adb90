#include "mapping.h"

#include <algorithm>

#include "failure.h"

#ifdef _WIN32
#include <system_error>

#include "wide.h"
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#endif

namespace littlefoot {

namespace {

[[noreturn]] void refuse(const std::string& path, const std::string& why) {
    throw Failure(LF_CANNOT_READ, "the model cannot be read: " + path + ": " + why);
}

}  // namespace

#ifdef _WIN32

Mapping::Mapping(const std::string& path) {
    struct Handle {
        HANDLE value;
        ~Handle() {
            if (value && value != INVALID_HANDLE_VALUE) CloseHandle(value);
        }
    };
    const auto check = [&](bool done) {
        if (!done) refuse(path, std::system_category().message(static_cast<int>(GetLastError())));
    };
    const Handle file{CreateFileW(wide(path).c_str(), GENERIC_READ, FILE_SHARE_READ, nullptr, OPEN_EXISTING,
                                  FILE_ATTRIBUTE_NORMAL, nullptr)};
    check(file.value != INVALID_HANDLE_VALUE);
    if (GetFileType(file.value) != FILE_TYPE_DISK) refuse(path, "it is not a regular file");
    LARGE_INTEGER size;
    check(GetFileSizeEx(file.value, &size));
    size_ = static_cast<size_t>(size.QuadPart);
    if (size_ == 0) return;
    const Handle mapping{CreateFileMappingW(file.value, nullptr, PAGE_READONLY, 0, 0, nullptr)};
    check(mapping.value);
    data_ = static_cast<const uint8_t*>(MapViewOfFile(mapping.value, FILE_MAP_READ, 0, 0, 0));
    check(data_);
}

Mapping::~Mapping() {
    if (data_) UnmapViewOfFile(data_);
}

void Mapping::release(std::span<const uint8_t>) const {}  // Windows takes pages of a file back by itself

#else

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

#endif

}  // namespace littlefoot
