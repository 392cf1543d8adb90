"""Names and shapes of a model's weights, as its inventory has them."""

from __future__ import annotations

from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import Shape, inventory


def expected_weights(config: ModelConfig) -> dict[str, Shape]:
    """Every weight that ``littlefoot.network.encoder`` reads: name without the model's prefix -> shape.

    Weight norm is folded: the positional convolution has one ``weight``.
    """
    return {
        name: tuple(d if isinstance(d, int) else d.size * d.width for d in dimensions)
        for name, dimensions in inventory(config).tensors.items()
    }


def packable(config: ModelConfig) -> dict[str, Shape]:
    """The layers that may have fewer than 8 bits, and the shapes of their weights: the linear layers of the
    Transformer's blocks."""
    return {layer.name: layer.shape for layer in inventory(config) if layer.packable}
