"""What every engine gives, whatever it is made of."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]


class Engine(Protocol):
    """Runs one model; threads may share it."""

    name: str
    kernels: str
    """The native kernels that run its Transformer, or none."""

    def run(self, waveform: Array) -> Array:
        """Prepared waveform (T,) float32 -> logits (F, V) float32; or the input and output of its part."""


class StreamEngine(Protocol):
    """Runs chunks of streams and keeps nothing of them: any number may share it, in threads too."""

    def step(self, inputs: dict[str, Any]) -> list[Array]:
        """The inputs of ``littlefoot.runtime.graph.build_stream`` by name -> its outputs in their order."""
