"""Define the limits of a server."""

from __future__ import annotations

from dataclasses import dataclass, fields

from littlefoot.errors import ConfigError

LEAST = 1e-3
"""Smallest value of every limit but ``queue``."""


@dataclass(frozen=True)
class Limits:
    """Limits of a server. All are above 0 except ``queue``, which may be 0, or None where they may be."""

    body_bytes: int = 200_000_000
    """Bytes of a request, counted while it arrives."""
    audio_seconds: float = 4 * 3600
    """Seconds of a recording or a live stream; for a live stream also by the clock."""
    parallel: int = 2
    """Recordings that are recognised at once."""
    queue: int = 64
    """Recordings that wait in addition; more are refused with 429."""
    streams: int = 32
    """Live streams that are open at once."""
    connections: int = 1000
    """Open connections; beyond these the one that has been idle longest is closed."""
    idle_seconds: float = 30.0
    """Seconds in which a client may neither continue what it is sending nor read what it is sent."""
    total_seconds: float = 600.0
    """Seconds from a request to the end of its response."""
    grace_seconds: float = 30.0
    """Seconds that running work may take to end when the server stops."""

    idle_minutes: float | None = None
    """Minutes after which an unused model is unloaded; None: it stays."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not value >= (0 if field.name == "queue" else LEAST):
                raise ConfigError(f"the limit {field.name} cannot be {value}: give a larger number")
