// littlefoot-run: the text of a WAV file, by nothing but the C header.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "littlefoot.h"
#include "wav.h"

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>

#include "lib/wide.h"
#endif

namespace {

constexpr char kUsage[] =
    "usage: littlefoot-run [OPTIONS] MODEL AUDIO.wav|-\n"
    "\n"
    "Print the text of a WAV file (16 kHz), or of one from standard input (-).\n"
    "MODEL is a file that `littlefoot export MODEL -o model.lf --to file` wrote.\n"
    "\n"
    "  --words         a line for each word: start, end, confidence, word\n"
    "  --stream        print segments as they end: start, end, text\n"
    "  --threads N     processor threads; all by default\n"
    "  --kernels NAME  amx, avx512bf16, avx512, avx2, neon or scalar; the fastest by default\n"
    "  --info          print the model's description (JSON) instead; without AUDIO\n"
    "  --version       print the version\n"
    "  --help          print this\n";

constexpr size_t kBlock = 1600;  // samples, a tenth of a second

struct Settings {
    std::string model, audio;
    bool words = false, stream = false, info = false;
    int threads = 0;
    const char* kernels = nullptr;
};

class UsageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

Settings parse(int count, char** arguments) {
    Settings found;
    std::vector<std::string> names;
    for (int i = 1; i < count; ++i) {
        const std::string argument = arguments[i];
        const auto value = [&] {
            if (i + 1 == count) throw UsageError(argument + " needs a value");
            return arguments[++i];
        };
        if (argument == "--words") {
            found.words = true;
        } else if (argument == "--stream") {
            found.stream = true;
        } else if (argument == "--info") {
            found.info = true;
        } else if (argument == "--kernels") {
            found.kernels = value();
        } else if (argument == "--threads") {
            char* end;
            const char* const text = value();
            const long threads = std::strtol(text, &end, 10);
            if (*end || end == text || threads < 1 || threads > 1024)
                throw UsageError(std::string("--threads must be 1 to 1024, not ") + text);
            found.threads = static_cast<int>(threads);
        } else if (argument.size() > 1 && argument[0] == '-') {
            throw UsageError("the option " + argument + " is unknown");
        } else {
            names.push_back(argument);
        }
    }
    if (found.stream && found.words) throw UsageError("--stream and --words exclude each other");
    if (names.size() != (found.info ? 1u : 2u)) throw UsageError(found.info ? "--info takes MODEL" : "MODEL and AUDIO are needed");
    found.model = names[0];
    if (!found.info) found.audio = names[1];
    return found;
}

void check(lf_code code, const lf_error& error) {
    if (code != LF_OK) throw std::runtime_error(error.message);
}

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

File open(const std::string& name) {
    if (name == "-") {
#ifdef _WIN32
        _setmode(_fileno(stdin), _O_BINARY);
#endif
        return {stdin, [](std::FILE*) { return 0; }};
    }
#ifdef _WIN32
    File file(_wfopen(littlefoot::wide(name).c_str(), L"rb"), std::fclose);
#else
    File file(std::fopen(name.c_str(), "rb"), std::fclose);
#endif
    if (!file) throw std::runtime_error(name + " cannot be opened: " + std::strerror(errno));
    return file;
}

void transcribe(lf_model* model, littlefoot::WavReader& reader, bool words) {
    std::vector<float> samples, block;
    for (reader.read(kBlock * 100, block); !block.empty(); reader.read(kBlock * 100, block))
        samples.insert(samples.end(), block.begin(), block.end());
    lf_result* made;
    lf_error error;
    check(lf_transcribe(model, samples.data(), samples.size(), &made, &error), error);
    const std::unique_ptr<lf_result, void (*)(lf_result*)> result(made, lf_free);
    if (!words) {
        std::printf("%s\n", lf_text(made));
        return;
    }
    size_t count;
    const lf_word* const found = lf_words(made, &count);
    for (size_t i = 0; i < count; ++i)
        std::printf("%.2f\t%.2f\t%.3f\t%s\n", found[i].start, found[i].end, found[i].confidence, found[i].text);
}

void print(const lf_update& update) {
    for (size_t i = 0; i < update.segment_count; ++i)
        std::printf("%.2f\t%.2f\t%s\n", update.segments[i].start, update.segments[i].end, update.segments[i].text);
    std::fflush(stdout);
}

void stream(lf_model* model, littlefoot::WavReader& reader) {
    lf_stream* made;
    lf_error error;
    check(lf_stream_open(model, 0, &made, &error), error);
    const std::unique_ptr<lf_stream, void (*)(lf_stream*)> live(made, lf_stream_close);
    std::vector<float> block;
    lf_update update;
    for (reader.read(kBlock, block); !block.empty(); reader.read(kBlock, block)) {
        check(lf_stream_feed(made, block.data(), block.size(), &update, &error), error);
        print(update);
    }
    check(lf_stream_finish(made, &update, &error), error);
    print(update);
}

void run(const Settings& settings) {
    lf_model* made;
    lf_error error;
    check(lf_open(settings.model.c_str(), settings.kernels, settings.threads, &made, &error), error);
    const std::unique_ptr<lf_model, void (*)(lf_model*)> model(made, lf_close);
    if (settings.info) {
        std::printf("%s\n", lf_description(made));
        return;
    }
    const File file = open(settings.audio);
    littlefoot::WavReader reader(file.get(), settings.audio == "-" ? "standard input" : settings.audio);
    if (settings.stream)
        stream(made, reader);
    else
        transcribe(made, reader, settings.words);
}

int command(int count, char** arguments) {
    for (int i = 1; i < count; ++i) {
        if (std::strcmp(arguments[i], "--help") == 0) return std::fputs(kUsage, stdout) < 0;
        if (std::strcmp(arguments[i], "--version") == 0) return std::printf("littlefoot-run %s\n", lf_version()) < 0;
    }
    try {
        run(parse(count, arguments));
    } catch (const UsageError& error) {
        std::fprintf(stderr, "littlefoot-run: %s\n\n%s", error.what(), kUsage);
        return 2;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "littlefoot-run: %s\n", error.what());
        return 1;
    }
    if (std::fflush(stdout) != 0 || std::ferror(stdout)) {
        std::fprintf(stderr, "littlefoot-run: the text cannot be written\n");
        return 1;
    }
    return 0;
}

}  // namespace

#ifdef _WIN32
extern "C" int wmain(int count, wchar_t** arguments) {
    SetConsoleOutputCP(CP_UTF8);
    std::vector<std::string> texts;
    for (int i = 0; i < count; ++i) texts.push_back(littlefoot::narrow(arguments[i]));
    std::vector<char*> pointers;
    for (std::string& text : texts) pointers.push_back(text.data());
    return command(count, pointers.data());
}
#else
int main(int count, char** arguments) { return command(count, arguments); }
#endif
