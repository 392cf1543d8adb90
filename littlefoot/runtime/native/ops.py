"""Translate the encoder's operations into steps of a native program, for inference with packed weights.

``littlefoot.network.encoder`` is traced once, with values that record only how they were computed. The result
is a short list of steps, each a call of ``littlefoot_native.Program``. Attention is recognised by its parts:
a split into heads, a product, a softmax and another product. Masks depend only on the number of frames; numpy
computes them for each recording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from littlefoot.runtime.native.steps import (
    Activate,
    Add,
    AddVector,
    Array,
    Attention,
    Convolution,
    Host,
    Input,
    Linear,
    Norm,
    Step,
)
from littlefoot.runtime.native.unsupported import ACTIVATIONS, LimitedOps, UnsupportedError


@dataclass(frozen=True)
class Rows:
    """The output (B, F, C) of a step, multiplied by a factor."""

    ops: NativeOps
    step: int
    factor: float = 1.0

    def __add__(self, other: Rows | Host | float) -> Rows:
        if self.factor != 1.0 or (isinstance(other, Rows) and other.factor != 1.0):
            raise UnsupportedError("a sum of scaled values")
        if isinstance(other, Host):
            return self.ops.record(AddVector((self.step,), other.compute(0)))
        if not isinstance(other, Rows):
            raise UnsupportedError("a sum with a number")
        return self.ops.record(Add((self.step, other.step)))

    def __mul__(self, factor: float) -> Rows:
        if not isinstance(factor, float):
            raise UnsupportedError("a product of two values")
        return replace(self, factor=self.factor * factor)

    def __sub__(self, other: Rows | float) -> Rows:
        raise UnsupportedError("a difference of values")


@dataclass(frozen=True)
class Columns:
    """Transposed rows, (B, C, F), which convolutions read."""

    rows: Rows

    def __add__(self, other: object) -> Columns:
        raise UnsupportedError("arithmetic behind a convolution")

    __sub__ = __mul__ = __add__


@dataclass(frozen=True)
class Heads:
    """Rows split into heads of ``width`` channels: (B, F, H, K), or transposed."""

    rows: Rows
    width: int


@dataclass(frozen=True)
class Scores:
    """Products (B, H, F, F) of queries and keys with their biases; after the softmax, an attention map."""

    query: Heads
    key: Heads
    name: str | None
    biases: tuple[Host, ...] = ()

    def __add__(self, other: Host) -> Scores:
        if not isinstance(other, Host):
            raise UnsupportedError("attention scores with a bias that depends on the audio")
        return replace(self, biases=(*self.biases, other))


@dataclass(frozen=True)
class Mixed:
    """Values (B, H, F, K), multiplied by an attention map."""

    scores: Scores
    value: Heads


@dataclass
class NativeOps(LimitedOps):
    """Operations that record the encoder in ``steps``. Raises UnsupportedError for other operations.

    Args:
        weights: arrays by name.
    """

    weights: Mapping[str, Array]
    steps: list[Step] = field(default_factory=lambda: [Input(())])

    def input(self) -> Rows:
        return Rows(self, 0)

    def record(self, step: Step) -> Rows:
        self.steps.append(step)
        return Rows(self, len(self.steps) - 1)

    def linear(self, x: Rows, name: str) -> Rows:
        return self.record(Linear((_plain(x),), (name,)))

    def conv1d(
        self, x: Any, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Columns:
        if not isinstance(x, Columns) or stride != 1 or groups == 1:
            raise UnsupportedError("a convolution other than over positions")
        return Columns(self.record(Convolution((_plain(x.rows),), (name,), behind=padding[0], groups=groups)))

    def layer_norm(self, x: Rows, name: str | None, eps: float, axis: int = -1) -> Rows:
        return self.record(Norm((_plain(x),), name, eps))

    def activation(self, x: Any, kind: str) -> Any:
        if isinstance(x, Columns):
            return Columns(self.activation(x.rows, kind))
        if kind not in ACTIVATIONS:
            raise UnsupportedError(f"the activation {kind}")
        return self.record(Activate((_plain(x),), kind))

    def softmax(self, x: Scores) -> Scores:
        return x

    def matmul(self, a: Any, b: Any, name: str | None = None) -> Scores | Mixed:
        if isinstance(a, Heads) and isinstance(b, Heads):
            return Scores(a, b, name)
        if isinstance(a, Scores) and isinstance(b, Heads):
            return Mixed(a, b)
        raise UnsupportedError("a product of two values other than attention")

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        if isinstance(x, Host):
            return Host(lambda frames: x.compute(frames).reshape(shape))
        if isinstance(x, Rows) and len(shape) == 4:
            return Heads(x, shape[3])
        if isinstance(x, Mixed) and tuple(shape) == (0, 0, -1):
            scores = x.scores
            scale = scores.query.rows.factor * scores.key.rows.factor
            return self.record(
                Attention(
                    (scores.query.rows.step, scores.key.rows.step, _plain(x.value.rows)),
                    x.value.width,
                    scale,
                    scores.name,
                    scores.biases,
                )
            )
        raise UnsupportedError(f"a change of shape to {tuple(shape)}")

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        if isinstance(x, Host):
            return Host(lambda frames: x.compute(frames).transpose(axes))
        if isinstance(x, Rows) and tuple(axes) == (0, 2, 1):
            return Columns(x)
        if isinstance(x, Columns) and tuple(axes) == (0, 2, 1):
            return x.rows
        if isinstance(x, Heads | Mixed) and tuple(axes) in ((0, 2, 1, 3), (0, 2, 3, 1)):
            return x  # the kernels read heads in place
        raise UnsupportedError("a transposed value")

    def weight(self, name: str) -> Host:
        array = self.weights[name].astype(np.float32, copy=False)
        return Host(lambda frames: array)

    def constant(self, value: Array) -> Host:
        return Host(lambda frames: value)

    def positions(self, x: Rows, axis: int) -> Host:
        return Host(np.arange)

    def less(self, a: Host, b: Host) -> Host:
        return Host(lambda frames: (a.compute(frames) < b.compute(frames)).astype(np.float32))

    def clip(self, x: Host, low: int, high: int) -> Host:
        return Host(lambda frames: x.compute(frames).clip(low, high))

    def gather(self, table: Host, indices: Host) -> Host:
        return Host(lambda frames: table.compute(frames)[indices.compute(frames)])


def _plain(x: Any) -> int:
    if not isinstance(x, Rows) or x.factor != 1.0:
        raise UnsupportedError("a layer whose input is not a plain value")
    return x.step
