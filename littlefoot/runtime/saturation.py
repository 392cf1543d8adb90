"""Reduce the range of 8-bit weights for processors that add products in 16 bits.

Without VNNI (AMD before Zen 4, most Intel before 2019) x86 processors multiply unsigned inputs with signed
weights by ``vpmaddubsw``, which adds two products in 16 bits: 255 * 127 * 2 is too large, and the sum
saturates at 32767. OpenVINO does not prevent this. Weights between -64 and 64 are safe, since 255 * 64 * 2 <
32768.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact.linear import EightBitWeight, FloatWeight, StoredLayer, put, read, rounded_inputs
from littlefoot.system import machine

Array = npt.NDArray[Any]

SAFE = 64
"""Largest absolute weight whose products with inputs of 8 bits cannot saturate."""

_EXACT = {"avx512_vnni", "avx_vnni", "amx_int8"}


def may_saturate() -> bool:
    """Return True if sums of 8-bit products may saturate on this processor, or if it is unknown."""
    return platform.machine().lower() in ("x86_64", "amd64") and not machine.flags() & _EXACT


def narrowed(weights: Mapping[str, Array]) -> dict[str, Array]:
    """Return an artifact's tensors with 7 bits in those rows of 8-bit weights that exceed ``SAFE``.

    Their scales double, and a weight changes by at most half a step of 7 bits. Layers whose inputs have no
    fixed scale do not change, because OpenVINO computes them in floating point.
    """
    made: dict[str, StoredLayer] = {}
    for name in rounded_inputs(weights):
        if f"{name}.weight" not in weights:  # a factor of a product
            continue
        layer = read(name, weights)
        if isinstance(layer.weight, FloatWeight):
            continue
        levels, scale = layer.weight.levels, layer.weight.scale
        rows = levels.reshape(len(levels), -1)
        large = np.abs(rows.astype(np.int16)).max(axis=1, initial=0) > SAFE
        if large.any():
            halved = np.where(large[:, None], _halved(rows), rows).reshape(levels.shape)
            doubled = np.where(large, scale * 2, scale).astype(scale.dtype)
            made[name] = replace(layer, weight=EightBitWeight(halved, doubled))
    return put(weights, made)


def _halved(rows: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Halve the levels (R, C), and round every second odd one up, the others down.

    Errors of neighbours then cancel, whose inputs are often similar: samples, bands of frequency.
    """
    wide = rows.astype(np.int16)
    odd = wide & 1
    up = np.cumsum(odd, axis=1, dtype=np.int32) & odd
    return ((wide + up) >> 1).astype(np.int8)
