"""Prepare single layers for training with few bits, and store them after it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import EightBitWeight, FloatWeight, PackedWeight, Rounding
from littlefoot.artifact.packing import WeightCode
from littlefoot.artifact.precisions import upper_bits
from littlefoot.compress.calibration import Array
from littlefoot.compress.fake_quant import input_range, weight_levels
from littlefoot.compress.gptq import Factor, best_scales, round_groups
from littlefoot.compress.rounding import round_weight

MARGIN = 0.25
"""Largest distance of an initial weight from GPTQ's level, in steps. At half a step a weight is about to
change its level, and the first steps of training would undo GPTQ's compensation at random."""


def nearest_scales(weight: Array, rows: Array, code: WeightCode) -> Array:
    """Find the scales (C', G) with which rounding to the nearest value changes the output least."""
    if code.bits == 1:
        weight = weight - weight.mean(1, keepdims=True)
    return best_scales(weight, np.square(rows, dtype=np.float64).mean(0), code.bits, code.table, code.group)


def upper_scales(weight: Array, rows: Array, scales: Array, stored: WeightCode, code: WeightCode) -> Array:
    """Find the scales (C', 1) of the upper bits of codes that change the output least, for uncorrelated
    inputs.
    """
    log_scale = torch.from_numpy(np.log(scales).astype(np.float32))
    levels = weight_levels(torch.from_numpy(weight), log_scale, stored)[0].numpy()
    levels = upper_bits(levels, stored.bits, code.bits)
    wanted = weight - weight.mean(1, keepdims=True) if stored.bits == 1 else weight
    counts = np.square(rows, dtype=np.float64).mean(0)
    found: Array = (levels * wanted) @ counts / np.maximum(np.square(levels) @ counts, 1e-30)
    return found.clip(1e-12)[:, None].astype(np.float32)


def near_gptq(weight: Array, factor: Factor, code: WeightCode) -> tuple[Array, Array]:
    """Move weights (C', C), as little as possible, to values that round to GPTQ's result. Returns them with
    the scales.
    """
    if code.bits == 1:
        weight = weight - weight.mean(1, keepdims=True)
    levels, scales = round_groups(weight, factor, code.bits, code.table, code.group)
    scale = np.repeat(scales, weight.shape[1] // scales.shape[1], axis=1)
    known = code.levels
    margin = MARGIN * (known[1] - known[0])
    low = np.where(levels == known[0], -np.inf, levels - margin) * scale
    high = np.where(levels == known[-1], np.inf, levels + margin) * scale
    return np.clip(weight, low, high).astype(np.float32), scales


def stored_weight(
    model: Artifact, name: str, codes: Sequence[WeightCode], nested_precisions: Sequence[int]
) -> FloatWeight | EightBitWeight | PackedWeight:
    """Return the stored weight of a trained layer."""
    code, weight = codes[0], model.weights[f"{name}.weight"]
    if code.bits >= 16:
        return FloatWeight(weight.astype(np.float16 if code.bits == 16 else np.float32))
    if code.bits == 8:
        return EightBitWeight(*round_weight(weight))
    log_scales = model.weights[f"{name}.log_weight_scale"].reshape(len(codes), len(weight), -1)
    flat = torch.from_numpy(weight.reshape(len(weight), -1))
    found = weight_levels(flat, torch.from_numpy(log_scales[0]), code)
    levels, multipliers, scale = (value.numpy() for value in found)
    groups = np.rint(multipliers).astype(np.uint8) if multipliers.shape[1] > 1 else None
    whole = np.rint(levels).astype(np.int8).reshape(weight.shape)
    fewer = {bits: np.exp(log[:, 0]) for bits, log in zip(nested_precisions, log_scales[1:], strict=True)}
    return PackedWeight.pack(whole, scale, code.bits, code.table, groups, fewer)


def stored_rounding(model: Artifact, owner: str, bits: int) -> Rounding:
    """Return the rounding of an input, which was trained under the name of one of its layers."""
    zero = model.weights.get(f"{owner}.input_zero")
    offset = input_range(None if zero is None else torch.from_numpy(zero), bits)[2]
    return Rounding(
        np.exp(model.weights[f"{owner}.log_input_scale"])[0],
        np.array(float(offset), np.int8 if zero is None else np.uint8),
        bits,
        shift=model.weights.get(f"{owner}.input_shift"),
    )
