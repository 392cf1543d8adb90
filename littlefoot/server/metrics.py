"""Count and time the work of a server for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class Metrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(
        self, running: Callable[[], int], waiting: Callable[[], int], streams: Callable[[], int]
    ) -> None:
        """
        Args:
            running: returns the number of recordings in work.
            waiting: returns the number in the queue.
            streams: returns the number of open live streams.
        """
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        own: Any = {"registry": self._registry}
        self.requests = Counter(
            "littlefoot_requests", "Responses by route and status", ["route", "status"], **own
        )
        told = "From a request to the end of its response"
        self.seconds = Histogram("littlefoot_request_seconds", told, ["route"], buckets=_SECONDS, **own)
        kinds = ["model", "kind"]
        told = "Audio recognised, by model and kind (file, live)"
        self._audio = Counter("littlefoot_audio_seconds", told, kinds, **own)
        told = "Time that recognising took, by model and kind (file, live)"
        self._computing = Counter("littlefoot_compute_seconds", told, kinds, **own)
        for name, help_text, value in (
            ("jobs_running", "Recordings that are recognised now", running),
            ("jobs_waiting", "Recordings in the queue", waiting),
            ("streams", "Live streams that are open", streams),
        ):
            Gauge(f"littlefoot_{name}", help_text, registry=self._registry).set_function(value)

    def recognised(self, model: str, kind: str, audio: float, computing: float) -> None:
        """Count seconds of audio that were recognised, and seconds that this took."""
        self._audio.labels(model, kind).inc(audio)
        self._computing.labels(model, kind).inc(computing)

    def text(self) -> bytes:
        """Return the figures in Prometheus's text format."""
        return generate_latest(self._registry)
