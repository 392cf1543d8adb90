// The border: arguments are checked, exceptions become codes.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>

#include "failure.h"
#include "littlefoot.h"
#include "live.h"
#include "mapping.h"
#include "model.h"
#include "pool.h"
#include "recording.h"

using namespace littlefoot;

struct lf_model {
    std::shared_ptr<Model> model;
};

struct lf_result {
    Recognised found;
    std::vector<lf_word> words;
};

struct lf_stream {
    Live live;
};

namespace {

constexpr size_t kMostSamples = static_cast<size_t>(std::numeric_limits<long>::max() / 16);
constexpr float kLoudest = 2147483648.0f;  // as in Python: float samples in the scale of 32-bit integers still pass

const Kernels* find(const std::string& name) {
    if (name == "amx") return amx_kernels();
    if (name == "avx512bf16") return avx512bf16_kernels();
    if (name == "avx512") return avx512_kernels();
    if (name == "avx2") return avx2_kernels();
    if (name == "neon") return neon_kernels();
    if (name == "wasm") return wasm_kernels();
    if (name == "scalar") return scalar_kernels();
    throw Failure(LF_INVALID_ARGUMENT, "kernels '" + name +
                                           "' are unknown: use amx, avx512bf16, avx512, avx2, neon, wasm or scalar, or none "
                                           "for the fastest");
}

const Kernels& select(const char* name) {
    if (name) {
        if (const Kernels* found = find(name)) return *found;
        throw Failure(LF_UNSUPPORTED, "kernels '" + std::string(name) +
                                          "': this processor or this build does not have the instructions");
    }
    for (const char* each : {"amx", "avx512bf16", "avx512", "avx2", "neon", "wasm"})
        if (const Kernels* found = find(each)) return *found;
    return *scalar_kernels();
}

lf_code report(lf_error* error, lf_code code, const char* sentence) noexcept {
    if (error) {
        error->code = code;
        std::snprintf(error->message, sizeof error->message, "%s", sentence);
    }
    return code;
}

template <typename Work>
lf_code guarded(lf_error* error, const Work& work) noexcept {
    try {
        work();
        return report(error, LF_OK, "");
    } catch (const Failure& failure) {
        return report(error, failure.code(), failure.what());
    } catch (const std::bad_alloc&) {
        return report(error, LF_OUT_OF_MEMORY, "there is not enough memory");
    } catch (const std::length_error&) {
        return report(error, LF_OUT_OF_MEMORY, "there is not enough memory");
    } catch (const std::system_error& failure) {  // of threads
        return report(error, LF_UNSUPPORTED, failure.what());
    } catch (const std::exception& failure) {
        return report(error, LF_INTERNAL, failure.what());
    } catch (...) {
        return report(error, LF_INTERNAL, "an unknown fault");
    }
}

void require(bool right, const char* sentence) {
    if (!right) throw Failure(LF_INVALID_ARGUMENT, sentence);
}

void check_samples(const float* samples, size_t count) {
    require(samples || count == 0, "samples must not be NULL");
    require(count <= kMostSamples, "there are too many samples");
    bool right = true;  // a comparison that NaN fails too
    for (size_t i = 0; i < count; ++i) right = right && std::abs(samples[i]) <= kLoudest;
    require(right, "the samples contain NaN, infinite or absurdly large values: they must be in -1 ... 1");
}

std::unique_ptr<lf_model> open(std::span<const uint8_t> file, const char* kernels, int threads,
                               Loader::Release release = {}) {
    require(threads >= 0 && threads <= 1024, "threads must be 0, for all, or 1 to 1024");
    if (threads == 0) threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
    return std::make_unique<lf_model>(lf_model{std::make_shared<Model>(file, select(kernels), threads, std::move(release))});
}

}  // namespace

