"""Post-training quantization to 8 bits, without PyTorch.

Weights: symmetric, one scale per output channel: W ~ scale * q, q in -127 ... 127.
Inputs of a layer: asymmetric, one scale and zero point: x ~ scale * (q - zero_point), q in 0 ... 255
(``static``, found on calibration audio), or found anew for every recording (``dynamic``, the scheme of
Shrinking Bigfoot, Peng et al. 2021: linear layers only).

Tensors of a quantized layer NAME in the artifact: ``NAME.weight`` int8, ``NAME.weight_scale`` (C',) and,
if static, ``NAME.input_scale``, ``NAME.input_zero_point`` and optionally ``NAME.input_smoothing`` (C,):
a factor on the input's channels whose inverse is in the weight (SmoothQuant, Xiao et al. 2023), so that
a few loud channels do not take the range of all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.compress.calibration import Array, LayerInput, collect
from littlefoot.errors import ConfigError
from littlefoot.runtime import graph

CLIP_RATIOS = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
"""Shares of the seen range that are tried: cutting rare peaks off makes all other values finer."""
SMOOTHING_STRENGTHS = (0.5, 0.7)
SMOOTHING_GAIN = 0.7
"""Smoothing costs a multiplication: it is used where it takes the error below this share."""


@dataclass(frozen=True)
class QuantizeConfig:
    """Settings of 8-bit quantization."""

    mode: str = "static"
    """``static``: layers' inputs get fixed scales from calibration audio; linear layers and convolutions.
    ``dynamic``: scales found at run time; linear layers only, as in Shrinking Bigfoot."""
    keep: tuple[str, ...] = ()
    """Patterns of layer names that stay in higher precision, such as ``feature_extractor.*``."""

    def __post_init__(self) -> None:
        if self.mode not in ("static", "dynamic"):
            raise ConfigError(f"mode must be static or dynamic, not '{self.mode}'")


@dataclass(frozen=True)
class InputScale:
    """How the input of a layer is rounded."""

    scale: np.float32
    zero_point: np.uint8
    smoothing: Array | None
    error: float
    """Squared error that rounding input and weight leaves in the layers' outputs, as a share of their energy."""


def quantize_static(
    artifact: Artifact, inputs: Sequence[LayerInput], config: QuantizeConfig
) -> tuple[Artifact, dict[str, float]]:
    """Quantize all layers to 8 bits but those that ``config.keep`` names.

    Args:
        artifact: full precision.
        inputs: from ``collect``.

    Returns:
        the quantized artifact, and each quantized layer's ``InputScale.error``.
    """
    weights = dict(artifact.weights)
    errors: dict[str, float] = {}
    names = [name for layer_input in inputs for name in layer_input.layers]
    kept = kept_layers(names, config.keep)
    for layer_input in inputs:
        layers = [name for name in layer_input.layers if name not in kept]
        if not layers:
            continue
        found = fit(replace(layer_input, layers=tuple(layers)), artifact.weights)
        for name in layers:
            weight = artifact.weights[f"{name}.weight"].astype(np.float32)
            if found.smoothing is not None:
                weights[f"{name}.input_smoothing"] = found.smoothing
                weight = weight / found.smoothing
            weights[f"{name}.weight"], weights[f"{name}.weight_scale"] = round_weight(weight)
            weights[f"{name}.input_scale"] = np.array(found.scale, np.float32)
            weights[f"{name}.input_zero_point"] = np.array(found.zero_point, np.uint8)
            errors[name] = found.error
    return _labelled(artifact, weights, {"bits": 8, "mode": "static", "kept": sorted(kept)}), errors


def quantize_dynamic(artifact: Artifact, config: QuantizeConfig) -> Artifact:
    """Quantize the weights of the linear layers; their inputs are quantized at run time."""
    observed = graph.build(artifact).observed
    names = [
        name
        for layers in observed.values()
        for name in layers
        if artifact.weights[f"{name}.weight"].ndim == 2
    ]
    kept = kept_layers(names, config.keep)
    weights = dict(artifact.weights)
    for name in names:
        if name not in kept:
            weight = artifact.weights[f"{name}.weight"].astype(np.float32)
            weights[f"{name}.weight"], weights[f"{name}.weight_scale"] = round_weight(weight)
    return _labelled(artifact, weights, {"bits": 8, "mode": "dynamic", "kept": sorted(kept)})


