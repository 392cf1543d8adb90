"""Compute storage and estimated run time of low-bit speech models, as Yeh et al. (2022) account for them.

Megabytes are 10^6 bytes. The formulas are inferred from the paper's table, which they reproduce to 0.01 MB.
The Transformer's linear weights have b bits and all other parameters 16. A quantized model also has a learned
offset before each layer's queries, keys and values, 16 bits each. The run time is an estimate: products with
quantized weights take b / 32 of their time in full precision, and they are 91 % of it. RESULTS.md has the
measured size and time of littlefoot's models.
"""

from __future__ import annotations

import math

from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import Part
from littlefoot.network.weights import expected_weights, packable

PAPER_PARAMETERS = 92_210_000
"""Number of parameters of the paper's model, from its 184.42 MB in 16 bits."""
BASE_LINEAR_WEIGHTS = 84_934_656
"""Weights of the linear layers of a BASE model's Transformer: 12 layers of 4 * 768^2 + 2 * 768 * 3072."""
BASE_SHIFTS = 12 * 3 * 768
"""Number of offsets before queries, keys and values of a BASE model."""
LINEAR_SHARE = 0.91
"""Share of the run time in full precision of products with the Transformer's linear weights."""


def linear_weights(config: ModelConfig) -> int:
    """Count the weights that the formula quantizes: those of the Transformer's linear layers."""
    return sum(math.prod(shape) for shape in packable(config).values())


def storage_mb(parameters: int, quantized: int, bits: int, shifts: int = 0) -> float:
    """Compute the storage of a model in units of 10^6 bytes.

    Args:
        parameters: number of all parameters.
        quantized: number of those with b bits; the others have 16.
        bits: 16 for the model in full precision, which needs no offsets.
        shifts: number of learned activation offsets, of 16 bits each.
    """
    others = parameters - quantized + (shifts if bits < 16 else 0)
    return (2 * others + quantized * bits / 8) / 1e6


def model_storage_mb(config: ModelConfig, bits: int) -> float:
    """Compute ``storage_mb`` of a recogniser of this geometry, without its CTC head, as the paper counts."""
    layers = inventory(config)
    shapes = expected_weights(config)
    parameters = sum(
        math.prod(shape) for name, shape in shapes.items() if layers.owner(name).part is not Part.HEAD
    )
    shifts = 3 * config.hidden_size * config.num_hidden_layers
    return storage_mb(parameters, linear_weights(config), bits, shifts)


def estimated_runtime(bits: int) -> float:
    """Estimate the run time as a share of that in 32 bits."""
    return 1 - LINEAR_SHARE + LINEAR_SHARE * bits / 32
