"""Define the interfaces of an engine: a loaded model, a loaded streaming model, and a backend."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.errors import EngineError

Array = npt.NDArray[np.float32]

Part = Literal["whole", "padded", "features", "embedding", "chunk"]
"""Part of a network that an engine runs: the whole network, the whole network for padded recordings, the
front end, the layers between the front end and the first Transformer block, or the network for a stream's
chunk."""


class Engine(Protocol):
    """A loaded model. Threads may share it."""

    name: str
    kernels: str = "none"
    """The native kernels that run the Transformer, or ``none``."""
    precision: str = "f32"
    """Precision of the layers that are not quantized."""

    def run(self, waveform: Array) -> Array:
        """Compute logits (F, V) float32 from a prepared waveform (T,) float32.

        An engine of another ``Part`` takes and returns the input and output of that part.
        """


class StreamEngine(Protocol):
    """A loaded streaming model. It has no state, so any number of streams and threads may share it."""

    def step(self, inputs: dict[str, Any]) -> list[Array]:
        """Run one chunk: inputs by name and outputs in order, as in
        ``littlefoot.runtime.graph.build_stream``.
        """


@dataclass(frozen=True)
class EngineSettings:
    """Settings of an engine."""

    threads: int
    """Processor threads, at least 1."""
    precision: str = "auto"
    """Precision of the layers that are not quantized; one of the ``precisions`` of the backend."""
    cached: bool = True
    """True stores the compiled model on disk, if the engine compiles."""
    parallel: int = 1
    """Runs that are computed at the same time; they share the threads."""
    device: str = "cpu"
    """One of the ``devices`` of the backend."""


class Backend:
    """Base class of the engines in ``littlefoot.runtime.registry``. Each subclass has its own module."""

    name: str
    package: str
    """The Python package that the engine needs."""
    precisions: tuple[str, ...] = ("auto", "f32")
    devices: tuple[str, ...] = ("cpu",)

    def installed(self) -> bool:
        """Return True if the package is installed."""
        return find_spec(self.package) is not None

    def rank(self, artifact: Artifact) -> int:
        """Return the rank for an artifact; ``auto`` chooses the installed engine of the highest rank."""
        return 0

    def create(self, artifact: Artifact, settings: EngineSettings, part: Part = "whole") -> Engine:
        """Load a part of a model. Raises EngineError if the package is missing or refuses the model."""
        raise NotImplementedError

    def create_stream(self, artifact: Artifact, settings: EngineSettings) -> StreamEngine:
        """Load a streaming model, which runs chunk by chunk.

        Raises EngineError as ``create`` does, and always in an engine that does not run streams.
        """
        raise EngineError(f"the engine {self.name} does not run streams: use another one")
