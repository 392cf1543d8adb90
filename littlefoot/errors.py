"""Every error littlefoot raises on purpose.

One tree, so that ``except LittlefootError`` catches all of them and nothing else. A message names
the file or value, states what is wrong with it and what to do.
"""


class LittlefootError(Exception):
    """Base of all errors raised on purpose."""


class AudioError(LittlefootError):
    """Audio that cannot be read or has a wrong type, shape or rate."""


class TextError(LittlefootError):
    """A text to align that cannot be read, or that fits neither the model's alphabet nor the audio."""


class ManifestError(LittlefootError):
    """A manifest that cannot be read, or a row in it that is unusable."""


class ConfigError(LittlefootError):
    """A model, training or quantization setting that is impossible or unsupported."""


class CheckpointError(LittlefootError):
    """A checkpoint that is missing, damaged or of an unsupported kind."""


class ArtifactError(LittlefootError):
    """An artifact directory that is missing, damaged or of an unknown format version."""


class EngineError(LittlefootError):
    """An inference engine that is missing or refused the model."""


class TrainingError(LittlefootError):
    """Training that cannot start or cannot continue."""


class MissingExtraError(LittlefootError):
    """A feature whose optional dependency is not installed."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs the package '{package}': install it with: pip install 'littlefoot[{extra}]'"
        )
