"""Convert an artifact's layers to the codes, scales and biases that the native package takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact.linear import FloatWeight, PackedWeight, Rounding, Weight, read
from littlefoot.artifact.packing import pack
from littlefoot.runtime.native.unsupported import UnsupportedError

Array = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[Any]]


def coding(weight: Weight) -> tuple[int, tuple[int, ...]] | None:
    """Return the bits of a quantized weight and the codebook of its codes; None for floating point."""
    match weight:
        case FloatWeight():
            return None
        case PackedWeight(multiplier=None, bits=bits, table=table):
            half = 1 << (bits - 1)
            complement = (-1, 1) if bits == 1 else (*range(half), *range(-half, 0))
            return bits, table or complement
        case _:  # with group scales, the scaled values need 8 bits
            return 8, ()


def stored(weight: Weight) -> npt.NDArray[Any]:
    """Return a weight (C', ...) in the form of its ``coding``: floats, 8-bit integers, or rows of packed
    bytes.
    """
    if isinstance(weight, FloatWeight):
        return weight.data
    return weight.levels if coding(weight) == (8, ()) else weight.qdata


def inputs(rounding: Rounding | None) -> dict[str, Any]:
    """Return the rounding of a layer's inputs, as arguments of the native functions."""
    if rounding is None:
        raise UnsupportedError("8-bit weights whose inputs have no fixed scale")
    if rounding.act_zero_point.dtype != np.uint8:
        raise UnsupportedError("layers with signed inputs")
    return {
        "input_scale": float(rounding.act_scale),
        "zero_point": int(rounding.act_zero_point),
        "input_bits": rounding.bits,
        "smoothing": _floats(rounding.smoothing),
        "shift": _floats(rounding.shift),
    }


def convolution(weights: Arrays, name: str) -> dict[str, Any]:
    """Return the weight of a quantized convolution, its scales and its bias, as arguments of the native
    functions.

    A row of the weight contains the taps of an output channel in order, and for each tap its input channels.
    """
    layer = read(name, weights)
    weight, found = layer.weight, coding(layer.weight)
    if found is None or isinstance(weight, FloatWeight):
        raise UnsupportedError("convolutions in floating point")
    (bits, levels), taken = found, weight.levels
    rows: npt.NDArray[Any] = np.ascontiguousarray(taken.transpose(0, 2, 1)).reshape(len(taken), -1)
    if isinstance(weight, PackedWeight) and bits < 8:
        rows = pack(rows, bits, weight.table)
    return {
        "weights": rows.view(np.uint8),
        "taps": taken.shape[2],
        "bits": bits,
        "levels": list(levels),
        "weight_scale": _floats(weight.scale),
        **inputs(layer.inputs),
        "bias": array(weights, f"{name}.bias"),
    }


def norm(weights: Arrays, name: str | None) -> tuple[Array | None, Array | None]:
    """Return the scale and shift of a norm; None for those that it lacks."""
    if name is None:
        return None, None
    return array(weights, f"{name}.weight"), array(weights, f"{name}.bias")


def array(weights: Arrays, name: str) -> Array | None:
    """Return a tensor in float32, or None if there is none of this name."""
    return _floats(weights.get(name))


def _floats(value: npt.NDArray[Any] | None) -> Array | None:
    return None if value is None else np.require(value, np.float32, ("C", "ALIGNED"))
