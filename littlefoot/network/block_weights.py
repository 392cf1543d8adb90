"""Name the weights of a Transformer layer, which may be those of a shared block, and apply its matrices."""

from __future__ import annotations

from dataclasses import dataclass

from littlefoot.network.config import ModelConfig
from littlefoot.network.layers import block_name
from littlefoot.network.operations import Ops, Tensor


@dataclass(frozen=True)
class BlockNames:
    """The names of a Transformer layer's weights, which may be those of a shared block and some of its
    own.
    """

    block: str
    norms: str
    own: str
    number: int

    @classmethod
    def of(cls, config: ModelConfig, number: int) -> BlockNames:
        own, block = block_name(number), block_name(config.block(number))
        return cls(block, own if config.layer_norms else block, own, number)


def linear(ops: Ops, config: ModelConfig, layer: BlockNames, x: Tensor, part: str) -> Tensor:
    """Apply a linear layer of the block, or its two factors, and the low-rank delta of this layer."""
    name = f"{layer.block}.{part}"
    if name in config.linear_ranks:
        y = ops.linear(ops.linear(x, f"{name}.down"), f"{name}.up")
    else:
        y = ops.linear(x, name)
    if config.layer_delta_rank:
        y = y + ops.linear(ops.linear(x, f"{layer.own}.delta.{part}.down"), f"{layer.own}.delta.{part}.up")
    return y
