"""What every detector of speech is."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Detector(Protocol):
    """Hears one recording and decides about each frame of it, in order."""

    frame: int
    """Samples that a decision is about."""

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Hear samples (T,) at 16 kHz, any number; decide about (N,) further frames, later ones as well."""

    def finish(self) -> NDArray[np.bool_]:
        """The recording is over: decide about the rest, with an incomplete frame if there is one."""


class Hysteresis:
    """Speech begins when a value reaches ``on``, and ends when it falls below ``off``."""

    def __init__(self) -> None:
        self._speech = False

    def __call__(
        self,
        values: NDArray[np.floating],
        on: NDArray[np.floating] | float,
        off: NDArray[np.floating] | float,
    ) -> NDArray[np.bool_]:
        """Values (N,), thresholds (N,) or one for all -> whether there is speech (N,)."""
        # What lies between the thresholds is as the last value that did not.
        clear = (values >= on) | (values < off)
        index = np.maximum.accumulate(np.where(clear, np.arange(len(values)), -1))
        speech = np.where(index < 0, self._speech, (values >= on)[index])
        if len(speech):
            self._speech = bool(speech[-1])
        return speech
