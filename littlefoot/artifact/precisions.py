"""Select one of the nested precisions of an artifact.

The codes of a nested precision are the first bits of the stored codes. A layer NAME with a symmetric
codebook, -(2^b - 1) ... 2^b - 1 in steps of 2, has a further scale ``NAME.weight_scale_K`` (C',) for K bits.
A code of K bits is the upper K bits of the stored code, so a precision costs only a scale for each row.
``littlefoot.compress.lowbit`` trains the precisions together. The idea is called "any precision" by Park et
al. (2024) and "Matryoshka" by Nair et al. (2025).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from littlefoot.artifact.artifact import Artifact
from littlefoot.artifact.linear import PackedWeight, StoredLayer, packed_layers, put, read
from littlefoot.artifact.packing import symmetric
from littlefoot.errors import ConfigError
from littlefoot.network.provenance import Quantization


def upper_bits(levels: Any, bits: int, fewer: int) -> Any:
    """Turn symmetric levels of ``bits`` bits into those of ``fewer`` bits whose codes are their first bits.

    The levels may be int8 or floating point, of any shape.
    """
    return 2 * ((levels + ((1 << bits) - 1)) // (2 << (bits - fewer))) + (1 - (1 << fewer))


def at_bits(artifact: Artifact, bits: int) -> Artifact:
    """Return the model at one of its precisions, as an artifact of that precision alone.

    Layers of fewer bits keep them, with the scales that were trained for this precision.

    Raises ConfigError for a precision that the artifact does not have.
    """
    quantization = artifact.config.littlefoot.quantization or Quantization()
    known = quantization.precisions
    if bits not in known:
        raise ConfigError(
            f"the model cannot run with {bits} bits: it has {' and '.join(map(str, known))}"
            if known
            else f"the model cannot run with {bits} bits: it was not trained for several precisions "
            "(nested precisions)"
        )
    stored, biases = artifact.weights, {}
    layers: dict[str, StoredLayer] = {}
    for name in packed_layers(stored):
        layer = read(name, stored)
        weight = layer.weight
        assert isinstance(weight, PackedWeight)
        if (scale := weight.fewer.get(bits)) is None:
            layers[name] = replace(layer, weight=replace(weight, fewer={}))
            continue
        kept, levels = min(weight.bits, bits), weight.levels
        fewer = upper_bits(levels, weight.bits, kept)
        made = PackedWeight.pack(fewer, scale, kept, symmetric(kept) if kept > 1 else ())
        layers[name] = replace(layer, weight=made)
        if layer.inputs is not None and (shift := layer.inputs.shift) is not None:
            change = fewer * scale[:, None] - levels * weight.scale[:, None]  # the shift's part of the bias
            biases[f"{name}.bias"] = (stored[f"{name}.bias"] + change @ shift).astype(np.float32)
    weights = put(stored, layers) | biases
    section = {key: value for key, value in quantization.to_dict().items() if key != "precisions"}
    config = artifact.config.noting(quantization=section | {"bits": bits})
    return replace(artifact, weights=weights, config=config)
