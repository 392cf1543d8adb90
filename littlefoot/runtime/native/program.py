"""Translate a network into a program of the native package: steps over packed and float weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import read, read_rounding, same
from littlefoot.artifact.safetensors_io import release
from littlefoot.errors import EngineError
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import embed, head, transform
from littlefoot.network.weights import expected_weights
from littlefoot.runtime.native import layers
from littlefoot.runtime.native.fusion import fuse
from littlefoot.runtime.native.layers import Array, Arrays, Matrix, Scales
from littlefoot.runtime.native.ops import NativeOps
from littlefoot.runtime.native.steps import (
    Activate,
    Add,
    AddVector,
    Attention,
    Convolution,
    Host,
    Linear,
    Norm,
    Product,
    Step,
)
from littlefoot.runtime.native.unsupported import UnsupportedError


class Program:
    """The steps of a network after its front end, and the biases of its attentions.

    If the kernels do not support what comes before the first block, the program begins there.
    """

    def __init__(self, artifact: Artifact, kernels: str, threads: int) -> None:
        try:
            self._write(artifact, kernels, threads, embeds=True)
        except UnsupportedError:
            self._write(artifact, kernels, threads, embeds=False)

    def _write(self, artifact: Artifact, kernels: str, threads: int, embeds: bool) -> None:
        import littlefoot_native

        config = artifact.config
        self.embeds = embeds
        """Whether the program reads the features of the front end."""
        width = config.feature_channels if embeds else config.hidden_size
        self._program = littlefoot_native.Program(width, threads, kernels)
        self.kernels: str = self._program.kernels

        self._biases = write(artifact, self._program, self.matrix, embeds)

    @property
    def bytes(self) -> int:
        """Return the bytes of the weights in memory."""
        return int(self._program.bytes)

    def matrix(self, matrix: Matrix) -> Any:
        """Arrange a matrix for the program's kernels."""
        import littlefoot_native

        rows, levels = np.ascontiguousarray(matrix.rows).view(np.uint8), list(matrix.levels)
        return littlefoot_native.Product(
            rows, matrix.columns, matrix.bits, levels, matrix.input_bits, self.kernels
        )

    def front_end(self) -> Any:
        """Create a native front end without layers, which shares the program's threads."""
        return self._program.front_end()

    def run(self, x: Array) -> Array:
        """Compute logits (F, V) of features (F, C), or of the input of the first block (F, D)."""
        logits: Array = self._program.run(x, [total_bias(biases, len(x)) for biases in self._biases])
        return logits


def write(
    artifact: Artifact, program: Any, make_matrix: Callable[[Matrix], Any], embeds: bool
) -> list[tuple[Host, ...]]:
    """Write the steps of a network into a program of the native package or of a model file.

    Args:
        program: object with the methods of ``littlefoot_native.Program`` that add steps.
        make_matrix: function that returns what the program takes for a matrix, such as ``Program.matrix``.
        embeds: True if the program reads the front end's features, False for the first block's input.

    Returns:
        the biases of the attentions, which ``total_bias`` adds up.

    Raises:
        UnsupportedError: the kernels do not support the network.
    """
    biases: list[tuple[Host, ...]] = []
    _Writer(artifact, program, make_matrix, biases).write(_steps(artifact.weights, artifact.config, embeds))
    return biases


def total_bias(biases: tuple[Host, ...], frames: int) -> Array:
    """Add up biases (..., F, F) to one of shape (1 or H, F, F)."""
    total = sum(np.asarray(bias.compute(frames), np.float32) for bias in biases)
    return np.ascontiguousarray(np.asarray(total).reshape(-1, frames, frames))


def _steps(weights: Arrays, config: ModelConfig, embeds: bool) -> dict[int, Step]:
    ops = NativeOps(weights)
    x = embed(ops, config, ops.input()) if embeds else ops.input()
    head(ops, config, transform(ops, config, x)[-1], features=ops.input())

    def mergeable(a: str, b: str) -> bool:
        one, other = read(a, weights), read(b, weights)
        return same(one.inputs, other.inputs) and layers.coding(one.weight) == layers.coding(other.weight)

    return fuse(ops.steps, mergeable)


