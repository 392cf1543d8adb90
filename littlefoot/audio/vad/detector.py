"""Define the interface of speech detectors."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Detector(Protocol):
    """A detector, which reads one recording and classifies its frames in order."""

    frame: int
    """Samples of a frame."""

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Read any number of samples (T,) at 16 kHz; return decisions about N further frames, with a
        delay.
        """

    def finish(self) -> NDArray[np.bool_]:
        """Return decisions about the rest of the recording, including an incomplete frame."""


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
        # a value between the thresholds counts as the last one that was not
        clear = (values >= on) | (values < off)
        index = np.maximum.accumulate(np.where(clear, np.arange(len(values)), -1))
        speech = np.where(index < 0, self._speech, (values >= on)[index])
        if len(speech):
            self._speech = bool(speech[-1])
        return speech
