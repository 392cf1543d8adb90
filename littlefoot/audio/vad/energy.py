"""Detect speech by its energy relative to the noise, at any level.

The noise floor is a low percentile of the energy within some seconds before and after, so that it follows
changes such as a fan that is switched on. In speech the gaps between words determine it, as in the minimum
statistics of Martin, "Noise power spectral density estimation based on optimal smoothing and minimum
statistics", IEEE Transactions on Speech and Audio Processing 9(5), 2001. Music, laughter and slamming doors
pass as speech.
"""

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio import SAMPLE_RATE
from littlefoot.audio.vad.detector import Hysteresis

FRAME = 320
"""Samples of a frame, 20 ms."""
WINDOW_SECONDS = 10.0
"""Window of the noise floor, half of it before and half after a frame."""
PERCENTILE = 15
ON_DB, OFF_DB = 9.0, 6.0
"""Thresholds above the noise floor."""
LEAST_FLOOR_DB = -85.0
"""Lowest noise floor relative to full scale, for digital silence."""
BAND_HERTZ = 200, 4000
"""Frequencies of the energy: speech has most of its energy there; hum, rumble and hiss have less."""

_STEP = 25  # frames that share a noise floor
_HALF = round(WINDOW_SECONDS * SAMPLE_RATE / FRAME / 2)  # frames
_BINS = slice(*(hertz * FRAME // SAMPLE_RATE for hertz in BAND_HERTZ))
_WINDOW = np.hanning(FRAME).astype(np.float32)
_SCALE = 2 / (FRAME * float(np.square(_WINDOW).sum()))  # from squared Fourier coefficients to mean power


class EnergyDetector:
    """A detector by energy, with a delay of WINDOW_SECONDS / 2 (``littlefoot.audio.vad.detector``)."""

    frame = FRAME

    def __init__(self) -> None:
        self._left = np.zeros(0, np.float32)  # samples of an incomplete frame
        self._energies = np.zeros(0)  # (N,) dB
        self._decided = 0  # of the energies
        self._hysteresis = Hysteresis()

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        samples = np.concatenate([self._left, samples])
        whole = len(samples) - len(samples) % FRAME
        self._left = samples[whole:]
        self._hear(samples[:whole])
        return self._decide(len(self._energies) - _HALF)

    def finish(self) -> NDArray[np.bool_]:
        if len(self._left):
            self._hear(np.pad(self._left, (0, FRAME - len(self._left)), mode="edge"))
        self._left = np.zeros(0, np.float32)
        return self._decide(len(self._energies))

    def _hear(self, samples: NDArray[np.float32]) -> None:
        if not len(samples):
            return
        spectra = np.fft.rfft(samples.reshape(-1, FRAME) * _WINDOW)[:, _BINS]
        power = _SCALE * np.square(np.abs(spectra)).sum(axis=1)
        decibels = 10 * np.log10(np.maximum(power, 10 ** (LEAST_FLOOR_DB / 10)))
        self._energies = np.concatenate([self._energies, decibels])

    def _decide(self, end: int) -> NDArray[np.bool_]:
        decisions = [np.zeros(0, np.bool_)]
        final = end == len(self._energies)
        while self._decided < end and (final or self._decided + _STEP <= end):
            begin, until = self._decided, min(self._decided + _STEP, end)
            around = self._energies[max(0, begin - _HALF) : until + _HALF]
            floor = float(np.percentile(around, PERCENTILE))
            decisions.append(self._hysteresis(self._energies[begin:until], floor + ON_DB, floor + OFF_DB))
            self._decided = until
        keep = max(0, self._decided - _HALF)
        self._energies, self._decided = self._energies[keep:], self._decided - keep
        return np.concatenate(decisions)
