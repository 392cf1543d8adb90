"""Spans of tokens, which greedy decoding and forced alignment return, and the words made from them.

Times follow one rule. A token's span consists of the frames that an alignment gives to it, without blanks. A
word starts with the first frame of its first character. CTC models spike: they emit the last character of a
word well before its sound ends, and the word delimiter at about that time. So a word ends where the delimiter
begins, or END_SECONDS after its last character where no delimiter follows within DELIMITER_SECONDS. Its
confidence is the geometric mean of the posteriors of its characters over their frames.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.errors import EngineError
from littlefoot.transcript.results import Word

DELIMITER_SECONDS = 0.2
"""Latest delimiter that marks the end of a word; a later one may be inside a pause."""
END_SECONDS = 0.08
"""Duration of the sound of a last character (RESULTS.md, section Decoding)."""


_LONG = 20
"""Words of more tokens than this keep the times of each token: they may be sentences without spaces."""


@dataclass(frozen=True)
class Spans:
    """N tokens in order, with the frames they occupy; each field has shape (N,)."""

    tokens: NDArray[np.int64]
    """Index into the vocabulary."""
    starts: NDArray[np.int64]
    """First frame."""
    ends: NDArray[np.int64]
    """Last frame + 1."""
    log_posteriors: NDArray[np.float64]
    """Sum over the frames of the natural logarithm of the token's posterior."""
    frames: int
    """Number of all frames, including those without a token."""

    def first(self, count: int) -> "Spans":
        """Return only the first tokens."""
        fields = self.starts[:count], self.ends[:count], self.log_posteriors[:count]
        return Spans(self.tokens[:count], *fields, self.frames)


def checked(logits: NDArray[np.floating], vocabulary: Vocabulary) -> NDArray[np.floating]:
    """Return the logits unchanged if they have shape (F, V), V tokens, and a finite maximum in every frame.

    Raises:
        EngineError: the shape or a value is wrong.
    """
    size = len(vocabulary.tokens)
    if logits.ndim != 2 or logits.shape[1] != size:
        raise EngineError(
            f"logits of shape {logits.shape} do not fit a vocabulary of {size} tokens:"
            f" expected (frames, {size}); the model and its vocab.json do not belong together"
        )
    if not np.isfinite(logits.max(axis=1)).all():
        raise EngineError("the logits hold NaN or infinite values: the model or its quantization is broken")
    return logits


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the natural logarithms (F, V) of the posteriors of logits (F, V)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def words(spans: Spans, vocabulary: Vocabulary, frame_seconds: float, offset: float = 0.0) -> list[Word]:
    """Join tokens into words at the word delimiter, or where pieces begin one; without either (Chinese, say)
    every token is a word.

    Args:
        spans: as decoded or aligned; special tokens are skipped.
        vocabulary: of the tokens.
        frame_seconds: duration of a frame.
        offset: seconds added to all times.
    """
    delimited = vocabulary.delimiter >= 0
    result: list[Word] = []
    open_word: list[int] = []  # indices into spans

    def letters() -> tuple[tuple[str, float, float], ...]:
        starts = (offset + spans.starts[open_word] * frame_seconds).tolist()
        ends = (offset + spans.ends[open_word] * frame_seconds).tolist()
        return tuple(zip((vocabulary.word([spans.tokens[i]]) for i in open_word), starts, ends, strict=True))

    def close(following: int | None) -> None:
        """``following``: index of the delimiter, or of the next token where there are none."""
        if not open_word:
            return
        first, last = open_word[0], open_word[-1]
        frames = (spans.ends[open_word] - spans.starts[open_word]).sum()
        result.append(
            Word(
                word=vocabulary.word(spans.tokens[open_word]),
                start=offset + float(spans.starts[first]) * frame_seconds,
                end=offset + word_end(spans, last, following, delimited, frame_seconds),
                confidence=float(np.exp(spans.log_posteriors[open_word].sum() / frames)),
                letters=letters() if len(open_word) > _LONG else (),
            )
        )
        open_word.clear()

    for i, token in enumerate(spans.tokens.tolist()):
        if token == vocabulary.delimiter or vocabulary.begins[token]:
            close(i)
        if token != vocabulary.delimiter and vocabulary.written[token]:
            open_word.append(i)
    close(None)
    return result


def word_end(spans: Spans, last: int, following: int | None, delimited: bool, frame_seconds: float) -> float:
    """Return when a word ends, in seconds.

    ``last`` is its last token and ``following`` the one after it; if ``delimited``, that belongs to no word.
    """
    after = spans.frames if following is None else spans.starts[following]
    silence = float(after - spans.ends[last]) * frame_seconds
    tells = following is not None and delimited and silence <= DELIMITER_SECONDS
    return float(spans.ends[last]) * frame_seconds + (silence if tells else min(END_SECONDS, silence))


def together(words: list[Word], vocabulary: Vocabulary) -> list[Word]:
    """Join the words that ``Vocabulary.groups`` puts together, as the text has them."""
    return [
        _one([words[place] for place in group]) for group in vocabulary.groups([word.word for word in words])
    ]


def _one(words: list[Word]) -> Word:
    if len(words) == 1:
        return words[0]
    lengths = [len(word.word) for word in words]
    confidence = np.exp(np.average(np.log([max(word.confidence, 1e-9) for word in words]), weights=lengths))
    return Word("".join(word.word for word in words), words[0].start, words[-1].end, float(confidence))