extern "C" {

const char* lf_version(void) { return LITTLEFOOT_VERSION; }

lf_code lf_open(const char* path, const char* kernels, int threads, lf_model** model, lf_error* error) {
    return guarded(error, [&] {
        require(model, "model must not be NULL");
        *model = nullptr;
        require(path, "path must not be NULL");
        const Mapping file(path);
        const auto release = [&](std::span<const uint8_t> part) { file.release(part); };
        *model = open(file.bytes(), kernels, threads, release).release();
    });
}

lf_code lf_open_memory(const void* data, size_t size, const char* kernels, int threads, lf_model** model,
                       lf_error* error) {
    return guarded(error, [&] {
        require(model, "model must not be NULL");
        *model = nullptr;
        require(data || size == 0, "data must not be NULL");
        const uint8_t* bytes = static_cast<const uint8_t*>(data);
        Bytes aligned;  // the file's numbers are read where they are
        if (reinterpret_cast<uintptr_t>(data) % alignof(float)) {
            aligned.reserve(size);
            std::copy_n(bytes, size, aligned.data());
            bytes = aligned.data();
        }
        *model = open({bytes, size}, kernels, threads).release();
    });
}

void lf_close(lf_model* model) { delete model; }

const char* lf_description(const lf_model* model) { return model ? model->model->description.c_str() : ""; }

const char* lf_kernels(const lf_model* model) { return model ? model->model->kernels.name : ""; }

size_t lf_token_count(const lf_model* model) { return model ? model->model->tokens() : 0; }

double lf_frame_seconds(const lf_model* model) { return model ? model->model->frame_seconds() : 0; }

int lf_is_streaming(const lf_model* model) { return model && model->model->streams(); }

lf_code lf_transcribe(lf_model* model, const float* samples, size_t count, lf_result** result, lf_error* error) {
    return guarded(error, [&] {
        require(result, "result must not be NULL");
        *result = nullptr;
        require(model, "model must not be NULL");
        check_samples(samples, count);
        const Running running;
        auto made = std::make_unique<lf_result>();
        made->found = recognise(*model->model, samples, count);
        for (const Word& word : made->found.words)
            made->words.push_back({made->found.arena.data() + word.text, word.start, word.end, word.confidence});
        *result = made.release();
    });
}

const char* lf_text(const lf_result* result) { return result ? result->found.text.c_str() : ""; }

const lf_word* lf_words(const lf_result* result, size_t* count) {
    if (count) *count = result ? result->words.size() : 0;
    return result ? result->words.data() : nullptr;
}

const float* lf_logits(const lf_result* result, size_t* frames) {
    if (frames) *frames = result ? result->found.best.size() : 0;
    return result ? result->found.logits.data() : nullptr;
}

void lf_free(lf_result* result) { delete result; }

lf_code lf_stream_open(lf_model* model, int chunk_frames, lf_stream** stream, lf_error* error) {
    return guarded(error, [&] {
        require(stream, "stream must not be NULL");
        *stream = nullptr;
        require(model, "model must not be NULL");
        const Running running;
        *stream = new lf_stream{Live(model->model, chunk_frames)};
    });
}

lf_code lf_stream_feed(lf_stream* stream, const float* samples, size_t count, lf_update* update, lf_error* error) {
    return guarded(error, [&] {
        require(update, "update must not be NULL");
        *update = lf_update{"", nullptr, 0, nullptr, 0};
        require(stream, "stream must not be NULL");
        check_samples(samples, count);
        if (stream->live.finished()) throw Failure(LF_FINISHED, "the stream is finished: open a new one");
        const Running running;
        stream->live.feed(samples, static_cast<long>(count), *update);
    });
}

lf_code lf_stream_finish(lf_stream* stream, lf_update* update, lf_error* error) {
    return guarded(error, [&] {
        require(update, "update must not be NULL");
        *update = lf_update{"", nullptr, 0, nullptr, 0};
        require(stream, "stream must not be NULL");
        if (stream->live.finished()) throw Failure(LF_FINISHED, "the stream is finished: open a new one");
        const Running running;
        stream->live.finish(*update);
    });
}

double lf_stream_latency(const lf_stream* stream) { return stream ? stream->live.latency() : 0; }

void lf_stream_close(lf_stream* stream) { delete stream; }

}  // extern "C"
