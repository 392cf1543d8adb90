"""Recognise speech that arrives as PCM of any rate, in memory that is bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Event
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from littlefoot.audio import SAMPLE_RATE, pcm
from littlefoot.server.errors import ApiError, invalid
from littlefoot.server.models import Model
from littlefoot.server.service import Service

WHOLE_SECONDS = 120.0
"""Seconds that are kept of an utterance for a model that was not made for streaming."""

_RATES = (8_000, 192_000)
_MOST_CHANNELS = 8

Samples = npt.NDArray[np.float32]


@dataclass(frozen=True)
class PcmFormat:
    """Bare samples of 16 bits, little-endian, channels interleaved. Raises ApiError 400 for others."""

    rate: int
    """Samples per second."""
    width: int = 2
    """Bytes of a sample."""
    channels: int = 1

    def __post_init__(self) -> None:
        low, high = _RATES
        if self.width != 2:
            raise invalid(f"samples must have 2 bytes, not {self.width}", "width")
        if not low <= self.rate <= high:
            raise invalid(f"rate must be {low} to {high}, not {self.rate}", "rate")
        if not 1 <= self.channels <= _MOST_CHANNELS:
            raise invalid(f"channels must be 1 to {_MOST_CHANNELS}, not {self.channels}", "channels")


class PcmStream:
    """PCM of a format, as mono float32 samples at 16 kHz, piece by piece."""

    def __init__(self, form: PcmFormat) -> None:
        self._channels, self._left = form.channels, b""
        self._resample = None if form.rate == SAMPLE_RATE else soxr.ResampleStream(form.rate, SAMPLE_RATE, 1)

    def convert(self, data: bytes, last: bool = False) -> Samples:
        """Convert the next bytes; what is less than a frame waits for more."""
        data = self._left + data
        whole = len(data) // (2 * self._channels) * 2 * self._channels
        self._left = data[whole:]
        frames = pcm.to_float(pcm.from_bytes(data[:whole])).reshape(-1, self._channels)
        samples: Samples = np.ascontiguousarray(frames.mean(axis=1), np.float32)
        if self._resample is None:
            return samples
        resampled: Samples = self._resample.resample_chunk(samples, last=last)
        return resampled


class Utterance:
    """One utterance: streaming models decide it while it arrives, others when it has ended."""

    def __init__(self, service: Service, model: Model, recognizer: Any, form: PcmFormat) -> None:
        """Use ``begin``, which loads the model first."""
        self.format, self.separator = form, recognizer.vocabulary.separator
        self.live: bool = recognizer.streams
        """Whether segments come before the end."""
        self._service, self._model, self._recognizer = service, model, recognizer
        self._samples = PcmStream(form)
        # Half a second, then others have their turn.
        self._piece = form.rate // 2 * form.width * form.channels
        self._stream = recognizer.stream(decoder=model.decoder) if self.live else None
        self._kept: list[Samples] = []
        self._heard = 0  # samples at 16 kHz
        model.users += 1  # until ``close``

    @classmethod
    async def begin(cls, service: Service, model: Model, form: PcmFormat) -> Utterance:
        """Load the model if it is not loaded. Raises ApiError 503 if that fails."""
        return cls(service, model, await service.models.ready(model), form)

    async def feed(self, data: bytes) -> list[str]:
        """Take the next bytes; return the segments that ended. Raises ApiError 413 beyond the limit."""
        segments: list[str] = []
        for begin in range(0, len(data), self._piece):
            segments += await self._add(data[begin : begin + self._piece], last=False)
        return segments

    async def finish(self) -> list[str]:
        """Return the segments that are left."""
        segments = await self._add(b"", last=True)
        if self._stream is not None:
            partial = await self._in_thread(self._stream.finish, 0)
            return segments + [segment.text for segment in partial.final]
        whole = np.concatenate([np.zeros(0, np.float32), *self._kept])
        began = time.monotonic()

        def work(stop: Event) -> str:
            text: str = self._recognizer.transcribe(whole, self._model.decoder).text
            return text

        text = await self._service.jobs.run(work)
        self._count(began, len(whole))
        return [text] if text else []

    def close(self) -> None:
        """Give the model back."""
        self._model.give_back()

    async def _add(self, data: bytes, last: bool) -> list[str]:
        samples = self._samples.convert(data, last)
        self._heard += len(samples)
        limit = self._service.limits.audio_seconds
        if self._stream is None:
            limit = min(limit, WHOLE_SECONDS)
        if self._heard > limit * SAMPLE_RATE:
            raise ApiError(413, f"the utterance is longer than {limit:g} s: end it sooner", "audio_too_long")
        if self._stream is None:
            self._kept.append(samples)
            return []
        partial = await self._in_thread(self._stream.feed, len(samples), samples)
        return [segment.text for segment in partial.final]

    async def _in_thread(self, function: Callable[..., Any], count: int, *arguments: Any) -> Any:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._service.live_threads, function, *arguments)
        self._count(began, count)
        return result

    def _count(self, began: float, samples: int) -> None:
        took = time.monotonic() - began
        self._service.metrics.recognised(self._model.name, "live", samples / SAMPLE_RATE, took)
