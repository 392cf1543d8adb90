"""Define the options that a recogniser is loaded with. They can be pickled and sent to a process."""

from __future__ import annotations

from dataclasses import dataclass

from littlefoot.errors import ConfigError


@dataclass(frozen=True)
class LoadOptions:
    """Options of ``littlefoot.load``, which describes them. Raises ConfigError for impossible counts."""

    engine: str = "auto"
    threads: int | None = None
    precision: str = "auto"
    language: str | None = None
    layers: int | None = None
    bits: int | None = None
    parallel: int = 1
    kernels: str | None = None
    device: str = "cpu"
    measure: bool = False
    """True measures the engines before ``auto`` chooses, unless that was done (``runtime.measuring``). This
    pays for long work, such as that of a server."""

    def __post_init__(self) -> None:
        for setting, count in (("threads", self.threads), ("parallel", self.parallel)):
            if count is not None and count < 1:
                raise ConfigError(f"{setting} must be at least 1, not {count}: leave it out for the default")


@dataclass(frozen=True)
class Specification:
    """A model and the options that it is loaded with."""

    model: str
    """A bundled name, the directory of an artifact or checkpoint, or a Hub id."""
    options: LoadOptions = LoadOptions()
