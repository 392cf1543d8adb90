"""Divide a recording into speech segments, with a margin before and after."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio import SAMPLE_RATE
from littlefoot.audio.vad.detector import Detector


@dataclass(frozen=True)
class SegmentConfig:
    """Settings that turn decisions about frames into speech segments, in seconds."""

    pad: float = 0.3
    """Margin before and after speech, because onsets and endings are quiet and the network needs context."""
    pause: float = 0.7
    """Shortest silence that separates segments; more than twice the margin."""
    least: float = 0.06
    """Shortest speech; anything shorter is a click."""


class Piece(NamedTuple):
    """Consecutive samples of a segment."""

    start: int
    """First sample of the segment in the recording, the same for all of its pieces."""
    samples: NDArray[np.float32]
    """Samples (T,) that follow those of the segment's last piece."""


def speech_segments(
    blocks: Iterable[NDArray[np.float32]],
    detector: Detector,
    multiple: int = 1,
    config: SegmentConfig | None = None,
) -> Iterator[Piece]:
    """Divide a recording at its pauses.

    Memory grows neither with the recording nor with a segment.

    Args:
        blocks: consecutive samples (T,) at 16 kHz.
        detector: a new one.
        multiple: samples of which segments begin at multiples, such as the network's stride.
        config: settings; None for the defaults.

    Yields:
        The pieces of the first segment, then of the second, ...
    """
    cut = _Cut(detector, multiple, config or SegmentConfig())
    for block in blocks:
        yield from cut.feed(block)
    yield from cut.finish()


class _Cut:
    def __init__(self, detector: Detector, multiple: int, config: SegmentConfig) -> None:
        self._detector, self._multiple = detector, multiple
        self._pad, self._pause = round(config.pad * SAMPLE_RATE), round(config.pause * SAMPLE_RATE)
        self._least = max(1, round(config.least * SAMPLE_RATE / detector.frame))  # frames
        self._held = np.zeros(0, np.float32)
        self._origin = 0  # of the held samples in the recording
        self._decided = 0  # samples
        self._run = 0  # frames of speech up to the last decision
        self._start: int | None = None  # of the open segment
        self._given = 0  # up to which it was yielded
        self._speech_end = 0

    def feed(self, block: NDArray[np.float32]) -> Iterator[Piece]:
        self._held = np.concatenate([self._held, block])
        yield from self._take(self._detector.feed(block))

    def finish(self) -> Iterator[Piece]:
        yield from self._take(self._detector.finish())
        if self._start is not None:
            yield from self._give(self._speech_end + self._pad)

    def _take(self, decisions: NDArray[np.bool_]) -> Iterator[Piece]:
        size = self._detector.frame
        for is_speech in decisions.tolist():
            self._decided += size
            self._run = self._run + 1 if is_speech else 0
            if self._start is None and self._run >= self._least:
                self._start = self._given = self._begin(self._decided - self._run * size - self._pad)
            if self._start is not None:
                if is_speech:
                    self._speech_end = self._decided
                elif self._decided - self._speech_end >= self._pause:
                    yield from self._give(self._speech_end + self._pad)
                    self._start = None
        if self._start is not None:
            yield from self._give(min(self._decided, self._speech_end + self._pad))
        keep = self._decided - self._pad - self._least * size - self._multiple
        if self._start is not None:
            keep = self._given
        drop = min(max(0, keep - self._origin), len(self._held))
        self._held, self._origin = self._held[drop:], self._origin + drop

    def _begin(self, at: int) -> int:
        """Return the multiple before a sample, or the first one after the last segment if that is later."""
        before = max(0, at) // self._multiple * self._multiple
        return before if before >= self._given else -(-self._given // self._multiple) * self._multiple

    def _give(self, until: int) -> Iterator[Piece]:
        samples = self._held[self._given - self._origin : max(0, until - self._origin)]
        if len(samples) and self._start is not None:
            self._given += len(samples)
            yield Piece(self._start, samples)
