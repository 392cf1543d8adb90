"""Options of a labelling job."""

from __future__ import annotations

from dataclasses import dataclass

from littlefoot.errors import ConfigError


@dataclass(frozen=True)
class LabelOptions:
    """Options of a job. Raises ConfigError for an impossible confidence."""

    split: str | None = None
    """Label rows of this split only."""
    min_confidence: float = 0.0
    """Leave rows with a lower confidence (0 to 1) out of the manifest. You may change this when you
    resume."""
    shard_rows: int | None = None
    """Recordings that are saved together. The default is ``SHARD_ROWS``, or the number that the job was begun
    with."""
    retry_failed: bool = False
    """Try the recordings again that failed before."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"--min-confidence is {self.min_confidence:g}: it must be from 0 to 1")
