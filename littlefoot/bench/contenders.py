"""What takes part in a comparison: a model, and what runs it."""

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
