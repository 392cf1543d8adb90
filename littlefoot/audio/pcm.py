"""Read samples without a header, as programs pipe them: 16 kHz, mono, 16 bits, little-endian."""

import itertools
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio.formats import CONVERT_TO_PCM
from littlefoot.errors import AudioError

DESCRIPTION = "raw PCM (16 kHz, mono, 16 bits, little-endian)"
_BLOCK = 1 << 16  # bytes


def to_float(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Convert samples of up to 32 bits, whose full scale becomes 1, or of floating point, to float32."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32, copy=False)
    full_scale = np.float32(2.0 ** (8 * samples.dtype.itemsize - 1))
    floats = samples.astype(np.float32)
    if samples.dtype.kind == "u":
        floats -= full_scale
    floats /= full_scale
    return floats


def to_int16(samples: NDArray[np.float32]) -> NDArray[np.int16]:
    """Round samples in -1 ... 1 to 16 bits; what is louder is clipped."""
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype(np.int16)


def from_bytes(data: bytes) -> NDArray[np.int16]:
    """Return the samples (T,) of bytes as ``DESCRIPTION`` says, an even number."""
    return np.frombuffer(data, "<i2").astype(np.int16, copy=False)


class Pcm:
    """A stream of samples that is read once, from front to back, in bounded memory."""

    def __init__(self, stream: BinaryIO, head: bytes = b"", name: str = "standard input") -> None:
        """
        Args:
            stream: binary stream.
            head: bytes that were already read from it.
            name: name for messages.

        Raises:
            AudioError: ``head`` is obviously not speech.
        """
        self._stream, self._head, self.name = stream, head, name
        if not head:
            raise AudioError(f"{name}: is empty (0 bytes): record or fetch it again")
        if _is_text(head) or _is_random(head):
            raise AudioError(
                f"{name}: is neither an audio file that is known nor {DESCRIPTION}: {CONVERT_TO_PCM}"
            )

    def blocks(self) -> Iterator[NDArray[np.float32]]:
        """Yield samples (T,) in -1 ... 1. Raises AudioError if the data end in the middle of a sample."""
        left = b""
        for data in itertools.chain([self._head], iter(lambda: self._stream.read(_BLOCK), b"")):
            data = left + data
            whole = len(data) - len(data) % 2
            left = data[whole:]
            if whole:
                yield to_float(from_bytes(data[:whole]))
        if left:
            raise AudioError(
                f"{self.name}: ends in the middle of a sample: it was cut off, or is not {DESCRIPTION}"
            )


def _is_text(head: bytes) -> bool:
    try:
        text = head[: len(head) - len(head) % 4].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character.isspace() for character in text)


def _is_random(head: bytes) -> bool:
    """Return True for data like white noise at full volume: compressed or encrypted ones, never a
    recording.
    """
    samples = np.frombuffer(head[: len(head) - len(head) % 2], "<i2").astype(np.float64)
    samples -= samples.mean() if len(samples) else 0
    power = float(np.square(samples).sum())
    if len(samples) < 100 or power / len(samples) < 3000.0**2:
        return False
    return float((samples[1:] * samples[:-1]).sum()) < 0.2 * power
