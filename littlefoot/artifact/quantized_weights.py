"""Check the tensors that belong to a quantized weight before anything computes with them.

``littlefoot.artifact.linear`` describes the tensors.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact.linear import UNROUNDED
from littlefoot.artifact.packing import PACKED_BITS, packed_columns
from littlefoot.errors import ArtifactError

Arrays = Mapping[str, npt.NDArray[Any]]

_LARGEST = 1e30
"""Limit of scales and offsets, beyond which products would overflow."""


def stored_shape(name: str, shape: tuple[int, ...], weights: Arrays) -> tuple[int, ...]:
    """Return a weight's shape in the artifact: rows of bytes if it is packed. Raises ArtifactError."""
    bits = weights.get(f"{name}_bits")
    if bits is None:
        return shape
    levels = weights.get(f"{name}_levels", np.zeros(0, np.int8))
    written = weights.get(f"{name}_shape")
    multipliers = weights.get(f"{name}_multiplier", np.ones((shape[0], 1), np.uint8))
    columns = int(np.prod(shape[1:]))
    whole = (
        len(shape) > 1
        and weights[name].dtype == np.uint8
        and bits.shape == ()
        and bits.dtype.kind in "iu"
        and int(bits) in PACKED_BITS
        and _are_levels(levels, int(bits))
        and (written is not None or not (len(shape) > 2 or len(levels) == 3))
        and (written is None or (written.dtype.kind in "iu" and written.tolist() == list(shape)))
        and multipliers.dtype == np.uint8
        and multipliers.ndim == 2
        and len(multipliers) == shape[0]
        and multipliers.shape[1] > 0
        and columns % multipliers.shape[1] == 0
    )
    if not whole:
        raise ArtifactError(f"the weight {name} claims to be packed, but is not: the model is damaged")
    return shape[0], packed_columns(columns, int(bits), tuple(levels.tolist()))


def _are_levels(levels: npt.NDArray[Any], bits: int) -> bool:
    """Return True for a possible codebook: empty, of three levels, or of as many as codes; even and
    ascending.
    """
    if levels.dtype != np.int8 or levels.ndim != 1 or len(levels) not in (0, 3, 1 << bits):
        return False
    steps = np.diff(levels.astype(np.int64))
    return bool((steps > 0).all() and (steps == steps[:1]).all())


def check_layer(layer: str, rows: int, columns: int, weights: Arrays) -> None:
    """Check the tensors of a layer with ``rows`` outputs whose input has ``columns`` channels.

    Raises ArtifactError that names a missing or impossible tensor.
    """
    weight = weights[f"{layer}.weight"]
    packed = f"{layer}.weight_bits" in weights
    if weight.dtype.kind != "f" and not (weight.dtype == np.uint8 if packed else weight.dtype == np.int8):
        raise ArtifactError(f"the weight {layer}.weight is of type {weight.dtype}, which no layer can have")
    if weight.dtype.kind != "f" and f"{layer}.weight_scale" not in weights:
        raise _damaged(f"{layer}.weight_scale", "is missing")
    _floats(f"{layer}.weight_scale", (rows,), weights)
    for bits in PACKED_BITS:
        _floats(f"{layer}.weight_scale_{bits}", (rows,), weights)
    for part in ("input_smoothing", "input_shift"):
        _floats(f"{layer}.{part}", (columns,), weights)
    check_input(layer, weights)


def check_input(layer: str, weights: Arrays) -> None:
    """Check the rounding of a layer's input, or of a factor of the attention scores. Raises ArtifactError."""
    scale, zero = (weights.get(f"{layer}.{part}") for part in ("input_scale", "input_zero_point"))
    if scale is not None:
        _floats(f"{layer}.input_scale", (), weights)
        if not scale > 0:
            raise _damaged(f"{layer}.input_scale", f"is {scale}, not above 0")
        if zero is None:
            raise _damaged(f"{layer}.input_zero_point", "is missing")
    if zero is not None and (zero.shape != () or zero.dtype not in (np.uint8, np.int8)):
        raise _damaged(f"{layer}.input_zero_point", f"is {zero.dtype} {zero.shape}, not a number of 8 bits")
    bits = weights.get(f"{layer}.input_bits")
    if bits is not None and not (
        bits.shape == () and bits.dtype.kind in "iu" and (1 <= int(bits) <= 8 or int(bits) == UNROUNDED)
    ):
        raise _damaged(f"{layer}.input_bits", "is not a number from 1 to 8, or 32")


def _floats(name: str, shape: tuple[int, ...], weights: Arrays) -> None:
    """Check that a tensor, if it exists, has finite numbers in this shape. Raises ArtifactError."""
    array = weights.get(name)
    if array is None:
        return
    if array.dtype.kind != "f" or array.shape != shape:
        raise _damaged(name, f"is {array.dtype} {array.shape}, not numbers of shape {shape}")
    if not (np.abs(array) < _LARGEST).all():
        raise _damaged(name, "is not finite, or close to what no number can hold")


def _damaged(name: str, reason: str) -> ArtifactError:
    return ArtifactError(f"{name} {reason}: the model is damaged")
