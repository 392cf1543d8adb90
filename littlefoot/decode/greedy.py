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
    found = words(best_path(checked(logits, vocabulary), vocabulary.blank), vocabulary, frame_seconds, offset)
    return Hypothesis(separator(vocabulary).join(word.word for word in found), found)


def best_path(logits: NDArray[np.floating], blank: int) -> Spans:
    """Runs of the same best token, blanks left out.

    Args:
        logits: (F, V), finite.
        blank: index of the blank.
    """
    if not len(logits):
        none = np.zeros(0, np.int64)
        return Spans(none, none, none, np.zeros(0))
    tokens = logits.argmax(axis=1)  # (F,)
    best = logits.max(axis=1, keepdims=True)
    log_posteriors = -np.log(np.exp(logits - best).sum(axis=1, dtype=np.float64))  # (F,) of the best token
    starts = np.flatnonzero(np.diff(tokens, prepend=-1))  # (R,) where runs begin
    ends = np.append(starts[1:], len(tokens))
    sums = np.add.reduceat(log_posteriors, starts)
    spoken = tokens[starts] != blank
    return Spans(tokens[starts][spoken], starts[spoken], ends[spoken], sums[spoken])
