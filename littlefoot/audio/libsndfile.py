"""Decode with libsndfile, through soundfile: read each file from front to back, and all of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from littlefoot.audio import containers, formats, headers, wav
from littlefoot.audio.channels import Choice, Mixer
from littlefoot.audio.opened import Opened, Waveform, check_finite
from littlefoot.errors import AudioError

if TYPE_CHECKING:
    import soundfile

BLOCK_SAMPLES = 1 << 18
"""Samples of all channels that are decoded at a time: 1 MB."""
_UNKNOWN_LENGTH = 1 << 62  # libsndfile's number of frames if a header gives no length


class NotReadError(AudioError):
    """Raised if libsndfile does not read the format."""


@contextmanager
def opened(stream: BinaryIO, name: str, choice: Choice) -> Iterator[Opened]:
    """Open and verify a recording.

    Args:
        stream: seekable, at its beginning.
        name: name of the recording, for messages.
        choice: selected channel and track.

    Raises:
        NotReadError: libsndfile does not read the content.
        AudioError: it is truncated or damaged. The message names it only if it is raised while decoding.
    """
    import soundfile

    found = wav.find(stream)
    stream.seek(0)
    if found is not None and found.is_mpeg:  # libsndfile loses the end of these
        raise NotReadError(f"is MPEG audio in a WAV file. {formats.readable()}")
    if found is not None:
        stream, warning = cast(BinaryIO, wav.Corrected(stream, found)), found.warning
    else:
        stream, warning = headers.patched(stream)
        stream.seek(0)
    try:
        file = _sequential()(_Callbacks(stream, containers.flac_count(stream)))
    except soundfile.SoundFileError as error:
        reason = str(error).rpartition(": ")[2].rstrip(".")
        raise NotReadError(f"is not readable audio ({reason}). {formats.readable()}") from error
    with file:
        form = formats.of_libsndfile(file.format)
        if form is None:
            raise NotReadError(f"is a file of {file.format_info}. {formats.readable()}")
        least = containers.verify(stream, form.check)
        mixer = Mixer(choice, file.channels)
        if warning:
            mixer.warnings.append(warning)
        if choice.track not in (None, 1):
            raise AudioError(f"has one track, so there is no track {choice.track} to take")
        frames = file.frames if file.frames < _UNKNOWN_LENGTH else least
        seconds = float(frames / file.samplerate) if frames else None
        pieces = _frames(file, name, least, mixer)
        yield Opened(file.samplerate, seconds, form.exact_length, pieces, file.channels, mixer.warnings)


class _Callbacks:
    """A binary file with libsndfile's callbacks, without exceptions, which would be printed there and lost.

    In damaged files libsndfile seeks to before the beginning; the position then stays, which it detects. The
    sample count of a FLAC file is hidden, because libsndfile would stop there, however many samples follow.
    """

    def __init__(self, stream: BinaryIO, count: range) -> None:
        self._stream, self._count = stream, count
        self.tell = stream.tell
        stream.seek(0)

    def seek(self, offset: int, whence: int) -> None:
        with suppress(OSError, ValueError):
            self._stream.seek(offset, whence)

    def read(self, count: int) -> bytes:
        try:
            start = self._stream.tell()
            data = self._stream.read(count)
        except OSError:
            return b""
        if start >= self._count.stop:
            return data
        hidden = bytearray(data)
        for place in self._count:
            if start <= place < start + len(data):
                hidden[place - start] &= 0xF0 if place == self._count.start else 0
        return bytes(hidden)


@cache
def _sequential() -> type[soundfile.SoundFile]:
    import soundfile

    class Sequential(soundfile.SoundFile):  # type: ignore[misc]
        """A file that is read from front to back.

        soundfile seeks to the current position after every read. In Opus and in MP3 of variable bit rate this
        leads to another position and damages the sound, and it fails in FLAC without a length header.
        """

        def seekable(self) -> bool:
            return False

    return Sequential


def _frames(file: soundfile.SoundFile, name: str, least: int, mixer: Mixer) -> Iterator[Waveform]:
    """Yield mono pieces (T,) at the file's own rate; at the end, check that all frames were decoded."""
    import soundfile

    buffer = np.empty((max(1, BLOCK_SAMPLES // file.channels), file.channels), np.float32)
    got = 0
    left = least if least and file.format == "FLAC" else _UNKNOWN_LENGTH
    try:
        while left and (count := file.buffer_read_into(buffer[:left], "float32")):
            got += count
            left -= count
            piece = buffer[:count]
            check_finite(piece, name)
            yield mixer.mix(piece.T).copy()
    except soundfile.SoundFileError as error:
        seconds = got / file.samplerate
        raise AudioError(
            f"{name}: is truncated or damaged after {seconds:.2f} s ({error}): fetch or export it again"
        ) from error
    # libsndfile's own count of an MP3 without a length header is a guess from its first frame.
    known = file.format != "MP3" and file.frames < _UNKNOWN_LENGTH
    promised = max(least, file.frames) if known else least
    if got < promised:
        # For MP3 with variable bit rate and no length header, libmpg123 drops the samples beyond its guess.
        remedy = formats.CONVERT if file.format == "MP3" else "fetch or export it again"
        raise AudioError(f"{name}: only {got} of {promised} samples could be decoded; {remedy}")
    if not got:
        raise AudioError(f"{name}: holds no samples: record or export it again")
    if not left and _goes_on(file):
        raise AudioError(
            f"{name}: holds more than the {least} samples that its header counts: export it again"
        )


def _goes_on(file: soundfile.SoundFile) -> bool:
    """Return True if a FLAC file has samples after its declared last one, rather than nothing or a tag."""
    import soundfile

    try:
        return bool(file.buffer_read_into(np.empty((1, file.channels), np.float32), "float32"))
    except soundfile.SoundFileError:
        return False
