"""Greedy CTC decoding: the best token of every frame, repetitions merged, blanks removed.

Graves et al., "Connectionist temporal classification", ICML 2006, section 3.2 (best path decoding).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.spans import Spans, checked, together, words
from littlefoot.transcript.results import Word


class Hypothesis(NamedTuple):
    """A decoded text and its words; times in seconds."""

    text: str
    words: list[Word]


def greedy(logits: NDArray[np.floating], vocabulary: Vocabulary, frame_seconds: float) -> Hypothesis:
    """Decode logits into text and words with times.

    Args:
        logits: (F, V), before softmax; F may be 0.
        vocabulary: V tokens, with the index of the blank and the word delimiter. Special tokens
            such as ``<s>`` and ``<unk>`` do not appear in the text.
        frame_seconds: duration of a frame.

    Raises:
        EngineError: the logits do not fit the vocabulary or are not finite.
    """
    spans = best_path(*best_tokens(logits, vocabulary), vocabulary.blank)
    found = words(spans, vocabulary, frame_seconds)
    found = together(found, vocabulary)
    return Hypothesis(vocabulary.separator.join(word.word for word in found), found)


class GreedySearch:
    """Greedy decoding of logits that come in parts; the words are those that all of them would give."""

    def __init__(self, vocabulary: Vocabulary, frame_seconds: float) -> None:
        """Arguments are those of ``greedy``."""
        self._vocabulary, self._frame_seconds = vocabulary, frame_seconds
        self._begins = np.array(vocabulary.begins)  # (V,)
        self._delimiter = vocabulary.delimiter
        self._tokens = np.zeros(0, np.int64)  # of the frames of words that may continue
        self._log_posteriors = np.zeros(0)
        self._begin = 0  # frames before those

    def feed(self, logits: NDArray[np.floating]) -> list[Word]:
        """Add logits (F, V) and return the words that are complete now. Raises EngineError as ``greedy``."""
        tokens, log_posteriors = best_tokens(logits, self._vocabulary)
        self._tokens = np.concatenate([self._tokens, tokens])
        self._log_posteriors = np.concatenate([self._log_posteriors, log_posteriors])
        if self._delimiter >= 0:  # all words before the last delimiter
            (delimiters,) = np.nonzero(self._tokens == self._delimiter)
            return self._take(int(delimiters[-1]) + 1) if len(delimiters) else []
        spans = best_path(self._tokens, self._log_posteriors, self._vocabulary.blank)
        starts = spans.starts[self._begins[spans.tokens]]
        return self._take(int(starts[-1])) if len(starts) else []  # the last word may continue

    def finish(self) -> list[Word]:
        """Return the remaining words."""
        return self._take(len(self._tokens))

    def _take(self, end: int) -> list[Word]:
        """Return the words of the first frames, and forget these frames."""
        spans = best_path(self._tokens[:end], self._log_posteriors[:end], self._vocabulary.blank)
        begin = self._begin
        starts, ends = spans.starts + begin, spans.ends + begin
        spans = Spans(spans.tokens, starts, ends, spans.log_posteriors, spans.frames + begin)
        found = words(spans, self._vocabulary, self._frame_seconds)
        self._tokens, self._log_posteriors = self._tokens[end:], self._log_posteriors[end:]
        self._begin += end
        return found


def best_tokens(
    logits: NDArray[np.floating], vocabulary: Vocabulary
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the best token of every frame (F,), and the natural logarithm of its posterior (F,).

    Greedy decoding needs no more of the logits (F, V): a long recording keeps these and drops the logits.
    """
    checked(logits, vocabulary)
    best = logits.max(axis=1, keepdims=True)
    return logits.argmax(axis=1), -np.log(np.exp(logits - best).sum(axis=1, dtype=np.float64))


def best_path(tokens: NDArray[np.int64], log_posteriors: NDArray[np.float64], blank: int) -> Spans:
    """Return the runs of equal best tokens, without blanks; arguments as returned by ``best_tokens``."""
    if not len(tokens):
        none = np.zeros(0, np.int64)
        return Spans(none, none, none, np.zeros(0), 0)
    starts = np.flatnonzero(np.diff(tokens, prepend=-1))  # (R,) where runs begin
    ends = np.append(starts[1:], len(tokens))
    sums = np.add.reduceat(log_posteriors, starts)
    spoken = tokens[starts] != blank
    return Spans(tokens[starts][spoken], starts[spoken], ends[spoken], sums[spoken], len(tokens))
