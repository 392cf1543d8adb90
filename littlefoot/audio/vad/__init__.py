"""Detect speech in recordings (voice activity detection).

A detector reads samples and decides for each of its frames whether it is speech. ``speech_segments`` turns
these decisions into speech segments.
"""

from littlefoot.audio.vad.detector import Detector
from littlefoot.errors import ConfigError

NAMES = ("off", "energy", "silero")


def create(name: str) -> Detector | None:
    """Create a detector for one recording; None if the name is ``off``.

    Raises:
        ConfigError: the name is unknown.
        MissingExtraError: its package is not installed.
    """
    if name == "off":
        return None
    if name == "energy":
        from littlefoot.audio.vad.energy import EnergyDetector

        return EnergyDetector()
    if name == "silero":
        from littlefoot.audio.vad.silero import SileroDetector

        return SileroDetector()
    raise ConfigError(f"voice activity detection '{name}' is unknown: use one of {', '.join(NAMES)}")
