"""Align a known text: find the frames of each token (forced alignment).

The result is the best path among all that CTC collapses to the text (``littlefoot.decode.viterbi``).
"""

from collections.abc import Iterable, Sequence
from contextlib import closing
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.spans import Spans, checked, log_softmax
from littlefoot.decode.viterbi import Scores, best_path
from littlefoot.errors import EngineError, TextError

STAR = -2
"""A token that stands for any text: for what was said but not written down. It takes at least one frame.
(-1 is the delimiter of vocabularies that have none.)"""
_STAR_COST = 1e-3
"""Nats per frame that a star costs more than the best tokens: silence around it is left to blanks."""
_FRAMES = 1000
"""Frames that are prepared at once."""


def align(logits: NDArray[np.floating], tokens: Sequence[int], vocabulary: Vocabulary) -> Spans:
    """Find the frames of each token on the best path.

    Args:
        logits: (F, V), before softmax.
        tokens: (N,) the text as indices into the vocabulary, without blanks; may be empty, and hold STAR.
        vocabulary: V tokens with the index of the blank.

    Returns:
        The N spans, in order; frames of blanks belong to none.

    Raises:
        EngineError: the logits do not fit the vocabulary or are not finite; or a token is not in the
            vocabulary, or the blank.
        TextError: the tokens need more frames than there are.
    """
    return align_parts([logits], tokens, vocabulary)


def align_parts(
    parts: Iterable[NDArray[np.floating]], tokens: Sequence[int], vocabulary: Vocabulary
) -> Spans:
    """Find the frames of each token in logits that come in parts; otherwise as ``align``.

    The parts may be those of hours: of each only the columns of the text's tokens are kept, beyond 64 MB in a
    temporary file.
    """
    labels = np.asarray(tokens, dtype=np.int64)
    size, blank = len(vocabulary.tokens), vocabulary.blank
    if (((labels < 0) & (labels != STAR)) | (labels >= size) | (labels == blank)).any():
        raise EngineError(
            f"tokens to align must be indices below {size} other than the blank, {blank}:"
            f" got {labels.tolist()[:50]}"
        )
    columns, places = np.unique(labels, return_inverse=True)
    starred = len(columns) > 0 and columns[0] == STAR
    with closing(Scores(1 + len(columns))) as scores:
        for logits in parts:
            for begin in range(0, len(checked(logits, vocabulary)), _FRAMES):
                log_posteriors = log_softmax(logits[begin : begin + _FRAMES])
                chosen = log_posteriors[:, np.append(blank, columns)]
                if starred:
                    chosen[:, 1] = log_posteriors.max(axis=1) - _STAR_COST
                scores.add(chosen)
        frames = scores.frames
        if (needed := frames_needed(tokens)) > frames:
            raise TextError(
                f"{len(labels)} tokens need at least {needed} frames, there are {frames}:"
                " the text is too long for the audio"
            )
        if not len(labels):
            return Spans(labels, labels, labels, np.zeros(0), frames)
        path = best_path(scores, places + 1)
        starts = np.searchsorted(path, np.arange(1, 2 * len(labels), 2), side="left")
        ends = np.searchsorted(path, np.arange(1, 2 * len(labels), 2), side="right")
        totals = np.zeros(frames + 1)
        state_columns = np.append(places + 1, 0)
        for begin in range(0, frames, _FRAMES):
            states = path[begin : begin + _FRAMES]
            rows = scores.rows(begin, begin + len(states))
            column = np.where(states % 2, state_columns[states // 2], 0)
            totals[begin + 1 : begin + 1 + len(states)] = rows[np.arange(len(states)), column]
    totals = totals.cumsum()
    return Spans(labels, starts, ends, totals[ends] - totals[starts], frames)


def frames_needed(tokens: Sequence[int]) -> int:
    """Return the least number of frames for tokens: between equal neighbours CTC needs a blank."""
    return len(tokens) + sum(token == following for token, following in pairwise(tokens))
