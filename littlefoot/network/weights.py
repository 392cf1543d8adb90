"""List the names and shapes of a model's weights, from its inventory."""

from __future__ import annotations

from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import Shape


def expected_weights(config: ModelConfig) -> dict[str, Shape]:
    """List every weight that ``littlefoot.network.encoder`` reads: name without the model's prefix -> shape.

    Weight norm is folded: the positional convolution has one ``weight``.
    """
    return {
        name: tuple(d if isinstance(d, int) else d.size * d.width for d in dimensions)
        for name, dimensions in inventory(config).tensors.items()
    }


def packable(config: ModelConfig) -> dict[str, Shape]:
    """List the layers that may have fewer than 8 bits, the linear layers of the Transformer's blocks, with
    the shapes of their weights.
    """
    return {layer.name: layer.shape for layer in inventory(config) if layer.packable}
