"""Changes to training audio that leave its words as they are, and SpecAugment-style masks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]

SAMPLE_RATE = 16_000


def change_speed(waveform: Waveform, factor: float) -> Waveform:
    """Play ``factor`` times as fast, pitch included (Ko et al. 2015): (T,) -> about (T / factor,)."""
    if factor == 1.0:
        return waveform
    import soxr

    return np.asarray(soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE, quality="LQ"), np.float32)


def change_gain(waveform: Waveform, limit_db: float, rng: np.random.Generator) -> Waveform:
    """Change the level by a random amount of at most ``limit_db`` up or down."""
    return waveform * np.float32(10 ** (rng.uniform(-limit_db, limit_db) / 20))


def add_noise(waveform: Waveform, snr_db: tuple[float, float], rng: np.random.Generator) -> Waveform:
    """Add white noise at a signal-to-noise ratio drawn from the range ``snr_db``."""
    level = np.sqrt(np.mean(np.square(waveform))) * 10 ** (-rng.uniform(*snr_db) / 20)
    noise = rng.standard_normal(len(waveform), dtype=np.float32)
    return waveform + noise * np.float32(level)


def mask_spans(size: int, fraction: float, length: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """A mask (size,) of which ``fraction`` is True on average, in spans of ``length`` that do not overlap.

    The number of spans is rounded up or down at random. Spans are placed uniformly: drawing their starts
    from a line shortened by what the spans themselves take up keeps them apart.
    """
    mask = np.zeros(size, dtype=np.bool_)
    length = min(length, size)
    if fraction == 0 or size == 0:
        return mask
    count = min(int(fraction * size / length + rng.random()), size // length)
    starts = np.sort(rng.choice(size - count * (length - 1), count, replace=False))
    starts += np.arange(count) * (length - 1)
    mask[starts[:, None] + np.arange(length)] = True
    return mask
