"""Describe the blocks of Transformers and Conformers."""

from __future__ import annotations

from littlefoot.network.activations import activate
from littlefoot.network.attention import AttentionCache, attend
from littlefoot.network.block_weights import BlockNames, linear
from littlefoot.network.config import ModelConfig
from littlefoot.network.operations import Ops, Tensor, same_padding


def block(
    ops: Ops,
    config: ModelConfig,
    layer: BlockNames,
    x: Tensor,
    mask: Tensor | None,
    position_bias: Tensor | None,
    reused: Tensor | None,
    valid: Tensor | None = None,
    cache: AttentionCache | None = None,
) -> tuple[Tensor, Tensor, AttentionCache | None]:
    """Run one block, of a Transformer (pre-norm or post-norm) or a Conformer: (B, F, D) -> (B, F, D).

    Args:
        position_bias: of all blocks: WavLM's bias (H, F, F), or SEW-D's table of distances (1, N, D).
        valid: (B, F), 1 for frames that convolutions read; without it, they read all.
        reused: the map (B, H, F, F) of another layer, which replaces the layer's own.
        cache: keys and values of the frames before a chunk of a stream.

    Returns the output, the attention map, and in a stream the keys and values of the chunk.
    """
    eps = config.layer_norm_eps
    if config.layer_depth_embedding:
        x = x + ops.weight(f"{layer.own}.depth_embedding")
    if config.family.block == "conformer":
        return _conformer_block(ops, config, layer, x, mask, valid, reused)
    if config.do_stable_layer_norm:
        normed = ops.layer_norm(x, f"{layer.norms}.layer_norm", eps)
        y, attention, made = attend(ops, config, layer, normed, mask, position_bias, reused, cache)
        x = x + y
        normed = ops.layer_norm(x, f"{layer.norms}.final_layer_norm", eps)
        x = x + _feed_forward(ops, config, layer, normed)
        if config.adapter_attn_dim is not None:
            x = x + _adapter(ops, f"{layer.block}.adapter_layer", x)
        return x, attention, made
    y, attention, made = attend(ops, config, layer, x, mask, position_bias, reused, cache)
    x = ops.layer_norm(x + y, f"{layer.norms}.layer_norm", eps)
    x = x + _feed_forward(ops, config, layer, x)
    return ops.layer_norm(x, f"{layer.norms}.final_layer_norm", eps), attention, made


def _conformer_block(
    ops: Ops,
    config: ModelConfig,
    layer: BlockNames,
    x: Tensor,
    mask: Tensor | None,
    valid: Tensor | None,
    reused: Tensor | None,
) -> tuple[Tensor, Tensor, None]:
    """Run one block of a Conformer (Gulati et al. 2020): (B, F, D) -> (B, F, D)."""
    eps = config.family.block_norm_eps or config.layer_norm_eps

    def normed(x: Tensor, name: str) -> Tensor:
        return ops.layer_norm(x, f"{layer.norms}.{name}", eps)

    y = _feed_forward(ops, config, layer, normed(x, "first_feed_forward_norm"), "first_feed_forward")
    x = x + y * 0.5
    y, attention, _ = attend(ops, config, layer, normed(x, "layer_norm"), mask, None, reused, None)
    x = x + y
    x = x + _convolution_module(ops, config, layer, normed(x, "conv_module.layer_norm"), valid)
    x = x + _feed_forward(ops, config, layer, normed(x, "feed_forward_norm")) * 0.5
    return normed(x, "final_layer_norm"), attention, None


def _convolution_module(
    ops: Ops, config: ModelConfig, layer: BlockNames, x: Tensor, valid: Tensor | None
) -> Tensor:
    """Apply a gated convolution of each channel by itself, (B, F, D) -> (B, F, D)."""
    gate = ops.sigmoid(linear(ops, config, layer, x, "conv_module.pointwise_conv1.gate"))
    x = linear(ops, config, layer, x, "conv_module.pointwise_conv1.value") * gate
    if valid is not None:
        x = x * ops.reshape(valid, (0, -1, 1))
    name, kernel = f"{layer.block}.conv_module.depthwise_conv", config.conv_depthwise_kernel_size
    causal = config.family.convolution_norm == "layer"
    padding = (kernel - 1, 0) if causal else same_padding(kernel)
    x = ops.conv1d(ops.transpose(x, (0, 2, 1)), name, padding=padding, groups=config.hidden_size)
    x = ops.transpose(x, (0, 2, 1))
    if causal:
        norm = f"{layer.norms}.conv_module.depthwise_layer_norm"
        x = ops.layer_norm(x, norm, config.family.block_norm_eps or config.layer_norm_eps)
    x = activate(ops, x, config.hidden_act)
    x = linear(ops, config, layer, x, "conv_module.pointwise_conv2")
    return ops.dropout(x, config.conformer_conv_dropout)


def _feed_forward(
    ops: Ops, config: ModelConfig, layer: BlockNames, x: Tensor, part: str = "feed_forward"
) -> Tensor:
    """Apply the feed-forward layers, (B, F, D) -> (B, F, D)."""
    x = activate(ops, linear(ops, config, layer, x, f"{part}.intermediate_dense"), config.hidden_act)
    x = ops.dropout(x, config.activation_dropout)
    return ops.dropout(linear(ops, config, layer, x, f"{part}.output_dense"), config.hidden_dropout)


def _adapter(ops: Ops, name: str, x: Tensor) -> Tensor:
    """Apply MMS's bottleneck of a language (Pratap et al. 2023, section 4.1)."""
    x = ops.layer_norm(x, f"{name}.norm", 1e-5)
    x = ops.activation(ops.linear(x, f"{name}.linear_1"), "relu")
    return ops.linear(x, f"{name}.linear_2")
