"""Define the sources of recordings, and turn them into files that can seek."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio.channels import Choice
from littlefoot.audio.opened import Waveform
from littlefoot.audio.pcm import Pcm
from littlefoot.errors import AudioError

_SPOOL = 1 << 26  # bytes of a pipe that are held in memory rather than in a temporary file
_CHANGED = "was changed while it was read: wait until it is complete"


@dataclass(frozen=True)
class Untrusted:
    """A recording from an untrusted source, which is decoded in a separate process in any format."""

    file: BinaryIO


@dataclass(frozen=True)
class Selected:
    """A recording with a selected channel and track."""

    source: Unselected
    choice: Choice


def selected(source: Source, channel: str = "auto", track: int | None = None) -> Selected:
    """Select a channel and a track of a recording. Raises AudioError for arrays, which have none."""
    if isinstance(source, Pcm | np.ndarray):
        raise AudioError(f"{name_of(source)}: is one channel: there is none to choose")
    if isinstance(source, Selected):
        raise AudioError(f"{name_of(source)}: a channel or track of it is chosen already")
    return Selected(source, Choice(channel, track))


Unselected: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Untrusted
File: TypeAlias = Unselected | Selected
Source: TypeAlias = File | Pcm | NDArray[Any]


def name_of(source: object) -> str:
    """Return the name of a recording in messages."""
    if isinstance(source, Selected | Untrusted):
        return name_of(source.source if isinstance(source, Selected) else source.file)
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, bytes):
        return f"audio data of {len(source)} bytes"
    if isinstance(source, tempfile.SpooledTemporaryFile):
        return "standard input"
    return str(getattr(source, "name", "audio data"))


def seekable(source: object, stack: ExitStack) -> BinaryIO:
    """Return a binary file with at least one byte, at its beginning; copy a file that cannot seek."""
    if isinstance(source, bytes):
        stream: BinaryIO = io.BytesIO(source)
    elif isinstance(source, io.IOBase) and not isinstance(source, io.TextIOBase):
        stream = cast(BinaryIO, source)
    else:
        raise AudioError(
            f"a {type(source).__name__} cannot be read: give a path, bytes, a binary file or a numpy array"
        )
    if not stream.seekable():
        stream = stack.enter_context(spooled(stream))
    if not stream.seek(0, io.SEEK_END):
        raise AudioError("is empty (0 bytes): record or fetch it again")
    stream.seek(0)
    return stream


@contextmanager
def spooled(stream: BinaryIO, head: bytes = b"") -> Iterator[BinaryIO]:
    """Copy the data of a pipe, read and unread, to a file that can seek."""
    with tempfile.SpooledTemporaryFile(_SPOOL) as spool:
        spool.write(head)
        shutil.copyfileobj(stream, spool)
        yield cast(BinaryIO, spool)


def state(stream: BinaryIO) -> tuple[int, int] | None:
    """Return the size and the time of the last change of a file; None for anything else."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, AttributeError):
        return None
    return status.st_size, status.st_mtime_ns


def unchanged(
    pieces: Iterator[Waveform], stream: BinaryIO, before: tuple[int, int] | None, name: str
) -> Iterator[Waveform]:
    """Yield the pieces; at their end or failure, check that the file did not change meanwhile."""
    try:
        yield from pieces
    except AudioError as error:
        if state(stream) == before:
            raise
        raise AudioError(f"{name}: {_CHANGED}") from error
    if state(stream) != before:
        raise AudioError(f"{name}: {_CHANGED}")
