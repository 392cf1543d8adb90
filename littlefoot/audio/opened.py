"""Define an open recording, the result of all readers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from littlefoot.errors import AudioError

Waveform: TypeAlias = NDArray[np.float32]

_LOUDEST = 2.0**31  # float samples in the scale of 32-bit integers still pass


class Opened(NamedTuple):
    """An opened and verified recording."""

    rate: int
    """Samples per second of the pieces."""
    seconds: float | None
    """Length from the header; None if it gives none."""
    is_exact: bool
    """Whether this length is exact."""
    pieces: Iterator[Waveform]
    """Mono samples (T,), to be read once. They may raise AudioError."""
    channels: int
    warnings: list[str]
    """Warnings about the file, complete when the pieces have been read."""


def are_plausible(samples: NDArray[Any]) -> bool:
    """Return False for samples that are NaN, infinite or absurdly large."""
    # one comparison, which NaN and infinity fail too
    return float(np.abs(samples).max(initial=0.0)) <= _LOUDEST


def check_finite(samples: NDArray[Any], name: str) -> None:
    """Raise AudioError for a recording's samples that are NaN, infinite or absurdly large."""
    if not are_plausible(samples):
        raise AudioError(
            f"{name}: holds samples that are NaN, infinite or absurdly large: export it again as 16-bit audio"
        )


def named(error: AudioError, name: str) -> AudioError:
    """Return an error whose message begins with the recording's name."""
    message = str(error)
    return AudioError(message if message.startswith(name) else f"{name}: {message}")


def in_blocks(pieces: Iterable[Waveform], size: int) -> Iterator[Waveform]:
    """Cut pieces (T,) of a recording anew: into blocks of ``size`` samples, and the rest."""
    held: list[Waveform] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        if count >= size:
            joined = np.concatenate(held)
            whole = count - count % size
            yield from (joined[start : start + size] for start in range(0, whole, size))
            held, count = [joined[whole:]], count - whole
    if count:
        yield np.concatenate(held)
