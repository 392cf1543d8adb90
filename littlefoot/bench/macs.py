"""Multiply-accumulate operations of a network, computed from its geometry.

Counted are the products of convolutions, linear layers and attention, as published model sizes count them;
norms, activations and softmax, a few per cent, are not.
"""

from __future__ import annotations

from littlefoot.artifact import Artifact, linear
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import Layer, inventory


def macs(config: ModelConfig, samples: int) -> dict[str, int]:
    """Multiply-accumulates of one pass over so many samples, by the name of the layer that does them.

    A layer that several Transformer layers share counts as often as it is used. The products of attention,
    which have no weights, are ``encoder.layers.N.attention.scores`` and ``.attention.mixing``.
    """
    layers = inventory(config)
    return {layer.name: count for layer in layers if (count := layer.macs(samples))}


def macs_by_width(artifact: Artifact, samples: int) -> tuple[int, int]:
    """Multiply-accumulates of one pass: (in 8 bits, in floating point)."""
    counts = {True: 0, False: 0}
    for layer in inventory(artifact.config):
        counts[_is_narrow(artifact, layer)] += layer.macs(samples)
    return counts[True], counts[False]


def _is_narrow(artifact: Artifact, layer: Layer) -> bool:
    """Whether a layer's product is one of 8-bit numbers, as ``runtime.onnx_ops`` chooses."""
    if not layer.multiplies:
        return any(linear.read_rounding(factor, artifact.weights) is not None for factor in layer.factors)
    product = linear.read(layer.name, artifact.weights).product
    return product in (linear.Product.STATIC, linear.Product.DYNAMIC)
