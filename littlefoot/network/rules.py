"""Check the rules of a model's geometry that join several settings; types and limits are in ``settings``."""

from __future__ import annotations

import math

from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import ConfigError
from littlefoot.network import mel
from littlefoot.network.activations import ACTIVATIONS
from littlefoot.network.families import FAMILIES, NO_CTC
from littlefoot.network.geometry import Geometry
from littlefoot.network.settings import MAX_WINDOW


def check_model_type(model_type: object) -> None:
    """Raise ConfigError for a ``model_type`` of no family."""
    if not isinstance(model_type, str) or model_type not in FAMILIES:
        reason = NO_CTC.get(
            str(model_type), f"littlefoot reads {', '.join(FAMILIES)} models fine-tuned with CTC"
        )
        raise ConfigError(f"model_type '{model_type}' is not supported: {reason}")


def check(config: Geometry) -> None:
    """Raise ConfigError, which names the settings, if they contradict each other or their family."""
    check_model_type(config.model_type)
    for setting in ("hidden_act", "feat_extract_activation", "adapter_act"):
        if (name := getattr(config, setting)) not in ACTIVATIONS:
            raise ConfigError(f"{setting} '{name}' is not supported: use one of {', '.join(ACTIVATIONS)}")
    if not len(config.conv_dim) == len(config.conv_kernel) == len(config.conv_stride) > 0:
        raise ConfigError(
            f"conv_dim, conv_kernel and conv_stride must have one entry per layer, but have "
            f"{len(config.conv_dim)}, {len(config.conv_kernel)} and {len(config.conv_stride)}"
        )
    if config.hidden_size % config.num_attention_heads:
        raise ConfigError(
            f"hidden_size {config.hidden_size} cannot be divided into {config.num_attention_heads} heads"
        )
    buckets, limit = config.num_buckets, 4 * config.max_bucket_distance - 1
    if config.family.relative_positions and not 4 <= buckets <= limit:
        raise ConfigError(
            f"num_buckets {config.num_buckets} must be at least 4, and less than four times "
            f"max_bucket_distance, which is {config.max_bucket_distance}"
        )
    _check_layers(config, "layer_attention_heads", config.num_attention_heads)
    _check_layers(config, "layer_intermediate_size", config.intermediate_size)
    if config.layer_attention_heads and config.family.relative_positions:
        raise ConfigError(
            f"layer_attention_heads: all layers of a {config.model_type} model share one position bias for "
            "all heads, so each must have all heads"
        )
    _check_sharing(config)
    _check_frames(config)
    if config.hidden_size % config.num_conv_pos_embedding_groups:
        raise ConfigError(
            f"hidden_size {config.hidden_size} cannot be divided into "
            f"{config.num_conv_pos_embedding_groups} groups of the positional convolution"
        )
    _check_streaming(config)
    if config.feat_extract_first in ("log_mel", "whisper_mel", "nemo_mel"):
        _check_log_mel(config)
    if config.pad_token_id >= config.vocab_size:
        raise ConfigError(
            f"pad_token_id {config.pad_token_id} is outside the vocabulary of {config.vocab_size} tokens"
        )


def _check_sharing(config: Geometry) -> None:
    for name in ("layer_blocks", "layer_maps"):
        sources = getattr(config, name)
        if len(sources) not in (0, config.num_hidden_layers):
            raise ConfigError(
                f"{name} must have one entry per layer, but has {len(sources)} for "
                f"{config.num_hidden_layers}: every layer must be in a group"
            )
        for layer, source in enumerate(sources):
            if not source <= layer or sources[source] != source:
                raise ConfigError(
                    f"{name}[{layer}] is {source}: name the layer itself, or an earlier one that does"
                )
            if config.attention_heads(layer) != config.attention_heads(source):
                raise ConfigError(
                    f"{name}: layers {source} and {layer} have {config.attention_heads(source)} and "
                    f"{config.attention_heads(layer)} heads, so they cannot share weights or maps"
                )
            same_units = config.feed_forward_units(layer) == config.feed_forward_units(source)
            if name == "layer_blocks" and not same_units:
                raise ConfigError(f"{name}: layers {source} and {layer} have different feed-forward units")
    if not config.layer_blocks and (
        config.layer_norms or config.layer_delta_rank or config.layer_depth_embedding
    ):
        raise ConfigError("layer_norms, layer_delta_rank and layer_depth_embedding need layer_blocks")


