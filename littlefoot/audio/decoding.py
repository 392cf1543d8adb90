"""Decode an open file in this process, with the reader of the format that its first bytes identify."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import BinaryIO

from littlefoot.audio import containers, formats, libsndfile, media
from littlefoot.audio.channels import Choice
from littlefoot.audio.opened import Opened, Waveform, check_finite, named
from littlefoot.errors import AudioError


@contextmanager
def opened(
    stream: BinaryIO, name: str, choice: Choice | None = None, fallback: bool = True
) -> Iterator[Opened]:
    """Open and verify a recording, and decode it in this process.

    Args:
        stream: seekable, at its beginning.
        name: name of the recording, for messages.
        choice: selected channel and track.
        fallback: True to let FFmpeg read contents that libsndfile does not read, in a container of both.

    Raises:
        AudioError: the recording cannot be read. The message names it only if it is raised while decoding.
        MissingExtraError: FFmpeg is needed and PyAV is not installed.
    """
    choice = choice or Choice()
    found = formats.sniff(stream.read(formats.MAGIC_BYTES))
    stream.seek(0)
    with ExitStack() as stack:
        if found is None or not found.is_read_by_ffmpeg:
            try:
                recording = stack.enter_context(libsndfile.opened(stream, name, choice))
            except libsndfile.NotReadError:
                if not fallback or found is None or found.demuxer is None or not media.is_available():
                    raise
                stream.seek(0)
            else:
                yield recording
                return
        containers.verify(stream, found.check)
        recording = stack.enter_context(media.opened(stream, found, choice))
        yield recording._replace(pieces=_named(recording.pieces, name))


def load_decoders() -> None:
    """Import the readers, which are otherwise imported when they are first needed."""
    import soundfile  # noqa: F401

    with suppress(ImportError):
        import av  # noqa: F401


def _named(pieces: Iterator[Waveform], name: str) -> Iterator[Waveform]:
    try:
        for piece in pieces:
            check_finite(piece, name)
            yield piece
    except AudioError as error:
        raise named(error, name) from error
