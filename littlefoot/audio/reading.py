"""Read audio from files, bytes, pipes and arrays, as float32, mono, 16 kHz.

libsndfile (``audio.libsndfile``) or FFmpeg (``audio.media``) decodes a file, according to its content and not
its name (``audio.formats``), and soxr resamples it, block by block, so that a recording of any length needs
bounded memory. Several channels become one (``audio.channels``). A damaged or truncated file is refused
rather than read in part (``audio.containers``), and so is a file that changes meanwhile. A WAV file with a
wrong header is read (``audio.wav``).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio import SAMPLE_RATE, decoding, formats, isolation
from littlefoot.audio.channels import Choice
from littlefoot.audio.libsndfile import NotReadError
from littlefoot.audio.opened import Opened, Waveform, check_finite, in_blocks
from littlefoot.audio.pcm import Pcm
from littlefoot.audio.sources import (
    File,
    Selected,
    Source,
    Untrusted,
    name_of,
    seekable,
    selected,
    spooled,
    state,
    unchanged,
)
from littlefoot.errors import AudioError, MissingExtraError

__all__ = [
    "Pcm",
    "Selected",
    "Source",
    "Untrusted",
    "blocks",
    "channels",
    "duration",
    "name_of",
    "normalize",
    "read",
    "selected",
    "standard_input",
]

log = logging.getLogger("littlefoot")

_RATES = range(1000, 768_001)  # hertz; with more, a damaged header would demand absurd amounts of memory
_HEAD = 1 << 15  # bytes by which a pipe's format is detected: one second of bare samples


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
    yield from in_blocks(_decode(source), size)


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
        if seconds is None or (exact and not recording.is_exact):
            frames = 0
            for piece in recording.pieces:
                frames += len(piece)
                if limit is not None and frames > limit * recording.rate:
                    break
            seconds = frames / recording.rate
        if not seconds:
            raise AudioError(f"{name_of(source)}: holds no samples: record or export it again")
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
    if formats.is_file(head):
        with spooled(stream, head) as spool:
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
    check_finite(array, "the array")
    return np.ascontiguousarray(array, dtype=np.float32)


@contextmanager
def _open(source: File) -> Iterator[Opened]:
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
            stream = seekable(source, stack)
            before = state(stream)
            recording = _decoded(stream, name, choice, untrusted, stack)
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
                f"{name!a}: cannot be opened ({error}): check the path and its permissions"
            ) from error
        pieces = _with_warnings(recording, name, in_place)
        yield recording._replace(pieces=unchanged(pieces, stream, before, name))


def _decoded(stream: BinaryIO, name: str, choice: Choice, untrusted: bool, stack: ExitStack) -> Opened:
    """Open a recording in this process, or in a separate one if that is possible and it is not simple."""
    found = formats.sniff(stream.read(formats.MAGIC_BYTES))
    stream.seek(0)
    isolated = isolation.AVAILABLE and (untrusted or found is None or not found.is_plain)
    if not isolated:
        try:
            return stack.enter_context(decoding.opened(stream, name, choice, not isolation.AVAILABLE))
        except NotReadError:
            if not isolation.AVAILABLE or found is None or found.demuxer is None:
                raise
            stream.seek(0)
    return stack.enter_context(isolation.opened(stream, name, choice))


def _with_warnings(recording: Opened, name: str, once: bool) -> Iterator[Waveform]:
    """Yield the pieces, then log warnings, only ``once`` in this process for a file that is read often."""
    yield from recording.pieces
    for warning in recording.warnings:
        message = f"{name}: {warning}"
        if not once or message not in _said:
            log.warning("%s", message)
        if once and len(_said) < _MOST_SAID:
            _said.add(message)


_said: set[str] = set()
_MOST_SAID = 10_000


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
