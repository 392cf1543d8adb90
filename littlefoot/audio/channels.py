"""Turn several channels into one: by default their average, unless they cancel each other out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from littlefoot.errors import AudioError, ConfigError

SIDES = ("left", "right")
_CANCELLED = 0.1
"""Power of the average below which channels cancel out, relative to that of uncorrelated channels."""
_HEARD_AGAIN = 0.3
_SILENT = 1e-9
"""Mean power below which a track is silent: 16-bit samples of 0 or nearly 0."""


@dataclass(frozen=True)
class Choice:
    """The selected channel and track of a recording."""

    channel: str = "auto"
    """Channel: ``auto``, the average, or the louder one if they cancel each other out; ``left``, ``right``,
    or a number, from 1."""
    track: int | None = None
    """Track of a file with several, from 1; None: the marked one or the first, unless it is silent."""

    def __post_init__(self) -> None:
        number = int(self.channel) if self.channel.isdecimal() else 0
        if self.channel not in ("auto", *SIDES) and number < 1:
            raise ConfigError(
                f"channel '{self.channel}' is unknown: use auto, left, right, or a number from 1"
            )
        if self.track is not None and self.track < 1:
            raise ConfigError(f"track {self.track} is impossible: the first one is 1")


class Mixer:
    """Converter of several channels into one, chunk by chunk."""

    def __init__(self, choice: Choice, channels: int) -> None:
        """Raise AudioError, whose message does not name the file, if the chosen channel is missing."""
        self.warnings: list[str] = []
        self._power = np.zeros(channels)  # sums of squares of each channel so far
        self._of_average = 0.0
        self._samples = 0
        self._cancelled = False
        self._fixed: int | None = None
        if choice.channel != "auto":
            sides = {side: place for place, side in enumerate(SIDES)}
            self._fixed = sides.get(choice.channel, -1)
            if self._fixed < 0:
                self._fixed = int(choice.channel) - 1
            if channels < 2 or self._fixed >= channels:
                raise AudioError(
                    f"has {channels} channel{'s' if channels > 1 else ''}, so there is no channel"
                    f" '{choice.channel}' to take: leave the choice out"
                )

    def mix(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mix channels (C, T) into one (T,)."""
        if len(samples) == 1:
            only: NDArray[np.float32] = samples[0]
            return only
        if self._fixed is not None:
            chosen: NDArray[np.float32] = samples[self._fixed]
            return chosen
        average: NDArray[np.float32] = samples.mean(axis=0, dtype=np.float32)
        self._power += np.square(samples, dtype=np.float64).sum(axis=1)
        self._of_average += float(np.square(average, dtype=np.float64).sum())
        self._samples += samples.shape[1]
        expected = self._power.mean() / len(samples)
        if self._power.max() > _SILENT * self._samples:
            limit = _HEARD_AGAIN if self._cancelled else _CANCELLED
            self._cancelled = self._of_average < limit * expected
        if not self._cancelled:
            return average
        louder = int(self._power.argmax())
        if not self.warnings:
            self.warnings.append(
                "its channels cancel each other out (they are out of phase): channel "
                f"{louder + 1}, the louder one, is taken; --channel chooses another"
            )
        loud: NDArray[np.float32] = samples[louder]
        return loud
