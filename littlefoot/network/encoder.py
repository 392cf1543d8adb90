"""Describe the network, once for training and inference.

``encode`` describes wav2vec 2.0 (Baevski et al. 2020; also XLS-R and MMS), HuBERT (Hsu et al. 2021),
WavLM (Chen et al. 2021), UniSpeech (Wang et al. 2021), UniSpeech-SAT (Chen et al. 2022), data2vec-audio
(Baevski et al. 2022), SEW and SEW-D (Wu et al. 2022), Wav2Vec2-Conformer (Wang et al. 2022) and w2v-BERT 2.0
(Seamless Communication et al. 2023), Whisper's encoder (Radford et al. 2023) and Parakeet's FastConformer
(Rekesh et al. 2023) with a CTC head, over the operations of
``littlefoot.network.operations``. ``littlefoot.training.torch_ops`` carries these out on tensors with
gradients, for training; ``littlefoot.runtime.onnx_ops`` adds them to an ONNX graph, for inference. Weights
are looked up by the names of Hugging Face checkpoints without the model's prefix, or by wav2vec 2.0's
(``littlefoot.network.names``).

Shapes: B batch, T samples, C channels of the front end, F frames, D hidden size, H heads of K channels,
V vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
import numpy.typing as npt

from littlefoot.network.activations import activate
from littlefoot.network.adapters import adapt_chunk, adapters
from littlefoot.network.attention import AttentionCache
from littlefoot.network.block_weights import BlockNames
from littlefoot.network.blocks import block
from littlefoot.network.config import ModelConfig
from littlefoot.network.distances import relative_positions
from littlefoot.network.front_end import front_end
from littlefoot.network.operations import CNN_NORM_EPS, MASKED_SCORE, Ops, Tensor, same_padding
from littlefoot.network.settings import MAX_POSITIONS


@dataclass
class EncoderOutput:
    logits: Tensor
    """Logits (B, F, V), before the softmax."""
    hidden_states: list[Tensor]
    """Input of the first block, then the output of each block, (B, F, D) each."""
    features: Tensor
    """Output of the convolutional front end, (B, F, C)."""
    frame_lengths: Tensor | None
    """Frames of the logits of each utterance (B,), None without ``lengths``."""
    hidden_lengths: Tensor | None
    """Frames of its hidden states (B,), likewise."""
    feature_lengths: Tensor | None
    """Frames of its features (B,), likewise."""


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
    hidden_lengths = lengths
    if lengths is not None and config.family.squeezed:
        hidden_lengths = lengths // config.squeeze_factor
        valid = ops.valid(hidden_lengths, x, axis=1)
    hidden_states = transform(ops, config, x, valid)
    logits = head(ops, config, hidden_states[-1], lengths, features)
    logit_lengths = None if lengths is None else _output_lengths(config, lengths)
    return EncoderOutput(logits, hidden_states, features, logit_lengths, hidden_lengths, lengths)


def _output_lengths(config: ModelConfig, lengths: Tensor) -> Tensor:
    """Return the frames of the logits for frames of the front end."""
    if config.add_adapter:
        for _ in range(config.num_adapter_layers):
            lengths = (lengths + (config.adapter_stride - 1)) // config.adapter_stride
    return lengths


def embed(ops: Ops, config: ModelConfig, features: Tensor, valid: Tensor | None = None) -> Tensor:
    """Turn the front end's features (B, F, C) into the input of the first Transformer block (B, F, D)."""
    x = ops.mask_spans(project(ops, config, features))  # (B, F, D)
    frame_mask = None if valid is None else ops.reshape(valid, (0, -1, 1))  # (B, F, 1)
    if frame_mask is not None:
        x = x * frame_mask
    if config.family.squeezed:
        x = _squeezed(ops, config, x, x, position_padding(config))
    elif config.family.positional != "none":
        x = x + _positions(ops, config, x, frame_mask)
    if config.sinusoidal_positions:
        x = x + _sinusoids(ops, config, x)
    if config.family.encoder_norm and not config.do_stable_layer_norm:
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
        position_bias = ops.segment(name, partial(relative_positions, ops, config, name), x)
    if config.family.disentangled:
        table = ops.reshape(ops.weight("encoder.rel_embeddings.weight"), (1, -1, config.hidden_size))
        position_bias = ops.layer_norm(table, "encoder.rel_embeddings_norm", config.layer_norm_eps)
    hidden_states = [x]
    maps: dict[int, Tensor] = {}
    for number in range(config.num_hidden_layers):
        layer = BlockNames.of(config, number)
        reused = maps.get(config.map(number))
        x, maps[number], _ = ops.segment(
            layer.block, partial(block, ops, config, layer), x, mask, position_bias, reused, valid
        )
        hidden_states.append(x)
    return hidden_states