class _Writer:
    """Writer of steps into a program of the native package."""

    def __init__(
        self,
        artifact: Artifact,
        program: Any,
        make_matrix: Callable[[Matrix], Any],
        biases: list[tuple[Host, ...]],
    ) -> None:
        self._weights, self._shapes = artifact.weights, expected_weights(artifact.config)
        self._program, self._make_matrix, self._biases = program, make_matrix, biases
        self._layers: dict[tuple[str, ...], tuple[Any, Scales | None]] = {}  # which shared blocks reuse
        self._values: dict[int, int] = {0: 0}  # of each step

    def write(self, steps: Mapping[int, Step]) -> None:
        for number in sorted(steps):
            step = steps[number]
            if number == 0:
                continue
            try:
                self._values[number] = self._step(step, steps)
            except (ValueError, TypeError) as error:
                names = ", ".join(step.names) if isinstance(step, Product) else type(step).__name__
                raise EngineError(f"{names}: {error}") from error

    def _step(self, step: Step, steps: Mapping[int, Step]) -> int:
        values = [self._values[number] for number in step.inputs]
        match step:
            case Linear():
                return self._linear(step)
            case Convolution():
                return self._convolution(step)
            case Norm():
                weight, bias = layers.norm(self._weights, step.name)
                made = self._program.layer_norm(*values, weight, bias, step.eps)
            case Add():
                made = self._program.add(*values)
            case Activate():
                made = self._program.activate(*values, step.kind)
            case AddVector():
                made = self._program.add_vector(*values, np.ascontiguousarray(step.vector.reshape(-1)))
            case Attention():
                made = self._attention(step, steps)
            case _:
                raise UnsupportedError(f"the step {type(step).__name__}")
        return int(made)

    def _attention(self, step: Attention, steps: Mapping[int, Step]) -> Any:
        values = [(self._values[number], 0) for number in step.inputs]
        width = self._width(step.inputs[2], steps)
        if len(set(step.inputs)) == 1:  # one layer made all three
            width //= 3
            values = [(value, part * width) for part, (value, _) in enumerate(values)]
        bias = -1
        if step.biases:
            if step.biases not in self._biases:
                self._biases.append(step.biases)
            bias = self._biases.index(step.biases)
        return self._program.attention(
            *values,
            heads=width // step.head_dim,
            head_dim=step.head_dim,
            scale=step.scale,
            query_scale=self._score_scale(f"{step.name}.left"),
            key_scale=self._score_scale(f"{step.name}.right"),
            bias=bias,
        )

    def _score_scale(self, factor: str) -> float:
        """Return the scale of a factor of the attention scores if its 8 bits are symmetric, otherwise 0."""
        rounding = read_rounding(factor, self._weights)
        if rounding is None or rounding.act_zero_point != 0 or rounding.bits != 8:
            return 0.0
        return float(rounding.act_scale)

    def _width(self, number: int, steps: Mapping[int, Step]) -> int:
        """Return the columns of a value that is made of one or several linear layers, or of sums with one."""
        step = steps[number]
        while isinstance(step, Activate | Add | AddVector):
            step = steps[step.inputs[0]]
        if not isinstance(step, Linear):
            raise UnsupportedError("attention over something other than linear layers")
        return sum(len(self._weights[f"{name}.weight"]) for name in step.names)

    def _linear(self, step: Linear) -> int:
        if step.names not in self._layers:
            columns = self._shapes[f"{step.names[0]}.weight"][1]
            layer = layers.linear([read(name, self._weights) for name in step.names], columns)
            self._layers[step.names] = (self._make_matrix(layer.matrices[0]), layer.rounding)
            for name in step.names:  # so that a large model is in memory once, not twice
                release(self._weights[f"{name}.weight"])
        return int(
            self._program.linear(
                self._values[step.inputs[0]],
                *self._layers[step.names],
                bias=self._bias(step),
                activation=step.activation,
                residual=self._residual(step),
            )
        )

    def _convolution(self, step: Convolution) -> int:
        (name,) = step.names
        layer, taps = layers.convolution(self._weights, name, step.groups)
        matrices = [self._make_matrix(matrix) for matrix in layer.matrices]
        release(self._weights[f"{name}.weight"])
        return int(
            self._program.convolution(
                self._values[step.inputs[0]],
                matrices,
                taps,
                step.behind,
                layer.rounding,
                bias=layers.array(self._weights, f"{name}.bias"),
                activation=step.activation,
                residual=self._residual(step),
            )
        )

    def _residual(self, step: Product) -> int:
        return -1 if step.residual is None else self._values[step.residual]

    def _bias(self, step: Linear) -> Array | None:
        """Concatenate the biases of the layers; None if none has a bias."""
        if not any(f"{name}.bias" in self._weights for name in step.names):
            return None
        none = [np.zeros(len(self._weights[f"{name}.weight"]), np.float32) for name in step.names]
        found = [
            self._weights.get(f"{name}.bias", zeros) for name, zeros in zip(step.names, none, strict=True)
        ]
        return np.ascontiguousarray(np.concatenate(found), np.float32)
