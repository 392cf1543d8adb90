"""Run the convolutions before the Transformer on the native kernels.

``littlefoot.network.encoder.front_end`` is traced once, with values that record only the layer they are from.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from littlefoot.artifact import Artifact, linear
from littlefoot.artifact.safetensors_io import release
from littlefoot.errors import EngineError
from littlefoot.network.front_end import front_end
from littlefoot.runtime.native import layers
from littlefoot.runtime.native.layers import Array, Arrays, Matrix
from littlefoot.runtime.native.program import Program
from littlefoot.runtime.native.unsupported import ACTIVATIONS, LimitedOps, UnsupportedError
from littlefoot.runtime.protocols import Engine


@dataclass(frozen=True)
class ConvLayer:
    """A convolution with its norm and activation."""

    name: str
    stride: int
    norm: str = "none"
    """Norm over ``channels`` or over ``time``; ``affine``, a scale and a shift for each channel; or
    ``none``."""
    norm_name: str | None = None
    eps: float = 0.0
    activation: str = "none"


@dataclass(frozen=True)
class Waves:
    """The output (B, C, T) of the layers so far, or the waveform, multiplied by a factor."""

    ops: FrontEndOps
    factor: float = 1.0

    def __mul__(self, factor: float) -> Waves:
        if self.ops.layers:
            raise UnsupportedError("a gain after a convolution")
        return replace(self, factor=self.factor * factor)

    def __add__(self, other: Waves | float) -> Waves:
        raise UnsupportedError("a sum of values")

    __sub__ = __add__


@dataclass
class FrontEndOps(LimitedOps):
    """Operations that record the front end in ``layers``. Raises UnsupportedError for other operations."""

    layers: list[ConvLayer] = field(default_factory=list)
    gain: float = 1.0
    """Factor of the waveform."""

    def reshape(self, x: Waves, shape: Sequence[int]) -> Waves:
        return x  # adds the channel axis of the waveform

    def transpose(self, x: Waves, axes: Sequence[int]) -> Waves:
        return x  # to (B, T, C), which is the native front end's order

    def conv1d(
        self, x: Waves, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Waves:
        if groups != 1 or padding != (0, 0):
            raise UnsupportedError("a front end with groups or padding")
        self.gain *= x.factor
        self.layers.append(ConvLayer(name, stride))
        return Waves(self)

    def layer_norm(self, x: Waves, name: str | None, eps: float, axis: int = -1) -> Waves:
        return self._behind(norm="channels", norm_name=name, eps=eps)

    def group_norm(self, x: Waves, name: str, eps: float, valid: None) -> Waves:
        return self._behind(norm="time", norm_name=name, eps=eps)

    def affine(self, x: Waves, name: str) -> Waves:
        return self._behind(norm="affine", norm_name=name)

    def activation(self, x: Waves, kind: str) -> Waves:
        if kind not in ACTIVATIONS:
            raise UnsupportedError(f"the activation {kind}")
        return self._behind(activation=kind)

    def _behind(self, **changes: Any) -> Waves:
        self.layers[-1] = replace(self.layers[-1], **changes)
        return Waves(self)


class FrontEnd(Engine):
    """A front end on the kernels, without an engine.

    Raises UnsupportedError for spectrograms, and for 8-bit layers without fixed scales.
    """

    name = "native"

    def __init__(self, artifact: Artifact, program: Program) -> None:
        """``program`` runs the following layers. Both share its threads, and compute one at a time."""
        self._front_end = program.front_end()
        write(artifact, self._front_end, program.matrix)

    @property
    def bytes(self) -> int:
        """Return the bytes of the weights in memory."""
        return int(self._front_end.bytes)

    def run(self, waveform: Array) -> Array:
        """Compute features (F, C) of a waveform (T,)."""
        features: Array = self._front_end.run(np.require(waveform, np.float32, ("C", "ALIGNED")))
        return features


def write(artifact: Artifact, made: Any, make_matrix: Callable[[Matrix], Any]) -> None:
    """Write an artifact's front end, layer by layer, into an object of the native package or a model file.

    ``made`` has the methods of ``littlefoot_native.FrontEnd`` that add layers, and takes the matrices that
    ``make_matrix`` returns. Raises the errors of ``FrontEnd``.
    """
    ops = FrontEndOps()
    front_end(ops, artifact.config, Waves(ops), None)
    for number, layer in enumerate(ops.layers):
        try:
            if number == 0:
                _add_first(made, layer, ops.gain, artifact.weights)
            else:
                stored, taps = layers.convolution(artifact.weights, layer.name)
                bias = layers.array(artifact.weights, f"{layer.name}.bias")
                matrix, behind = make_matrix(stored.matrices[0]), _behind(layer, artifact.weights)
                release(artifact.weights[f"{layer.name}.weight"])
                made.window_layer(matrix, taps, layer.stride, stored.rounding, bias, **behind)
        except (ValueError, TypeError) as error:
            raise EngineError(f"{layer.name}: {error}") from error


def _add_first(made: Any, layer: ConvLayer, gain: float, weights: Arrays) -> None:
    """Add the layer that reads the waveform, in floating point. Its kernel includes a gain and an affine
    norm.
    """
    if not isinstance(linear.read_weight(layer.name, weights), linear.FloatWeight):
        raise UnsupportedError("a first convolution with quantized weights")
    kernel, bias = weights[f"{layer.name}.weight"][:, 0], layers.array(weights, f"{layer.name}.bias")
    kernel = np.array(kernel, np.float32) * gain  # (C', K)
    if layer.norm == "affine":
        scale, shift = (weights[f"{layer.norm_name}.{part}"] for part in ("weight", "bias"))
        kernel = kernel * scale[:, None]
        bias = np.array(shift if bias is None else shift + scale * bias, np.float32)
        layer = replace(layer, norm="none")
    made.waveform_layer(
        np.ascontiguousarray(kernel, np.float32), layer.stride, bias, **_behind(layer, weights)
    )


def _behind(layer: ConvLayer, weights: Arrays) -> dict[str, Any]:
    """Return the norm and activation of a convolution, as arguments of the native functions."""
    weight, bias = layers.norm(weights, layer.norm_name)
    return {
        "norm": layer.norm,
        "norm_weight": weight,
        "norm_bias": bias,
        "eps": layer.eps,
        "activation": layer.activation,
    }
