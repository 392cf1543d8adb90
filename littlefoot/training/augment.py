"""Changes to training audio that leave its words as they are, and SpecAugment-style masks."""

from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import numpy.typing as npt

from littlefoot.audio import SAMPLE_RATE, folders, formats, reading
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.training.train_config import TrainConfig

Waveform = npt.NDArray[np.float32]

CODECS = (("WAV", "ULAW"), ("WAV", "GSM610"), ("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III"))
"""Container and codec, as libsndfile calls them."""


MAX_NOISE_START = 120.0
"""Excerpts of noise begin within its first seconds, up to here: earlier samples are decoded but not used."""


MAX_KEPT_SECONDS = 4000.0
"""Seconds of noise and rooms that stay in memory with ``cache_audio``, in each loader: 256 MB."""


class Augmenter:
    """Applies what ``TrainConfig`` asks for, each change with its own probability.

    Files of noise or room responses that cannot be read are left out and noted in ``unreadable``.
    """

    def __init__(self, train: TrainConfig) -> None:
        """Raises ConfigError for a folder without recordings."""
        self.train = train
        self.noises = _recordings(train.noise_folder, "noise_folder")
        self.rooms = _recordings(train.room_folder, "room_folder")
        self.unreadable: dict[str, str] = {}
        self._seen: dict[Path, tuple[float, Waveform | None]] = {}
        self._kept = 0.0

    def __call__(self, waveform: Waveform, speed: float, rng: np.random.Generator) -> Waveform:
        """(T,) -> about (T / speed,)."""
        train = self.train
        waveform = change_speed(waveform, speed)
        if rng.random() < train.room_probability:
            response = self._excerpt(self.rooms[rng.integers(len(self.rooms))], 2.0, 0.0)
            waveform = waveform if response is None else reverberate(waveform, response)
        waveform = change_gain(waveform, train.gain_db, rng)
        if rng.random() < train.noise_probability:
            noise = self._noise(len(waveform), rng)
            waveform = (
                waveform if noise is None else add_noise(waveform, noise, rng.uniform(*train.noise_snr_db))
            )
        if rng.random() < train.telephone_probability:
            waveform = telephone(waveform)
        if rng.random() < train.codec_probability:
            waveform = through_codec(waveform, *CODECS[rng.integers(len(CODECS))])
        return waveform

    def _noise(self, samples: int, rng: np.random.Generator) -> Waveform | None:
        if not self.noises:
            return rng.standard_normal(samples, dtype=np.float32)
        path, start = self.noises[rng.integers(len(self.noises))], rng.random()
        return self._excerpt(path, samples / SAMPLE_RATE, start)

    def _excerpt(self, path: Path, seconds: float, start: float) -> Waveform | None:
        """``seconds`` of a recording, from the place ``start`` in 0 ... 1 on; less if it is shorter."""
        try:
            duration, samples = self._recording(path)
            first = int(start * int(min(duration, MAX_NOISE_START) / seconds))
            if samples is None:
                return next(itertools.islice(reading.blocks(path, seconds), first, None))
            size = round(seconds * SAMPLE_RATE)
            return samples[first * size : (first + 1) * size]
        except LittlefootError as error:
            self.unreadable[str(path)] = str(error)
            return None

    def _recording(self, path: Path) -> tuple[float, Waveform | None]:
        """Return a recording's length in seconds, and its samples (T,) if they are kept in memory."""
        if path not in self._seen:
            duration = reading.duration(path)
            keep = self.train.cache_audio and self._kept + duration <= MAX_KEPT_SECONDS
            self._seen[path] = duration, reading.read(path) if keep else None
            self._kept += duration if keep else 0.0
        return self._seen[path]


def _recordings(folder: str | None, setting: str) -> list[Path]:
    if folder is None:
        return []
    found = sorted(folders.recordings(Path(folder)))
    if not found:
        raise ConfigError(f"train.{setting}: {folder} holds no recordings ({', '.join(formats.SUFFIXES)})")
    return found


def change_speed(waveform: Waveform, factor: float) -> Waveform:
    """Play ``factor`` times as fast, pitch included (Ko et al. 2015): (T,) -> about (T / factor,)."""
    if factor == 1.0:
        return waveform
    import soxr

    return np.asarray(soxr.resample(waveform, SAMPLE_RATE * factor, SAMPLE_RATE, quality="LQ"), np.float32)


def change_gain(waveform: Waveform, limit_db: float, rng: np.random.Generator) -> Waveform:
    """Change the level by a random amount of at most ``limit_db`` up or down."""
    return waveform * np.float32(10 ** (rng.uniform(-limit_db, limit_db) / 20))


def add_noise(waveform: Waveform, noise: Waveform, snr_db: float) -> Waveform:
    """Add noise (N,), repeated where it is short, at a signal-to-noise ratio: (T,) -> (T,)."""
    noise = np.resize(noise, len(waveform))
    power = float(np.mean(np.square(noise)))
    if power == 0.0:
        return waveform
    level = np.sqrt(np.mean(np.square(waveform)) / power) * 10 ** (-snr_db / 20)
    return waveform + noise * np.float32(level)


def reverberate(waveform: Waveform, response: Waveform) -> Waveform:
    """Play in a room of the impulse response (R,): (T,) -> (T,), of the same power.

    The response is taken from its loudest sample on, the direct sound, so that nothing is delayed.
    """
    response = response[np.abs(response).argmax() :]
    size = quick_size(len(waveform) + len(response) - 1)
    spectrum = np.fft.rfft(waveform, size) * np.fft.rfft(response, size)
    heard = np.fft.irfft(spectrum, size)[: len(waveform)]
    power = np.mean(np.square(heard))
    gain = np.sqrt(np.mean(np.square(waveform)) / power) if power > 0 else 0.0
    return np.asarray(heard * gain, np.float32)


def quick_size(samples: int) -> int:
    """Return the length to pad to for a Fourier transform: at most an eighth more, with small prime factors.

    A transform of a length with a large prime factor takes ten times as long.
    """
    unit = 1 << max(0, samples.bit_length() - 4)
    return -(-samples // unit) * unit


def telephone(waveform: Waveform) -> Waveform:
    """Leave the band of a telephone, 300 to 3400 Hz: (T,) -> (T,)."""
    spectrum = np.fft.rfft(waveform)
    frequency = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    spectrum[(frequency < 300) | (frequency > 3400)] = 0
    return np.fft.irfft(spectrum, len(waveform)).astype(np.float32)


def through_codec(waveform: Waveform, container: str, codec: str) -> Waveform:
    """Encode and decode (one of ``CODECS``): (T,) -> (T,). Louder than full scale is scaled down for it."""
    import soundfile

    scale = np.float32(max(1.0, float(np.abs(waveform).max(initial=0.0))))
    file = io.BytesIO()
    soundfile.write(file, waveform / scale, SAMPLE_RATE, subtype=codec, format=container)
    file.seek(0)
    decoded, _ = soundfile.read(file, dtype="float32")
    return np.pad(decoded, (0, max(0, len(waveform) - len(decoded))))[: len(waveform)] * scale


def mask_spans(size: int, fraction: float, length: int, rng: np.random.Generator) -> npt.NDArray[np.bool_]:
    """Draw a mask (size,) of which ``fraction`` is True on average, in spans of ``length`` without overlap.

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
