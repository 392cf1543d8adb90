"""Round a layer's weight and input to 8 bits, with the ranges that change its output least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.compress.calibration import Array, LayerInput

CLIP_RATIOS = (1.0, 0.85, 0.7, 0.55, 0.4, 0.3)
"""Shares of the observed range that are tried: clipping rare peaks makes all other values finer."""
FEW_BITS_RATIOS = (0.22, 0.16, 0.12, 0.08, 0.05)
SMOOTHING_STRENGTHS = (0.5, 0.7)
SMOOTHING_FLOOR = 0.5
"""Channels that are quieter than this quantile of a layer's channels are smoothed as if they were as loud."""
SMOOTHING_GAIN = 0.7
"""Smoothing costs a multiplication, so it is used only where it takes the error below this share."""


@dataclass(frozen=True)
class InputScale:
    """Rounding of a layer's input."""

    scale: np.float32
    zero_point: np.uint8 | np.int8
    """uint8: codes 0 ... 255. int8, always 0: codes -128 ... 127."""
    smoothing: Array | None
    """(C,) factor on the input's channels, None without."""
    error: float
    """Squared error of the layers' outputs, as a share of their energy."""


def round_weight(weight: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """Round (C', ...) float32 to int8. Also returns the scale (C',) of each output channel."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.maximum(largest / 127, np.finfo(np.float32).tiny).astype(np.float32)
    rounded = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(rounded, -127, 127).astype(np.int8), scale


def fit(
    layer_input: LayerInput, weights: Mapping[str, npt.NDArray[Any]], bits: int = 8, smooth: bool = True
) -> InputScale:
    """Find the range of a layer's input that leaves the smallest error in its output, with 8-bit weights.

    Narrower ranges are tried and, for linear layers, smoothing on top. A factor of a product has no weight:
    its range, symmetric as 8-bit products need it, is the one with the smallest error of its own.
    """
    if f"{layer_input.layers[0]}.weight" not in weights:
        return _best_symmetric_range(layer_input)
    stacked = np.concatenate([weights[f"{name}.weight"].astype(np.float32) for name in layer_input.layers])
    low, high = layer_input.low, layer_input.high
    best = _best_range(layer_input.rows, stacked, float(low.min()), float(high.max()), None, bits)
    if smooth and stacked.ndim == 2:
        # Over all frames: a channel that is large in few frames would leave the range after smoothing.
        # Nor may one be amplified because the calibration audio did not excite it: other audio may.
        loudest = np.maximum(np.maximum(-low, high), 1e-5)  # (C,)
        loudest = np.maximum(loudest, np.quantile(loudest, SMOOTHING_FLOOR))
        strongest = np.maximum(np.abs(stacked).max(axis=0), 1e-5)  # (C,)
        for strength in SMOOTHING_STRENGTHS:
            smoothing = (strongest ** (1 - strength) / loudest**strength).astype(np.float32)
            ends = float((low * smoothing).min()), float((high * smoothing).max())
            smoothed = _best_range(layer_input.rows * smoothing, stacked / smoothing, *ends, smoothing, bits)
            if smoothed.error < best.error * (SMOOTHING_GAIN if best.smoothing is None else 1.0):
                best = smoothed
    return best


def _best_range(
    rows: Array, weight: Array, low: float, high: float, smoothing: Array | None, bits: int = 8
) -> InputScale:
    exact = product(rows, weight)
    energy = float(np.square(exact).sum()) or 1.0
    stored, weight_scale = round_weight(weight)
    rounded_weight = stored * weight_scale.reshape(-1, *[1] * (weight.ndim - 1))
    best = None
    for ratio in (*CLIP_RATIOS, *(FEW_BITS_RATIOS if bits < 8 else ())):
        scale, zero_point = input_scale(low * ratio, high * ratio, bits)
        difference = exact - product(round_input(rows, scale, zero_point, bits), rounded_weight)
        error = float(np.square(difference).sum()) / energy
        if best is None or error < best.error:
            best = InputScale(scale, zero_point, smoothing, error)
    assert best is not None  # CLIP_RATIOS is not empty
    return best


def _best_symmetric_range(layer_input: LayerInput) -> InputScale:
    values = layer_input.rows
    largest = max(float(-layer_input.low.min()), float(layer_input.high.max()), 1e-6)
    energy = float(np.square(values).sum()) or 1.0
    fits = []
    for ratio in CLIP_RATIOS:
        scale = np.float32(largest * ratio / 127)
        rounded = np.clip(np.rint(values / scale), -128, 127) * scale
        error = float(np.square(values - rounded).sum()) / energy
        fits.append(InputScale(scale, np.int8(0), None, error))
    return min(fits, key=lambda found: found.error)


def input_scale(low: float, high: float, bits: int = 8) -> tuple[np.float32, np.uint8]:
    """Compute scale and zero point that map [low, high], widened to contain 0, to 0 ... 2^bits - 1."""
    low, high, most = min(low, 0.0), max(high, 0.0), (1 << bits) - 1
    scale = np.float32(max((high - low) / most, float(np.finfo(np.float32).tiny)))
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, most))


def round_input(rows: Array, scale: np.float32, zero_point: np.uint8, bits: int = 8) -> Array:
    """Round an input to this number of bits and back, float32 of the same shape."""
    stored = np.clip(np.rint(rows / scale) + np.float32(zero_point), 0, (1 << bits) - 1)
    rounded: Array = (stored - np.float32(zero_point)) * scale
    return rounded


def product(rows: Array, weight: Array) -> Array:
    """Apply a layer to sampled rows: (N, C) x (C', C), or windows (N, C, K) x (C', C / groups, K)."""
    if weight.ndim == 2:
        return rows @ weight.T
    channels, kernel = weight.shape[1:]
    groups = rows.shape[1] // channels
    windows = rows.reshape(len(rows), groups, channels * kernel).transpose(1, 0, 2)  # (G, N, C / G * K)
    return windows @ weight.reshape(groups, -1, channels * kernel).transpose(0, 2, 1)
