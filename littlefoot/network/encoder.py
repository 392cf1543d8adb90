"""Describe the network, once for training and inference.

``encode`` describes wav2vec 2.0 (Baevski et al. 2020; also XLS-R and MMS), HuBERT (Hsu et al. 2021),
WavLM (Chen et al. 2021), UniSpeech (Wang et al. 2021), UniSpeech-SAT (Chen et al. 2022) and data2vec-audio
(Baevski et al. 2022) with a CTC head, over a small set of operations. ``littlefoot.training.torch_ops``
carries these out on tensors with gradients, for training; ``littlefoot.runtime.onnx_ops`` adds them to an
ONNX graph, for inference. Weights are looked up by the names of Hugging Face checkpoints without the model's
prefix.

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
from littlefoot.network.activations import activate
from littlefoot.network.config import MAX_POSITIONS, ModelConfig
from littlefoot.network.inventory import block_name

Tensor = Any
"""A value of the backend in use. It supports + - * and //, with numpy's broadcasting."""

CNN_NORM_EPS = 1e-5
MASKED_SCORE = -1e9
"""Summand of attention scores of padding: exp() of it is zero, and it is finite in bfloat16."""


class Ops(Protocol):
    """The operations of a backend. ``name`` is the weights' name without .weight / .bias."""

    def segment(self, name: str, part: Callable[..., Any], *values: Any) -> Any:
        """Compute ``part(*values)``, a part of the network that uses weights below ``name``."""

    def conv1d(
        self, x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Tensor:
        """Convolve (B, C, T) -> (B, C', T')."""

    def fixed_conv1d(self, x: Tensor, kernel: npt.NDArray[np.float32], stride: int = 1) -> Tensor:
        """Convolve (B, C, T) -> (B, C', T') with a constant kernel (C', C, K), which is never quantized."""

    def linear(self, x: Tensor, name: str) -> Tensor:
        """Apply a linear layer, (..., C) -> (..., C')."""

    def layer_norm(self, x: Tensor, name: str | None, eps: float, axis: int = -1) -> Tensor:
        """Normalise over ``axis``; without scale and shift if ``name`` is None."""

    def group_norm(self, x: Tensor, name: str, eps: float, valid: Tensor | None) -> Tensor:
        """Normalise each channel of (B, C, T) over time, counting only frames where ``valid`` (B, T) is 1."""

    def affine(self, x: Tensor, name: str) -> Tensor:
        """Scale and shift each channel of (B, C, T)."""

    def activation(self, x: Tensor, kind: str) -> Tensor:
        """One of ``littlefoot.network.activations.PRIMITIVES``."""

    def log(self, x: Tensor) -> Tensor: ...
    def sigmoid(self, x: Tensor) -> Tensor: ...
    def softmax(self, x: Tensor) -> Tensor:
        """Compute the softmax over the last axis."""

    def matmul(self, a: Tensor, b: Tensor, name: str | None = None) -> Tensor:
        """Multiply two values; a product with a name may be quantized."""

    def sum(self, x: Tensor, axis: int) -> Tensor: ...
    def clip(self, x: Tensor, low: int, high: int) -> Tensor: ...
    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Reshape; 0 keeps a dimension, and -1 takes the remaining entries."""

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor: ...
    def slice(self, x: Tensor, axis: int, start: int, end: int | None) -> Tensor:
        """Take the entries up to ``end``, which counts from the end if it is negative; all of them if it is
        None.
        """

    def concat(self, values: Sequence[Tensor], axis: int) -> Tensor: ...
    def last(self, x: Tensor, axis: int, count: int) -> Tensor:
        """Take the last ``count`` entries along an axis."""

    def less(self, a: Tensor, b: Tensor) -> Tensor:
        """Return 1.0 if integers a < b, else 0.0."""

    def gather(self, table: Tensor, indices: Tensor) -> Tensor:
        """Look up rows of ``table``."""

    def positions(self, x: Tensor, axis: int) -> Tensor:
        """Return the integers 0 ... n - 1 along an axis of x."""

    def valid(self, lengths: Tensor, x: Tensor, axis: int) -> Tensor:
        """Return (B, n), 1.0 before each length (B,) and 0.0 after it; n is the size of x along ``axis``."""

    def weight(self, name: str) -> Tensor: ...
    def constant(self, value: npt.NDArray[Any]) -> Tensor: ...
    def dropout(self, x: Tensor, probability: float) -> Tensor:
        """Apply dropout in training; do nothing otherwise."""

    def mask_spans(self, x: Tensor) -> Tensor:
        """Mask spans of the projected features (B, F, D) in training (SpecAugment); do nothing otherwise."""

    def begin_anywhere(self, positions: Tensor, count: int) -> Tensor:
        """Shift frame numbers (F,) at random below ``count`` in training; do nothing otherwise."""


@dataclass
class EncoderOutput:
    logits: Tensor
    """Logits (B, F, V), before the softmax."""
    hidden_states: list[Tensor]
    """Input of the first block, then the output of each block, (B, F, D) each."""
    features: Tensor
    """Output of the convolutional front end, (B, F, C)."""
    frame_lengths: Tensor | None
    """Frames of each utterance (B,), None without ``lengths``."""


def encode(ops: Ops, config: ModelConfig, waveform: Tensor, lengths: Tensor | None = None) -> EncoderOutput:
    """Encode a waveform (B, T) at 16 kHz: logits (B, F, V) and what leads to them.

    ``lengths`` (B,) gives the samples of each utterance in a padded batch. Padding then changes nothing:
    every utterance gets the result that it would get alone (frames past its own length are meaningless).
    Without ``lengths`` all rows are full.
    """
    return encode_features(ops, config, *front_end(ops, config, waveform, lengths))


def encode_features(
    ops: Ops, config: ModelConfig, features: Tensor, lengths: Tensor | None = None
) -> EncoderOutput:
    """Encode the front end's features (B, F, C), with lengths (B,) in frames, to logits (B, F, V)."""
    valid = None if lengths is None else ops.valid(lengths, features, axis=1)  # (B, F)
    x = embed(ops, config, features, valid)  # (B, F, D)
    hidden_states = transform(ops, config, x, valid)
    return EncoderOutput(head(ops, config, hidden_states[-1]), hidden_states, features, lengths)


def embed(ops: Ops, config: ModelConfig, features: Tensor, valid: Tensor | None = None) -> Tensor:
    """Turn the front end's features (B, F, C) into the input of the first Transformer block (B, F, D)."""
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
    """Run the Transformer's blocks. Returns the input of the first one (B, F, D), then the output of each.

    ``valid`` (B, F) is 1 for frames that others attend to; without it, all are.
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
    """The tensors that a stream carries from one chunk to the next.

    N is the positional convolution's kernel less one, L the left context.
    """

    features: Tensor
    """The last projected features (B, N, D); at the beginning zeros (B, N - right context, D)."""
    keys: dict[int, Tensor]
    """Keys (B, H, K, L) of each layer with its own attention map, for the L frames before the chunk in any
    order, since attention does not depend on it; only the first ``seen`` are valid. The state after a chunk
    has the keys of its own frames (B, H, K, C), with which the caller replaces the oldest."""
    values: list[Tensor]
    """Values (B, H, L, K) of each layer, likewise."""
    seen: Tensor
    """Number of frames of the stream so far, at most L: (B,) integers."""


def encode_chunk(
    ops: Ops, config: ModelConfig, features: Tensor, valid: Tensor, state: StreamState
) -> tuple[Tensor, StreamState]:
    """Encode the next chunk of a stream: the front end's features to logits (B, C, V), and the next state.

    The logits equal those of ``encode`` for these frames of the whole recording. C is ``chunk_frames``, and
    less only at the end. The caller keeps ``seen`` and the frames before the chunk.

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

    They are multiplied separately, because joining them would copy all earlier frames for every chunk.
    """

    keys: Tensor | None
    """Keys; None if the layer uses another's attention map."""
    values: Tensor
    seen: Tensor
    """Number of real frames before the chunk, from the first: (B,)."""


def project(ops: Ops, config: ModelConfig, features: Tensor) -> Tensor:
    """Project features (B, F, C) -> (B, F, D)."""
    if config.feat_proj_layer_norm:
        features = ops.layer_norm(features, "feature_projection.layer_norm", config.layer_norm_eps)
    return ops.dropout(ops.linear(features, "feature_projection.projection"), config.feat_proj_dropout)


def head(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """Turn the output of a Transformer layer, usually the last, into logits: (B, F, D) -> (B, F, V)."""
    if config.do_stable_layer_norm:
        x = ops.layer_norm(x, "encoder.layer_norm", config.layer_norm_eps)
    return ops.linear(ops.dropout(x, config.final_dropout), "lm_head")


def _chunk_mask(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """Return (F, F): 0 if a frame (row) attends to another (column), and MASKED_SCORE elsewhere."""
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
    """Run the convolutions: waveform (B, T) -> features (B, F, C), and the lengths in frames."""
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
    """Compute the log-mel spectrogram, scaled to about unit range: (B, 1, T) -> (B, C, F).

    There is no norm over the bands: it would remove the level of a frame, which distinguishes speech from
    pauses.
    """
    window, hop = config.conv_kernel[0], config.conv_stride[0]
    x = ops.fixed_conv1d(x, mel.sinusoids(window), hop)  # (B, 2 N, F): real and imaginary parts
    x = ops.fixed_conv1d(x * x, mel.bands(config.conv_dim[0], window, SAMPLE_RATE))
    return (ops.log(x + mel.FLOOR) - mel.MEAN) * (1 / mel.DEVIATION)


def _convolution(
    ops: Ops, config: ModelConfig, name: str, layer: int, x: Tensor, lengths: Tensor | None
) -> Tensor:
    """Run one layer of the front end: (B, C, T) -> (B, C', T'); ``lengths`` (B,) in its output's frames."""
    x = ops.conv1d(x, f"{name}.conv", config.conv_stride[layer])
    if config.feat_extract_norm == "layer":
        x = ops.layer_norm(x, f"{name}.layer_norm", CNN_NORM_EPS, axis=1)
    elif config.feat_extract_norm == "affine" and layer == 0:
        x = ops.affine(x, f"{name}.layer_norm")
    elif layer == 0:
        valid = None if lengths is None else ops.valid(lengths, x, axis=2)
        x = ops.group_norm(x, f"{name}.layer_norm", CNN_NORM_EPS, valid)
    return activate(ops, x, config.feat_extract_activation)


def _positions(ops: Ops, config: ModelConfig, x: Tensor, frame_mask: Tensor | None) -> Tensor:
    """Compute the convolutional position embedding: (B, F, D) -> (B, F, D)."""
    groups = config.num_conv_pos_embedding_groups
    if config.family.positional == "convolution":
        if config.conv_pos_batch_norm:
            x = ops.affine(ops.transpose(x, (0, 2, 1)), "encoder.pos_conv_embed.batch_norm")
            x = ops.transpose(x, (0, 2, 1))
            x = x if frame_mask is None else x * frame_mask  # the convolution pads with zeros
        return _position_convolution(ops, config, x, position_padding(config))
    for layer in range(config.num_conv_pos_embeddings):
        name = f"encoder.pos_conv_embed.layers.{layer}.conv"
        x = ops.transpose(x, (0, 2, 1))
        x = ops.conv1d(x, name, padding=_same(config.conv_pos_kernel_size), groups=groups)
        x = ops.transpose(x, (0, 2, 1))
        x = ops.layer_norm(x, None, CNN_NORM_EPS)
        x = activate(ops, x, config.feat_extract_activation)
        if frame_mask is not None:  # otherwise padding would reach the next layer
            x = x * frame_mask
    return x


def _sinusoids(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """Compute Whisper's position embedding (Radford et al. 2023) for the frames of x (B, F, D): (F, D)."""
    table = sinusoids(config.hidden_size) * np.float32(config.sinusoidal_positions)
    frame = ops.begin_anywhere(ops.positions(x, axis=1), MAX_POSITIONS)  # (F,)
    return ops.gather(ops.constant(table), ops.clip(frame, 0, MAX_POSITIONS - 1))


@cache
def sinusoids(width: int) -> npt.NDArray[np.float32]:
    """Return sines, then cosines, of every frame's number: (MAX_POSITIONS, width).

    Angular frequencies fall from 1 to 1/10000 per frame, by equal ratios.
    """
    rates = np.exp(-math.log(10_000) * np.arange(width // 2) / (width // 2 - 1))
    angles = np.outer(np.arange(MAX_POSITIONS), rates)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _position_convolution(ops: Ops, config: ModelConfig, x: Tensor, padding: tuple[int, int]) -> Tensor:
    """Run the positional convolution, (B, F, D) -> (B, F', D)."""
    x = ops.transpose(x, (0, 2, 1))
    groups = config.num_conv_pos_embedding_groups
    x = ops.conv1d(x, "encoder.pos_conv_embed.conv", padding=padding, groups=groups)
    x = activate(ops, x, config.feat_extract_activation)
    return ops.transpose(x, (0, 2, 1))


def position_padding(config: ModelConfig) -> tuple[int, int]:
    """Return the frames that the positional convolution reads before and after each frame."""
    kernel = config.num_conv_pos_embeddings
    if not config.chunk_frames:
        return _same(kernel)
    return kernel - 1 - config.right_context_frames, config.right_context_frames


def _same(kernel: int) -> tuple[int, int]:
    """Return the padding that keeps the length; an even kernel reads one frame less after each frame."""
    return kernel // 2, (kernel - 1) // 2


@dataclass(frozen=True)
class BlockNames:
    """The names of a Transformer layer's weights, which may be those of a shared block and some of its
    own.
    """

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
    """Run one Transformer block, pre-norm or post-norm: (B, F, D) -> (B, F, D).

    Args:
        reused: the map (B, H, F, F) of another layer, which replaces the layer's own.
        cache: keys and values of the frames before a chunk of a stream.

    Returns the output, the attention map, and in a stream the keys and values of the chunk.
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
    """Apply a linear layer of the block, with the low-rank delta of this layer."""
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
    """Compute multi-head self-attention: (B, F, D) -> (B, F, D), its map (B, H, F, F), and in a stream the
    keys and values of the chunk.

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
    """Compute the attention map, with a row for each frame: (B, H, F, F), in a stream (B, H, F, L + F); and
    the keys (B, H, K, F)."""
    split = (0, 0, -1, config.head_dim)  # (B, F, H, K)
    query = _linear(ops, config, layer, x, "attention.q_proj") * config.head_dim**-0.5
    key = _linear(ops, config, layer, x, "attention.k_proj")
    query = ops.transpose(ops.reshape(query, split), (0, 2, 1, 3))  # (B, H, F, K)
    key = ops.transpose(ops.reshape(key, split), (0, 2, 3, 1))  # (B, H, K, F)
    scores = ops.matmul(query, key, f"{layer.block}.attention.scores")
    if cache is not None:
        past = ops.matmul(query, cache.keys, f"{layer.block}.attention.scores")
        scores = ops.concat([past, scores], axis=3)  # (B, H, F, L + F)
        # OpenVINO 2026.4 adds a mask wrongly to the product of one factor that is computed in 8 bits.
        mask = _start_mask(ops, config, scores, cache.seen)
    if position_bias is not None:
        gate = _position_gate(ops, f"{layer.block}.attention", ops.reshape(x, split))  # (B, H, F, 1)
        scores = scores + gate * position_bias
    return ops.softmax(scores if mask is None else scores + mask), key


def _start_mask(ops: Ops, config: ModelConfig, scores: Tensor, seen: Tensor) -> Tensor:
    """Return (B, 1, 1, L + F): MASKED_SCORE for those of the L frames that the stream has not filled yet."""
    place = ops.reshape(ops.positions(scores, axis=3), (1, -1))
    past = ops.less(place, ops.constant(np.array([[config.left_context_frames]])))
    filled = ops.less(place, ops.reshape(seen, (-1, 1)))  # (B, L + F)
    return ops.reshape((past - filled) * MASKED_SCORE, (0, 1, 1, -1))


def _feed_forward(ops: Ops, config: ModelConfig, layer: BlockNames, x: Tensor) -> Tensor:
    """Apply the feed-forward layers, (B, F, D) -> (B, F, D)."""
    x = activate(ops, _linear(ops, config, layer, x, "feed_forward.intermediate_dense"), config.hidden_act)
    x = ops.dropout(x, config.activation_dropout)
    return ops.dropout(_linear(ops, config, layer, x, "feed_forward.output_dense"), config.hidden_dropout)


def _adapter(ops: Ops, name: str, x: Tensor) -> Tensor:
    """Apply MMS's bottleneck of a language (Pratap et al. 2023, section 4.1)."""
    x = ops.layer_norm(x, f"{name}.norm", 1e-5)
    x = ops.activation(ops.linear(x, f"{name}.linear_1"), "relu")
    return ops.linear(x, f"{name}.linear_2")


def _relative_positions(ops: Ops, config: ModelConfig, name: str, x: Tensor) -> Tensor:
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


def _position_gate(ops: Ops, name: str, x: Tensor) -> Tensor:
    """Compute WavLM's gate on the relative position bias: (B, F, H, K) -> (B, H, F, 1)."""
    x = ops.linear(ops.transpose(x, (0, 2, 1, 3)), f"{name}.gru_rel_pos_linear")  # (B, H, F, 8)
    x = ops.sigmoid(ops.sum(ops.reshape(x, (0, 0, -1, 2, 4)), axis=4))  # (B, H, F, 2)
    update, reset = ops.slice(x, 3, 0, 1), ops.slice(x, 3, 1, 2)
    return update * (reset * ops.weight(f"{name}.gru_rel_pos_const") - 1.0) + 2.0
