"""Read audio from files, bytes, pipes and arrays, as float32, mono, 16 kHz.

libsndfile (through soundfile) or FFmpeg (``audio.media``) decodes a file, according to its content and not
its name, and soxr resamples it, block by block, so that a recording of any length needs bounded memory.
Several channels become one (``audio.channels``). A damaged or truncated file is refused rather than read in
part (``audio.containers``), and so is a file that changes meanwhile. A WAV file with a wrong header is read
(``audio.wav``).
"""

import io
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio import SAMPLE_RATE, containers, demuxers, headers, isolation, media, wav
from littlefoot.audio.channels import Choice, Mixer
from littlefoot.audio.pcm import Pcm
from littlefoot.errors import AudioError, MissingExtraError

if TYPE_CHECKING:
    import soundfile

log = logging.getLogger("littlefoot")


Waveform: TypeAlias = NDArray[np.float32]


@dataclass(frozen=True)
class Untrusted:
    """A recording from an untrusted source, which is decoded in a separate process in any format."""

    file: BinaryIO


@dataclass(frozen=True)
class Selected:
    """A recording with a selected channel and track."""

    source: "Unselected"
    choice: Choice


def selected(source: "Source", channel: str = "auto", track: int | None = None) -> "Selected":
    """Select a channel and a track of a recording. Raises AudioError for arrays, which have none."""
    if isinstance(source, Pcm | np.ndarray):
        raise AudioError(f"{name_of(source)}: is one channel: there is none to choose")
    if isinstance(source, Selected):
        raise AudioError(f"{name_of(source)}: a channel or track of it is chosen already")
    return Selected(source, Choice(channel, track))


Unselected: TypeAlias = str | os.PathLike[str] | bytes | BinaryIO | Untrusted
File: TypeAlias = Unselected | Selected
Source: TypeAlias = File | Pcm | NDArray[Any]

_FORMATS = ("WAV", "WAVEX", "RF64", "AIFF", "AU", "CAF", "NIST", "FLAC", "OGG", "MP3")
_READABLE = (
    "WAV, FLAC, Ogg (Vorbis, Opus), MP3, AIFF, AU, CAF and NIST SPHERE are read, and what FFmpeg reads with:"
    " pip install 'littlefoot[media]'"
)
_CONVERT = "convert it with: ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.wav"
_RATES = range(1000, 768_001)  # hertz; with more, a damaged header would demand absurd amounts of memory
_LOUDEST = 2.0**31  # float samples in the scale of 32-bit integers still pass
_BLOCK = 1 << 18  # samples of all channels decoded at a time: 1 MB
_CHANGED = "was changed while it was read: wait until it is complete"
_SPOOL = 1 << 26  # bytes of a pipe that are held in memory rather than in a temporary file
_MAGIC_BYTES = 200  # that identify a format
_HEAD = 1 << 15  # bytes that decide about a pipe: one second of bare samples
_UNKNOWN_LENGTH = 1 << 62  # libsndfile's number of frames if a header gives no length


def read(source: Source) -> Waveform:
    """Read a whole recording.

    Args:
        source: a path, the bytes of a file, a binary file (read from its beginning), or a floating-point
            array of shape (T,), mono at 16 kHz.

    Returns:
        float32, shape (T,), T >= 1, mono, 16 kHz, finite; an array of this form is returned unchanged.

    Raises:
        AudioError: the file is missing, unreadable, truncated, damaged, empty or of an unknown format; or
            the samples are not finite; or an array has another type or shape.
    """
    if isinstance(source, np.ndarray):
        return _checked_array(source)
    return np.concatenate(list(_decode(source)))


def blocks(source: Source, seconds: float = 30.0) -> Iterator[Waveform]:
    """Read a recording in blocks, in memory that does not grow with its length.

    Args:
        source: as for ``read``.
        seconds: length of every block but the last, which may be shorter.

    Yields:
        float32 blocks of shape (T,), mono, 16 kHz; joined they are exactly ``read(source)``.

    Raises:
        AudioError: as ``read``, when the iteration starts; damage in a FLAC or MP3 file is found only when it
            is reached, after the blocks before it were yielded.
    """
    size = round(seconds * SAMPLE_RATE)
    if size < 1:
        raise AudioError(f"blocks of {seconds} s hold no samples: ask for a positive number of seconds")
    if isinstance(source, np.ndarray):
        array = _checked_array(source)
        yield from (array[start : start + size] for start in range(0, len(array), size))
        return
    pending: list[Waveform] = []
    waiting = 0
    for piece in _decode(source):
        pending.append(piece)
        waiting += len(piece)
        if waiting >= size:
            joined = np.concatenate(pending)
            whole = waiting - waiting % size
            yield from (joined[start : start + size] for start in range(0, whole, size))
            pending, waiting = [joined[whole:]], waiting - whole
    if waiting:
        yield np.concatenate(pending)