@dataclass
class StreamState:
    """The tensors that a stream carries from one chunk to the next.

    N is the positional convolution's kernel less its stride, L the left context in frames of the blocks.
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
    """Number of the blocks' frames of the stream so far, at most L: (B,) integers."""
    adapters: list[Tensor]
    """The last frame (B, 1, D') that each adapter behind the blocks read; at the beginning zeros."""


def encode_chunk(
    ops: Ops, config: ModelConfig, features: Tensor, valid: Tensor, state: StreamState
) -> tuple[Tensor, StreamState]:
    """Encode the next chunk of a stream: the front end's features to logits (B, C', V), and the next state.

    The logits equal those of ``encode`` for these frames of the whole recording. The chunk has C frames of
    the front end, ``chunk_frames``, and less only at the end; adapters make fewer, C', of them. The caller
    keeps ``seen`` and the frames before the chunk.

    Args:
        features: (B, new frames, channels): at the beginning ``right_context_frames`` more than the logits.
        valid: (B, new frames) 1.0, and 0.0 for those after the end: as many as ``right_context_frames``
            follow the last real one.
    """
    x = project(ops, config, features) * ops.reshape(valid, (0, -1, 1))
    x = ops.concat([state.features, x], axis=1)  # (B, N + C, D)
    behind, ahead = position_padding(config)
    after = StreamState(ops.last(x, 1, behind + ahead), {}, [], state.seen, [])
    chunk = ops.slice(x, 1, behind, -ahead or None)  # (B, C, D)
    if config.family.squeezed:
        x = _squeezed(ops, config, chunk, x, (0, 0))  # (B, C // 2, D)
    else:
        x = chunk + _position_convolution(ops, config, x, (0, 0))
    if not config.do_stable_layer_norm:
        x = ops.layer_norm(x, "encoder.layer_norm", config.layer_norm_eps)
    maps: dict[int, Tensor] = {}
    for number in range(config.num_hidden_layers):
        layer = BlockNames.of(config, number)
        reused = maps.get(config.map(number))
        cache = AttentionCache(state.keys.get(number), state.values[number], state.seen)
        x, maps[number], made = ops.segment(
            layer.block, partial(block, ops, config, layer), x, None, None, reused, None, cache
        )
        if made.keys is not None:
            after.keys[number] = made.keys
        after.values.append(made.values)
    x = _restored(ops, config, x, None, chunk)
    if config.add_adapter:
        x, after.adapters = adapt_chunk(ops, config, x, state.adapters)
    return _classified(ops, config, x), after


def project(ops: Ops, config: ModelConfig, features: Tensor) -> Tensor:
    """Project features (B, F, C) -> (B, F, D)."""
    if config.feat_proj_layer_norm:
        eps = config.feature_layer_norm_eps or config.layer_norm_eps
        features = ops.layer_norm(features, "feature_projection.layer_norm", eps)
    if config.projects:
        features = ops.linear(features, "feature_projection.projection")
    if config.scale_input:
        features = features * math.sqrt(config.hidden_size)
    return ops.dropout(features, config.feat_proj_dropout)


