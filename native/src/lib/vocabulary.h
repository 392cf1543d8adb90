// Text from the best tokens of frames: greedy CTC decoding with word times.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace littlefoot {

struct Vocabulary {
    std::vector<std::string> written;  // what each token writes; nothing for special ones
    int blank = 0;
    int delimiter = -1;                // or -1, where every token is a word
    std::string separator;             // between words
    std::vector<std::string> cleaned;  // of " ." and the like: their spaces are taken away
};

struct Best {
    int token;
    double log_posterior;
};

// Of each frame of logits (frames, tokens). Throws Failure where they are not finite.
void append_best(const float* logits, size_t frames, size_t tokens, std::vector<Best>& best);

// Words are in a text with zero bytes between them, so that nothing is allocated for each.
struct Word {
    size_t text, length;
    double start, end, confidence;
};

// Turns frames into words. Keeps its memory from call to call; ``reserve`` takes it beforehand.
class WordMaker {
  public:
    WordMaker(const Vocabulary& vocabulary, double frame_seconds);
    void reserve(size_t frames);

    void clear();
    // Words of frames, the first of which is ``begin`` in the recording, behind those that are there already.
    void add(const Best* best, size_t frames, size_t begin);
    const std::vector<Word>& words() const { return words_; }
    const std::string& text() const { return text_; }

    // The text of words from ``first`` on.
    void join(size_t first, std::string& text) const;

  private:
    struct Span {
        int token;
        size_t start, end;
        double log_posterior;
    };

    void close(size_t end, bool by_delimiter, size_t begin);
    void join_cleaned(size_t first);

    const Vocabulary& vocabulary_;
    double frame_seconds_;
    std::vector<Span> open_;
    std::vector<Word> words_;
    std::string text_, line_;
};

}  // namespace littlefoot
