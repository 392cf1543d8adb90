"""Greedy CTC decoding: the best token of every frame, repetitions merged, blanks removed.

Graves et al., "Connectionist temporal classification", ICML 2006, section 3.2 (best path decoding).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from littlefoot.decode.spans import Spans, TokenSet, checked, separator, words
from littlefoot.results import Word


class Hypothesis(NamedTuple):
    """A decoded text and its words; times in seconds."""

    text: str
    words: list[Word]


def greedy(
    logits: NDArray[np.floating], vocabulary: TokenSet, frame_seconds: float, offset: float = 0.0
) -> Hypothesis:
    """Decode logits into text and words with times.

    Args:
        logits: (F, V), before softmax; F may be 0.
        vocabulary: V tokens, with the index of the blank and the word delimiter. Special tokens
            such as ``<s>`` and ``<unk>`` do not appear in the text.
        frame_seconds: duration of a frame.
        offset: seconds added to all times: where the logits begin in the recording.

    Raises:
        EngineError: the logits do not fit the vocabulary or are not finite.
    """
    spans = best_path(*best_tokens(logits, vocabulary), vocabulary.blank)
    found = words(spans, vocabulary, frame_seconds, offset)
    return Hypothesis(separator(vocabulary).join(word.word for word in found), found)


def best_tokens(
    logits: NDArray[np.floating], vocabulary: TokenSet
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The best token of every frame (F,), and the natural logarithm of its posterior (F,).

    All that greedy decoding needs of logits (F, V): a long recording keeps these and drops the logits.
    """
    checked(logits, vocabulary)
    best = logits.max(axis=1, keepdims=True)
    return logits.argmax(axis=1), -np.log(np.exp(logits - best).sum(axis=1, dtype=np.float64))


def best_path(tokens: NDArray[np.int64], log_posteriors: NDArray[np.float64], blank: int) -> Spans:
    """Runs of the same best token, blanks left out; both arguments as ``best_tokens`` gives them."""
    if not len(tokens):
        none = np.zeros(0, np.int64)
        return Spans(none, none, none, np.zeros(0), 0)
    starts = np.flatnonzero(np.diff(tokens, prepend=-1))  # (R,) where runs begin
    ends = np.append(starts[1:], len(tokens))
    sums = np.add.reduceat(log_posteriors, starts)
    spoken = tokens[starts] != blank
    return Spans(tokens[starts][spoken], starts[spoken], ends[spoken], sums[spoken], len(tokens))
