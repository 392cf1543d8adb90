"""What one server takes on."""

from __future__ import annotations

from dataclasses import dataclass, fields

from littlefoot.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """All are above 0, but for ``queue``."""

    body_bytes: int = 200_000_000
    """Of a request, counted while it arrives."""
    audio_seconds: float = 4 * 3600
    """Of a recording or a live stream; of a live stream by the clock too."""
    parallel: int = 2
    """Recordings that are recognised at once."""
    queue: int = 64
    """Recordings that wait besides; more are refused with 429."""
    streams: int = 32
    """Live streams that are open at once."""
    connections: int = 1000
    """Beyond these the connection that has been idle for longest is closed."""
    idle_seconds: float = 30.0
    """How long the other side may neither send what it owes nor take what it gets."""
    total_seconds: float = 600.0
    """From a request to the end of its response."""
    grace_seconds: float = 30.0
    """How long what runs may take to end when the server stops."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value >= (0 if field.name == "queue" else 1e-3):
                raise ConfigError(f"the limit {field.name} cannot be {value}: give a larger number")