def kept_layers(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """The layers that patterns name. Raises ConfigError for a pattern that matches none."""
    names = list(names)
    kept: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if fnmatch(name, pattern)}
        if not matched:
            raise ConfigError(f"no layer is called '{pattern}': the layers are {names[0]} ... {names[-1]}")
        kept |= matched
    return kept


def round_weight(weight: Array) -> tuple[npt.NDArray[np.int8], Array]:
    """(C', ...) float32 -> int8 of the same shape, and the scale (C',) of each output channel."""
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.maximum(largest / 127, np.finfo(np.float32).tiny).astype(np.float32)
    rounded = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(rounded, -127, 127).astype(np.int8), scale


def fit(layer_input: LayerInput, weights: Mapping[str, npt.NDArray[Any]]) -> InputScale:
    """Find the range of a layer's input that leaves the smallest error in its output.

    Tries cutting the range, and smoothing on top where the layer is linear.
    """
    stacked = np.concatenate([weights[f"{name}.weight"].astype(np.float32) for name in layer_input.layers])
    best = _best_range(layer_input.rows, stacked, layer_input.low, layer_input.high, None)
    if stacked.ndim == 2:
        loudest = np.maximum(np.abs(layer_input.rows).max(axis=0), 1e-5)  # (C,)
        strongest = np.maximum(np.abs(stacked).max(axis=0), 1e-5)  # (C,)
        for strength in SMOOTHING_STRENGTHS:
            smoothing = (strongest ** (1 - strength) / loudest**strength).astype(np.float32)
            rows = layer_input.rows * smoothing
            smoothed = _best_range(rows, stacked / smoothing, float(rows.min()), float(rows.max()), smoothing)
            if smoothed.error < best.error * (SMOOTHING_GAIN if best.smoothing is None else 1.0):
                best = smoothed
    return best


def _best_range(rows: Array, weight: Array, low: float, high: float, smoothing: Array | None) -> InputScale:
    exact = _product(rows, weight)
    energy = float(np.square(exact).sum()) or 1.0
    stored, weight_scale = round_weight(weight)
    rounded_weight = stored * weight_scale.reshape(-1, *[1] * (weight.ndim - 1))
    best = None
    for ratio in CLIP_RATIOS:
        scale, zero_point = input_scale(low * ratio, high * ratio)
        difference = exact - _product(round_input(rows, scale, zero_point), rounded_weight)
        error = float(np.square(difference).sum()) / energy
        if best is None or error < best.error:
            best = InputScale(scale, zero_point, smoothing, error)
    assert best is not None  # CLIP_RATIOS is not empty
    return best


def input_scale(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point that map [low, high], widened to hold 0, to 0 ... 255."""
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32(max((high - low) / 255, np.finfo(np.float32).tiny))
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))


def round_input(rows: Array, scale: np.float32, zero_point: np.uint8) -> Array:
    """What is left of an input after 8 bits, float32 of the same shape."""
    stored = np.clip(np.rint(rows / scale) + np.float32(zero_point), 0, 255)
    return (stored - np.float32(zero_point)) * scale


def _product(rows: Array, weight: Array) -> Array:
    """A layer on sampled rows: (N, C) x (C', C), or windows (N, C, K) x (C', C / groups, K)."""
    if weight.ndim == 2:
        return rows @ weight.T
    channels, kernel = weight.shape[1:]
    groups = rows.shape[1] // channels
    windows = rows.reshape(len(rows), groups, channels * kernel).transpose(1, 0, 2)  # (G, N, C / G * K)
    return windows @ weight.reshape(groups, -1, channels * kernel).transpose(0, 2, 1)


def _labelled(
    artifact: Artifact, weights: dict[str, npt.NDArray[Any]], quantization: dict[str, Any]
) -> Artifact:
    section = {**artifact.config.littlefoot, "quantization": quantization}
    return replace(artifact, weights=weights, config=artifact.config.replace(littlefoot=section))


__all__ = ["InputScale", "QuantizeConfig", "collect", "fit", "quantize_dynamic", "quantize_static"]
