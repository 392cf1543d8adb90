"""Compute the fixed filters of a log-mel spectrogram: a windowed Fourier transform, and bands on the mel
scale.

A band's value is the logarithm of a power. The windowed sinusoids and bands are scaled so that white noise of
unit variance has an expected power of 1 in every band, for any window. A frame depends on the samples of its
own window only.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from littlefoot.errors import ConfigError

FLOOR = 1e-6
"""Summand of each power: 60 dB below white noise at the level of a normalised recording."""
MEAN, DEVIATION = -6.0, 5.0
"""Approximate mean and deviation of the logarithms, over seven corpora of normalised speech (-6.4 and 4.9
with 80 bands of 25 ms)."""


@cache
def sinusoids(window: int) -> npt.NDArray[np.float32]:
    """Return cosines, then sines, under a periodic Hann window: (2 N, 1, window).

    Their frequencies are the N = (window - 1) // 2 of the discrete Fourier transform between zero and half of
    the sample rate, where the bands of ``bands`` end.
    """
    time = np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / window)
    phase = 2 * np.pi * np.outer(np.arange(1, (window + 1) // 2), time) / window  # (N, window)
    filters = np.concatenate([np.cos(phase), np.sin(phase)]) * hann / np.sqrt(np.square(hann).sum())
    kernel: npt.NDArray[np.float32] = filters[:, None].astype(np.float32)
    return kernel


@cache
def bands(count: int, window: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Return the filters for the mean power in triangular bands of squared ``sinusoids``: (count, 2 N, 1).

    The corners of the triangles lie at equal distances on Slaney's mel scale, from zero to half of the sample
    rate; each sums to 1. Raises ConfigError if a band lies between two frequencies of the transform.
    """
    frequencies = np.arange(1, (window + 1) // 2) * sample_rate / window  # (N,)
    low, middle, high = (
        _hertz(np.linspace(0, _mel(sample_rate / 2), count + 2))[start : start + count, None]
        for start in range(3)
    )  # (count, 1) each
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    weights = np.maximum(np.minimum(rising, falling), 0)  # (count, N)
    total = weights.sum(axis=1, keepdims=True)
    if not total.all():
        raise ConfigError(
            f"a log-mel spectrogram of {count} bands needs a longer window than {window} samples: "
            f"band {int(total.argmin())} is empty"
        )
    weights /= total
    return np.concatenate([weights, weights], axis=1)[:, :, None].astype(np.float32)


WHISPER_FLOOR, WHISPER_RANGE = 1e-10, 8.0
"""Least power of Whisper's spectrogram, and its range below the loudest value in powers of ten."""

KALDI_WINDOW, KALDI_FOURIER = 400, 512
"""Samples of the windows of ``kaldi_waves``, and of the Fourier transform that they are padded to."""
KALDI_FLOOR = float(np.finfo(np.float32).eps)


@cache
def kaldi_waves() -> npt.NDArray[np.float32]:
    """Return cosines, then sines, that compute Kaldi's spectrum of a waveform in -1 ... 1: (2 N, 1, 400).

    Kaldi (Povey et al. 2011) reads 16-bit numbers, subtracts the mean of each window, emphasises high
    frequencies by x[t] - 0.97 x[t - 1], and multiplies by a Hann window to the power 0.85. All of this is
    linear in the samples. The N frequencies lie between zero and half of the sample rate.
    """
    time = np.arange(KALDI_WINDOW)
    phase = 2 * np.pi * np.outer(np.arange(1, KALDI_FOURIER // 2), time) / KALDI_FOURIER  # (N, 400)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / (KALDI_WINDOW - 1))
    filters = np.concatenate([np.cos(phase), np.sin(phase)]) * hann**0.85
    emphasised = filters.copy()
    emphasised[:, :-1] -= 0.97 * filters[:, 1:]
    emphasised[:, 0] -= 0.97 * filters[:, 0]  # the first sample has itself before it
    emphasised -= emphasised.mean(axis=1, keepdims=True)
    return (emphasised[:, None] * 2.0**15).astype(np.float32)


@cache
def kaldi_bands(count: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Return Kaldi's bands over squared ``kaldi_waves``: (count, 2 N, 1).

    They are triangles over its mel scale, from 20 Hz to half of the sample rate.
    """
    frequencies = np.arange(1, KALDI_FOURIER // 2) * sample_rate / KALDI_FOURIER
    places = 1127 * np.log(1 + frequencies / 700)  # (N,)
    first, last = (1127 * np.log(1 + hertz / 700) for hertz in (20.0, sample_rate / 2))
    corners = np.linspace(first, last, count + 2)[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    weights = np.maximum(np.minimum((places - low) / (middle - low), (high - places) / (high - middle)), 0)
    return np.concatenate([weights, weights], axis=1)[:, :, None].astype(np.float32)


NEMO_FOURIER = 512
"""Samples of the Fourier transform that the windows of ``nemo_waves`` are padded to."""
NEMO_FLOOR = 2.0**-24
"""Summand of each power of NeMo's spectrogram."""
NEMO_EMPHASIS = np.array([[[-0.97, 1.0]]], np.float32)
"""Kernel that emphasises high frequencies, (1, 1, 2): each sample less 0.97 of the one before it."""


@cache
def nemo_waves(window: int) -> npt.NDArray[np.float32]:
    """Return cosines, then sines, under a symmetric Hann window: (2 N, 1, window).

    Their frequencies are the N = 255 of NeMo's Fourier transform between zero and half of the sample rate,
    where its bands have no weight.
    """
    time = np.arange(window)
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * time / (window - 1))
    phase = 2 * np.pi * np.outer(np.arange(1, NEMO_FOURIER // 2), time) / NEMO_FOURIER  # (N, window)
    filters = np.concatenate([np.cos(phase), np.sin(phase)]) * hann
    kernel: npt.NDArray[np.float32] = filters[:, None].astype(np.float32)
    return kernel


@cache
def nemo_bands(count: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Return NeMo's bands over squared ``nemo_waves``, which are Whisper's ``triangles``: (count, 2 N, 1)."""
    weights = triangles(count, NEMO_FOURIER, sample_rate)[:, 1 : NEMO_FOURIER // 2]
    return np.concatenate([weights, weights], axis=1)[:, :, None]


@cache
def beside(count: int, frames: int) -> npt.NDArray[np.float32]:
    """Return the kernel that puts frames of ``count`` channels beside each other: (frames * count, count,
    frames).
    """
    kernel = np.zeros((frames, count, count, frames), np.float32)
    for frame in range(frames):
        kernel[frame, :, :, frame] = np.eye(count)
    return kernel.reshape(frames * count, count, frames)


@cache
def whisper_bands(count: int, window: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Return Whisper's bands over squared ``sinusoids``: (count, 2 N, 1).

    Zero and half of the sample rate, which ``sinusoids`` lacks, have no weight in any band. Whisper's Fourier
    transform is not scaled by its window.
    """
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    weights = triangles(count, window, sample_rate)[:, 1 : (window + 1) // 2] * np.square(hann).sum()
    return np.concatenate([weights, weights], axis=1)[:, :, None].astype(np.float32)


@cache
def triangles(count: int, window: int, sample_rate: int) -> npt.NDArray[np.float32]:
    """Return Whisper's bands over the powers of all frequencies from zero: (count, window // 2 + 1).

    The corners are those of ``bands``; each triangle has area 1 over its hertz (librosa's and Slaney's norm).
    """
    frequencies = np.arange(window // 2 + 1) * sample_rate / window
    corners = _hertz(np.linspace(0, _mel(sample_rate / 2), count + 2))[:, None]
    low, middle, high = corners[:-2], corners[1:-1], corners[2:]
    rising, falling = (frequencies - low) / (middle - low), (high - frequencies) / (high - middle)
    weights = np.maximum(np.minimum(rising, falling), 0) * 2 / (high - low)
    return weights.astype(np.float32)


# Slaney 1998, Auditory Toolbox (Interval Research Technical Report 1998-010): linear up to 1000 Hz, 15 mel,
# logarithmic above, 27 mel for a factor of 6.4; the scale of librosa and Whisper. HTK's is finer at the low
# end, where some of 80 bands would read one and the same frequency of a window of 25 ms.
_LINEAR = 200 / 3
_CORNER = 1000.0
_STEP = np.log(6.4) / 27


def _mel(hertz: float) -> float:
    if hertz < _CORNER:
        return hertz / _LINEAR
    return float(_CORNER / _LINEAR + np.log(hertz / _CORNER) / _STEP)


def _hertz(mel: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    corner = _CORNER / _LINEAR
    return np.where(mel < corner, mel * _LINEAR, _CORNER * np.exp((mel - corner) * _STEP))
