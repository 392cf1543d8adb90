"""Describe multi-head self-attention, of whole recordings and of the chunks of a stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from littlefoot.network.block_weights import BlockNames, linear
from littlefoot.network.config import ModelConfig
from littlefoot.network.distances import (
    disentangled,
    distance_scores,
    near_distance_scores,
    position_gate,
    rotated,
)
from littlefoot.network.operations import MASKED_SCORE, Ops, Tensor


@dataclass(frozen=True)
class AttentionCache:
    """Keys (B, H, K, L) and values (B, H, L, K) of one layer: of the frames before a chunk, or of its own.

    They are multiplied separately, because joining them would copy all earlier frames for every chunk.
    """

    keys: Tensor | None
    """Keys; None if the layer uses another's attention map."""
    values: Tensor
    seen: Tensor
    """Number of real frames before the chunk, from the first: (B,)."""


def attend(
    ops: Ops,
    config: ModelConfig,
    layer: BlockNames,
    x: Tensor,
    mask: Tensor | None,
    position_bias: Tensor | None,
    reused: Tensor | None,
    cache: AttentionCache | None,
) -> tuple[Tensor, Tensor, AttentionCache | None]:
    """Compute multi-head self-attention: (B, F, D) -> (B, F, D), its map (B, H, F, F), and in a stream the
    keys and values of the chunk.

    A pruned layer's weights have fewer heads.
    """
    value = linear(ops, config, layer, x, "attention.v_proj")
    value = ops.transpose(ops.reshape(value, (0, 0, -1, config.head_dim)), (0, 2, 1, 3))  # (B, H, F, K)
    attention, key = reused, None
    if attention is None:
        attention, key = _attention_map(ops, config, layer, x, mask, position_bias, cache)
    made = None if cache is None else AttentionCache(key, value, cache.seen)
    taken = ops.dropout(attention, config.attention_dropout)
    if cache is None:
        x = ops.matmul(taken, value)  # (B, H, F, K)
    else:
        left = config.left_block_frames
        past = ops.matmul(ops.slice(taken, 3, 0, left), cache.values)
        x = past + ops.matmul(ops.slice(taken, 3, left, None), value)
    x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (0, 0, -1))  # (B, F, H * K)
    y = ops.dropout(linear(ops, config, layer, x, "attention.out_proj"), config.hidden_dropout)
    return y, attention, made


def _attention_map(
    ops: Ops,
    config: ModelConfig,
    layer: BlockNames,
    x: Tensor,
    mask: Tensor | None,
    position_bias: Tensor | None,
    cache: AttentionCache | None,
) -> tuple[Tensor, Tensor]:
    """Compute the attention map, with a row for each frame: (B, H, F, F), in a stream (B, H, F, L + F); and
    the keys (B, H, K, F)."""
    split, scale = (0, 0, -1, config.head_dim), config.head_dim**-0.5  # (B, F, H, K)
    if config.position_embeddings_type == "rotary":
        x = rotated(ops, config, x)
    query = linear(ops, config, layer, x, "attention.q_proj")
    key = linear(ops, config, layer, x, "attention.k_proj")
    distances = None
    if config.position_embeddings_type == "relative":
        distances = distance_scores(ops, config, layer, query) * scale
        query = query + ops.weight(f"{layer.block}.attention.pos_bias_u")
    if config.family.disentangled:
        scale = (3 * config.head_dim) ** -0.5  # of three products that are added
        distances = disentangled(ops, config, layer, query, key, position_bias) * scale
    query = query * scale
    if config.position_embeddings_type == "relative_key":
        distances = near_distance_scores(ops, config, layer, query)
    query = ops.transpose(ops.reshape(query, split), (0, 2, 1, 3))  # (B, H, F, K)
    key = ops.transpose(ops.reshape(key, split), (0, 2, 3, 1))  # (B, H, K, F)
    scores = ops.matmul(query, key, f"{layer.block}.attention.scores")
    if cache is not None:
        past = ops.matmul(query, cache.keys, f"{layer.block}.attention.scores")
        scores = ops.concat([past, scores], axis=3)  # (B, H, F, L + F)
        # OpenVINO 2026.4 adds a mask wrongly to the product of one factor that is computed in 8 bits.
        mask = _start_mask(ops, config, scores, cache.seen)
    if config.family.relative_positions:
        gate = position_gate(ops, f"{layer.block}.attention", ops.reshape(x, split))  # (B, H, F, 1)
        scores = scores + gate * position_bias
    if distances is not None:
        scores = scores + distances
    return ops.softmax(scores if mask is None else scores + mask), key


def _start_mask(ops: Ops, config: ModelConfig, scores: Tensor, seen: Tensor) -> Tensor:
    """Return (B, 1, 1, L + F): MASKED_SCORE for those of the L frames that the stream has not filled yet."""
    place = ops.reshape(ops.positions(scores, axis=3), (1, -1))
    past = ops.less(place, ops.constant(np.array([[config.left_block_frames]])))
    filled = ops.less(place, ops.reshape(seen, (-1, 1)))  # (B, L + F)
    return ops.reshape((past - filled) * MASKED_SCORE, (0, 1, 1, -1))
