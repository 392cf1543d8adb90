"""Compute the logits of a stream's frames as soon as their samples allow."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from littlefoot.audio import SAMPLE_RATE, reading
from littlefoot.network.config import ModelConfig
from littlefoot.runtime.protocols import Engine, StreamEngine
from littlefoot.runtime.stream_state import SEEN, VALID, WAVEFORM, stream_state

Array = npt.NDArray[np.float32]


class Frames(Protocol):
    """The frames of one stream, with a state that does not grow."""

    latency_seconds: float
    """Seconds from the time of a frame to the last sample that can change it."""

    def feed(self, samples: Array) -> Array:
        """Read samples (N,); return logits (F, V) of the frames that they complete. F may be 0."""

    def finish(self) -> Array:
        """End the stream; return logits (F, V) of the remaining frames."""


class ChunkedFrames:
    """Frames of a streaming model: exactly the logits of the whole recording, chunk by chunk."""

    def __init__(self, config: ModelConfig, engine: StreamEngine) -> None:
        self._config, self._engine = config, engine
        self._parts = stream_state(config)
        self.state = [np.zeros((1, *part.start), np.float32) for part in self._parts]
        self._seen = 0
        self._begun = False
        self.held = np.zeros(0, np.float32)
        self.latency_seconds = config.algorithmic_latency / SAMPLE_RATE

    def feed(self, samples: Array) -> Array:
        self.held = np.concatenate([self.held, samples])
        logits = [np.zeros((0, self._config.vocab_size), np.float32)]
        while self._config.feature_frames(len(self.held)) >= self._next():
            logits.append(self._step(self._next()))
        return np.concatenate(logits)

    def finish(self) -> Array:
        # Frames of silence replace the input of the positional convolution after the end.
        config = self._config
        real = config.feature_frames(len(self.held)) if self._begun or config.frames(len(self.held)) else 0
        total = real + (config.right_context_frames if real or self._begun else 0)
        logits = [np.zeros((0, config.vocab_size), np.float32)]
        if total:
            needed = (total - 1) * config.feature_stride + config.receptive_field
            self.held = np.pad(self.held[:needed], (0, max(0, needed - len(self.held))))
        while total:
            count = min(self._next(), total)
            if count < config.squeeze_factor:
                logits.append(self._unpaired(count, min(count, real)))
            else:
                logits.append(self._step(count, min(count, real)))
            total, real = total - count, max(0, real - count)
        self.held = self.held[:0]
        return np.concatenate(logits)

    def _unpaired(self, count: int, real: int) -> Array:
        """Return logits of the last frames, too few for a frame of the blocks.

        They are those of zeros, which the network puts behind the frames of the blocks. So these frames are
        computed with silence as one of the blocks, and what follows it is taken.
        """
        size = self._config.squeeze_factor
        self.held = np.pad(self.held, (0, size * self._config.feature_stride))
        return self._step(size + count, real)[size:]

    def _next(self) -> int:
        """Return the number of new frames in the next chunk."""
        return self._config.chunk_frames + (0 if self._begun else self._config.right_context_frames)

    def _step(self, count: int, real: int | None = None) -> Array:
        """Run the network on ``count`` frames, the first ``real`` of which are real."""
        config = self._config
        valid = (np.arange(count) < (count if real is None else real)).astype(np.float32)
        inputs = {part.name: value for part, value in zip(self._parts, self.state, strict=True)}
        samples = (count - 1) * config.feature_stride + config.receptive_field
        inputs[WAVEFORM] = self.held[None, :samples].copy()
        inputs[VALID] = valid[None]
        inputs[SEEN] = np.array([min(self._seen, config.left_block_frames)])
        logits, *made = self._engine.step(inputs)
        for number, (part, new) in enumerate(zip(self._parts, made, strict=True)):
            if part.frames_axis is None:
                self.state[number] = new
            else:
                _replace_oldest(self.state[number], new, part.frames_axis, self._seen)
        self.held = self.held[count * config.feature_stride :]
        decided = count - (0 if self._begun else config.right_context_frames)
        self._seen += decided // config.squeeze_factor
        self._begun = True
        return np.asarray(logits[0], dtype=np.float32)


def _replace_oldest(kept: Array, new: Array, axis: int, seen: int) -> None:
    """Overwrite the oldest kept frames along an axis with new ones, which ``seen`` frames precede."""
    size, count = kept.shape[axis], new.shape[axis]
    frames = np.arange(max(0, count - size), count)
    np.moveaxis(kept, axis, 0)[(seen + frames) % size] = np.moveaxis(new, axis, 0)[frames]


class WindowedFrames:
    """Frames of any other model: overlapping windows, each of which decides one second.

    This simulates streaming: every second of audio is computed ``LEFT + HOP + RIGHT`` times, and the context
    of a frame ends at the edge of its window.
    """

    LEFT, HOP, RIGHT = 6.0, 1.0, 1.0
    """Seconds of context before, of decided frames, and of context after."""

    def __init__(self, config: ModelConfig, engine: Engine, normalize: bool) -> None:
        self._config, self._engine, self._normalize = config, engine, normalize
        self._left, self._hop, self._right = (
            round(seconds * SAMPLE_RATE / config.stride) for seconds in (self.LEFT, self.HOP, self.RIGHT)
        )
        self.held = np.zeros(0, np.float32)
        self._first = 0  # first undecided frame of ``held``
        self.latency_seconds = self.HOP + self.RIGHT

    def feed(self, samples: Array) -> Array:
        self.held = np.concatenate([self.held, samples])
        logits = [np.zeros((0, self._config.vocab_size), np.float32)]
        while self._config.frames(len(self.held)) >= self._first + self._hop + self._right:
            logits.append(self._decide(self._first + self._hop, self._right))
        return np.concatenate(logits)

    def finish(self) -> Array:
        count = self._config.frames(len(self.held))
        if count <= self._first:
            return np.zeros((0, self._config.vocab_size), np.float32)
        return self._decide(count, 0)

    def _decide(self, end: int, context: int) -> Array:
        """Return logits of the frames up to ``end``, computed with the given number of frames after it."""
        samples = self.held[: (end + context - 1) * self._config.stride + self._config.receptive_field]
        samples = reading.normalize(samples) if self._normalize else samples
        logits = self._engine.run(samples)[self._first : end]
        drop = max(0, end - self._left)
        self.held = self.held[drop * self._config.stride :]
        self._first = end - drop
        return logits
