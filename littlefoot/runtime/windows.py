"""Compute recordings of any length window by window, with bounded memory and correct frame times."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import SAMPLE_RATE, reading
from littlefoot.audio.vad.detector import Detector
from littlefoot.audio.vad.segments import speech_segments
from littlefoot.network.config import ModelConfig
from littlefoot.runtime.protocols import Array, Engine
from littlefoot.transcript.results import Word

WINDOW_SECONDS = 20.0
"""Length of the windows in which longer audio is recognised."""
CONTEXT_SECONDS = 2.0
"""Context on each side of a window, whose frames the neighbouring window decides."""
_CERTAIN = 30.0
"""Logit whose posterior is 1 if all others are 0."""


Heard = Callable[[float, list[Word]], None]
"""Progress callback: seconds of audio read so far, and the words that were completed since the last call."""


class CountedBlocks:
    """An iterator over blocks of samples that counts the seconds read so far."""

    def __init__(self, blocks: Iterator[Array], heard: Heard | None) -> None:
        self.seconds = 0.0
        self._blocks, self._heard, self._samples = blocks, heard, 0

    def __iter__(self) -> Iterator[Array]:
        for block in self._blocks:
            self._samples += len(block)
            self.seconds = self._samples / SAMPLE_RATE
            if self._heard is not None:
                self._heard(self.seconds, [])
            yield block


@dataclass(frozen=True)
class WindowedLogits:
    """Computes logits (F, V), piece by piece, of recordings whose samples arrive in blocks (N,)."""

    engine: Engine
    config: ModelConfig
    vocabulary: Vocabulary
    normalize: bool
    """True normalises every window to zero mean and unit variance."""

    def whole(self, blocks: Iterable[Array]) -> Iterator[Array]:
        """Compute a whole recording; yield the decided frames of each window."""
        for window in windows(blocks, self.config.frames, self.config.stride):
            prepared = reading.normalize(window.samples) if self.normalize else window.samples
            yield self.engine.run(prepared)[window.first_frame : window.end_frame]

    def speech(self, blocks: Iterator[Array], detector: Detector | None) -> Iterator[Array]:
        """Compute the speech of a recording. Frames of gaps become a word delimiter followed by blanks.

        A recording of one block, or without a detector, is computed as a whole.
        """
        start = list(itertools.islice(blocks, 2))
        blocks = itertools.chain(start, blocks)
        if detector is None or len(start) < 2:
            yield from self.whole(blocks)
            return
        stride, frame = self.config.stride, 0
        pieces = speech_segments(blocks, detector, stride)
        for begin, segment in itertools.groupby(pieces, key=lambda piece: piece.start):
            yield from self._silence(begin // stride - frame)
            frame = begin // stride
            for logits in self.whole(piece.samples for piece in segment):
                frame += len(logits)
                yield logits

    def _silence(self, frames: int) -> Iterator[Array]:
        """Yield logits of a number of frames: a delimiter, if the alphabet has one, and blanks."""
        token = self.vocabulary.pause
        while frames > 0:
            count = min(frames, 1000)
            logits = np.zeros((count, self.config.vocab_size), np.float32)
            logits[:, self.vocabulary.blank] = _CERTAIN
            logits[0] = 0
            logits[0, token] = _CERTAIN
            yield logits
            frames -= count


class Window(NamedTuple):
    """An interval of audio, and the frames that are decided in it."""

    samples: Array
    first_frame: int
    end_frame: int


def windows(blocks: Iterable[Array], frames: Callable[[int], int], stride: int) -> Iterator[Window]:
    """Divide audio that arrives in blocks into overlapping windows. Their decided frames join without a gap.

    Args:
        blocks: consecutive samples, (N,) each.
        frames: function from samples to frames, ``ModelConfig.frames``.
        stride: samples from frame to frame.
    """
    context = round(CONTEXT_SECONDS * SAMPLE_RATE / stride)  # in frames
    size = round(WINDOW_SECONDS * SAMPLE_RATE / stride) * stride
    held = np.zeros(0, np.float32)
    first = 0  # frame of ``held`` from which nothing is decided yet
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) > size:
            end = size // stride - context
            yield Window(held[:size], first, end)
            held = held[(end - context) * stride :]
            first = context
    if (count := frames(len(held))) > first:
        yield Window(held, first, count)
