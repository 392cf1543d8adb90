"""The interfaces of an engine: a loaded model, a loaded streaming model, and what the registry lists."""

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
"""What of a network an engine runs: all of it, all of it for padded recordings, the front end, the layers
between the front end and the first Transformer block, or a stream's chunk."""


class Engine(Protocol):
    """A loaded model. Threads may share it."""

    name: str
    kernels: str = "none"
    """The native kernels that run its Transformer, or none."""
    precision: str = "f32"
    """Of what is not quantized."""

    def run(self, waveform: Array) -> Array:
        """Prepared waveform (T,) float32 -> logits (F, V) float32; or the input and output of its part."""


class StreamEngine(Protocol):
    """A loaded streaming model. It keeps nothing of a stream: any number may share it, in threads too."""

    def step(self, inputs: dict[str, Any]) -> list[Array]:
        """The inputs of ``littlefoot.runtime.graph.build_stream`` by name -> its outputs in their order."""


@dataclass(frozen=True)
class EngineSettings:
    """How an engine computes."""

    threads: int
    """Threads of the processor, at least 1."""
    precision: str = "auto"
    """Of what is not quantized; one of the ``precisions`` of the backend."""
    cached: bool = True
    """True to keep the compiled model on disk, if the engine compiles."""
    parallel: int = 1
    """Runs that are computed side by side; they share the threads."""
    device: str = "cpu"
    """One of the ``devices`` of the backend."""


class Backend:
    """An engine as ``littlefoot.runtime.registry`` lists it. Each is a subclass in a module of its own."""

    name: str
    package: str
    """The Python package that it needs."""
    precisions: tuple[str, ...] = ("auto", "f32")
    devices: tuple[str, ...] = ("cpu",)

    def installed(self) -> bool:
        """Return True if the package that it needs is there."""
        return find_spec(self.package) is not None

    def rank(self, artifact: Artifact) -> int:
        """Return how well it suits an artifact: ``auto`` takes the installed engine of the highest rank."""
        return 0

    def create(self, artifact: Artifact, settings: EngineSettings, part: Part = "whole") -> Engine:
        """Load a part of a model. Raises EngineError if the package is missing or refuses the model."""
        raise NotImplementedError

    def create_stream(self, artifact: Artifact, settings: EngineSettings) -> StreamEngine:
        """Load a streaming model, for its chunks. Raises EngineError as ``create``, and by default."""
        raise EngineError(f"the engine {self.name} does not run streams: use another one")
