// A hostile model file, tried through the C header: it opens and runs, or it is refused with a code and a sentence.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "crc32.h"
#include "littlefoot.h"

namespace littlefoot {

constexpr size_t kPrefixBytes = 64;

// Makes sizes and checksums of the prefix and the description right again, so that what lies behind them is read.
inline void reseal(std::vector<uint8_t>& file) {
    if (file.size() < kPrefixBytes) return;
    uint64_t description, size = file.size();
    std::memcpy(&description, file.data() + 16, sizeof description);
    if (description > size - kPrefixBytes) description = size - kPrefixBytes;
    std::memcpy(file.data() + 16, &description, sizeof description);
    std::memcpy(file.data() + 24, &size, sizeof size);
    const uint32_t inner = crc32(file.data() + kPrefixBytes, static_cast<size_t>(description));
    std::memcpy(file.data() + 12, &inner, sizeof inner);
    const uint32_t outer = crc32(file.data(), kPrefixBytes - 4);
    std::memcpy(file.data() + kPrefixBytes - 4, &outer, sizeof outer);
}

inline void expect_sentence(lf_code code, const lf_error& error) {
    if (code == LF_OK ? error.message[0] == '\0' : std::strlen(error.message) > 10 && code != LF_INTERNAL) return;
    std::printf("code %d comes with the sentence '%s'\n", code, error.message);
    std::abort();
}

// Whether the file was opened. ``streams``: try a stream too, which takes more time: where a model is not made for
// streams it computes windows of 8 s, of thousands of frames if these are shorter than ``shortest_frame`` (seconds).
inline bool try_model(const std::vector<uint8_t>& file, const char* kernels, bool streams, double shortest_frame = 0) {
    lf_model* model;
    lf_error error;
    lf_code code = lf_open_memory(file.data(), file.size(), kernels, 1, &model, &error);
    expect_sentence(code, error);
    if (code != LF_OK) return false;
    std::vector<float> samples(1200);
    for (size_t i = 0; i < samples.size(); ++i) samples[i] = std::sin(static_cast<float>(i * i) / 999.0f);
    lf_result* result;
    code = lf_transcribe(model, samples.data(), samples.size(), &result, &error);
    expect_sentence(code, error);
    lf_free(result);
    lf_stream* stream = nullptr;
    if (streams && (lf_is_streaming(model) || lf_frame_seconds(model) >= shortest_frame)) {
        code = lf_stream_open(model, 0, &stream, &error);
        expect_sentence(code, error);
    }
    lf_close(model);
    if (stream) {
        lf_update update;
        expect_sentence(lf_stream_feed(stream, samples.data(), samples.size(), &update, &error), error);
        expect_sentence(lf_stream_finish(stream, &update, &error), error);
        lf_stream_close(stream);
    }
    return true;
}

}  // namespace littlefoot
