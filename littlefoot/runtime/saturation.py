"""Products of 8 bits on processors that add them up in 16 bits.

Without VNNI (AMD before Zen 4, Intel mostly before 2019) x86 processors multiply unsigned inputs with signed
weights by ``vpmaddubsw``, which adds two products in 16 bits: 255 * 127 * 2 is too much, and the sum is cut
off at 32767. OpenVINO lives with that. Weights between -64 and 64 are safe, since 255 * 64 * 2 < 32768.
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
"""The largest absolute weight whose products with inputs of 8 bits cannot be cut off."""

_EXACT = {"avx512_vnni", "avx_vnni", "amx_int8"}


def may_saturate() -> bool:
    """Whether sums of 8-bit products may be cut off on this processor; where nothing is known of it, yes."""
    return platform.machine().lower() in ("x86_64", "amd64") and not machine.flags() & _EXACT


def narrowed(weights: Mapping[str, Array]) -> dict[str, Array]:
    """An artifact's tensors, with those rows of 8-bit weights in 7 bits that reach beyond ``SAFE``.

    Their scales double, and a weight changes by half a step of 7 bits at most. Layers whose inputs have no
    fixed scale stay as they are: OpenVINO computes them in floating point.
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
    """Half of the levels (R, C); of the odd ones every second is rounded up, the others down.

    So errors cancel out over neighbours, whose inputs are often alike: samples, bands of frequency.
    """
    wide = rows.astype(np.int16)
    odd = wide & 1
    up = np.cumsum(odd, axis=1, dtype=np.int32) & odd
    return ((wide + up) >> 1).astype(np.int8)
