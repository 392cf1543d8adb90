// Counts the allocations of a stream between its opening and its end; glibc only:
//
//     allocations MODEL AUDIO.wav
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "littlefoot.h"
#include "../src/command/wav.h"

namespace {

bool counting = false;
long allocations = 0;

void count() { allocations += counting; }

}  // namespace

extern "C" {

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t size) {
    count();
    return __libc_malloc(size);
}

void* calloc(size_t items, size_t size) {
    count();
    return __libc_calloc(items, size);
}

void* realloc(void* old, size_t size) {
    count();
    return __libc_realloc(old, size);
}

void* aligned_alloc(size_t alignment, size_t size) {
    count();
    return __libc_memalign(alignment, size);
}

int posix_memalign(void** made, size_t alignment, size_t size) {
    count();
    *made = __libc_memalign(alignment, size);
    return *made ? 0 : 12;
}

}  // extern "C"

namespace {

void check(lf_code code, const lf_error& error) {
    if (code == LF_OK) return;
    std::printf("%s\n", error.message);
    std::exit(1);
}

}  // namespace

int main(int arguments, char** argument) {
    if (arguments != 3) return 2;
    std::FILE* const file = std::fopen(argument[2], "rb");
    if (!file) return 2;
    littlefoot::WavReader reader(file, argument[2]);
    std::vector<float> samples;
    reader.read(1 << 24, samples);
    std::fclose(file);
    samples.resize(samples.size() + 24000);  // a pause that ends a segment

    lf_model* model;
    lf_stream* stream;
    lf_error error;
    check(lf_open(argument[1], nullptr, 1, &model, &error), error);
    check(lf_stream_open(model, 0, &stream, &error), error);
    counting = true;
    delete[] new char[1];  // new is counted
    const long before = allocations;
    size_t frames = 0, segments = 0;
    lf_update update;
    for (int round = 0; round < 5; ++round)
        for (size_t at = 0; at < samples.size(); at += 1600) {
            const size_t count = std::min<size_t>(1600, samples.size() - at);
            check(lf_stream_feed(stream, samples.data() + at, count, &update, &error), error);
            frames += update.frames;
            segments += update.segment_count;
        }
    check(lf_stream_finish(stream, &update, &error), error);
    counting = false;
    segments += update.segment_count;
    lf_stream_close(stream);
    lf_close(model);
    std::printf("%zu frames, %zu segments, %ld allocations\n", frames, segments, allocations - before);
    return before != 1 || allocations != before;
}
