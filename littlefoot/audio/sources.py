"""What a recording may be given as, and how it becomes a file that can seek."""

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
    """A recording that a stranger sent: decoded in a process of its own, whatever its format."""

    file: BinaryIO


@dataclass(frozen=True)
class Selected:
    """A recording of which one channel or track is heard."""

    source: Unselected
    choice: Choice


def selected(source: Source, channel: str = "auto", track: int | None = None) -> Selected:
    """One channel and track of a recording. Raises AudioError for samples, which have none to choose."""
    if isinstance(source, Pcm | np.ndarray):
        raise AudioError(f"{name_of(source)}: is one channel: there is none to choose")
    if isinstance(source, Selected):
        raise AudioError(f"{name_of(source)}: a channel or track of it is chosen already")
    return Selected(source, Choice(channel, track))


Unselected: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Untrusted
File: TypeAlias = Unselected | Selected
Source: TypeAlias = File | Pcm | NDArray[Any]


def name_of(source: object) -> str:
    """What a recording is called in messages."""
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
    """A binary file with at least one byte, at its beginning; a copy of what cannot seek."""
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
    """A copy that can seek, of what a pipe gave and gives."""
    with tempfile.SpooledTemporaryFile(_SPOOL) as spool:
        spool.write(head)
        shutil.copyfileobj(stream, spool)
        yield cast(BinaryIO, spool)


def state(stream: BinaryIO) -> tuple[int, int] | None:
    """Size and time of the last change of a file; None for what is no file on disk."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, AttributeError):
        return None
    return status.st_size, status.st_mtime_ns


def unchanged(
    pieces: Iterator[Waveform], stream: BinaryIO, before: tuple[int, int] | None, name: str
) -> Iterator[Waveform]:
    """The pieces; at their end, or when they fail, check that nobody wrote to the file meanwhile."""
    try:
        yield from pieces
    except AudioError as error:
        if state(stream) == before:
            raise
        raise AudioError(f"{name}: {_CHANGED}") from error
    if state(stream) != before:
        raise AudioError(f"{name}: {_CHANGED}")