def duration(source: Source, exact: bool = True, limit: float | None = None) -> float:
    """Return the length of a recording in seconds, from a reliable header (not in MP3) or else by decoding.

    Args:
        source: as for ``read``; a pipe or a file that cannot seek is consumed.
        exact: False to trust any header, which is fast; the result is 0 for bare samples on a pipe.
        limit: seconds after which decoding stops; the result is then above it, but not the whole length.

    Raises:
        AudioError: as ``read``, for faults that are found without decoding.
    """
    if isinstance(source, np.ndarray):
        return len(_checked_array(source)) / SAMPLE_RATE
    if isinstance(source, Pcm):
        return sum(len(block) for block in source.blocks()) / SAMPLE_RATE if exact else 0.0
    with _open(source) as recording:
        seconds = recording.seconds
        if seconds is None or (exact and not recording.reliable):
            frames = 0
            for piece in recording.pieces:
                frames += len(piece)
                if limit is not None and frames > limit * recording.rate:
                    break
            seconds = frames / recording.rate
        if not seconds:
            raise AudioError(f"{recording.name}: holds no samples: record or export it again")
        return seconds


def channels(source: File) -> int:
    """Count the channels of a recording. Raises AudioError as ``read``, for faults found without decoding."""
    with _open(source) as recording:
        return recording.channels


@contextmanager
def standard_input(stream: BinaryIO) -> Iterator[Source]:
    """Read a pipe: an audio file, or else bare samples (``littlefoot.audio.pcm``), which are not kept.

    Raises:
        AudioError: the pipe is empty, or its data are obviously neither.
    """
    head = stream.read(_HEAD)
    if containers.is_known(head):
        with _spooled(stream, head) as spool:
            yield spool
    else:
        yield Pcm(stream, head)


def normalize(waveform: Waveform) -> Waveform:
    """Shift to zero mean and scale to unit variance, over the whole waveform of shape (T,).

    The result equals that of ``Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm`` of transformers, which adds
    1e-7 under the root: silence stays silence.
    """
    normalized: Waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    return normalized


