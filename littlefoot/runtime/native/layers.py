"""How an artifact's layers reach the native package: codes, scales and biases as its functions take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact.packing import PACKED_BITS, pack, unpack_layer
from littlefoot.errors import EngineError
from littlefoot.runtime.native.ops import UnsupportedError

Array = npt.NDArray[np.float32]
Arrays = Mapping[str, npt.NDArray[Any]]


def coding(weights: Arrays, name: str) -> tuple[int, tuple[int, ...]] | None:
    """Bits of a quantized layer's weight, and the levels of its codes; None for floating point."""
    dtype = weights[f"{name}.weight"].dtype
    if dtype == np.int8:
        return 8, ()
    if dtype != np.uint8:
        return None
    if f"{name}.weight_multiplier" in weights:  # groups of columns have scales: their levels need 8 bits
        return 8, ()
    bits = int(weights[f"{name}.weight_bits"])
    if bits not in PACKED_BITS:
        raise EngineError(f"{name}.weight_bits is {bits}: use one of {', '.join(map(str, PACKED_BITS))}")
    table = weights.get(f"{name}.weight_levels")
    if table is not None:
        return bits, tuple(table.tolist())
    half = 1 << (bits - 1)
    return bits, (-1, 1) if bits == 1 else (*range(half), *range(-half, 0))  # two's complement


def inputs(weights: Arrays, name: str) -> dict[str, Any]:
    """How a layer's inputs are rounded, as arguments of the native functions."""
    if f"{name}.input_scale" not in weights:
        raise UnsupportedError("8-bit weights whose inputs have no fixed scale")
    zero_point = weights[f"{name}.input_zero_point"]
    if zero_point.dtype != np.uint8:
        raise UnsupportedError("layers with signed inputs")
    return {
        "input_scale": float(weights[f"{name}.input_scale"]),
        "zero_point": int(zero_point),
        "input_bits": int(weights.get(f"{name}.input_bits", 8)),
        "smoothing": array(weights, f"{name}.input_smoothing"),
        "shift": array(weights, f"{name}.input_shift"),
    }


def convolution(weights: Arrays, name: str) -> dict[str, Any]:
    """The weight of a quantized convolution and what turns its sums into outputs, likewise.

    A row of the weight is an output's taps in their order, a tap's channels side by side.
    """
    found = coding(weights, name)
    if found is None:
        raise UnsupportedError("convolutions in floating point")
    bits, levels = found
    weight = weights[f"{name}.weight"]
    if weight.dtype == np.uint8:
        weight = unpack_layer(name, weights)
    rows = np.ascontiguousarray(weight.transpose(0, 2, 1)).reshape(len(weight), -1)
    if bits < 8:
        table = weights.get(f"{name}.weight_levels", np.zeros(0, np.int8))
        rows = pack(rows, bits, tuple(table.tolist()))
    return {
        "weights": rows.view(np.uint8),
        "taps": weight.shape[2],
        "bits": bits,
        "levels": list(levels),
        "weight_scale": array(weights, f"{name}.weight_scale"),
        **inputs(weights, name),
        "bias": array(weights, f"{name}.bias"),
    }


def norm(weights: Arrays, name: str | None) -> tuple[Array | None, Array | None]:
    """Scale and shift of a norm, if it has any."""
    if name is None:
        return None, None
    return array(weights, f"{name}.weight"), array(weights, f"{name}.bias")


def array(weights: Arrays, name: str) -> Array | None:
    """A tensor in float32, if there is one."""
    value = weights.get(name)
    return None if value is None else np.require(value, np.float32, ("C", "ALIGNED"))
