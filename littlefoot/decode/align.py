"""Align a known text: find the frames of each token (forced alignment).

The result is the best path among all that CTC collapses to the text. The Viterbi algorithm finds it, over the
text with blanks around every token (Graves et al., ICML 2006, section 4.1, with maximum instead of sum).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.spans import Spans, checked, log_softmax, words
from littlefoot.errors import EngineError
from littlefoot.transcript.results import Word


def align(logits: NDArray[np.floating], tokens: Sequence[int], vocabulary: Vocabulary) -> Spans:
    """Find the frames of each token on the best path. Time and memory grow as frames x tokens.

    Args:
        logits: (F, V), before softmax.
        tokens: (N,) the text as indices into the vocabulary, without blanks; may be empty.
        vocabulary: V tokens with the index of the blank.

    Returns:
        The N spans, in order; frames of blanks belong to none.

    Raises:
        EngineError: the logits do not fit the vocabulary or are not finite; a token is not in the
            vocabulary, or the blank; or the tokens need more frames than there are.
    """
    labels = np.asarray(tokens, dtype=np.int64)
    log_posteriors = log_softmax(checked(logits, vocabulary))  # (F, V)
    frames, size = log_posteriors.shape
    if ((labels < 0) | (labels >= size) | (labels == vocabulary.blank)).any():
        raise EngineError(
            f"tokens to align must be indices below {size} other than the blank, {vocabulary.blank}:"
            f" got {labels.tolist()}"
        )
    if (needed := frames_needed(tokens)) > frames:
        raise EngineError(
            f"{len(labels)} tokens need at least {needed} frames, there are {frames}:"
            " the text is too long for the audio"
        )
    if not len(labels):
        return Spans(labels, labels, labels, np.zeros(0), frames)

    states = np.full(2 * len(labels) + 1, vocabulary.blank)  # (S,) blank, token, blank, ..., token, blank
    states[1::2] = labels
    path = _viterbi(log_posteriors[:, states], states)  # (F,) indices into states
    starts = np.searchsorted(path, np.arange(1, len(states), 2), side="left")
    ends = np.searchsorted(path, np.arange(1, len(states), 2), side="right")
    totals = np.append(0.0, np.cumsum(log_posteriors[np.arange(frames), states[path]]))
    return Spans(labels, starts, ends, totals[ends] - totals[starts], frames)


def frames_needed(tokens: Sequence[int]) -> int:
    """Return the least number of frames for tokens: between equal neighbours CTC needs a blank."""
    return len(tokens) + sum(token == following for token, following in pairwise(tokens))


def word_times(
    logits: NDArray[np.floating],
    tokens: Sequence[int],
    vocabulary: Vocabulary,
    frame_seconds: float,
    offset: float = 0.0,
) -> list[Word]:
    """Return the words of a known text with their times; arguments as for ``align`` and ``greedy``."""
    return words(align(logits, tokens, vocabulary), vocabulary, frame_seconds, offset)


def _viterbi(scores: NDArray[np.float64], states: NDArray[np.int64]) -> NDArray[np.int64]:
    """Find the best monotonous path (F,) through the states (S,); scores (F, S) are log-posteriors."""
    frames, size = scores.shape
    # A step from two states back skips a blank between two different tokens.
    may_skip = np.zeros(size, bool)
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    steps = np.zeros((frames, size), np.int8)  # how many states back the best way into each came from
    best = np.full(size, -np.inf)
    best[:2] = scores[0, :2]
    ways = np.full((3, size), -np.inf)
    for frame in range(1, frames):
        ways[0] = best
        ways[1, 1:] = best[:-1]
        ways[2, 2:] = np.where(may_skip[2:], best[:-2], -np.inf)
        steps[frame] = ways.argmax(axis=0)
        best = ways.max(axis=0) + scores[frame]
    path = np.empty(frames, np.int64)
    path[-1] = size - 1 if best[-1] >= best[-2] else size - 2  # end in the last blank or the last token
    for frame in range(frames - 1, 0, -1):
        path[frame - 1] = path[frame] - steps[frame, path[frame]]
    return path