def _checked_array(array: NDArray[Any]) -> Waveform:
    if array.ndim != 1:
        raise AudioError(
            f"an array of shape {array.shape} was given: samples must have one axis, (T,);"
            " average the channels first, as in samples.mean(axis=1)"
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(
            f"an array of {array.dtype} was given: samples must be floating-point in -1..1;"
            " divide 16-bit integers by 32768"
        )
    if not len(array):
        raise AudioError("an empty array was given: at least one sample is needed")
    _check_finite(array, "the array")
    return np.ascontiguousarray(array, dtype=np.float32)


def _check_finite(samples: NDArray[Any], name: str) -> None:
    # one comparison, which NaN and infinity fail too
    if not float(np.abs(samples).max()) <= _LOUDEST:
        raise AudioError(
            f"{name}: holds samples that are NaN, infinite or absurdly large: export it again as 16-bit audio"
        )


class _Recording(NamedTuple):
    """An open and verified file."""

    name: str
    rate: int
    """Samples per second of the pieces."""
    seconds: float | None
    """Length from the header; None if it gives none."""
    reliable: bool
    """Whether the header is reliable."""
    pieces: Iterator[Waveform]
    """Mono samples (T,), to be read once."""
    channels: int
    warnings: list[str]
    """Warnings about the file, complete when all pieces are read."""


@contextmanager
def decoding(
    stream: BinaryIO, name: str, choice: Choice | None = None, fallback: bool = True
) -> Iterator[_Recording]:
    """Open and verify a recording, and decode it in this process.

    FFmpeg is the ``fallback`` if libsndfile does not read the content of a container.

    Raises AudioError, whose message names the recording if it is raised while decoding.
    """
    choice = choice or Choice()
    head = stream.read(_MAGIC_BYTES)
    stream.seek(0)
    form = demuxers.demuxer(head)
    with ExitStack() as stack:
        if form is None:
            try:
                yield _soundfile(stream, name, stack, choice)
                return
            except _NotReadError:
                form = demuxers.fallback(head)
                if not fallback or form is None or not media.is_available():
                    raise
                stream.seek(0)
        _complete(stream, form)
        opened = stack.enter_context(media.opened(stream, form, choice))
        pieces = _named(opened.pieces, name)
        reliable = form == "mov"
        yield _Recording(
            name, opened.rate, opened.seconds, reliable, pieces, opened.channels, opened.warnings
        )


class _NotReadError(AudioError):
    """Raised if libsndfile does not read the format."""


def load_decoders() -> None:
    """Import the decoders, which are otherwise imported on first use."""
    import soundfile  # noqa: F401

    with suppress(ImportError):
        import av  # noqa: F401


@contextmanager
def _open(source: File) -> Iterator[_Recording]:
    """Open and verify a recording, in a separate process unless its format is simple."""
    given, choice = (source.source, source.choice) if isinstance(source, Selected) else (source, Choice())
    untrusted = isinstance(given, Untrusted)
    source = given.file if isinstance(given, Untrusted) else given
    name, in_place = name_of(source), isinstance(source, str | os.PathLike)
    with ExitStack() as stack:
        try:
            if isinstance(source, str | os.PathLike):
                if os.path.isdir(source):
                    raise AudioError("is a directory: name the audio files in it")
                source = stack.enter_context(open(source, "rb"))
            stream = _seekable(source, stack)
            state = _state(stream)
            head = stream.read(_MAGIC_BYTES)
            stream.seek(0)
            here = not isolation.AVAILABLE or (containers.is_plain(head) and not untrusted)
            try:
                if here:
                    fallback = not isolation.AVAILABLE
                    recording = stack.enter_context(decoding(stream, name, choice, fallback))
            except _NotReadError:
                here = not isolation.AVAILABLE or demuxers.fallback(head) is None
                if here:
                    raise
                stream.seek(0)
            if not here:
                recording = _Recording(name, *stack.enter_context(isolation.opened(stream, name, choice)))
            if recording.rate not in _RATES:
                raise AudioError(
                    f"has an impossible sampling rate of {recording.rate} Hz: its header is damaged, export"
                    " it again"
                )
        except (AudioError, MissingExtraError) as error:
            raise AudioError(f"{name}: {error}") from error
        except FileNotFoundError as error:
            raise AudioError(f"{name}: there is no such file: check the path") from error
        except (OSError, ValueError) as error:  # ValueError: a zero byte or a lone surrogate in the path
            raise AudioError(
                f"{name!a}: cannot be opened ({error}): check the path and its rights"
            ) from error
        yield recording._replace(pieces=_unchanged(_with_warnings(recording, in_place), stream, state, name))


def _with_warnings(recording: _Recording, once: bool) -> Iterator[Waveform]:
    """Yield the pieces, then print warnings, only ``once`` in this process for a file that training reads
    often.
    """
    yield from recording.pieces
    for warning in recording.warnings:
        message = f"{recording.name}: {warning}"
        if not once or message not in _said:
            log.warning("%s", message)
        if once and len(_said) < _MOST_SAID:
            _said.add(message)


_said: set[str] = set()
_MOST_SAID = 10_000


def _soundfile(stream: BinaryIO, name: str, stack: ExitStack, choice: Choice) -> _Recording:
    import soundfile

    found = wav.find(stream)
    stream.seek(0)
    if found is not None and found.is_mpeg:  # libsndfile loses the end of these
        raise _NotReadError(f"is MPEG audio in a WAV file. {_READABLE}: {_CONVERT}")
    if found is not None:
        stream, warning = cast(BinaryIO, wav.Corrected(stream, found)), found.warning
    else:
        stream, warning = headers.patched(stream)
        stream.seek(0)
    try:
        file = stack.enter_context(_sequential()(_Callbacks(stream, containers.flac_count(stream))))
    except soundfile.SoundFileError as error:
        reason = str(error).rpartition(": ")[2].rstrip(".")
        raise _NotReadError(f"is no audio that can be read ({reason}). {_READABLE}: {_CONVERT}") from error
    least = _verify(stream, file)
    mixer = Mixer(choice, file.channels)
    if warning:
        mixer.warnings.append(warning)
    if choice.track not in (None, 1):
        raise AudioError(f"has one track, so there is no track {choice.track} to take")
    frames = file.frames if file.frames < _UNKNOWN_LENGTH else least
    seconds = float(frames / file.samplerate) if frames else None
    return _Recording(
        name,
        file.samplerate,
        seconds,
        file.format != "MP3",
        _frames(file, name, least, mixer),
        file.channels,
        mixer.warnings,
    )


def _named(pieces: Iterator[Waveform], name: str) -> Iterator[Waveform]:
    try:
        for piece in pieces:
            _check_finite(piece, name)
            yield piece
    except AudioError as error:
        message = str(error)
        raise AudioError(message if message.startswith(name) else f"{name}: {message}") from error


def _state(stream: BinaryIO) -> tuple[int, int] | None:
    """Return the size and the time of the last change of a file; None for anything else."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, AttributeError):
        return None
    return status.st_size, status.st_mtime_ns


def _unchanged(
    pieces: Iterator[Waveform], stream: BinaryIO, state: tuple[int, int] | None, name: str
) -> Iterator[Waveform]:
    """Yield the pieces; at their end or failure, check that the file did not change meanwhile."""
    try:
        yield from pieces
    except AudioError as error:
        if _state(stream) == state:
            raise
        raise AudioError(f"{name}: {_CHANGED}") from error
    if _state(stream) != state:
        raise AudioError(f"{name}: {_CHANGED}")


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


def _seekable(source: object, stack: ExitStack) -> BinaryIO:
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
        stream = stack.enter_context(_spooled(stream))
    if not stream.seek(0, io.SEEK_END):
        raise AudioError("is empty (0 bytes): record or fetch it again")
    stream.seek(0)
    return stream


@contextmanager
def _spooled(stream: BinaryIO, head: bytes = b"") -> Iterator[BinaryIO]:
    """Copy the data of a pipe, read and unread, to a file that can seek."""
    with tempfile.SpooledTemporaryFile(_SPOOL) as spool:
        spool.write(head)
        shutil.copyfileobj(stream, spool)
        yield cast(BinaryIO, spool)


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
def _sequential() -> type["soundfile.SoundFile"]:
    import soundfile

    class Sequential(soundfile.SoundFile):  # type: ignore[misc]
        """A file that is read from front to back.

        soundfile seeks to the current position after every read. In Opus and in MP3 of variable bit rate this
        leads to another position and damages the sound, and it fails in FLAC without a length header.
        """

        def seekable(self) -> bool:
            return False

    return Sequential


def _verify(stream: BinaryIO, file: "soundfile.SoundFile") -> int:
    if file.format not in _FORMATS:
        raise _NotReadError(f"is a file of {file.format_info}. {_READABLE}: {_CONVERT}")
    return _complete(stream, file.format)


def _complete(stream: BinaryIO, container: str) -> int:
    """Run ``containers.verify``, keep the position, and add the remedy to the message."""
    position = stream.tell()
    try:
        least = containers.verify(stream, container)
    except AudioError as error:
        raise AudioError(f"{error}; fetch or export it again") from error
    stream.seek(position)
    return least


def _decode(source: File | Pcm) -> Iterator[Waveform]:
    """Decode, average the channels, resample: pieces of shape (T,) at 16 kHz, at least one sample in all."""
    if isinstance(source, Pcm):
        yield from source.blocks()
        return
    with _open(source) as recording:
        if recording.rate == SAMPLE_RATE:
            yield from recording.pieces
            return
        import soxr

        resampler = soxr.ResampleStream(recording.rate, SAMPLE_RATE, 1, dtype="float32")
        given = 0
        first = np.zeros(1, np.float32)
        for piece in recording.pieces:
            first = piece[:1] if not given else first
            resampled = resampler.resample_chunk(piece)
            given += len(resampled)
            yield resampled
        rest = resampler.resample_chunk(np.zeros(0, np.float32), last=True)
        # one sample at 48 kHz resamples to none, and is kept unchanged
        yield rest if given + len(rest) else first


def _frames(file: "soundfile.SoundFile", name: str, least: int, mixer: Mixer) -> Iterator[Waveform]:
    """Mono pieces of shape (T,) at the file's own rate; at the end, check that all frames came."""
    import soundfile

    buffer = np.empty((max(1, _BLOCK // file.channels), file.channels), np.float32)
    got = 0
    left = least if least and file.format == "FLAC" else _UNKNOWN_LENGTH
    try:
        while left and (count := file.buffer_read_into(buffer[:left], "float32")):
            got += count
            left -= count
            piece = buffer[:count]
            _check_finite(piece, name)
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
        # for MP3 with variable bit rate and no length header, libmpg123 drops the samples beyond its guess.
        remedy = _CONVERT if file.format == "MP3" else "fetch or export it again"
        raise AudioError(f"{name}: only {got} of {promised} samples could be decoded; {remedy}")
    if not got:
        raise AudioError(f"{name}: holds no samples: record or export it again")
    if not left and _goes_on(file):
        raise AudioError(
            f"{name}: holds more than the {least} samples that its header counts: export it again"
        )


def _goes_on(file: "soundfile.SoundFile") -> bool:
    """Return True if a FLAC file has samples after its declared last one, rather than nothing or a tag."""
    import soundfile

    try:
        return bool(file.buffer_read_into(np.empty((1, file.channels), np.float32), "float32"))
    except soundfile.SoundFileError:
        return False
