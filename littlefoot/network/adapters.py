"""Describe the layers with strides behind the blocks (``add_adapter``)."""

from __future__ import annotations

from littlefoot.network.activations import activate
from littlefoot.network.config import ModelConfig
from littlefoot.network.operations import MASKED_SCORE, Ops, Tensor


def adapters(ops: Ops, config: ModelConfig, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Run the convolutions behind the blocks: (B, F, D) -> (B, F', D'), fewer frames.

    Frames behind the ``lengths`` (B,) are zero for each of them, as what lies behind a recording's end.
    """
    x = _projected(ops, config, x)
    for layer in range(config.num_adapter_layers):
        read = None if lengths is None else ops.reshape(ops.valid(lengths, x, axis=1), (0, -1, 1))
        name = f"adapter.layers.{layer}"
        if lengths is not None:
            lengths = (lengths + (config.adapter_stride - 1)) // config.adapter_stride
        if config.family.adapters == "attention":
            x = _attention_adapter(ops, config, name, x, read, lengths)
        else:
            x = _strided(ops, config, f"{name}.conv", x, read)
    return x


def adapt_chunk(
    ops: Ops, config: ModelConfig, x: Tensor, before: list[Tensor]
) -> tuple[Tensor, list[Tensor]]:
    """Run the convolutions on a chunk of a stream, (B, F, D) -> (B, F', D').

    A chunk has a multiple of their strides in frames, so that none looks beyond its end; the last chunk may
    have fewer.

    Args:
        before: the frame (B, 1, D') before the chunk of each convolution's input; zeros at the beginning.

    Returns:
        The output, and the frames that precede the next chunk.
    """
    x, after = _projected(ops, config, x), []
    for layer in range(config.num_adapter_layers):
        after.append(ops.last(x, 1, 1))
        x = ops.concat([before[layer], x], axis=1)
        x = _strided(ops, config, f"adapter.layers.{layer}.conv", x, None, padding=(0, 1))
    return x, after


def _projected(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """Bring x (B, F, D) to the adapters' width, (B, F, D')."""
    if config.adapter_channels == config.hidden_size:
        return x
    eps = config.layer_norm_eps if config.family.adapters == "attention" else 1e-5
    return ops.layer_norm(ops.linear(x, "adapter.proj"), "adapter.proj_layer_norm", eps)


def _strided(
    ops: Ops,
    config: ModelConfig,
    name: str,
    x: Tensor,
    read: Tensor | None,
    padding: tuple[int, int] = (1, 1),
) -> Tensor:
    """Run a gated convolution with a stride, (B, F, D) -> (B, F', D); ``read`` (B, F, 1) is 1 or 0."""
    x = x if read is None else x * read
    x = ops.conv1d(ops.transpose(x, (0, 2, 1)), name, config.adapter_stride, padding=padding)
    x, width = ops.transpose(x, (0, 2, 1)), config.adapter_channels
    return ops.slice(x, 2, 0, width) * ops.sigmoid(ops.slice(x, 2, width, None))


def _attention_adapter(
    ops: Ops, config: ModelConfig, name: str, x: Tensor, read: Tensor | None, lengths: Tensor | None
) -> Tensor:
    """Run a block of w2v-BERT 2.0's adapter, (B, F, D) -> (B, F', D); ``lengths`` (B,) of its outputs."""
    eps, heads = config.layer_norm_eps, config.num_attention_heads
    kept = ops.layer_norm(x, f"{name}.residual_layer_norm", eps)
    kept = _strided(ops, config, f"{name}.residual_conv", kept, read)
    x = ops.layer_norm(x, f"{name}.self_attn_layer_norm", eps)
    x = _strided(ops, config, f"{name}.self_attn_conv", x, read)
    width = config.adapter_channels // heads
    query, key, value = (ops.linear(x, f"{name}.attention.{part}_proj") for part in ("q", "k", "v"))
    query, key, value = (
        ops.transpose(ops.reshape(y, (0, 0, heads, width)), axes)
        for y, axes in ((query * width**-0.5, (0, 2, 1, 3)), (key, (0, 2, 3, 1)), (value, (0, 2, 1, 3)))
    )
    scores = ops.matmul(query, key)
    if lengths is not None:
        scores = scores + ops.reshape((ops.valid(lengths, x, axis=1) - 1.0) * -MASKED_SCORE, (0, 1, 1, -1))
    mixed = ops.matmul(ops.dropout(ops.softmax(scores), config.attention_dropout), value)
    mixed = ops.reshape(ops.transpose(mixed, (0, 2, 1, 3)), (0, 0, -1))
    mixed = ops.linear(mixed, f"{name}.attention.out_proj")
    x = kept + ops.dropout(mixed, config.conformer_conv_dropout)
    y = ops.layer_norm(x, f"{name}.ffn_layer_norm", eps)
    y = activate(ops, ops.linear(y, f"{name}.feed_forward.intermediate_dense"), config.adapter_act)
    y = ops.linear(ops.dropout(y, config.activation_dropout), f"{name}.feed_forward.output_dense")
    return x + ops.dropout(y, config.hidden_dropout)
