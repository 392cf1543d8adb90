"""Storage and estimated run time of low-bit speech models, as Yeh et al. (2022) account for them.

Megabytes are 10^6 bytes. The laws are inferred from the paper's table, which they give to 0.01 MB: the
Transformer's linear weights have b bits and all other parameters 16; a quantized model has besides a
learned shift before each layer's queries, keys and values, 16 bits each. The run time is an estimate:
products with quantized weights take b / 32 of their time in full precision, and they are 91 % of it. What a
model of ours really takes on the disk and in seconds stands beside it in RESULTS.md.
"""

from __future__ import annotations

import math

from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import Part, inventory
from littlefoot.network.weights import expected_weights, packable

PAPER_PARAMETERS = 92_210_000
"""Of the paper's model: its 184.42 MB in 16 bits."""
BASE_LINEAR_WEIGHTS = 84_934_656
"""Of the Transformer of a BASE model: 12 layers of 4 * 768^2 + 2 * 768 * 3072."""
BASE_SHIFTS = 12 * 3 * 768
"""Shifts before queries, keys and values of a BASE model."""
LINEAR_SHARE = 0.91
"""Of the run time in full precision: products with the Transformer's linear weights."""


def linear_weights(config: ModelConfig) -> int:
    """How many weights of a model the law quantizes: those of the Transformer's linear layers."""
    return sum(math.prod(shape) for shape in packable(config).values())


def storage_mb(parameters: int, quantized: int, bits: int, shifts: int = 0) -> float:
    """Megabytes of a model.

    Args:
        parameters: all of them.
        quantized: those of b bits; the others have 16.
        bits: 16 is the model in full precision, which needs no shifts.
        shifts: learned shifts, of 16 bits.
    """
    others = parameters - quantized + (shifts if bits < 16 else 0)
    return (2 * others + quantized * bits / 8) / 1e6


def model_storage_mb(config: ModelConfig, bits: int) -> float:
    """``storage_mb`` of a recogniser of this geometry, without its CTC head, as the paper counts."""
    layers = inventory(config)
    shapes = expected_weights(config)
    parameters = sum(
        math.prod(shape) for name, shape in shapes.items() if layers.owner(name).part is not Part.HEAD
    )
    shifts = 3 * config.hidden_size * config.num_hidden_layers
    return storage_mb(parameters, linear_weights(config), bits, shifts)


def estimated_runtime(bits: int) -> float:
    """Run time as a share of that in 32 bits."""
    return 1 - LINEAR_SHARE + LINEAR_SHARE * bits / 32
