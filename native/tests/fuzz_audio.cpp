// The libFuzzer target for what is given to a model: samples, in whole recordings, streams and WAV files. Build with
// -DFUZZ=ON and Clang; LITTLEFOOT_MODELS names the model files, separated by colons.
//
// The first byte selects a model, the second the chunk of a stream. Then come calls: a byte that says which, one for
// how many numbers it gets, and these numbers, whose bits make any float.
#include <algorithm>
#include <exception>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>

#include "../src/command/wav.h"
#include "model_input.h"

using namespace littlefoot;

namespace {

std::vector<lf_model*> models;

class Input {
  public:
    Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

    bool empty() const { return left_ == 0; }

    uint8_t byte() {
        uint8_t found = 0;
        take(&found, 1);
        return found;
    }

    // 16 numbers for each of so many; ``plain``: the bytes are PCM of 16 bits, else floats of any kind.
    std::vector<float> samples(size_t sixteens, bool plain) {
        std::vector<float> found(sixteens * 16);
        for (float& each : found) {
            if (plain) {
                int16_t pcm = 0;
                take(&pcm, sizeof pcm);
                each = static_cast<float>(pcm) / 32768.0f;
            } else {
                take(&each, sizeof each);
            }
        }
        return found;
    }

    const uint8_t* data() const { return data_; }
    size_t left() const { return left_; }

  private:
    void take(void* to, size_t size) {
        size = std::min(size, left_);
        std::memcpy(to, data_, size);
        data_ += size;
        left_ -= size;
    }

    const uint8_t* data_;
    size_t left_;
};

// Every text ends, and every number of a result is one.
void use(const lf_word* words, size_t count) {
    for (size_t i = 0; i < count; ++i) {
        const bool right = words[i].text[0] && words[i].start <= words[i].end && words[i].confidence <= 1.001;
        if (!right) {
            std::printf("word '%s' from %f to %f, confidence %f\n", words[i].text, words[i].start, words[i].end,
                        words[i].confidence);
            std::abort();
        }
    }
}

void transcribe(lf_model* model, const std::vector<float>& samples) {
    lf_result* result;
    lf_error error;
    expect_sentence(lf_transcribe(model, samples.data(), samples.size(), &result, &error), error);
    size_t count;
    const lf_word* const words = lf_words(result, &count);
    use(words, count);
    lf_free(result);
}

void use(lf_code code, const lf_update& update, const lf_error& error) {
    expect_sentence(code, error);
    for (size_t i = 0; i < update.segment_count; ++i) use(update.segments[i].words, update.segments[i].word_count);
}

// A WAV file is refused by an exception with a sentence, or its samples are recognised.
void read_wav(lf_model* model, const uint8_t* data, size_t size) {
    if (size == 0) return;
    const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(
        fmemopen(const_cast<uint8_t*>(data), size, "rb"), std::fclose);
    std::vector<float> samples, block;
    try {
        WavReader reader(file.get(), "input");
        for (reader.read(1600, block); !block.empty(); reader.read(1600, block))
            samples.insert(samples.end(), block.begin(), block.end());
    } catch (const std::runtime_error&) {
        return;
    }
    transcribe(model, samples);
}

}  // namespace

extern "C" int LLVMFuzzerInitialize(int*, char***) {
    std::istringstream names(std::getenv("LITTLEFOOT_MODELS") ? std::getenv("LITTLEFOOT_MODELS") : "");
    for (std::string name; std::getline(names, name, ':');) {
        lf_error error;
        models.push_back(nullptr);
        if (lf_open(name.c_str(), nullptr, 1, &models.back(), &error) != LF_OK) {
            std::fprintf(stderr, "%s: %s\n", name.c_str(), error.message);
            std::exit(1);
        }
    }
    if (models.empty()) {
        std::fprintf(stderr, "LITTLEFOOT_MODELS names no model\n");
        std::exit(1);
    }
    return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input(data, size);
    lf_model* const model = models[input.byte() % models.size()];
    const int chunk = static_cast<int8_t>(input.byte());
    lf_stream* opened = nullptr;
    lf_error error;
    const auto stream = [&] {  // where it is needed, since opening one takes longer than most calls
        if (!opened) expect_sentence(lf_stream_open(model, chunk, &opened, &error), error);
        return opened;
    };
    for (int calls = 0; calls < 16 && !input.empty(); ++calls) {
        lf_update update;
        const uint8_t what = input.byte();
        if (what % 5 == 4) {
            read_wav(model, input.data(), input.left());
            break;
        }
        const std::vector<float> samples = input.samples(what % 5 == 2 ? 0 : input.byte(), what & 8);
        if (what % 5 == 3)
            transcribe(model, samples);
        else if (what % 5 == 2)
            use(lf_stream_finish(stream(), &update, &error), update, error);
        else
            use(lf_stream_feed(stream(), samples.data(), samples.size(), &update, &error), update, error);
    }
    lf_stream_close(opened);
    return 0;
}
