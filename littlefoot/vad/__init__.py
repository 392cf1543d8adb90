"""Voice activity detection: where in a recording somebody speaks.

A detector hears samples and says for each of its frames whether there is speech; ``stretches`` makes of that
the parts of the recording that are worth recognising.
"""

from littlefoot.errors import ConfigError
from littlefoot.vad.detector import Detector

NAMES = ("off", "energy", "silero")


def create(name: str) -> Detector | None:
    """A detector for one recording; None if the name is ``off``.

    Raises:
        ConfigError: the name is unknown.
        MissingExtraError: its package is not installed.
    """
    if name == "off":
        return None
    if name == "energy":
        from littlefoot.vad.energy import EnergyDetector

        return EnergyDetector()
    if name == "silero":
        from littlefoot.vad.silero import SileroDetector

        return SileroDetector()
    raise ConfigError(f"voice activity detection '{name}' is unknown: use one of {', '.join(NAMES)}")