def _check_frames(config: Geometry) -> None:
    """Check what changes the number of frames behind the front end, and the convolutions of blocks."""
    for key, value in config.family.requires.items():
        found = config.extra.get(key, value)
        found = tuple(sorted(found)) if isinstance(found, list | tuple) else found
        if found != value:
            raise ConfigError(f"{key} {found} of a {config.model_type} model is not supported, only {value}")
    if config.family.disentangled and not 4 <= config.position_buckets <= config.max_position_embeddings:
        raise ConfigError(
            f"position_buckets {config.position_buckets} must be at least 4, and at most "
            f"max_position_embeddings, which is {config.max_position_embeddings}"
        )
    if config.add_adapter and config.family.adapters == "none":
        raise ConfigError(f"add_adapter: transformers has no adapters for {config.model_type} models")
    if config.add_adapter and config.adapter_kernel_size != 3:
        raise ConfigError(
            f"adapter_kernel_size {config.adapter_kernel_size} is not supported: with any other than 3 "
            "transformers counts other frames than it computes"
        )
    if config.add_adapter and config.family.adapters == "attention":
        if config.adapter_stride not in (2, 3):
            raise ConfigError(f"adapter_stride must be 2 or 3, not {config.adapter_stride}")
        if config.adapter_channels % config.num_attention_heads:
            raise ConfigError(
                f"output_hidden_size {config.adapter_channels} cannot be divided into "
                f"{config.num_attention_heads} heads"
            )
    if config.feat_extract_first == "fbank":
        for setting, wanted in (
            ("conv_dim", (80, 160)),
            ("conv_kernel", (400, 2)),
            ("conv_stride", (160, 2)),
        ):
            if getattr(config, setting) != wanted:
                raise ConfigError(f"{setting} must be {list(wanted)} where feat_extract_first is fbank")
    if config.squeeze_factor != (2 if config.family.squeezed else 1):
        raise ConfigError(
            f"squeeze_factor {config.squeeze_factor} is not supported: it is 2 in published SEW models, "
            "and 1 in others"
        )
    if config.family.squeezed and config.num_conv_pos_embeddings < 4:
        raise ConfigError(
            f"num_conv_pos_embeddings {config.num_conv_pos_embeddings}: a squeezed model needs at least 4"
        )
    if config.family.block == "conformer" and config.conv_depthwise_kernel_size % 2 == 0:
        raise ConfigError(f"conv_depthwise_kernel_size must be odd, not {config.conv_depthwise_kernel_size}")
    if config.position_embeddings_type is not None and config.head_dim % 2:
        raise ConfigError(
            f"position_embeddings_type {config.position_embeddings_type} needs heads of an even width, "
            f"not {config.head_dim}"
        )


def _check_streaming(config: Geometry) -> None:
    if not config.chunk_frames:
        if config.left_context_frames or config.right_context_frames:
            raise ConfigError("left_context_frames and right_context_frames need chunk_frames")
        return
    if reason := config.family.cannot_stream:
        raise ConfigError(f"chunk_frames: a {config.model_type} model cannot stream: {reason}")
    if config.chunk_frames % config.chunk_step:
        raise ConfigError(
            f"chunk_frames {config.chunk_frames} must be a multiple of {config.chunk_step}, as many frames "
            "as the model's strides join"
        )
    if config.left_context_frames % config.squeeze_factor:
        raise ConfigError(
            f"left_context_frames {config.left_context_frames} must be a multiple of squeeze_factor "
            f"{config.squeeze_factor}"
        )
    if config.conv_pos_batch_norm:
        raise ConfigError(
            "chunk_frames: the batch norm before the positional convolution (conv_pos_batch_norm) would"
            " shift the zeros before the beginning of a stream too"
        )
    if config.sinusoidal_positions:
        raise ConfigError(
            "chunk_frames: sinusoids of the frame's number end after 30 s: put the step positions, which "
            "trains a model without them, first"
        )
    if config.feat_extract_norm == "group":
        raise ConfigError(
            "chunk_frames: a group norm over time needs the whole recording: set feat_extract_norm to affine"
        )
    if not config.left_context_frames:
        raise ConfigError("chunk_frames needs left_context_frames, at least 1")
    if config.right_context_frames > config.num_conv_pos_embeddings - config.squeeze_factor:
        raise ConfigError(
            f"right_context_frames {config.right_context_frames} must be less than the positional "
            f"convolution's kernel, {config.num_conv_pos_embeddings}, by squeeze_factor at least"
        )


def _check_log_mel(config: Geometry) -> None:
    if config.feat_extract_norm == "group":
        raise ConfigError(
            f"feat_extract_first {config.feat_extract_first} needs feat_extract_norm 'layer' or 'none': a "
            "group norm follows the first convolution, which a log-mel front end does not have"
        )
    count, window = config.conv_dim[0], config.conv_kernel[0]
    if not count < window <= MAX_WINDOW:
        raise ConfigError(
            f"conv_dim[0] and conv_kernel[0], {count} bands and a window of {window} samples: a log-mel "
            f"spectrogram needs more samples than bands, and at most {MAX_WINDOW}"
        )
    if config.feat_extract_first == "log_mel":
        mel.bands(count, window, SAMPLE_RATE)
    elif config.conv_stride[0] > window // 2:
        raise ConfigError(
            f"conv_stride[0] {config.conv_stride[0]} must be at most half of the spectrogram's window, "
            f"{window} samples"
        )
    if config.feat_extract_first == "nemo_mel":
        if window > mel.NEMO_FOURIER:
            raise ConfigError(
                f"conv_kernel[0]: NeMo's spectrogram has at most {mel.NEMO_FOURIER} samples in a window, "
                f"not {window}"
            )
        if len(config.conv_dim) < 2 or count % math.prod(config.conv_stride[1:]):
            raise ConfigError(
                f"conv_dim[0] (num_mel_bins): the convolutions behind {count} bands must have strides "
                "that divide them"
            )


def _check_layers(config: Geometry, name: str, most: int) -> None:
    """Raise ConfigError unless there is one entry, at most ``most``, for each layer, or none at all."""
    sizes = getattr(config, name)
    if len(sizes) not in (0, config.num_hidden_layers):
        raise ConfigError(
            f"{name} must have one entry per layer, but has {len(sizes)} for {config.num_hidden_layers}"
        )
    for layer, size in enumerate(sizes):
        if size > most:
            raise ConfigError(f"{name}[{layer}] must be at most {most}, not {size}")
