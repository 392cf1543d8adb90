"""Convert an artifact's layers to the matrices, scales and biases that the native package takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact.linear import FloatWeight, PackedWeight, StoredLayer, Weight, read
from littlefoot.artifact.packing import pack
from littlefoot.runtime.native.unsupported import UnsupportedError

Array = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix as the native functions take it, packed or in floating point."""

    rows: npt.NDArray[Any]
    """Packed codes, uint8 (C', bytes of a row), or float16 or float32 (C', C)."""
    columns: int
    """C."""
    bits: int
    """Bits of a code, or 16 or 32 of a number in floating point."""
    levels: tuple[int, ...] = ()
    """Codebook of packed codes; empty for 8 bits and floating point."""
    input_bits: int = 0
    """Bits of the inputs; 0 for floating point."""


@dataclass(frozen=True, eq=False)
class Scales:
    """Scales of packed weights and of their inputs, which are rounded to
    round((x * smoothing - shift) / input_scale) + zero_point.
    """

    weight_scale: Array
    """(C',)."""
    input_scale: float
    zero_point: int
    smoothing: Array | None
    """(C,), or None."""
    shift: Array | None
    """(C,), or None."""


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer for the native functions, without its bias."""

    matrices: tuple[Matrix, ...]
    """One for each group of a convolution, whose outputs are concatenated; one for a linear layer."""
    rounding: Scales | None
    """Scales of packed weights; None for floating point."""


def coding(weight: Weight) -> tuple[int, tuple[int, ...]]:
    """Return the bits of a weight, and the codebook of its codes if it has one."""
    match weight:
        case FloatWeight():
            return 8 * _float_type(weight).itemsize, ()
        case PackedWeight(multiplier=None, bits=bits, table=table):
            half = 1 << (bits - 1)
            complement = (-1, 1) if bits == 1 else (*range(half), *range(-half, 0))
            return bits, table or complement
        case _:  # with group scales, the scaled values need 8 bits
            return 8, ()


def linear(stored: Sequence[StoredLayer], columns: int) -> Layer:
    """Return several linear layers of one ``coding`` and rounding, which read the same input, as one.

    Raises UnsupportedError for 8-bit weights whose inputs have no fixed scale, or are signed.
    """
    rows = [_rows(layer.weight) for layer in stored]
    return _layer(stored, rows[0] if len(rows) == 1 else np.concatenate(rows), columns, 1)


def convolution(weights: Arrays, name: str, groups: int = 1) -> tuple[Layer, int]:
    """Return a convolution and its taps. Errors are those of ``linear``.

    A row of a matrix contains the taps of an output channel in order, and for each tap its input channels.
    """
    layer = read(name, weights)
    weight = layer.weight
    taken = weight.data if isinstance(weight, FloatWeight) else weight.levels
    rows: npt.NDArray[Any] = np.ascontiguousarray(taken.transpose(0, 2, 1)).reshape(len(taken), -1)
    columns = rows.shape[1]
    if isinstance(weight, PackedWeight) and coding(weight)[0] < 8:
        rows = pack(rows, weight.bits, weight.table)
    return _layer([layer], rows, columns, groups), taken.shape[2]


def _layer(stored: Sequence[StoredLayer], rows: npt.NDArray[Any], columns: int, groups: int) -> Layer:
    bits, levels = coding(stored[0].weight)
    scales = [layer.weight.scale for layer in stored if not isinstance(layer.weight, FloatWeight)]
    if not scales:
        rows = rows.astype(_float_type(stored[0].weight), copy=False)
        return Layer(tuple(Matrix(part, columns, bits) for part in np.split(rows, groups)), None)
    rounding = stored[0].inputs
    if rounding is None:
        raise UnsupportedError("8-bit weights whose inputs have no fixed scale")
    if rounding.act_zero_point.dtype != np.uint8:
        raise UnsupportedError("layers with signed inputs")
    made = Scales(
        np.ascontiguousarray(np.concatenate(scales), np.float32),
        float(rounding.act_scale),
        int(rounding.act_zero_point),
        _floats(rounding.smoothing),
        _floats(rounding.shift),
    )
    parts = np.split(rows.view(np.uint8), groups)
    return Layer(tuple(Matrix(part, columns, bits, levels, rounding.bits) for part in parts), made)


def _rows(weight: Weight) -> npt.NDArray[Any]:
    """Return the rows of a linear layer: floats, 8-bit integers, or packed bytes."""
    if isinstance(weight, FloatWeight):
        return weight.data
    return weight.levels if coding(weight) == (8, ()) else weight.qdata


def _float_type(weight: Weight) -> np.dtype[Any]:
    """Return float16 for a weight that is stored so, and otherwise float32."""
    half = isinstance(weight, FloatWeight) and weight.data.dtype == np.float16
    return np.dtype(np.float16 if half else np.float32)


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
