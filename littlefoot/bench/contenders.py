"""What takes part: models run by littlefoot, and by its peers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Contender:
    """A row to be: which model, run by what. Travels to the worker as JSON."""

    name: str
    kind: str
    """``littlefoot``, or a name of ``littlefoot.bench.peers.PEERS``."""
    source: str
    """The model: a bundled name, a directory or a Hub id."""
    engine: str = "auto"
    precision: str = "auto"
    language: str | None = None


class Subject(Protocol):
    """A loaded model."""

    engine: str
    precision: str
    """Of its products, such as ``f32``."""

    def transcribe(self, waveform: Waveform) -> str:
        """Samples (T,) float32 at 16 kHz -> text."""


class Kind(Protocol):
    """Prepares and loads models of one kind; used inside the worker only."""

    def prepare(self, contender: Contender, folder: Path, samples: int) -> dict[str, Any]:
        """Convert the model, where that is needed, into files of ``folder``, and describe it.

        Returns fields of ``report.Model``, and ``macs``: multiply-accumulates for so many samples
        by precision, where they are known.
        """

    def load(self, contender: Contender, folder: Path, threads: int) -> Subject:
        """What a user waits for when his program starts."""


def kind(name: str) -> Kind:
    """The kind of that name."""
    if name == "littlefoot":
        return Littlefoot()
    from littlefoot.bench import peers

    return peers.PEERS[name].kind


class Littlefoot:
    """Models run by ``littlefoot.load``."""

    def prepare(self, contender: Contender, folder: Path, samples: int) -> dict[str, Any]:
        from littlefoot.artifact import checkpoint
        from littlefoot.artifact.sizes import bytes_by_part
        from littlefoot.bench.macs import macs_by_width

        artifact = checkpoint.load(contender.source, contender.language)
        narrow, wide = macs_by_width(artifact, samples)
        parts = bytes_by_part(artifact)
        return {
            "parameters": artifact.parameters,
            "layers": artifact.config.num_hidden_layers,
            "bytes": sum(parts.values()),
            "bytes_by_part": parts,
            "macs": {"int8": narrow, "rest": wide},
        }

    def load(self, contender: Contender, folder: Path, threads: int) -> LittlefootSubject:
        return LittlefootSubject(contender, threads)


class LittlefootSubject:
    def __init__(self, contender: Contender, threads: int) -> None:
        from littlefoot.runtime import recognizer

        self.recognizer = recognizer.load(
            contender.source, contender.engine, threads, contender.precision, contender.language
        )
        self.engine = self.recognizer.engine.name
        self.precision = getattr(self.recognizer.engine, "precision", "f32")

    def transcribe(self, waveform: Waveform) -> str:
        return self.recognizer.transcribe(waveform).text
