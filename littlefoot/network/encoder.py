"""The network, written once.

``encode`` describes wav2vec 2.0 (Baevski et al. 2020; also XLS-R and MMS), HuBERT (Hsu et al. 2021),
WavLM (Chen et al. 2021) and data2vec-audio (Baevski et al. 2022) with a CTC head, over a small set of
operations. ``littlefoot.training.torch_ops`` plays it with tensors and gradients, for training;
``littlefoot.runtime.onnx_ops`` plays it into an ONNX graph, for inference. Weights are looked up by the
names of Hugging Face checkpoints without the model's prefix.

Shapes: B batch, T samples, C channels of the front end, F frames, D hidden size, H heads of K channels,
V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from littlefoot.audio import SAMPLE_RATE
from littlefoot.network import mel
from littlefoot.network.config import MAX_POSITIONS, ModelConfig
from littlefoot.network.inventory import block_name

Tensor = Any
"""A value of the backend in use. It understands + - * and //, with numpy's broadcasting."""

CNN_NORM_EPS = 1e-5
MASKED_SCORE = -1e9
"""Added to attention scores of padding: exp() of it is zero, and it is finite in bfloat16."""


class Ops(Protocol):
    """The operations a backend offers. ``name`` is the weights' name without .weight / .bias."""

    def segment(self, name: str, part: Callable[..., Any], *values: Any) -> Any:
        """``part(*values)``, a part of the network that uses weights below ``name``."""

    def conv1d(
        self, x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Tensor:
        """(B, C, T) -> (B, C', T')."""

    def fixed_conv1d(self, x: Tensor, kernel: npt.NDArray[np.float32], stride: int = 1) -> Tensor:
        """(B, C, T) -> (B, C', T') with a constant kernel (C', C, K), which is never quantized."""

    def linear(self, x: Tensor, name: str) -> Tensor:
        """(..., C) -> (..., C')."""

    def layer_norm(self, x: Tensor, name: str | None, eps: float, axis: int = -1) -> Tensor:
        """Normalise over ``axis``; no scale and shift where ``name`` is None."""

    def group_norm(self, x: Tensor, name: str, eps: float, valid: Tensor | None) -> Tensor:
        """Normalise each channel of (B, C, T) over time, counting only frames where ``valid`` (B, T) is 1."""

    def affine(self, x: Tensor, name: str) -> Tensor:
        """Scale and shift each channel of (B, C, T)."""

    def activation(self, x: Tensor, kind: str) -> Tensor: ...
    def log(self, x: Tensor) -> Tensor: ...
    def sigmoid(self, x: Tensor) -> Tensor: ...
    def softmax(self, x: Tensor) -> Tensor:
        """Over the last axis."""

    def matmul(self, a: Tensor, b: Tensor, name: str | None = None) -> Tensor:
        """A product of two values; one with a name may be quantized."""

    def sum(self, x: Tensor, axis: int) -> Tensor: ...
    def clip(self, x: Tensor, low: int, high: int) -> Tensor: ...
    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """0 keeps a dimension, -1 takes what is left."""

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor: ...
    def slice(self, x: Tensor, axis: int, start: int, end: int | None) -> Tensor:
        """Up to ``end``, from the end where it is negative; all that is left where it is None."""

    def concat(self, values: Sequence[Tensor], axis: int) -> Tensor: ...
    def last(self, x: Tensor, axis: int, count: int) -> Tensor:
        """The last ``count`` entries along an axis."""

    def less(self, a: Tensor, b: Tensor) -> Tensor:
        """1.0 where integers a < b, else 0.0."""

    def gather(self, table: Tensor, indices: Tensor) -> Tensor:
        """Rows of ``table``."""

    def positions(self, x: Tensor, axis: int) -> Tensor:
        """Integers 0 ... n - 1 along an axis of x."""

    def valid(self, lengths: Tensor, x: Tensor, axis: int) -> Tensor:
        """(B, n) of 1.0 before each length (B,) and 0.0 after it, n the size of x along ``axis``."""

    def weight(self, name: str) -> Tensor: ...
    def constant(self, value: npt.NDArray[Any]) -> Tensor: ...
    def dropout(self, x: Tensor, probability: float) -> Tensor:
        """Nothing, outside of training."""

    def mask_spans(self, x: Tensor) -> Tensor:
        """SpecAugment on the projected features (B, F, D); nothing, outside of training."""

    def begin_anywhere(self, positions: Tensor, count: int) -> Tensor:
        """Frame numbers (F,), shifted at random below ``count`` in training; as they are outside of it."""


@dataclass
class EncoderOutput:
    logits: Tensor
    """(B, F, V), before the softmax."""
    hidden_states: list[Tensor]
    """Input of the first block, then the output of each block, (B, F, D) each."""
    features: Tensor
    """(B, F, C): output of the convolutional front end."""
    frame_lengths: Tensor | None
    """(B,) frames of each utterance, None without ``lengths``."""


def encode(ops: Ops, config: ModelConfig, waveform: Tensor, lengths: Tensor | None = None) -> EncoderOutput:
    """Waveform (B, T) at 16 kHz -> logits (B, F, V).

    ``lengths`` (B,): samples of each utterance in a padded batch. With it, padding changes nothing:
    every utterance gets what it would get alone (frames past its own length are meaningless).
    Without it, every row is taken as full.
    """
    return encode_features(ops, config, *front_end(ops, config, waveform, lengths))


def encode_features(
    ops: Ops, config: ModelConfig, features: Tensor, lengths: Tensor | None = None
) -> EncoderOutput:
    """What follows the front end: features (B, F, C), lengths (B,) in frames -> logits (B, F, V)."""
    valid = None if lengths is None else ops.valid(lengths, features, axis=1)  # (B, F)
    x = embed(ops, config, features, valid)  # (B, F, D)
    hidden_states = transform(ops, config, x, valid)
    return EncoderOutput(head(ops, config, hidden_states[-1]), hidden_states, features, lengths)


def embed(ops: Ops, config: ModelConfig, features: Tensor, valid: Tensor | None = None) -> Tensor:
    """The front end's features (B, F, C) to the input of the first Transformer block (B, F, D)."""
    x = ops.mask_spans(project(ops, config, features))  # (B, F, D)
    frame_mask = None if valid is None else ops.reshape(valid, (0, -1, 1))  # (B, F, 1)
    if frame_mask is not None:
        x = x * frame_mask
    x = x + _positions(ops, config, x, frame_mask)
    if config.sinusoidal_positions:
        x = x + _sinusoids(ops, config, x)
    if not config.do_stable_layer_norm:
        x = ops.layer_norm(x, "encoder.layer_norm", config.layer_norm_eps)
    dropped: Tensor = ops.dropout(x, config.hidden_dropout)
    return dropped


def transform(ops: Ops, config: ModelConfig, x: Tensor, valid: Tensor | None = None) -> list[Tensor]:
    """The Transformer's blocks: the input of the first one (B, F, D), then the output of each.

    ``valid`` (B, F): 1 for frames that others attend to; all without it.
    """
    mask = (
        None if valid is None else ops.reshape((valid - 1.0) * -MASKED_SCORE, (0, 1, 1, -1))
    )  # (B, 1, 1, F)
    if config.chunk_frames:
        chunks = _chunk_mask(ops, config, x)  # (F, F)
        mask = chunks if mask is None else mask + chunks
    position_bias = None
    if config.family.relative_positions:
        name = "encoder.layers.0.attention.rel_attn_embed"
        position_bias = ops.segment(name, partial(_relative_positions, ops, config, name), x)
    hidden_states = [x]
    maps: dict[int, Tensor] = {}
    for number in range(config.num_hidden_layers):
        layer = BlockNames.of(config, number)
        reused = maps.get(config.map(number))
        x, maps[number], _ = ops.segment(
            layer.block, partial(_block, ops, config, layer), x, mask, position_bias, reused
        )
        hidden_states.append(x)
    return hidden_states


@dataclass
class StreamState:
    """What a chunk needs of the audio before it.

    N is the positional convolution's kernel less one, L the left context.
    """

    features: Tensor
    """(B, N, D): the last projected features; at the beginning (B, N - right context, D) of zeros."""
    keys: dict[int, Tensor]
    """(B, H, K, L) of each layer with an attention map of its own, of the L frames before the chunk in any
    order, as attention does not depend on it; of fewer, the first ``seen``. Of the state after a chunk: those
    of its own frames (B, H, K, C), which the caller puts in place of the oldest."""
    values: list[Tensor]
    """(B, H, L, K) of each layer, likewise."""
    seen: Tensor
    """(B,) integers: frames that the stream has given, L at most."""


def encode_chunk(
    ops: Ops, config: ModelConfig, features: Tensor, valid: Tensor, state: StreamState
) -> tuple[Tensor, StreamState]:
    """The next chunk of a stream: the front end's features to logits (B, C, V), and the state after it.

    The logits are those that ``encode`` gives for these frames of the whole recording. C is ``chunk_frames``,
    and less only at the end; ``seen`` and the frames before are for the caller to keep.

    Args:
        features: (B, new frames, C): at the beginning ``right_context_frames`` more than the logits.
        valid: (B, new frames) 1.0, and 0.0 for those after the end: as many as ``right_context_frames``
            follow the last real one.
    """
    x = project(ops, config, features) * ops.reshape(valid, (0, -1, 1))
    x = ops.concat([state.features, x], axis=1)  # (B, N + C, D)
    behind, ahead = position_padding(config)
    after = StreamState(ops.last(x, 1, behind + ahead), {}, [], state.seen)
    x = ops.slice(x, 1, behind, -ahead or None) + _position_convolution(ops, config, x, (0, 0))  # (B, C, D)
    if not config.do_stable_layer_norm:
        x = ops.layer_norm(x, "encoder.layer_norm", config.layer_norm_eps)
    maps: dict[int, Tensor] = {}
    for number in range(config.num_hidden_layers):
        layer = BlockNames.of(config, number)
        reused = maps.get(config.map(number))
        cache = AttentionCache(state.keys.get(number), state.values[number], state.seen)
        x, maps[number], made = ops.segment(
            layer.block, partial(_block, ops, config, layer), x, None, None, reused, cache
        )
        if made.keys is not None:
            after.keys[number] = made.keys
        after.values.append(made.values)
    return head(ops, config, x), after


@dataclass(frozen=True)
class AttentionCache:
    """Keys (B, H, K, L) and values (B, H, L, K) of one layer: of the frames before a chunk, or of its own.

    The two are multiplied apart: to join them would copy all of a stream's past for every chunk.
    """

    keys: Tensor | None
    """None where the layer uses another's attention map."""
    values: Tensor
    seen: Tensor
    """(B,): how many of the frames before the chunk, from the first, are real."""


def project(ops: Ops, config: ModelConfig, features: Tensor) -> Tensor:
    """(B, F, C) -> (B, F, D)."""
    if config.feat_proj_layer_norm:
        features = ops.layer_norm(features, "feature_projection.layer_norm", config.layer_norm_eps)
    return ops.dropout(ops.linear(features, "feature_projection.projection"), config.feat_proj_dropout)


def head(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """The output of a Transformer layer, as a rule the last one's, to logits: (B, F, D) -> (B, F, V)."""
    if config.do_stable_layer_norm:
        x = ops.layer_norm(x, "encoder.layer_norm", config.layer_norm_eps)
    return ops.linear(ops.dropout(x, config.final_dropout), "lm_head")


def _chunk_mask(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """(F, F): 0 where a frame, by row, attends to another, by column, and MASKED_SCORE elsewhere."""
    frame = ops.positions(x, axis=1)
    begin = ops.reshape(frame // config.chunk_frames * config.chunk_frames, (-1, 1))
    other = ops.reshape(frame, (1, -1))
    inside = ops.less(other, begin + config.chunk_frames) * ops.less(
        begin, other + (config.left_context_frames + 1)
    )
    return (inside - 1.0) * -MASKED_SCORE


def front_end(
    ops: Ops, config: ModelConfig, waveform: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """The convolutions: waveform (B, T) -> features (B, F, C), and the lengths in frames."""
    x = ops.reshape(waveform, (0, 1, -1))  # (B, 1, T)
    if config.waveform_gain != 1.0:
        x = x * config.waveform_gain
    for layer, (kernel, stride) in enumerate(zip(config.conv_kernel, config.conv_stride, strict=True)):
        if lengths is not None:
            lengths = (lengths - kernel) // stride + 1
        if layer == 0 and config.feat_extract_first == "log_mel":
            x = _log_mel(ops, config, x)
            continue
        name = f"feature_extractor.conv_layers.{layer}"
        x = ops.segment(name, partial(_convolution, ops, config, name, layer), x, lengths)
    return ops.transpose(x, (0, 2, 1)), lengths


def _log_mel(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """Log-mel spectrogram, scaled to about unit range: (B, 1, T) -> (B, C, F).

    A norm over the bands would take out how loud a frame is, which tells speech from pauses: there is none.
    """
    window, hop = config.conv_kernel[0], config.conv_stride[0]
    x = ops.fixed_conv1d(x, mel.sinusoids(window), hop)  # (B, 2 N, F): real and imaginary parts
    x = ops.fixed_conv1d(x * x, mel.bands(config.conv_dim[0], window, SAMPLE_RATE))
    return (ops.log(x + mel.FLOOR) - mel.MEAN) * (1 / mel.DEVIATION)


def _convolution(
    ops: Ops, config: ModelConfig, name: str, layer: int, x: Tensor, lengths: Tensor | None
) -> Tensor:
    """One layer of the front end: (B, C, T) -> (B, C', T'); ``lengths`` (B,) in its output's frames."""
    x = ops.conv1d(x, f"{name}.conv", config.conv_stride[layer])
    if config.feat_extract_norm == "layer":
        x = ops.layer_norm(x, f"{name}.layer_norm", CNN_NORM_EPS, axis=1)
    elif config.feat_extract_norm == "affine" and layer == 0:
        x = ops.affine(x, f"{name}.layer_norm")
    elif layer == 0:
        valid = None if lengths is None else ops.valid(lengths, x, axis=2)
        x = ops.group_norm(x, f"{name}.layer_norm", CNN_NORM_EPS, valid)
    return ops.activation(x, config.feat_extract_activation)


def _positions(ops: Ops, config: ModelConfig, x: Tensor, frame_mask: Tensor | None) -> Tensor:
    """Convolutional position embedding: (B, F, D) -> (B, F, D)."""
    groups = config.num_conv_pos_embedding_groups
    if config.family.positional == "convolution":
        return _position_convolution(ops, config, x, position_padding(config))
    for layer in range(config.num_conv_pos_embeddings):
        name = f"encoder.pos_conv_embed.layers.{layer}.conv"
        x = ops.transpose(x, (0, 2, 1))
        x = ops.conv1d(x, name, padding=_same(config.conv_pos_kernel_size), groups=groups)
        x = ops.transpose(x, (0, 2, 1))
        x = ops.layer_norm(x, None, CNN_NORM_EPS)
        x = ops.activation(x, config.feat_extract_activation)
        if frame_mask is not None:  # or padding would leak through the next layer
            x = x * frame_mask
    return x


def _sinusoids(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """Whisper's position embedding (Radford et al. 2023) for the frames of x (B, F, D): (F, D)."""
    table = sinusoids(config.hidden_size) * np.float32(config.sinusoidal_positions)
    frame = ops.begin_anywhere(ops.positions(x, axis=1), MAX_POSITIONS)  # (F,)
    return ops.gather(ops.constant(table), ops.clip(frame, 0, MAX_POSITIONS - 1))


@cache
def sinusoids(width: int) -> npt.NDArray[np.float32]:
    """Sines, then cosines, of every frame's number: (MAX_POSITIONS, width).

    Angular frequencies fall from 1 to 1/10000 per frame, by equal ratios.
    """
    rates = np.exp(-math.log(10_000) * np.arange(width // 2) / (width // 2 - 1))
    angles = np.outer(np.arange(MAX_POSITIONS), rates)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _position_convolution(ops: Ops, config: ModelConfig, x: Tensor, padding: tuple[int, int]) -> Tensor:
    """(B, F, D) -> (B, F', D)."""
    x = ops.transpose(x, (0, 2, 1))
    groups = config.num_conv_pos_embedding_groups
    x = ops.conv1d(x, "encoder.pos_conv_embed.conv", padding=padding, groups=groups)
    x = ops.activation(x, config.feat_extract_activation)
    return ops.transpose(x, (0, 2, 1))


def position_padding(config: ModelConfig) -> tuple[int, int]:
    """How many frames the positional convolution looks behind and ahead."""
    kernel = config.num_conv_pos_embeddings
    if not config.chunk_frames:
        return _same(kernel)
    return kernel - 1 - config.right_context_frames, config.right_context_frames


def _same(kernel: int) -> tuple[int, int]:
    """Padding that keeps the length; an even kernel looks one frame less far ahead."""
    return kernel // 2, (kernel - 1) // 2


@dataclass(frozen=True)
class BlockNames:
    """Where a Transformer layer's weights are: it may share a block, and keep a little of its own."""

    block: str
    norms: str
    own: str

    @classmethod
    def of(cls, config: ModelConfig, number: int) -> BlockNames:
        own, block = block_name(number), block_name(config.block(number))
        return cls(block, own if config.layer_norms else block, own)


def _block(
    ops: Ops,
    config: ModelConfig,
    layer: BlockNames,
    x: Tensor,
    mask: Tensor | None,
    position_bias: Tensor | None,
    reused: Tensor | None,
    cache: AttentionCache | None = None,
) -> tuple[Tensor, Tensor, AttentionCache | None]:
    """One Transformer block, pre-norm or post-norm: (B, F, D) -> (B, F, D), its attention map, and in a
    stream the keys and values of the chunk.

    Args:
        reused: the map (B, H, F, F) of another layer, to be used instead of one of its own.
        cache: of the frames before a chunk of a stream.
    """
    eps = config.layer_norm_eps
    if config.layer_depth_embedding:
        x = x + ops.weight(f"{layer.own}.depth_embedding")
    if config.do_stable_layer_norm:
        normed = ops.layer_norm(x, f"{layer.norms}.layer_norm", eps)
        y, attention, made = _attention(ops, config, layer, normed, mask, position_bias, reused, cache)
        x = x + y
        normed = ops.layer_norm(x, f"{layer.norms}.final_layer_norm", eps)
        x = x + _feed_forward(ops, config, layer, normed)
        if config.adapter_attn_dim is not None:
            x = x + _adapter(ops, f"{layer.block}.adapter_layer", x)
        return x, attention, made
    y, attention, made = _attention(ops, config, layer, x, mask, position_bias, reused, cache)
    x = ops.layer_norm(x + y, f"{layer.norms}.layer_norm", eps)
    x = x + _feed_forward(ops, config, layer, x)
    return ops.layer_norm(x, f"{layer.norms}.final_layer_norm", eps), attention, made


def _linear(ops: Ops, config: ModelConfig, layer: BlockNames, x: Tensor, part: str) -> Tensor:
    """A linear layer of the block, and what the layer adds to it of its own."""
    y = ops.linear(x, f"{layer.block}.{part}")
    if config.layer_delta_rank:
        y = y + ops.linear(ops.linear(x, f"{layer.own}.delta.{part}.down"), f"{layer.own}.delta.{part}.up")
    return y


def _attention(
    ops: Ops,
    config: ModelConfig,
    layer: BlockNames,
    x: Tensor,
    mask: Tensor | None,
    position_bias: Tensor | None,
    reused: Tensor | None,
    cache: AttentionCache | None,
) -> tuple[Tensor, Tensor, AttentionCache | None]:
    """Multi-head self-attention: (B, F, D) -> (B, F, D), its map (B, H, F, F), and in a stream the keys and
    values of the chunk.

    A pruned layer's weights have fewer heads.
    """
    value = _linear(ops, config, layer, x, "attention.v_proj")
    value = ops.transpose(ops.reshape(value, (0, 0, -1, config.head_dim)), (0, 2, 1, 3))  # (B, H, F, K)
    attention, key = reused, None
    if attention is None:
        attention, key = _attention_map(ops, config, layer, x, mask, position_bias, cache)
    made = None if cache is None else AttentionCache(key, value, cache.seen)
    taken = ops.dropout(attention, config.attention_dropout)
    if cache is None:
        x = ops.matmul(taken, value)  # (B, H, F, K)
    else:
        left = config.left_context_frames
        past = ops.matmul(ops.slice(taken, 3, 0, left), cache.values)
        x = past + ops.matmul(ops.slice(taken, 3, left, None), value)
    x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (0, 0, -1))  # (B, F, H * K)
    y = ops.dropout(_linear(ops, config, layer, x, "attention.out_proj"), config.hidden_dropout)
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
    """How much each frame, by row, takes of each other: (B, H, F, F), of a stream (B, H, F, L + F); and the
    keys (B, H, K, F)."""
    split = (0, 0, -1, config.head_dim)  # (B, F, H, K)
    query = _linear(ops, config, layer, x, "attention.q_proj") * config.head_dim**-0.5
    key = _linear(ops, config, layer, x, "attention.k_proj")
    query = ops.transpose(ops.reshape(query, split), (0, 2, 1, 3))  # (B, H, F, K)
    key = ops.transpose(ops.reshape(key, split), (0, 2, 3, 1))  # (B, H, K, F)
    scores = ops.matmul(query, key, f"{layer.block}.attention.scores")
    if cache is not None:
        past = ops.matmul(query, cache.keys, f"{layer.block}.attention.scores")
        scores = ops.concat([past, scores], axis=3)  # (B, H, F, L + F)
        # On one factor's product alone OpenVINO 2026.4 adds a mask wrong where that is computed in 8 bits.
        mask = _start_mask(ops, config, scores, cache.seen)
    if position_bias is not None:
        gate = _position_gate(ops, f"{layer.block}.attention", ops.reshape(x, split))  # (B, H, F, 1)
        scores = scores + gate * position_bias
    return ops.softmax(scores if mask is None else scores + mask), key


def _start_mask(ops: Ops, config: ModelConfig, scores: Tensor, seen: Tensor) -> Tensor:
    """(B, 1, 1, L + F): MASKED_SCORE for places among the L that the stream has not filled yet."""
    place = ops.reshape(ops.positions(scores, axis=3), (1, -1))
    past = ops.less(place, ops.constant(np.array([[config.left_context_frames]])))
    filled = ops.less(place, ops.reshape(seen, (-1, 1)))  # (B, L + F)
    return ops.reshape((past - filled) * MASKED_SCORE, (0, 1, 1, -1))


def _feed_forward(ops: Ops, config: ModelConfig, layer: BlockNames, x: Tensor) -> Tensor:
    """(B, F, D) -> (B, F, D)."""
    x = ops.activation(_linear(ops, config, layer, x, "feed_forward.intermediate_dense"), config.hidden_act)
    x = ops.dropout(x, config.activation_dropout)
    return ops.dropout(_linear(ops, config, layer, x, "feed_forward.output_dense"), config.hidden_dropout)


def _adapter(ops: Ops, name: str, x: Tensor) -> Tensor:
    """MMS's per-language bottleneck (Pratap et al. 2023, section 4.1)."""
    x = ops.layer_norm(x, f"{name}.norm", 1e-5)
    x = ops.activation(ops.linear(x, f"{name}.linear_1"), "relu")
    return ops.linear(x, f"{name}.linear_2")


def _relative_positions(ops: Ops, config: ModelConfig, name: str, x: Tensor) -> Tensor:
    """WavLM's bucketed relative position bias, computed once for all blocks: (H, F, F)."""
    limit = config.max_bucket_distance
    buckets = ops.constant(relative_buckets(config.num_buckets, limit))  # (2 * limit + 1,)
    table = ops.gather(ops.weight(f"{name}.weight"), buckets)
    frame = ops.positions(x, axis=1)  # (F,)
    distance = ops.reshape(frame, (1, -1)) - ops.reshape(frame, (-1, 1))  # (F, F)
    bias = ops.gather(table, ops.clip(distance, -limit, limit) + limit)  # (F, F, H)
    return ops.transpose(bias, (2, 0, 1))


def relative_buckets(num_buckets: int, max_distance: int) -> npt.NDArray[np.int64]:
    """Bucket of each distance from -max_distance to max_distance: (2 * max_distance + 1,).

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


def _position_gate(ops: Ops, name: str, x: Tensor) -> Tensor:
    """WavLM's gate on the relative position bias: (B, F, H, K) -> (B, H, F, 1)."""
    x = ops.linear(ops.transpose(x, (0, 2, 1, 3)), f"{name}.gru_rel_pos_linear")  # (B, H, F, 8)
    x = ops.sigmoid(ops.sum(ops.reshape(x, (0, 0, -1, 2, 4)), axis=4))  # (B, H, F, 2)
    update, reset = ops.slice(x, 3, 0, 1), ops.slice(x, 3, 1, 2)
    return update * (reset * ops.weight(f"{name}.gru_rel_pos_const") - 1.0) + 2.0
