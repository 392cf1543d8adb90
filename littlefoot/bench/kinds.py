"""Find the kinds of rows by name: littlefoot's own models, and baselines of other libraries.

Modules are imported on use, so that a worker loads only the modules that its model needs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from littlefoot.bench.entries import Entry, Kind, Waveform


def kind(name: str) -> Kind:
    """Return the kind of this name."""
    if name == "littlefoot":
        return Littlefoot()
    from littlefoot.bench import baselines

    return baselines.BASELINES[name].kind


class Littlefoot:
    """Models that ``littlefoot.load`` runs."""

    def prepare(self, entry: Entry, folder: Path, samples: int) -> dict[str, Any]:
        from littlefoot.artifact import checkpoint, sizes
        from littlefoot.bench.macs import macs_by_width

        artifact, path = checkpoint.load_from(entry.source, entry.language)
        narrow, wide = macs_by_width(artifact, samples)
        return {
            "parameters": artifact.parameters,
            "layers": artifact.config.num_hidden_layers,
            "bytes": sizes.disk_bytes(path),
            "bytes_by_part": sizes.bytes_by_part(artifact),
            "macs": {"int8": narrow, "rest": wide},
        }

    def load(self, entry: Entry, folder: Path, threads: int) -> LittlefootSubject:
        return LittlefootSubject(entry, threads)


class LittlefootSubject:
    def __init__(self, entry: Entry, threads: int) -> None:
        from littlefoot.runtime import recognizer

        self.recognizer = recognizer.load(
            entry.source, entry.engine, threads, entry.precision, entry.language
        )
        self.engine = self.recognizer.engine.name
        self.precision = self.recognizer.engine.precision
        self.kernels = self.recognizer.engine.kernels

    def transcribe(self, waveform: Waveform) -> str:
        return self.recognizer.transcribe(waveform).text
