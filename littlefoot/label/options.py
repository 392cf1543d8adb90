"""What is labelled of manifests, and which labels are used."""

from __future__ import annotations

from dataclasses import dataclass

from littlefoot.errors import ConfigError


@dataclass(frozen=True)
class LabelOptions:
    """Options of a job. Raises ConfigError for an impossible confidence."""

    split: str | None = None
    """Label rows of this split only."""
    min_confidence: float = 0.0
    """Rows below it are left out of the manifest; 0 to 1. Not part of the job: it may change later."""
    shard_rows: int | None = None
    """Recordings that are written at once; if None ``SHARD_ROWS``, or as the job was begun."""
    retry_failed: bool = False
    """Try those again that failed before."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_confidence <= 1:
            raise ConfigError(f"--min-confidence is {self.min_confidence:g}: it must be from 0 to 1")
