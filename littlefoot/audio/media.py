"""Decode recordings that libsndfile does not read, such as films and broadcasts.

PyAV contains FFmpeg's libraries and reads any binary file in chunks, in this process and without an
installation of FFmpeg.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio import pcm
from littlefoot.audio.channels import Choice, Mixer
from littlefoot.audio.formats import CONVERT, Format
from littlefoot.audio.opened import Opened
from littlefoot.errors import AudioError, MissingExtraError

_JITTER_SECONDS = 0.1  # of time stamps; a larger difference is a gap
_SILENT_SECONDS = 3600.0  # of gaps that a recording may have beyond its sound
_SILENT = 3e-4  # of full scale: no more than dither
_SAMPLE_FORMATS = ("u8", "s16", "s32", "flt", "dbl")  # that PyAV makes arrays of
_POINTERS = 8  # to planes, in an AVFrame
_SILENCE = np.zeros(1 << 18, np.float32)


def is_available() -> bool:
    """Return True if PyAV is installed."""
    return find_spec("av") is not None


@contextmanager
def opened(stream: BinaryIO, form: Format, choice: Choice | None = None) -> Iterator[Opened]:
    """Open an audio track of a file: the chosen one, or else the marked or first that is not silent.

    Samples are placed by their time stamps: if audio begins after the picture, or pauses, silence fills the
    gap, so that subtitles fit the picture.

    Args:
        stream: seekable, at its beginning.
        form: its format, which has a demuxer.
        choice: of channel and track.

    Raises:
        AudioError: there is no audio, or it cannot be decoded; the message does not name the file.
        MissingExtraError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise MissingExtraError(form.name, "av", "media") from error
    choice = choice or Choice()
    warnings: list[str] = []
    place = choice.track and choice.track - 1
    if place is None:
        with _container(stream, form) as container:
            place = _track(container, warnings)
        stream.seek(0)
    with _container(stream, form) as container:
        tracks = container.streams.audio
        if place >= len(tracks):
            raise AudioError(f"has {len(tracks)} audio tracks, so there is no track {choice.track} to take")
        audio = tracks[place]
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
        is_exact = form.exact_length and form.is_read_by_ffmpeg
        promised = seconds if is_exact else None
        mixer = Mixer(choice, first.layout.nb_channels)
        mixer.warnings += warnings
        pieces = _pieces(first, frames, origin, promised, mixer)
        yield Opened(first.sample_rate, seconds, is_exact, pieces, first.layout.nb_channels, mixer.warnings)


@contextmanager
def _container(stream: BinaryIO, form: Format) -> Iterator[Any]:
    """Open a file with audio. Raises AudioError."""
    import av

    try:
        container = av.open(stream, mode="r", format=form.demuxer, metadata_errors="replace")
    except (av.FFmpegError, ValueError, OSError) as error:
        raise AudioError(
            f"is no {form.name} file that can be read ({_reason(error)}): fetch or export it again"
        ) from error
    with container:
        if not container.streams.audio:
            kinds = ", ".join(sorted({each.type for each in container.streams})) or "nothing"
            raise AudioError(f"holds no audio ({kinds} only): is the sound in another file?")
        yield container


def _track(container: Any, warnings: list[str]) -> int:
    """Return the index of the marked or first audio track, or of the first with sound if that is silent."""
    tracks = list(container.streams.audio)
    best = container.streams.best("audio")
    usual = 0 if best is None else tracks.index(best)
    if len(tracks) == 1:
        return usual
    heard: set[int] = set()
    for place, samples in _sounds(container, tracks):
        if float(np.abs(samples).max(initial=0.0)) > _SILENT:
            heard.add(place)
        if usual in heard:
            return usual
    if not heard:
        return usual
    warnings.append(
        f"its audio track {usual + 1} is silent: track {min(heard) + 1} is taken; --track chooses another"
    )
    return min(heard)


def _sounds(container: Any, tracks: list[Any]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Yield the index of a track and samples (C, T), for all tracks in the order of the file; damage ends
    it.
    """
    import av

    readers: dict[tuple[int, str], Callable[[Any], NDArray[np.float32]]] = {}
    try:
        for packet in container.demux(tracks):
            place = tracks.index(packet.stream)
            for frame in packet.decode():
                key = place, _shape(frame)
                if key not in readers:
                    readers[key] = _reader(frame)
                yield place, readers[key](frame)
    except (av.FFmpegError, ValueError, OSError):
        return


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
    first: Any, frames: Iterator[Any], origin: float, promised: float | None, mixer: Mixer
) -> Iterator[NDArray[np.float32]]:
    """Yield mono samples, with silence for gaps in the time stamps."""
    rate, shape = first.sample_rate, _shape(first)
    samples = _reader(first)
    got = silent = 0
    frame = first
    while frame is not None:
        if _shape(frame) != shape:  # converting such a frame would read memory of other objects
            raise AudioError(f"changes after {got / rate:.2f} s from {shape} to {_shape(frame)}: {CONVERT}")
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
        piece = mixer.mix(samples(frame))
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


def _reader(first: Any) -> Callable[[Any], NDArray[np.float32]]:
    """Return a function that converts frames like the first one, of any sample format, to samples (C, T)."""
    import av

    channels = first.layout.nb_channels
    if first.format.packed.name not in _SAMPLE_FORMATS:
        raise AudioError(f"has samples of the format {first.format.name}: {CONVERT}")
    if not first.format.is_planar or channels < _POINTERS:
        return _samples
    # PyAV looks for the end of a frame's planes beyond the array of pointers if that is full.
    resampler = av.AudioResampler(first.format.packed, first.layout, first.sample_rate)

    def samples(frame: Any) -> NDArray[np.float32]:
        try:
            return np.concatenate([_samples(part) for part in resampler.resample(frame)], axis=1)
        except (av.FFmpegError, ValueError) as error:
            raise AudioError(
                f"has {channels} channels, which cannot be mixed ({_reason(error)}): {CONVERT}"
            ) from error

    return samples


def _samples(frame: Any) -> NDArray[np.float32]:
    """Return the samples (C, T) of a frame."""
    array = frame.to_ndarray()  # (channels, T); packed formats (1, T * channels)
    if not frame.format.is_planar:
        array = array.reshape(-1, frame.layout.nb_channels).T
    return pcm.to_float(array)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).rstrip(".")
