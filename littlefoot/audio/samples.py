"""Convert samples of Python programs: arrays of any usual type, lists, tensors, rows of ``datasets``."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio import SAMPLE_RATE, pcm, reading
from littlefoot.audio.channels import Choice, Mixer
from littlefoot.audio.pcm import Pcm
from littlefoot.errors import AudioError, ConfigError

MOST_CHANNELS = 16
_RATES = range(1000, 768_001)


def is_several(source: object) -> bool:
    """Return True for a list of recordings (paths, arrays or rows) rather than one of numbers."""
    if isinstance(source, str | bytes | Mapping) or not isinstance(source, Sequence):
        return False
    return not len(source) or not isinstance(source[0], int | float | np.number)


def recording(source: Any, sampling_rate: int | None = None) -> reading.Source:
    """Convert a recording to a source that ``littlefoot.audio`` reads.

    Args:
        source: a source of ``audio.read``; samples of any integer or floating-point type, (T,), (C, T) or
            (T, C), as an array, a list or a tensor; a row of ``datasets`` with ``array`` and
            ``sampling_rate``, or with ``bytes`` or ``path``; or a decoder of torchcodec.
        sampling_rate: rate of samples in hertz; None: 16000, or that of the row.

    Raises:
        AudioError: samples of another kind or shape.
        ConfigError: a sampling rate for a source that has its own, or an impossible one.
    """
    if isinstance(source, Mapping):
        if source.get("array") is not None:
            own = source.get("sampling_rate")
            return _mono(source["array"], sampling_rate if own is None else int(own))
        held = source.get("bytes") or source.get("path")
        if not held:
            raise AudioError(
                f"a dictionary of {', '.join(map(str, source)) or 'nothing'} was given: it needs 'array' and "
                "'sampling_rate', 'bytes' or 'path', as a row of datasets has"
            )
        source = held
    if hasattr(source, "get_all_samples"):  # a decoder of torchcodec, as datasets 4 gives them
        decoded = source.get_all_samples()
        return _mono(decoded.data, decoded.sample_rate)
    if isinstance(source, str | os.PathLike | bytes | Pcm | reading.Selected | reading.Untrusted) or hasattr(
        source, "read"
    ):
        if sampling_rate is not None:
            raise ConfigError(
                f"{reading.name_of(source)}: contains its own sampling rate: leave sampling_rate out"
            )
        return source  # type: ignore[no-any-return]
    return _mono(source, sampling_rate)


def _mono(given: Any, sampling_rate: int | None) -> NDArray[np.float32]:
    """Convert to (T,) float32 at 16 kHz."""
    samples = _floats(given)
    if samples.ndim == 2:
        small, large = sorted(samples.shape)
        if not 1 <= small <= MOST_CHANNELS or small == large > 1:
            raise AudioError(
                f"an array of shape {samples.shape} was given: samples are (time,), or (channels, time) of "
                f"at most {MOST_CHANNELS} channels"
            )
        samples = samples if samples.shape[0] == small else samples.T
        samples = Mixer(Choice(), len(samples)).mix(np.ascontiguousarray(samples))
    if samples.ndim != 1:
        raise AudioError(
            f"an array of shape {samples.shape} was given: samples are (time,) or (channels, time)"
        )
    rate = SAMPLE_RATE if sampling_rate is None else sampling_rate
    if rate not in _RATES:
        raise ConfigError(f"a sampling rate of {rate} Hz is impossible: give that of the samples, in hertz")
    if rate != SAMPLE_RATE and len(samples):
        import soxr

        resampled: NDArray[np.float32] = soxr.resample(samples, rate, SAMPLE_RATE)
        samples = resampled if len(resampled) else samples[:1]
    return samples


def _floats(given: Any) -> NDArray[np.float32]:
    """Convert to floats in -1 ... 1."""
    try:
        array = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given)
    except ValueError as error:  # lists of different lengths
        raise AudioError(f"samples were given that make no array ({error})") from error
    kind, size = array.dtype.kind, array.dtype.itemsize
    if kind == "i" and size == 8 and array.size and np.abs(array).max() <= 32768:  # of lists: 16 bits
        array, size = np.clip(array, -32768, 32767).astype(np.int16), 2
    if kind == "f" or (kind == "i" and size < 8) or array.dtype == np.uint8:
        return pcm.to_float(array)
    raise AudioError(
        f"a {type(given).__name__} of {array.dtype} was given: give a path, bytes, a binary file, or samples "
        "in floating point or integers of at most 32 bits"
    )
