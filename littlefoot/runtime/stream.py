"""Transcribe live speech while it is spoken."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import pcm
from littlefoot.audio.opened import are_plausible
from littlefoot.decode.beam import BeamDecoder
from littlefoot.decode.greedy import best_path, best_tokens
from littlefoot.decode.spans import words
from littlefoot.errors import AudioError
from littlefoot.runtime.frames import Frames
from littlefoot.transcript.results import Segment, Word

ENDPOINT_SECONDS = 0.8
"""Pause after speech that ends a segment."""
MAX_SECONDS = 30.0
"""Length at which a segment without a pause ends, at its last word."""


class Partial(NamedTuple):
    """The text of a stream so far."""

    text: str
    """Text of the current segment; it may still change."""
    final: list[Segment]
    """Segments that ended since the last call; they will not change."""


class Stream:
    """One live recording, made by ``Recognizer.stream``. Memory and time per second do not grow.

    ``latency_seconds`` is the longest time between a sound and the decision about it, without the time for
    computing.
    """

    def __init__(
        self,
        frames: Frames,
        vocabulary: Vocabulary,
        frame_seconds: float,
        decoder: BeamDecoder | None = None,
    ) -> None:
        """``decoder`` searches each segment separately; None selects greedy decoding."""
        self.latency_seconds = frames.latency_seconds
        self._frames, self._vocabulary, self._frame_seconds = frames, vocabulary, frame_seconds
        silent = [vocabulary.blank, vocabulary.delimiter]
        self._silent = np.isin(np.arange(len(vocabulary.tokens)), silent)
        self._tokens = np.zeros(0, np.int64)  # best tokens of the frames of the segment
        self._log_posteriors = np.zeros(0)
        self._decoder = decoder
        self._search = decoder.start() if decoder else None
        self._logits = np.zeros((0, len(vocabulary.tokens)), np.float32)  # of the segment, for the search
        self._begin = 0  # frames before the segment
        self._text = ""  # of the segment so far
        self._finished = False

    def feed(self, samples: npt.NDArray[Any]) -> Partial:
        """Read more of the recording.

        Args:
            samples: (N,) at 16 kHz, float in -1 ... 1 or int16; N may be 0.

        Raises:
            AudioError: samples of another type or shape, not finite or absurdly large, or after ``finish``.
                The stream can continue without them.
        """
        if self._finished:
            raise AudioError("the stream is finished: make a new one")
        return self._decoded(self._frames.feed(_checked(samples)), last=False)

    def finish(self) -> Partial:
        """End the recording and return the last segments. Raises AudioError if it is called twice."""
        if self._finished:
            raise AudioError("the stream is finished: make a new one")
        self._finished = True
        return self._decoded(self._frames.finish(), last=True)

    def _decoded(self, logits: npt.NDArray[np.float32], last: bool) -> Partial:
        final: list[Segment] = []
        pause = round(ENDPOINT_SECONDS / self._frame_seconds)
        longest = round(MAX_SECONDS / self._frame_seconds)
        best, posteriors = best_tokens(logits, self._vocabulary)
        for begin in range(0, len(best), pause):  # a long feed may contain many segments
            part = slice(begin, begin + pause)
            self._tokens = np.concatenate([self._tokens, best[part]])
            self._log_posteriors = np.concatenate([self._log_posteriors, posteriors[part]])
            if self._search is not None:
                self._logits = np.concatenate([self._logits, logits[part]])
                self._search.feed(logits[part])
            spoken = np.flatnonzero(~self._silent[self._tokens])
            if not len(spoken):
                self._drop(len(self._tokens) - 1)
            elif len(self._tokens) - spoken[-1] > pause:
                final += self._segment(len(self._tokens))
            elif len(self._tokens) > longest:
                gaps = np.flatnonzero(self._silent[self._tokens])
                final += self._segment(int(gaps[-1]) + 1 if len(gaps) else len(self._tokens))
        if last:
            final += self._segment(len(self._tokens))
        if len(best) or last:
            self._text = self._partial()
        return Partial(self._text, final)

    def _partial(self) -> str:
        if self._search is not None:
            return self._search.partial()
        spans = best_path(self._tokens, self._log_posteriors, self._vocabulary.blank)
        return self._vocabulary.decode(spans.tokens.tolist())

    def _segment(self, end: int) -> list[Segment]:
        """End the segment after a number of frames."""
        found = self._words(end)
        self._drop(end)
        if not found:
            return []
        return [Segment(found[0].start, found[-1].end, self._vocabulary.join([word.word for word in found]))]

    def _words(self, end: int) -> list[Word]:
        """Return the words of the first ``end`` frames of the segment."""
        begin = self._begin * self._frame_seconds
        if self._decoder is not None and self._search is not None:
            if end < len(self._logits):  # a search cannot be undone
                self._search = self._decoder.start()
                self._search.feed(self._logits[:end])
            found = self._search.finish().words
            return [replace(word, start=word.start + begin, end=word.end + begin) for word in found]
        spans = best_path(self._tokens[:end], self._log_posteriors[:end], self._vocabulary.blank)
        return words(spans, self._vocabulary, self._frame_seconds, begin)

    def _drop(self, count: int) -> None:
        """Drop the first frames."""
        count = max(count, 0)
        self._tokens, self._log_posteriors = self._tokens[count:], self._log_posteriors[count:]
        self._begin += count
        if self._decoder is not None:
            self._logits = self._logits[count:]
            self._search = self._decoder.start()
            self._search.feed(self._logits)


def _checked(samples: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Convert samples to (N,) float32. Raises AudioError."""
    array = np.asarray(samples)
    if array.ndim != 1:
        raise AudioError(f"samples of shape {array.shape}: a stream takes one channel, shape (samples,)")
    if array.dtype == np.int16:
        return pcm.to_float(array)
    if array.dtype.kind != "f":
        raise AudioError(f"samples of type {array.dtype}: a stream takes float32 in -1 ... 1, or int16")
    if not are_plausible(array):
        raise AudioError("the samples contain values that are NaN, infinite or absurdly large")
    return array.astype(np.float32, copy=False)
