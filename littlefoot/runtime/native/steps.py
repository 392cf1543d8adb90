"""Define the steps of a native program. Each is one call of ``littlefoot_native.Program``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Host:
    """A value, without the batch axis, that depends only on the number of frames."""

    compute: Callable[[int], Array]

    def _with(self, other: Host | float, operation: Callable[[Any, Any], Any]) -> Host:
        if isinstance(other, Host):
            return Host(lambda frames: operation(self.compute(frames), other.compute(frames)))
        return Host(lambda frames: operation(self.compute(frames), other))

    def __add__(self, other: Host | float) -> Host:
        return self._with(other, np.add)

    def __sub__(self, other: Host | float) -> Host:
        return self._with(other, np.subtract)

    def __mul__(self, other: Host | float) -> Host:
        return self._with(other, np.multiply)

    def __floordiv__(self, other: int) -> Host:
        return self._with(other, np.floor_divide)


@dataclass(frozen=True)
class Step:
    """A step, with the numbers of the steps whose outputs it reads."""

    inputs: tuple[int, ...]


class Input(Step):
    """The program's input."""


@dataclass(frozen=True)
class Product(Step):
    """A product of the first input with weights. A second input, the residual, may be added to it."""

    names: tuple[str, ...]
    """Names of the layers, whose outputs are concatenated."""
    activation: str = "none"

    @property
    def residual(self) -> int | None:
        return self.inputs[1] if len(self.inputs) > 1 else None


class Linear(Product):
    """A product of each frame by itself."""


@dataclass(frozen=True)
class Convolution(Product):
    """A convolution over time, in groups of channels, with one output for each frame."""

    behind: int = 0
    """Number of preceding frames that an output depends on."""
    groups: int = 1


@dataclass(frozen=True)
class Activate(Step):
    kind: str


@dataclass(frozen=True)
class Norm(Step):
    name: str | None
    eps: float


class Add(Step):
    """The sum of two inputs."""


@dataclass(frozen=True)
class AddVector(Step):
    vector: Array


@dataclass(frozen=True)
class Attention(Step):
    """Attention of a query, a key and a value."""

    head_dim: int
    scale: float
    name: str | None
    """Name of the product of queries and keys."""
    biases: tuple[Host, ...]
