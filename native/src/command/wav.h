// Reads WAV files of 16 kHz, from disk or a pipe, block by block.
#pragma once

#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

namespace littlefoot {

class WavReader {
  public:
    // The file stays the caller's. Throws std::runtime_error with a sentence for anything that is not PCM or float
    // at 16 kHz; so does ``read`` where a file ends early.
    WavReader(std::FILE* file, std::string name);
    // The next samples, ``most`` at most, one channel: the mean of all. Empty at the end.
    void read(size_t most, std::vector<float>& samples);

  private:
    void header();
    void format(uint32_t size);
    bool take(void* to, size_t size);
    void skip(uint64_t size);
    [[noreturn]] void refuse(const std::string& why) const;

    std::FILE* file_;
    std::string name_;
    unsigned channels_ = 0, bits_ = 0;
    bool floats_ = false, endless_ = false;  // a pipe's writer may not know the length
    uint64_t left_ = 0;                      // bytes of samples
    std::vector<uint8_t> block_;
};

}  // namespace littlefoot
