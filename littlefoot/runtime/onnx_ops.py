"""Translate the encoder's operations into ONNX operators, for inference.

The type of a weight decides how its layer is computed (``littlefoot.artifact.linear`` describes the tensors):

- floating point: a product in floating point,
- int8: an 8-bit product of a quantized input,
- uint8, which are packed codes of fewer bits: unpacked to int8 first (``littlefoot.runtime.native`` leaves
  them packed).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact.linear import FloatWeight, Product, read, read_rounding, read_weight
from littlefoot.runtime.onnx_nodes import OnnxNodes, Value

LONG_KERNEL = 128
"""Number of taps above which a depthwise convolution is split. For a convolution with 2,048 taps, OpenVINO
2026.4 keeps gigabytes for every length of recording."""

_END = np.iinfo(np.int64).max
"""End of a slice that takes the rest of the axis."""


def _silent_taps(weight: npt.NDArray[Any], stride: int) -> int:
    """Return the number of zero taps to append to a convolution's weight (C', C, K): one or none.

    On processors with AMX, OpenVINO 2026.4 computes convolutions in 8 bits and in bfloat16 wrong if the taps
    of few channels fill whole rows of tiles, 64 bytes each. With one more tap they do not fill them.
    """
    _, channels, taps = weight.shape
    frame = channels * (1 if weight.dtype == np.int8 else 2)  # bytes, if it is computed in bfloat16
    steps_fill_rows = stride > 2 and frame < 64 and frame * stride % 64 == 0
    return int(frame * taps % 64 == 0 and (frame < 32 or steps_fill_rows))


@dataclass
class OnnxOps(OnnxNodes):
    """Operations that translate ``littlefoot.network.encoder.encode`` into ONNX nodes and initializers.

    Args:
        weights: arrays by name, of any floating point type, or quantized with their scales beside them.
    """

    weights: Mapping[str, npt.NDArray[Any]]
    layer_inputs: dict[str, list[Value]] = field(default_factory=dict)
    """The inputs of every convolution, linear layer and named product, for calibration. Layers that share
    weights have several."""
    strides: dict[str, int] = field(default_factory=dict)
    """The stride of every convolution."""
    _rounded: dict[tuple[str, ...], Value] = field(default_factory=dict)
    _dynamic: dict[str, tuple[str, Value, str]] = field(default_factory=dict)

    def segment(self, name: str, part: Callable[..., Any], *values: Any) -> Any:
        return part(*values)

    def weight(self, name: str) -> Value:
        return self.initializer(name, self.weights[name].astype(np.float32, copy=False))

    def conv1d(
        self, x: Value, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Value:
        self.strides[name] = stride
        levels = self._stored_weight(name)
        if groups == len(levels) and levels.shape[2] > LONG_KERNEL and levels.dtype.kind == "f":
            return self._long_convolution(x, name, padding)
        silent = _silent_taps(levels, stride)
        x, weight = self._layer_input(self._as_image(x), name), self._layer_weight(name, silent=silent)
        start, end = padding
        inputs = [x, weight]
        bias = self.weights.get(f"{name}.bias")
        if levels.dtype == np.int8 and (bias is None or not bias.any()):
            # OpenVINO 2026.4 moves the scales of an 8-bit convolution without bias past a norm over channels,
            # which is wrong. A bias holds them in place; one of zeros would be optimised away.
            inputs.append(self.constant(np.full(len(levels), 1e-12, np.float32)))
        elif bias is not None:
            inputs.append(self.weight(f"{name}.bias"))
        return self._image(
            "Conv", *inputs, strides=[1, stride], pads=[0, start, 0, end + silent], group=groups
        )

    def _long_convolution(self, x: Value, name: str, padding: tuple[int, int]) -> Value:
        """Compute a depthwise convolution as a sum of shorter ones."""
        x = self._layer_input(self._as_image(x), name)
        kernel = self.weights[f"{name}.weight"].astype(np.float32)[:, :, None]  # (C, 1, 1, K)
        size = kernel.shape[3]
        start, end = padding
        padded = self._image("Pad", x, self.integers(0, 0, 0, start, 0, 0, 0, end))
        total: Value | None = None
        for begin in range(0, size, LONG_KERNEL):
            part = kernel[..., begin : begin + LONG_KERNEL]
            left = size - begin - part.shape[3]
            limits = self.integers(begin), self.integers(-left if left else _END)
            seen = self._image("Slice", padded, *limits, self.integers(3))
            y = self._image("Conv", seen, self.initializer(f"{name}.weight.{begin}", part), group=len(kernel))
            total = y if total is None else total + y
        assert total is not None  # a kernel has taps
        if f"{name}.bias" in self.weights:
            bias = self.weights[f"{name}.bias"].astype(np.float32)[None, :, None, None]
            total = total + self.initializer(f"{name}.bias.image", bias)
        return total

    def conv2d(
        self, x: Value, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Value:
        weights = [
            self.weight(f"{name}.{part}") for part in ("weight", "bias") if f"{name}.{part}" in self.weights
        ]
        before, after = padding
        pads = [before, before, after, after]
        return self.node("Conv", x, *weights, strides=[stride, stride], pads=pads, group=groups)

    def fixed_conv1d(
        self,
        x: Value,
        kernel: npt.NDArray[np.float32],
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> Value:
        weight, (start, end) = self.constant(kernel[:, :, None]), padding
        return self._image("Conv", self._as_image(x), weight, strides=[1, stride], pads=[0, start, 0, end])

    def linear(self, x: Value, name: str) -> Value:
        if read(name, self.weights).product is Product.DYNAMIC:
            y = self._dynamic_product(x, name)
        else:
            y = self.node("MatMul", self._layer_input(x, name), self._layer_weight(name, transposed=True))
        if f"{name}.bias" in self.weights:
            y = y + self.weight(f"{name}.bias")
        return y

    def _dynamic_product(self, x: Value, name: str) -> Value:
        """Multiply an input that is rounded to 8 bits, with a range determined at run time."""
        self.layer_inputs.setdefault(name, []).append(x)
        if x.name not in self._dynamic:
            stored, scale, zero_point = (
                f"dynamic_{len(self.nodes)}_{part}" for part in ("x", "scale", "zero")
            )
            self.append("DynamicQuantizeLinear", [x.name], [stored, scale, zero_point])
            self._dynamic[x.name] = (stored, Value(self, scale, np.dtype(np.float32)), zero_point)
        stored, input_scale, zero_point = self._dynamic[x.name]
        weight = self.initializer(f"{name}.weight.T", self._stored_weight(name).T)
        total = self.node("MatMulInteger", stored, weight, zero_point, dtype=np.int32)
        return self.as_float(total) * (input_scale * self.weight(f"{name}.weight_scale"))

    def _layer_input(self, x: Value, name: str) -> Value:
        """Round the input of a statically quantized layer to 8 bits, once for all layers that share it."""
        self.layer_inputs.setdefault(name, []).append(x)
        if (rounding := read_rounding(name, self.weights)) is None:
            return x
        scale, zero_point = self.constant(rounding.act_scale), self.constant(rounding.act_zero_point)
        smoothing, shift = (
            None if array is None else self.constant(array) for array in (rounding.smoothing, rounding.shift)
        )
        constants = [value.name for value in (scale, zero_point, smoothing, shift) if value is not None]
        key = (x.name, *constants, str(rounding.bits))
        if key not in self._rounded:
            y = x if smoothing is None else x * smoothing
            y = y if shift is None else y - shift
            if rounding.bits < 8:  # the type's own limits are too wide
                y = self.node("Clip", y, *(self.constant(np.asarray(limit)) for limit in rounding.limits))
            stored = self.node("QuantizeLinear", y, scale, zero_point, dtype=zero_point.dtype)
            restored = self.node("DequantizeLinear", stored, scale, zero_point)
            self._rounded[key] = replace(restored, image=x.image)
        return self._rounded[key]

    def _stored_weight(self, name: str) -> npt.NDArray[Any]:
        """Return a float or int8 weight unchanged, and a packed one unpacked to int8."""
        weight = read_weight(name, self.weights)
        return weight.data if isinstance(weight, FloatWeight) else weight.levels

    def _layer_weight(self, name: str, transposed: bool = False, silent: int = 0) -> Value:
        """Return the weight of a layer in floating point.

        Its shape is (C', C) for a linear layer, (C, C') if it is transposed, and (C', C, 1, K) for a
        convolution, to which ``silent`` zero taps are appended.
        """
        weight = self._stored_weight(name)
        if weight.ndim == 3:
            weight = (
                np.pad(weight, ((0, 0), (0, 0), (0, silent)))[:, :, None] if silent else weight[:, :, None]
            )
        key = f"{name}.weight.T" if transposed else f"{name}.weight"
        if weight.dtype != np.int8:
            weight = weight.astype(np.float32, copy=False)
            return self.initializer(key, weight.T if transposed else weight)
        scale = self.initializer(f"{name}.weight_scale", self.weights[f"{name}.weight_scale"])
        stored = self.initializer(key, weight.T if transposed else weight)
        return self.node("DequantizeLinear", stored, scale, axis=1 if transposed else 0)

    def layer_norm(self, x: Value, name: str | None, eps: float, axis: int = -1) -> Value:
        if axis != -1:
            return self._channel_norm(x, name, eps, axis)
        if name is None:
            return self.node(
                "LayerNormalization", x, self.constant(np.ones(1, np.float32)), axis=-1, epsilon=eps
            )
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.node("LayerNormalization", x, weight, bias, axis=-1, epsilon=eps)

    def _channel_norm(self, x: Value, name: str | None, eps: float, axis: int) -> Value:
        """Compute a layer norm over the channels of (B, C, T) without transposing."""
        x = self._as_image(x)
        axes = self.integers(axis)
        x = x - self._image("ReduceMean", x, axes)
        deviation = self._image("Sqrt", self._image("ReduceMean", x * x, axes) + eps)
        x = x * self._image("Reciprocal", deviation)
        if name is None:
            return x
        return x * self._column(f"{name}.weight") + self._column(f"{name}.bias")

    def _column(self, name: str) -> Value:
        """Return a vector as (C, 1, 1), which broadcasts over an image."""
        return self.initializer(f"{name}.column", self.weights[name].astype(np.float32)[:, None, None])

    def group_norm(self, x: Value, name: str, eps: float, valid: Value | None) -> Value:
        x = self._as_image(x)
        if valid is None:
            weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
            return self._image("InstanceNormalization", x, weight, bias, epsilon=eps)
        valid = self.reshape(valid, (0, 1, 1, -1))
        axes = self.integers(3)
        count = self.node("ReduceSum", valid, axes)
        x = x * valid
        mean = self._image("Div", self._image("ReduceSum", x, axes), count)  # (B, C, 1, 1)
        power = self._image("Div", self._image("ReduceSumSquare", x, axes), count)
        scale = self._image(
            "Div", self._column(f"{name}.weight"), self._image("Sqrt", power - mean * mean + eps)
        )
        return x * scale + (self._column(f"{name}.bias") - mean * scale)

    def mirrored(self, x: Value, before: int, after: int, lengths: Value | None) -> Value:
        size = self.node("Shape", x, start=1, end=2, dtype=np.int64)
        begin, step = (self.constant(np.asarray(value, np.int64)) for value in (-before, 1))
        end = self.node("Squeeze", size, dtype=np.int64) + after
        place = self.node("Abs", self.node("Range", begin, end, step, dtype=np.int64), dtype=np.int64)
        last = (size if lengths is None else self.reshape(lengths, (-1, 1))) - 1
        place = self.node("Max", last - self.node("Abs", last - place, dtype=np.int64), self.integers(0))
        rows = self.node("Shape", x, start=0, end=1, dtype=np.int64)
        place = self.node("Expand", place, self.concat([rows, self.integers(1)], axis=0), dtype=np.int64)
        return self.node("GatherElements", x, place, axis=1)

    def masked(self, x: Value, valid: Value, value: float) -> Value:
        valid = self.reshape(valid, (0, 1, 1, -1))
        x = self._as_image(x) * valid
        return x + (valid - 1.0) * -value if value else x

    def largest(self, x: Value) -> Value:
        return self._image("ReduceMax", self._as_image(x), self.integers(1, 2, 3))

    def affine(self, x: Value, name: str) -> Value:
        return self._as_image(x) * self._column(f"{name}.weight") + self._column(f"{name}.bias")

    def activation(self, x: Value, kind: str) -> Value:
        if kind == "gelu_tanh":
            return self._elementwise("Gelu", x, approximate="tanh")
        return self._elementwise(kind.capitalize(), x)

    def average_pool(self, x: Value, size: int) -> Value:
        return self._image("AveragePool", self._as_image(x), kernel_shape=[1, size], strides=[1, size])

    def pad_to(self, x: Value, like: Value) -> Value:
        have, wanted = (self.node("Shape", value, start=1, end=2, dtype=np.int64) for value in (x, like))
        ends = self.concat([self.integers(0, 0, 0, 0), wanted - have, self.integers(0)], axis=0)
        return self.node("Pad", x, ends)

    def standardize(self, x: Value, eps: float, valid: Value | None, of_deviation: bool = False) -> Value:
        x, axes = self._as_image(x), self.integers(3)
        if valid is None:
            counted = (
                self._image("Slice", x, self.integers(0), self.integers(1), self.integers(1)) * 0.0 + 1.0
            )
        else:
            counted = replace(self.reshape(valid, (0, 1, 1, -1)), image=True)
        count = self._image("ReduceSum", counted, axes)
        whole, free = (replace(self.clip(n, 1, 1 << 24), image=True) for n in (count, count - 1.0))
        centred = x - self._image("Div", self._image("ReduceSum", x * counted, axes), whole)
        powers = self._image("ReduceSum", centred * centred * counted, axes)
        variance = self._image("Div", powers, free)
        if of_deviation:
            return self._image("Div", centred, self._image("Sqrt", variance) + eps)
        return self._image("Div", centred, self._image("Sqrt", variance + eps))

    def sinusoids(self, positions: Value, rates: npt.NDArray[np.float32]) -> Value:
        angles = self.as_float(self.reshape(positions, (-1, 1))) * self.constant(rates)
        return self.concat([self.node("Sin", angles), self.node("Cos", angles)], axis=1)

    def skew(self, x: Value) -> Value:
        frames = self.node("Shape", x, start=2, end=3, dtype=np.int64)
        rows = self.node("Slice", self.reshape(x, (0, 0, -1)), frames, self.integers(_END), self.integers(2))
        shape = self.concat([self.integers(0, 0), frames, self.integers(-1)], axis=0)
        rows = self.node("Reshape", rows, shape)  # each begins one column further left than the one above it
        return self.node("Slice", rows, self.integers(0), frames, self.integers(3))

    def log(self, x: Value) -> Value:
        return self._elementwise("Log", x)

    def sigmoid(self, x: Value) -> Value:
        return self.node("Sigmoid", x)

    def softmax(self, x: Value) -> Value:
        return self.node("Softmax", x, axis=-1)

    def matmul(self, a: Value, b: Value, name: str | None = None) -> Value:
        if name is not None:
            a, b = self._layer_input(a, f"{name}.left"), self._layer_input(b, f"{name}.right")
        return self.node("MatMul", a, b)

    def sum(self, x: Value, axis: int) -> Value:
        return self.node("ReduceSum", x, self.integers(axis), keepdims=0)

    def clip(self, x: Value, low: int, high: int) -> Value:
        limits = (self.constant(np.asarray(value, dtype=x.dtype)) for value in (low, high))
        return self.node("Clip", x, *limits, dtype=x.dtype)

    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        return self.node("Reshape", self._flat(x), self.integers(*shape), dtype=x.dtype)

    def transpose(self, x: Value, axes: Sequence[int]) -> Value:
        return self.node("Transpose", self._flat(x), perm=list(axes), dtype=x.dtype)

    def slice(self, x: Value, axis: int, start: int, end: int | None) -> Value:
        limits = self.integers(start), self.integers(_END if end is None else end)
        return self.node("Slice", x, *limits, self.integers(axis), dtype=x.dtype)

    def concat(self, values: Sequence[Value], axis: int) -> Value:
        return self.node("Concat", *values, axis=axis, dtype=values[0].dtype)

    def last(self, x: Value, axis: int, count: int) -> Value:
        return self.slice(x, axis, -count, None)

    def less(self, a: Value, b: Value) -> Value:
        return self.as_float(self.node("Less", a, b, dtype=np.bool_))

    def gather(self, table: Value, indices: Value) -> Value:
        return self.node("Gather", table, indices, axis=0, dtype=table.dtype)

    def positions(self, x: Value, axis: int) -> Value:
        size = self.node("Shape", self._flat(x), start=axis, end=axis + 1, dtype=np.int64)
        count = self.node("Squeeze", size, dtype=np.int64)
        zero, one = (self.constant(np.asarray(value, dtype=np.int64)) for value in (0, 1))
        return self.node("Range", zero, count, one, dtype=np.int64)

    def valid(self, lengths: Value, x: Value, axis: int) -> Value:
        return self.less(self.positions(x, axis), self.reshape(lengths, (-1, 1)))

    def dropout(self, x: Value, probability: float) -> Value:
        return x

    def begin_anywhere(self, positions: Value, count: int) -> Value:
        return positions

    def mask_spans(self, x: Value) -> Value:
        return x
