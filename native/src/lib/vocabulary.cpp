#include "vocabulary.h"

#include <algorithm>
#include <cmath>

#include "failure.h"

namespace littlefoot {

namespace {

// A word ends where its delimiter begins if that follows so soon, else so long after its last character (as in
// littlefoot.decode.spans).
constexpr double kDelimiterSeconds = 0.2, kEndSeconds = 0.08;

double characters(const char* text, size_t length) {
    return static_cast<double>(
        std::count_if(text, text + length, [](char byte) { return (byte & 0xC0) != 0x80; }));
}

}  // namespace

void append_best(const float* logits, size_t frames, size_t tokens, std::vector<Best>& best) {
    for (size_t f = 0; f < frames; ++f) {
        const float* const row = logits + f * tokens;
        bool finite = true;
        for (size_t t = 0; t < tokens; ++t) finite = finite && !std::isnan(row[t]);
        const float* const top = std::max_element(row, row + tokens);
        if (!finite || !std::isfinite(*top))
            throw Failure(LF_DAMAGED, "the logits are not finite: the model or its quantization is broken");
        double sum = 0;
        for (size_t t = 0; t < tokens; ++t) sum += std::exp(row[t] - *top);
        best.push_back({static_cast<int>(top - row), -std::log(sum)});
    }
}

WordMaker::WordMaker(const Vocabulary& vocabulary, double frame_seconds)
    : vocabulary_(vocabulary), frame_seconds_(frame_seconds) {}

void WordMaker::reserve(size_t frames) {
    size_t longest = 0;
    for (const std::string& written : vocabulary_.written) longest = std::max(longest, written.size());
    open_.reserve(frames);
    words_.reserve(frames);
    text_.reserve(frames * (longest + 1));
    line_.reserve(frames * (longest + 1 + vocabulary_.separator.size()));
}

void WordMaker::clear() {
    words_.clear();
    text_.clear();
}

void WordMaker::add(const Best* best, size_t frames, size_t begin) {
    const size_t first = words_.size();
    open_.clear();
    for (size_t start = 0, end; start < frames; start = end) {
        const int token = best[start].token;
        double log_posterior = 0;
        for (end = start; end < frames && best[end].token == token; ++end) log_posterior += best[end].log_posterior;
        if (token == vocabulary_.blank) continue;
        if (token == vocabulary_.delimiter) {
            close(start, true, begin);
        } else if (!vocabulary_.written[static_cast<size_t>(token)].empty()) {
            if (vocabulary_.delimiter < 0) close(start, false, begin);
            open_.push_back({token, start, end, log_posterior});
        }
    }
    close(frames, false, begin);
    if (!vocabulary_.cleaned.empty() && vocabulary_.separator == " ") join_cleaned(first);
}

// The word of the open spans; ``end``: the frame where its delimiter, the next token or nothing follows.
void WordMaker::close(size_t end, bool by_delimiter, size_t begin) {
    if (open_.empty()) return;
    const double silence = static_cast<double>(end - open_.back().end) * frame_seconds_;
    const bool tells = by_delimiter && silence <= kDelimiterSeconds;
    const size_t text = text_.size();
    double log_posterior = 0;
    size_t frames = 0;
    for (const Span& span : open_) {
        text_ += vocabulary_.written[static_cast<size_t>(span.token)];
        log_posterior += span.log_posterior;
        frames += span.end - span.start;
    }
    words_.push_back({text, text_.size() - text, static_cast<double>(begin + open_.front().start) * frame_seconds_,
                      static_cast<double>(begin + open_.back().end) * frame_seconds_ +
                          (tells ? silence : std::min(kEndSeconds, silence)),
                      std::exp(log_posterior / static_cast<double>(frames))});
    text_ += '\0';
    open_.clear();
}

// Words from ``first`` on that stand together once the spaces before punctuation and contractions are taken away
// become one.
void WordMaker::join_cleaned(size_t first) {
    line_.clear();
    for (size_t w = first; w < words_.size(); ++w) {
        if (w > first) line_ += ' ';
        line_.append(text_, words_[w].text, words_[w].length);
    }
    for (const std::string& spaced : vocabulary_.cleaned) {
        const size_t from = spaced.find_first_not_of(' ');
        const size_t length = spaced.find_last_not_of(' ') + 1 - from;
        for (size_t at = 0; (at = line_.find(spaced, at)) != std::string::npos; at += length)
            line_.replace(at, spaced.size(), spaced, from, length);
    }
    size_t at = 0, kept = first;
    bool joined = false;
    double weight = 0, sum = 0;  // of the logarithms of the confidences of the words that became one
    for (size_t w = first; w < words_.size(); ++w) {
        const Word word = words_[w];
        const double letters = characters(text_.data() + word.text, word.length);
        if (!joined) {
            weight = sum = 0;
            words_[kept++] = word;
        } else {
            Word& into = words_[kept - 1];
            // Both lie in the text one behind the other, with a zero byte, or some, between.
            std::copy_n(text_.begin() + static_cast<long>(word.text), word.length,
                        text_.begin() + static_cast<long>(into.text + into.length));
            into.length += word.length;
            text_[into.text + into.length] = '\0';
            into.end = word.end;
        }
        weight += letters;
        sum += letters * std::log(std::max(word.confidence, 1e-9));
        if (joined) words_[kept - 1].confidence = std::exp(sum / weight);
        at += word.length;
        joined = at >= line_.size() || line_[at] != ' ';
        at += !joined;
    }
    words_.resize(kept);
}

void WordMaker::join(size_t first, std::string& text) const {
    text.clear();
    for (size_t w = first; w < words_.size(); ++w) {
        if (w > first) text += vocabulary_.separator;
        text.append(text_, words_[w].text, words_[w].length);
    }
}

}  // namespace littlefoot
