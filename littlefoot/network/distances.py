"""Describe positions in attention: biases, rotations and products by the distance of two frames.

Products with all distances have shape (B, H, F, 2 F), and ``Ops.skew`` takes the pairs of frames from them.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from littlefoot.network.block_weights import BlockNames, linear
from littlefoot.network.config import ModelConfig
from littlefoot.network.operations import Ops, Tensor


def distance_scores(ops: Ops, config: ModelConfig, layer: BlockNames, query: Tensor) -> Tensor:
    """Compare queries (B, F, H * K) with all distances, as Transformer-XL (Dai et al. 2019): (B, H, F, F)."""
    name, split = f"{layer.block}.attention", (0, 0, -1, config.head_dim)
    width = config.hidden_size
    rates = np.exp(np.arange(0, width, 2) * -(math.log(10_000) / width)).astype(np.float32)
    waves = ops.reshape(ops.sinusoids(_distances(ops, query), rates), (0, 2, -1))  # (2 F, 2, D / 2)
    waves = ops.reshape(ops.transpose(waves, (0, 2, 1)), (1, -1, width))  # sine beside cosine
    known = ops.reshape(ops.linear(waves, f"{name}.linear_pos"), split)  # (1, 2 F, H, K)
    query = ops.reshape(query + ops.weight(f"{name}.pos_bias_v"), split)
    return ops.skew(
        ops.matmul(ops.transpose(query, (0, 2, 1, 3)), ops.transpose(known, (0, 2, 3, 1)))
    )  # (B, H, F, 2 F)


def near_distance_scores(ops: Ops, config: ModelConfig, layer: BlockNames, query: Tensor) -> Tensor:
    """Compare queries (B, F, H * K) with a vector for each distance (Shaw et al. 2018): (B, H, F, F)."""
    before, after = config.left_max_position_embeddings, config.right_max_position_embeddings
    ahead = ops.clip(_distances(ops, query) * -1, -before, after) + before  # from column to row
    table = ops.gather(ops.weight(f"{layer.block}.attention.distance_embedding.weight"), ahead)  # (2 F, K)
    query = ops.transpose(ops.reshape(query, (0, 0, -1, config.head_dim)), (0, 2, 1, 3))
    return ops.skew(ops.matmul(query, ops.transpose(table, (1, 0))))


def _distances(ops: Ops, x: Tensor) -> Tensor:
    """Return the distances from row to column as ``Ops.skew`` needs them, F ... 1 - F: (2 F,)."""
    frame = ops.positions(x, axis=1)  # (F,)
    return ops.concat([ops.last(frame, 0, 1) + 1 - frame, frame * -1], axis=0)


def disentangled(
    ops: Ops, config: ModelConfig, layer: BlockNames, query: Tensor, key: Tensor, table: Tensor
) -> Tensor:
    """Compare queries and keys (B, F, H * K) with a table of distances (1, N, D): (B, H, F, F).

    DeBERTa's content-to-position and position-to-content scores (He et al. 2021, equation 4).
    """
    limit = config.max_position_embeddings
    rows = ops.constant(distance_rows(config.position_buckets, limit))  # (2 * limit + 1,)
    distance = _distances(ops, query)
    total = None
    for values, other, distances in ((query, "k_proj", distance), (key, "q_proj", distance * -1)):
        known = linear(ops, config, layer, table, f"attention.{other}")  # (1, N, H * K)
        known = ops.reshape(known, (-1, config.attention_heads(layer.number) * config.head_dim))
        known = ops.gather(known, ops.gather(rows, ops.clip(distances, -limit, limit) + limit))
        known = ops.reshape(known, (1, -1, config.attention_heads(layer.number), config.head_dim))
        values = ops.transpose(ops.reshape(values, (0, 0, -1, config.head_dim)), (0, 2, 1, 3))
        scores = ops.skew(ops.matmul(values, ops.transpose(known, (0, 2, 3, 1))))
        total = scores if total is None else total + ops.transpose(scores, (0, 1, 3, 2))
    return total


def distance_rows(buckets: int, limit: int) -> npt.NDArray[np.int64]:
    """Return the row of SEW-D's table for each distance from -limit to limit: (2 * limit + 1,).

    As in DeBERTa (He et al. 2021): near distances have a row each, far ones share rows logarithmically, and
    those beyond the limit have the limit's. The steps are those of the training code, in float32, because the
    borders depend on rounding.
    """
    distance, middle = np.arange(-limit, limit + 1), buckets // 2
    size = np.maximum(np.abs(distance), middle - 1).astype(np.float32)
    ratio = np.log(size / np.float32(middle)) / np.log(np.float32((limit - 1) / middle))
    far = np.ceil(ratio * np.float32(middle - 1)).astype(np.int64) + middle
    row = np.where(np.abs(distance) <= middle, distance, far * np.sign(distance))
    rows: npt.NDArray[np.int64] = np.clip(row + buckets, 0, 2 * buckets - 1)
    return rows


def rotated(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """Rotate pairs of channels in each head by the frame's number (Su et al. 2021): (B, F, D)."""
    width, heads = config.head_dim, config.num_attention_heads
    rates = config.rotary_embedding_base ** (-np.arange(0, width, 2) / width)
    waves = ops.sinusoids(ops.positions(x, axis=1), rates.astype(np.float32))  # (F, K)
    waves = ops.reshape(waves, (0, 1, -1))
    sine, cosine = ops.slice(waves, 2, 0, width // 2), ops.slice(waves, 2, width // 2, None)
    x = ops.reshape(x, (0, 0, heads, width))
    first, second = ops.slice(x, 3, 0, width // 2), ops.slice(x, 3, width // 2, None)
    turned = [first * cosine - second * sine, second * cosine + first * sine]
    return ops.reshape(ops.concat(turned, axis=3), (0, 0, -1))


def relative_positions(ops: Ops, config: ModelConfig, name: str, x: Tensor) -> Tensor:
    """Compute WavLM's bucketed bias by relative position, once for all blocks: (H, F, F)."""
    limit = config.max_bucket_distance
    buckets = ops.constant(relative_buckets(config.num_buckets, limit))  # (2 * limit + 1,)
    table = ops.gather(ops.weight(f"{name}.weight"), buckets)
    frame = ops.positions(x, axis=1)  # (F,)
    distance = ops.reshape(frame, (1, -1)) - ops.reshape(frame, (-1, 1))  # (F, F)
    bias = ops.gather(table, ops.clip(distance, -limit, limit) + limit)  # (F, F, H)
    return ops.transpose(bias, (2, 0, 1))


def relative_buckets(num_buckets: int, max_distance: int) -> npt.NDArray[np.int64]:
    """Return the bucket of each distance from -max_distance to max_distance: (2 * max_distance + 1,).

    As in T5 (Raffel et al. 2020): half of the buckets for each direction; near distances have one each,
    far ones share logarithmically. All distances beyond the limit fall into the limit's bucket.
    """
    half = num_buckets // 2
    exact = half // 2
    distance = np.arange(-max_distance, max_distance + 1)
    size = np.abs(distance)
    # float32 step by step, as the checkpoints' training code does it: bucket borders depend on rounding.
    ratio = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(exact))
    ratio = ratio / np.float32(math.log(max_distance / exact)) * np.float32(half - exact)
    far = np.minimum((np.float32(exact) + ratio).astype(np.int64), half - 1)
    buckets: npt.NDArray[np.int64] = np.where(size < exact, size, far) + half * (distance > 0)
    return buckets


def position_gate(ops: Ops, name: str, x: Tensor) -> Tensor:
    """Compute WavLM's gate on the relative position bias: (B, F, H, K) -> (B, H, F, 1)."""
    x = ops.linear(ops.transpose(x, (0, 2, 1, 3)), f"{name}.gru_rel_pos_linear")  # (B, H, F, 8)
    x = ops.sigmoid(ops.sum(ops.reshape(x, (0, 0, -1, 2, 4)), axis=4))  # (B, H, F, 2)
    update, reset = ops.slice(x, 3, 0, 1), ops.slice(x, 3, 1, 2)
    return update * (reset * ops.weight(f"{name}.gru_rel_pos_const") - 1.0) + 2.0
