"""Define the rows of a comparison: a model, and the library that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Waveform = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Entry:
    """A model and the library that runs it. The worker receives it as JSON."""

    name: str
    kind: str
    """``littlefoot``, or a name of ``littlefoot.bench.baselines.BASELINES``."""
    source: str
    """Source of the model: a bundled name, a directory or a Hub id."""
    engine: str = "auto"
    precision: str = "auto"
    language: str | None = None


class Subject(Protocol):
    """A loaded model."""

    engine: str
    precision: str
    """Precision of the products, such as ``f32``."""

    def transcribe(self, waveform: Waveform) -> str:
        """Transcribe samples (T,) float32 at 16 kHz."""


class Kind(Protocol):
    """A kind of models, which prepares and loads them; used inside the worker only."""

    def prepare(self, entry: Entry, folder: Path, samples: int) -> dict[str, Any]:
        """Convert the model into files of ``folder`` if needed, and describe it.

        Returns fields of ``report.Model``, and ``macs``: multiply-accumulates for a number of samples, by
        precision, if they are known.
        """

    def load(self, entry: Entry, folder: Path, threads: int) -> Subject:
        """Load the model, as a program does when it starts."""
