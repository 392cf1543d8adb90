"""Count the multiply-accumulate operations of a network from its geometry.

The products of convolutions, linear layers and attention count, as in publications; norms, activations and
softmax, a few per cent, do not.
"""

from __future__ import annotations

from littlefoot.artifact import Artifact, linear
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import Layer


def macs(config: ModelConfig, samples: int) -> dict[str, int]:
    """Count the multiply-accumulates of one pass over a number of samples, by the name of the layer.

    A layer that several Transformer layers share counts once for each use. The products of attention,
    which have no weights, are ``encoder.layers.N.attention.scores`` and ``.attention.mixing``.
    """
    layers = inventory(config)
    return {layer.name: count for layer in layers if (count := layer.macs(samples))}


def macs_by_width(artifact: Artifact, samples: int) -> tuple[int, int]:
    """Count the multiply-accumulates of one pass: (in 8 bits, in floating point)."""
    counts = {True: 0, False: 0}
    for layer in inventory(artifact.config):
        counts[_is_narrow(artifact, layer)] += layer.macs(samples)
    return counts[True], counts[False]


def _is_narrow(artifact: Artifact, layer: Layer) -> bool:
    """Return True if a layer's product is computed in 8 bits, as ``runtime.onnx_ops`` chooses."""
    if not layer.multiplies:
        return any(linear.read_rounding(factor, artifact.weights) is not None for factor in layer.factors)
    product = linear.read(layer.name, artifact.weights).product
    return product in (linear.Product.STATIC, linear.Product.DYNAMIC)
