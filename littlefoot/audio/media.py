"""Recordings that libsndfile does not read: MPEG-4 (m4a, mp4, mov, 3gp), Matroska (webm, mkv) and AAC.

FFmpeg's libraries decode them, through PyAV: it reads any binary file piece by piece, in this process and
without FFmpeg installed on the system. The demuxer is chosen here by the first bytes and never guessed by
FFmpeg, some of whose formats (playlists) would open other files.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from littlefoot.errors import AudioError, MissingExtraError

_NAMES = {"mov": "MPEG-4", "matroska": "Matroska", "aac": "AAC"}
_JITTER_SECONDS = 0.1  # of time stamps; what is more is a gap
_SILENT_SECONDS = 3600.0  # in gaps, that a recording may have more than it has sound
_POINTERS = 8  # to planes, in an AVFrame
_SILENCE = np.zeros(1 << 18, np.float32)


class Media(NamedTuple):
    """The audio of an open file."""

    rate: int
    """Samples per second."""
    seconds: float | None
    """Length by the header; None where it does not tell."""
    pieces: Iterator[NDArray[np.float32]]
    """Mono samples (T,), to be read once. Raises AudioError, whose message does not name the file."""


def demuxer(head: bytes) -> str | None:
    """FFmpeg's name of the format of a file that begins with ``head``, if it is one of ours."""
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide"):
        return "mov"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "matroska"
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:  # ADTS; an MP3 has other layer bits
        return "aac"
    return None


@contextmanager
def opened(stream: BinaryIO, form: str) -> Iterator[Media]:
    """Open the first, or the marked, audio stream of a file.

    The samples stand where the time stamps say: audio that begins after the picture, or pauses, has silence
    there, so that subtitles fit the picture.

    Args:
        stream: seekable, at its beginning.
        form: as ``demuxer`` names it.

    Raises:
        AudioError: there is no audio, or it cannot be decoded; the message does not name the file.
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(f"{_NAMES[form]} (m4a, mp4, mov, webm, mkv, aac)", "av", "media") from error
    try:
        container = av.open(stream, mode="r", format=form, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise AudioError(
            f"is no {_NAMES[form]} file that can be read ({_reason(error)}): fetch or export it again"
        ) from error
    with container:
        audio = container.streams.best("audio")
        if audio is None:
            kinds = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
            raise AudioError(f"holds no audio ({kinds} only): is the sound in another file?")
        origin = (container.start_time or 0) / av.time_base
        seconds = None
        if audio.duration is not None and audio.time_base is not None:
            seconds = float(audio.duration * audio.time_base)
        elif container.duration is not None:
            seconds = container.duration / av.time_base
        frames = _frames(container, audio)
        first = next(frames, None)
        if first is None:
            raise AudioError("holds no samples: record or export it again")
        promised = seconds if form == "mov" else None
        yield Media(first.sample_rate, seconds, _pieces(first, frames, origin, promised))


def _frames(container: Any, stream: Any) -> Iterator[Any]:
    import av

    decoded = 0.0
    try:
        for frame in container.decode(stream):
            if frame.is_corrupt:
                raise AudioError(f"is damaged after {decoded:.2f} s: fetch or export it again")
            if frame.samples:
                decoded += frame.samples / frame.sample_rate
                yield frame
    except (av.FFmpegError, ValueError, OSError) as error:
        raise AudioError(
            f"is truncated or damaged after {decoded:.2f} s ({_reason(error)}): fetch or export it again"
        ) from error


def _pieces(
    first: Any, frames: Iterator[Any], origin: float, promised: float | None
) -> Iterator[NDArray[np.float32]]:
    """Mono samples, with silence for gaps in the time stamps."""
    rate, shape = first.sample_rate, _shape(first)
    mono = _mixer(first)
    got = silent = 0
    frame = first
    while frame is not None:
        if _shape(frame) != shape:  # to convert such a frame would read memory that is not its own
            raise AudioError(
                f"changes after {got / rate:.2f} s from {shape} to {_shape(frame)}: convert it with: "
                "ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.wav"
            )
        gap = 0.0 if frame.time is None else frame.time - origin - got / rate
        if gap > _JITTER_SECONDS:
            missing = round(gap * rate)
            got += missing
            silent += missing
            if silent / rate > _SILENT_SECONDS + (got - silent) / rate:
                raise AudioError(
                    f"is damaged: its time stamps make {silent / rate:.0f} s of silence around"
                    f" {(got - silent) / rate:.0f} s of sound: export it again"
                )
            while missing:
                yield _SILENCE[:missing].copy()
                missing -= min(missing, len(_SILENCE))
        piece = mono(frame)
        got += len(piece)
        yield piece
        frame = next(frames, None)
    if promised is not None and got / rate < promised - 1:
        raise AudioError(
            f"is truncated: {got / rate:.2f} of {promised:.2f} s could be decoded; fetch or export it again"
        )


def _shape(frame: Any) -> str:
    channels = frame.layout.nb_channels
    return f"{frame.sample_rate} Hz, {channels} channel{'s'[: channels > 1]}, {frame.format.name}"


def _mixer(first: Any) -> Callable[[Any], NDArray[np.float32]]:
    """Makes mono samples (T,) of a frame that is like the first one, of any sample format."""
    import av

    channels = first.layout.nb_channels
    if not first.format.is_planar or channels < _POINTERS:
        return _mono
    # PyAV looks for the end of a frame's planes behind the array of pointers to them where that is full.
    resampler = av.AudioResampler(first.format.packed, first.layout, first.sample_rate)

    def mono(frame: Any) -> NDArray[np.float32]:
        try:
            return np.concatenate([_mono(part) for part in resampler.resample(frame)])
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(
                f"has {channels} channels, which cannot be mixed ({_reason(error)}): convert it with: "
                "ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.wav"
            ) from error

    return mono


def _mono(frame: Any) -> NDArray[np.float32]:
    """Samples (T,) of a frame, channels averaged."""
    array = frame.to_ndarray()  # (channels, T); packed formats (1, T * channels)
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    if array.dtype == np.uint8:
        array = array.astype(np.float32) / 128 - 1
    elif array.dtype.kind == "i":
        array = array.astype(np.float32) / np.float32(2.0 ** (8 * array.dtype.itemsize - 1))
    mono: NDArray[np.float32] = array.mean(axis=0, dtype=np.float32)
    return mono


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
