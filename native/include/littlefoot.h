/* liblittlefoot: text from speech with the models that `littlefoot export MODEL -o model.lf --to file` writes.
 *
 * Samples are float in -1 ... 1, one channel, 16 kHz. Times are seconds. Texts are UTF-8 and end with a zero byte.
 *
 * Functions that can fail return a code and, where `error` is not NULL, write it and a sentence there. No exception
 * leaves the library. Threads may share a model: transcriptions of one model follow one another, chunks of streams
 * that are fed at the same time are computed side by side. A stream or a result belongs to one thread at a time. */
#ifndef LITTLEFOOT_H
#define LITTLEFOOT_H

#include <stddef.h>

#if defined(_WIN32) && defined(LITTLEFOOT_SHARED)
#ifdef LITTLEFOOT_BUILDING
#define LF_API __declspec(dllexport)
#else
#define LF_API __declspec(dllimport)
#endif
#elif defined(LITTLEFOOT_BUILDING) && defined(__GNUC__)
#define LF_API __attribute__((visibility("default")))
#else
#define LF_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define LF_SAMPLE_RATE 16000

typedef enum lf_code {
    LF_OK = 0,
    LF_INVALID_ARGUMENT = 1, /* a null pointer, a number out of range, samples that are not finite */
    LF_CANNOT_READ = 2,      /* the file cannot be opened or read */
    LF_NOT_A_MODEL = 3,      /* the file was not written by `littlefoot export --to file` */
    LF_WRONG_VERSION = 4,    /* the file has a version of the format that this library does not read */
    LF_DAMAGED = 5,          /* a checksum, a size or a number in the file is wrong */
    LF_UNSUPPORTED = 6,      /* the processor, this build or the model does not have what was asked for */
    LF_OUT_OF_MEMORY = 7,
    LF_FINISHED = 8, /* the stream is finished: open a new one */
    LF_INTERNAL = 9  /* a fault in the library */
} lf_code;

#define LF_FORMAT_VERSION 2

typedef struct lf_error {
    lf_code code;
    char message[256];
} lf_error;

typedef struct lf_model lf_model;
typedef struct lf_result lf_result;
typedef struct lf_stream lf_stream;

typedef struct lf_word {
    const char *text;
    double start, end;
    double confidence; /* geometric mean of the posteriors of the word's characters, 0 ... 1 */
} lf_word;

typedef struct lf_segment {
    const char *text;
    double start, end;
    const lf_word *words;
    size_t word_count;
} lf_segment;

/* What a stream decided in one call; valid until the next call with this stream. */
typedef struct lf_update {
    const char *partial; /* text of the current segment, which may still change */
    const lf_segment *segments; /* segments that ended, which do not change any more */
    size_t segment_count;
    const float *logits; /* (frames, tokens), before the softmax */
    size_t frames;
} lf_update;

LF_API const char *lf_version(void);

/* Open a model. The file is read and verified as a whole, and not needed afterwards.
 * kernels: "amx", "avx512bf16", "avx512", "avx2", "neon", "wasm", "scalar", or NULL for the fastest that the processor can
 * run.
 * threads: of lf_transcribe, and threads that compute chunks of streams at the same time; 0: as many as the processor
 * runs at once. */
LF_API lf_code lf_open(const char *path, const char *kernels, int threads, lf_model **model, lf_error *error);

/* As lf_open, for the content of a file. The memory is not needed afterwards. */
LF_API lf_code lf_open_memory(const void *data, size_t size, const char *kernels, int threads, lf_model **model,
                              lf_error *error);

/* Streams keep what they need of a model: it may be closed before them. */
LF_API void lf_close(lf_model *model);

LF_API const char *lf_description(const lf_model *model); /* JSON: name, licence, architecture, vocabulary, ... */
LF_API const char *lf_kernels(const lf_model *model);
LF_API size_t lf_token_count(const lf_model *model); /* columns of logits */
LF_API double lf_frame_seconds(const lf_model *model);
LF_API int lf_is_streaming(const lf_model *model); /* 1: trained for streams, 0: streams are simulated by windows */

/* Recognise a recording of any length. Beyond 20 s it is computed in windows that overlap by 4 s. */
LF_API lf_code lf_transcribe(lf_model *model, const float *samples, size_t count, lf_result **result,
                             lf_error *error);
LF_API const char *lf_text(const lf_result *result);
LF_API const lf_word *lf_words(const lf_result *result, size_t *count);
LF_API const float *lf_logits(const lf_result *result, size_t *frames); /* (frames, tokens), before the softmax */
LF_API void lf_free(lf_result *result);

/* Open a live recording.
 * chunk_frames: frames that a streaming model decides at once; 0: as it was trained. Other models take 0 only. */
LF_API lf_code lf_stream_open(lf_model *model, int chunk_frames, lf_stream **stream, lf_error *error);

/* Give the next samples, any number. Nothing is allocated unless more are given at once than ever before. */
LF_API lf_code lf_stream_feed(lf_stream *stream, const float *samples, size_t count, lf_update *update,
                              lf_error *error);

/* Decide the frames that are left. */
LF_API lf_code lf_stream_finish(lf_stream *stream, lf_update *update, lf_error *error);
LF_API double lf_stream_latency(const lf_stream *stream); /* seconds from a frame to the last sample that changes it */
LF_API void lf_stream_close(lf_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