def head(
    ops: Ops,
    config: ModelConfig,
    x: Tensor,
    lengths: Tensor | None = None,
    features: Tensor | None = None,
) -> Tensor:
    """Turn the output of a Transformer layer, usually the last, into logits: (B, F, D) -> (B, F, V).

    Args:
        lengths: frames of the front end of each utterance (B,), behind which nothing is read; without them,
            all frames are.
        features: those of the front end (B, F, C). A squeezed model has as many logits.
    """
    x = _restored(ops, config, x, lengths, features)
    if config.add_adapter:
        x = adapters(ops, config, x, lengths)
    return _classified(ops, config, x)


def _restored(
    ops: Ops, config: ModelConfig, x: Tensor, lengths: Tensor | None, features: Tensor | None
) -> Tensor:
    """Norm the output of the blocks, and give it the front end's frames: arguments as for ``head``."""
    if config.family.encoder_norm and config.do_stable_layer_norm:
        x = ops.layer_norm(x, "encoder.layer_norm", config.layer_norm_eps)
    if config.family.squeezed:
        assert features is not None  # or the number of frames would be unknown
        x = _unsqueezed(ops, config, x, lengths, features)
    return x


def _classified(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    return ops.linear(ops.dropout(x, config.final_dropout), "lm_head")


def _squeezed(ops: Ops, config: ModelConfig, x: Tensor, around: Tensor, padding: tuple[int, int]) -> Tensor:
    """Make one frame of several, with its position (Wu et al. 2022): (B, F, D) -> (B, F // 2, D).

    Args:
        around: x with what the positional convolution reads before and after it, but for the padding.
    """
    y = _position_convolution(ops, config, around, padding)
    x = ops.average_pool(ops.transpose(x, (0, 2, 1)), config.squeeze_factor)
    return ops.transpose(x, (0, 2, 1)) + y


def _unsqueezed(ops: Ops, config: ModelConfig, x: Tensor, lengths: Tensor | None, features: Tensor) -> Tensor:
    """Make several frames of one: (B, F // 2, D) -> (B, F, D). An odd last frame is zero."""
    size = config.squeeze_factor
    x = ops.concat([ops.linear(x, f"encoder.upsample.{number}") for number in range(size)], axis=2)
    x = ops.reshape(activate(ops, x, config.feat_extract_activation), (0, -1, config.hidden_size))
    if lengths is not None:
        x = x * ops.reshape(ops.valid(lengths // size * size, x, axis=1), (0, -1, 1))
    return ops.pad_to(x, features)


def _chunk_mask(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """Return (F, F): 0 if a frame (row) attends to another (column), and MASKED_SCORE elsewhere."""
    frame, chunk = ops.positions(x, axis=1), config.chunk_frames // config.squeeze_factor
    begin = ops.reshape(frame // chunk * chunk, (-1, 1))
    other = ops.reshape(frame, (1, -1))
    inside = ops.less(other, begin + chunk) * ops.less(begin, other + (config.left_block_frames + 1))
    return (inside - 1.0) * -MASKED_SCORE


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
        x = ops.conv1d(x, name, padding=same_padding(config.conv_pos_kernel_size), groups=groups)
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
    """Run the positional convolution, (B, F, D) -> (B, F', D); its stride is ``squeeze_factor``."""
    x = ops.transpose(x, (0, 2, 1))
    name, groups = "encoder.pos_conv_embed.conv", config.num_conv_pos_embedding_groups
    x = ops.conv1d(x, name, config.squeeze_factor, padding=padding, groups=groups)
    x = activate(ops, x, config.feat_extract_activation)
    return ops.transpose(x, (0, 2, 1))


def position_padding(config: ModelConfig) -> tuple[int, int]:
    """Return the frames that the positional convolution reads before and after those of each of its steps.

    A step is one frame, in a squeezed model ``squeeze_factor``.
    """
    size = config.squeeze_factor
    if not config.chunk_frames:
        before, after = same_padding(config.num_conv_pos_embeddings)
        return before, after - size + 1
    return config.num_conv_pos_embeddings - size - config.right_context_frames, config.right_context_frames
