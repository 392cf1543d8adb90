#include "wav.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace littlefoot {

namespace {

constexpr uint32_t kRate = 16000, kUnknown = 0xFFFFFFFF, kMostHeader = 1 << 20;
constexpr unsigned kPcm = 1, kFloat = 3, kExtensible = 0xFFFE, kMostChannels = 64;

uint32_t number(const uint8_t* at, int bytes) {
    uint32_t value = 0;
    for (int i = 0; i < bytes; ++i) value |= static_cast<uint32_t>(at[i]) << (8 * i);
    return value;
}

float sample(const uint8_t* at, unsigned bits, bool floats) {
    if (floats) {
        float value;
        std::memcpy(&value, at, sizeof value);
        return value;
    }
    if (bits == 8) return static_cast<float>(*at - 128) / 128.0f;
    const int bytes = static_cast<int>(bits / 8);
    const auto high = static_cast<int32_t>(number(at, bytes) << (32 - bits));  // its sign is the first bit
    return static_cast<float>(high) / 2147483648.0f;
}

}  // namespace

WavReader::WavReader(std::FILE* file, std::string name) : file_(file), name_(std::move(name)) { header(); }

void WavReader::refuse(const std::string& why) const {
    throw std::runtime_error(name_ + ": " + why + ": convert it with ffmpeg -i FILE -ar 16000 -ac 1 out.wav");
}

bool WavReader::take(void* to, size_t size) { return std::fread(to, 1, size, file_) == size; }

void WavReader::skip(uint64_t size) {
    uint8_t block[4096];
    for (; size > 0; size -= std::min<uint64_t>(size, sizeof block))
        if (!take(block, static_cast<size_t>(std::min<uint64_t>(size, sizeof block)))) refuse("its header is damaged");
}

void WavReader::header() {
    uint8_t start[12];
    if (!take(start, sizeof start) || std::memcmp(start, "RIFF", 4) != 0 || std::memcmp(start + 8, "WAVE", 4) != 0)
        refuse("it is not a WAV file");
    while (true) {
        uint8_t chunk[8];
        if (!take(chunk, sizeof chunk)) refuse("it contains no samples");
        const uint32_t size = number(chunk + 4, 4);
        if (std::memcmp(chunk, "data", 4) == 0) {
            if (channels_ == 0) refuse("its format is missing");
            // A pipe's writer leaves 0 or the largest number where it cannot go back.
            endless_ = size == kUnknown || size == kUnknown - 255 || (size == 0 && number(start + 4, 4) == 0) ||
                       number(start + 4, 4) == kUnknown;
            left_ = size;
            return;
        }
        if (std::memcmp(chunk, "fmt ", 4) == 0)
            format(size);
        else
            skip(uint64_t{size} + size % 2);
    }
}

void WavReader::format(uint32_t size) {
    if (size < 16 || size > kMostHeader) refuse("its header is damaged");
    std::vector<uint8_t> bytes(size + size % 2);
    if (!take(bytes.data(), bytes.size())) refuse("its header is damaged");
    unsigned kind = number(bytes.data(), 2);
    if (kind == kExtensible && size >= 26) kind = number(bytes.data() + 24, 2);
    channels_ = number(bytes.data() + 2, 2);
    bits_ = number(bytes.data() + 14, 2);
    floats_ = kind == kFloat;
    const uint32_t rate = number(bytes.data() + 4, 4);
    if (channels_ < 1 || channels_ > kMostChannels) refuse("it has " + std::to_string(channels_) + " channels");
    if (rate != kRate) refuse("it has " + std::to_string(rate) + " samples per second, not 16000");
    const bool whole = bits_ == 8 || bits_ == 16 || bits_ == 24 || bits_ == 32;
    if (!((kind == kPcm && whole) || (floats_ && bits_ == 32)))
        refuse("its samples are neither PCM nor float (format " + std::to_string(kind) + ", " + std::to_string(bits_) +
               " bits)");
}

void WavReader::read(size_t most, std::vector<float>& samples) {
    samples.clear();
    const size_t frame = channels_ * bits_ / 8;
    size_t wanted = most * frame;
    if (!endless_) wanted = static_cast<size_t>(std::min<uint64_t>(wanted, left_ / frame * frame));
    block_.resize(wanted);
    const size_t found = std::fread(block_.data(), 1, wanted, file_);
    if (std::ferror(file_)) refuse("it cannot be read");
    if (!endless_ && found < wanted) refuse("it ends before its header says so");
    left_ -= std::min<uint64_t>(left_, found);
    const size_t bytes = bits_ / 8;
    for (size_t at = 0; at + frame <= found; at += frame) {
        float sum = 0;
        for (unsigned c = 0; c < channels_; ++c) sum += sample(block_.data() + at + c * bytes, bits_, floats_);
        samples.push_back(sum / static_cast<float>(channels_));
    }
}

}  // namespace littlefoot
