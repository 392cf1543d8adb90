"""Estimate the bytes of a candidate from its geometry alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from littlefoot.artifact.packing import WeightCode, layer_bytes, symmetric
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import WAVEFORM_LAYER, Part
from littlefoot.network.weights import expected_weights, packable

MethodCall = tuple[str, Mapping[str, Any]]
"""A method and its settings, as in a recipe."""

ROUNDING = ("quantize", "lowbit")
"""Methods that lower the precision; they come last."""
HEADER_BYTES = 130
"""Approximate bytes of a tensor's name, shape and checksum in a file."""
SCALES = 4
"""Approximate number of additional tensors of a quantized weight."""
SLACK = 0.05
"""Largest relative error of ``rough_bytes``."""


def rough_bytes(config: ModelConfig, steps: Sequence[MethodCall]) -> float:
    """Estimate the bytes of a model's file after these steps, within SLACK and without building it.

    Args:
        config: the model's configuration after the steps that change its shape.
    """
    method, values = next((step for step in steps if step[0] in ROUNDING), ("", {"bits": 32}))
    if "budget_mb" in values:
        return header_bytes(config, 8) + 1e6 * float(values["budget_mb"])
    bits, positions = values.get("bits", 8), values.get("positions", 8)
    total = float(header_bytes(config, bits))
    layers = inventory(config)
    for name, shape in expected_weights(config).items():
        layer, numbers = layers.owner(name), math.prod(shape)
        matrix = layer.multiplies and name == f"{layer.name}.weight"
        if bits == 32 or not matrix or layer.name == WAVEFORM_LAYER:
            total += 4 * numbers
        elif bits < 8 and layer.packable:
            code = WeightCode(bits, symmetric(2) if method == "lowbit" and bits == 2 else ())
            total += layer_bytes((shape[0], numbers // shape[0]), code)
        else:
            width = positions if layer.part is Part.POSITIONS else 8
            total += numbers * width / 8 + 4 * shape[0]
    return total


def header_bytes(config: ModelConfig, bits: int) -> int:
    """Estimate the bytes of the names, shapes and checksums of a model's tensors in its file."""
    layers = inventory(config)
    tensors = 0
    for name in expected_weights(config):
        layer = layers.owner(name)
        quantized = bits < 32 and layer.multiplies and name == f"{layer.name}.weight"
        tensors += 1 + SCALES * quantized
    return HEADER_BYTES * tensors


def mixed_megabytes(config: ModelConfig, bits: float) -> float:
    """Estimate the MB of a model's weights.

    Args:
        bits: mean bits of the weights of the Transformer's linear layers; the other weights have 8.
    """
    in_8_bits = rough_bytes(config, [("quantize", {"bits": 8})]) - header_bytes(config, 8)
    numbers = sum(math.prod(shape) for shape in packable(config).values())
    return (in_8_bits - numbers * (8 - bits) / 8) / 1e6
