"""List the layers of a model, in the order in which speech passes through them.

``inventory`` lists the layers of a configuration once. A model's size, its operations, the layers that can be
pruned, narrowed or packed, and the tensors in its file are short functions over that list. The layers compute
in ``littlefoot.network.encoder``, which looks their weights up by the same names: those of Hugging Face
checkpoints without the model's prefix.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import replace
from functools import lru_cache

from littlefoot.errors import ConfigError
from littlefoot.network import mel
from littlefoot.network.config import ModelConfig
from littlefoot.network.layers import Axis, AxisKind, Frames, Kind, Layer, Part, block_name


class Inventory:
    """The layers of a model by their names, in order."""

    def __init__(self, config: ModelConfig) -> None:
        self.layers = {layer.name: layer for layer in _layers(config)}
        self.tensors = {
            name: dimensions
            for layer in self.layers.values()
            for name, dimensions in layer.tensors.items()
            if not layer.optional
        }
        if unknown := [name for name in config.linear_ranks if f"{name}.down" not in self.layers]:
            raise ConfigError(f"linear_ranks: the model has no linear layer '{unknown[0]}' in its blocks")
        self.axes = {axis.name: axis for layer in self.layers.values() for axis in layer.axes if axis}
        """Axes by their names."""

    def owner(self, name: str) -> Layer:
        """Return the layer of a tensor: its weight, or a tensor that quantization added.

        Raises KeyError for a tensor of no layer.
        """
        layer = name
        while layer not in self.layers:
            if not (layer := layer.rpartition(".")[0]):
                raise KeyError(name)
        return self.layers[layer]

    def __contains__(self, layer: str) -> bool:
        return layer in self.layers

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers.values())


@lru_cache(maxsize=64)
def inventory(config: ModelConfig) -> Inventory:
    """List the layers of a configuration. The result is shared, so do not change it."""
    return Inventory(config)


# The functions below list the layers, in the order of the network.


def _layers(config: ModelConfig) -> Iterator[Layer]:
    """List convolutions, projection, positions, Transformer blocks and head.

    The norm before the blocks follows them if their own norms come first (``do_stable_layer_norm``).
    """
    hidden = Axis("hidden", AxisKind.HIDDEN, config.hidden_size)
    frames = Frames()
    channels: Axis | int = 1
    if config.feat_extract_first == "fbank":
        frames, channels = Frames(config.feature_stride, config.receptive_field), config.conv_dim[-1]
        yield from _fbank(config)
    elif config.feat_extract_first == "nemo_mel":
        frames, channels = yield from _images(config)
    listed = config.feat_extract_first in ("fbank", "nemo_mel")
    for number, outputs in enumerate(() if listed else config.conv_dim):
        kernel, stride = config.conv_kernel[number], config.conv_stride[number]
        frames = frames.after(config.counted_kernels[number], stride)
        if number == 0 and config.feat_extract_first != "conv":
            yield from _log_mel(frames, outputs, kernel)
            channels = outputs
        else:
            last = number == len(config.conv_dim) - 1
            made: Axis | int = Axis(f"conv{number}", AxisKind.CHANNELS, outputs)
            if last and not config.projects:  # then they are the blocks' channels
                made = outputs
            yield from _convolution(config, number, (made, channels, kernel), frames)
            channels = made
    part = Part.PROJECTION
    if config.feat_proj_layer_norm:
        yield _norm("feature_projection.layer_norm", part, channels, frames)
    if config.projects:
        yield Layer("feature_projection.projection", Kind.LINEAR, part, (hidden, channels), frames)
    yield Layer("masked_spec_embed", Kind.VECTOR, part, (hidden,), frames, optional=True)
    features = frames
    if config.family.squeezed:
        frames = frames.after(config.squeeze_factor, config.squeeze_factor)
    if config.family.positional != "none":
        yield from _positions(config, hidden, frames)
    if config.family.disentangled:
        rows, part = 2 * config.position_buckets, Part.TRANSFORMER
        yield Layer("encoder.rel_embeddings", Kind.TABLE, part, (rows, hidden), frames, bias=False)
        yield _norm("encoder.rel_embeddings_norm", part, hidden, frames)
    if config.family.encoder_norm:
        yield _norm("encoder.layer_norm", Part.TRANSFORMER, hidden, frames)
    for number in range(config.num_hidden_layers):
        yield from _block(config, number, hidden, frames)
    if config.family.squeezed:
        for number in range(config.squeeze_factor):
            yield Layer(f"encoder.upsample.{number}", Kind.LINEAR, Part.TRANSFORMER, (hidden, hidden), frames)
        frames = features
    ends: Axis | int = hidden
    if config.add_adapter:
        ends = hidden if config.adapter_channels == hidden.size else config.adapter_channels
        yield from _adapters(config, hidden, ends, frames)
        stride = config.adapter_stride**config.num_adapter_layers
        frames = Frames(frames.stride * stride, frames.receptive_field)
    yield Layer("lm_head", Kind.LINEAR, Part.HEAD, (config.vocab_size, ends), frames)


def _norm(name: str, part: Part, channels: Axis | int, frames: Frames) -> Layer:
    return Layer(name, Kind.NORM, part, (channels,), frames, begins="ones")


def _log_mel(frames: Frames, bands: int, window: int) -> Iterator[Layer]:
    """List the spectrogram that replaces the first convolution: windowed sinusoids, then bands of their
    powers.
    """
    waves = 2 * ((window - 1) // 2)
    yield Layer("feature_extractor.log_mel.sinusoids", Kind.FILTERS, Part.FRONT_END, (waves, window), frames)
    yield Layer("feature_extractor.log_mel.bands", Kind.FILTERS, Part.FRONT_END, (bands, waves), frames)


def _fbank(config: ModelConfig) -> Iterator[Layer]:
    """List Kaldi's spectrogram: waves, bands of their powers, and two frames beside each other."""
    part, frames = Part.FRONT_END, Frames().after(mel.KALDI_WINDOW, config.conv_stride[0])
    bands, outputs = config.conv_dim
    waves = len(mel.kaldi_waves())
    name = "feature_extractor.fbank"
    yield Layer(f"{name}.waves", Kind.FILTERS, part, (waves, mel.KALDI_WINDOW), frames)
    yield Layer(f"{name}.bands", Kind.FILTERS, part, (bands, waves), frames)
    kernel, stride = config.conv_kernel[1], config.conv_stride[1]
    yield Layer(f"{name}.beside", Kind.FILTERS, part, (outputs, bands, kernel), frames.after(kernel, stride))


def _images(config: ModelConfig) -> Generator[Layer, None, tuple[Frames, Axis]]:
    """List NeMo's spectrogram and the convolutions over frames and bands; return what they make.

    A convolution is used once for each band that it leaves.
    """
    part, bands, window = Part.FRONT_END, config.conv_dim[0], config.conv_kernel[0]
    frames, waves = (
        Frames().after(config.counted_kernels[0], config.conv_stride[0]),
        len(mel.nemo_waves(window)),
    )
    yield Layer("feature_extractor.nemo_mel.emphasis", Kind.FILTERS, part, (2,), Frames())
    yield Layer("feature_extractor.nemo_mel.waves", Kind.FILTERS, part, (waves, window), frames)
    yield Layer("feature_extractor.nemo_mel.bands", Kind.FILTERS, part, (bands, waves), frames)
    channels = Axis("conv0", AxisKind.IMAGES, 1)
    for number in range(1, len(config.conv_dim)):
        name, kernel = f"feature_extractor.conv_layers.{number}", config.conv_kernel[number]
        stride, bias = config.conv_stride[number], config.conv_bias
        frames, bands = frames.after(config.counted_kernels[number], stride), bands // stride
        made = Axis(f"conv{number}", AxisKind.IMAGES, config.conv_dim[number])
        kind = Kind.IMAGE_CONVOLUTION
        if number > 1:
            shape: tuple[Axis | int, ...] = (channels, 1, kernel, kernel)
            yield Layer(f"{name}.depthwise", kind, part, shape, frames, bands, bias, channels.size)
            kernel = 1
        shape = (made, channels if number > 1 else 1, kernel, kernel)
        yield Layer(f"{name}.conv", kind, part, shape, frames, bands, bias)
        channels = made
    return frames, replace(channels, width=bands)


def _convolution(
    config: ModelConfig, number: int, dimensions: tuple[Axis | int, ...], frames: Frames
) -> Iterator[Layer]:
    """List one of the front end's convolutions, and its norm."""
    name = f"feature_extractor.conv_layers.{number}"
    part = Part.FRONT_END
    yield Layer(f"{name}.conv", Kind.CONVOLUTION, part, dimensions, frames, bias=config.conv_bias)
    if config.feat_extract_norm == "layer" or (number == 0 and config.feat_extract_norm != "none"):
        yield _norm(f"{name}.layer_norm", part, dimensions[0], frames)


def _positions(config: ModelConfig, hidden: Axis, frames: Frames) -> Iterator[Layer]:
    """List the positional convolutions; their weight norm is folded."""
    name, groups = "encoder.pos_conv_embed", config.num_conv_pos_embedding_groups
    group = Axis("group", AxisKind.GROUP, hidden.size // groups)
    if config.family.positional == "stack":
        names = [f"{name}.layers.{number}.conv" for number in range(config.num_conv_pos_embeddings)]
        kernel = config.conv_pos_kernel_size
    else:
        names, kernel = [f"{name}.conv"], config.num_conv_pos_embeddings
    if config.conv_pos_batch_norm:
        yield _norm(f"{name}.batch_norm", Part.POSITIONS, hidden, frames)
    for layer in names:
        dimensions = (hidden, group, kernel)
        yield Layer(layer, Kind.CONVOLUTION, Part.POSITIONS, dimensions, frames, groups=groups)


def _adapters(config: ModelConfig, hidden: Axis, channels: Axis | int, frames: Frames) -> Iterator[Layer]:
    """List the convolutions with strides behind the blocks, and the projection to their channels."""
    part, width = Part.ADAPTER, config.adapter_channels
    if channels is not hidden:
        yield Layer("adapter.proj", Kind.LINEAR, part, (width, hidden), frames)
        yield _norm("adapter.proj_layer_norm", part, width, frames)
    for number in range(config.num_adapter_layers):
        if config.family.adapters == "attention":
            yield _norm(f"adapter.layers.{number}.residual_layer_norm", part, width, frames)
            yield _norm(f"adapter.layers.{number}.self_attn_layer_norm", part, width, frames)
        frames = Frames(frames.stride * config.adapter_stride, frames.receptive_field)
        dimensions = (2 * width, width, config.adapter_kernel_size)
        if config.family.adapters == "convolution":
            yield Layer(f"adapter.layers.{number}.conv", Kind.CONVOLUTION, part, dimensions, frames)
            continue
        name = f"adapter.layers.{number}"
        for layer in ("residual_conv", "self_attn_conv"):
            yield Layer(f"{name}.{layer}", Kind.CONVOLUTION, part, dimensions, frames)
        for side in ("q", "k", "v", "out"):
            yield Layer(f"{name}.attention.{side}_proj", Kind.LINEAR, part, (width, width), frames)
        yield Layer(f"{name}.attention.products", Kind.PRODUCT, part, (width,), frames, 2)
        yield _norm(f"{name}.ffn_layer_norm", part, width, frames)
        units = Axis(f"adapter{number}", AxisKind.ADAPTER_UNITS, config.intermediate_size)
        yield Layer(f"{name}.feed_forward.intermediate_dense", Kind.LINEAR, part, (units, width), frames)
        yield Layer(f"{name}.feed_forward.output_dense", Kind.LINEAR, part, (width, units), frames)


def _block(config: ModelConfig, number: int, hidden: Axis, frames: Frames) -> Iterator[Layer]:
    """List one Transformer layer: its own parts, and the block that it shares with others.

    A layer that uses another's map has no queries and keys, unless its shared block has them for another
    layer.
    """
    name, part = block_name(number), Part.TRANSFORMER
    if config.layer_norms:
        yield from _block_norms(config, name, hidden, frames)
    if config.layer_depth_embedding:
        yield Layer(f"{name}.depth_embedding", Kind.VECTOR, part, (hidden,), frames, begins="zeros")
    if config.layer_delta_rank:
        yield from _deltas(config, number, frames)
    if config.block(number) != number:
        return
    users = [user for user in range(config.num_hidden_layers) if config.block(user) == number]
    maps = sum(config.map(user) == user for user in users)
    heads: Axis | int = Axis(
        f"heads{number}", AxisKind.HEADS, config.attention_heads(number), config.head_dim
    )
    if config.family.relative_positions:  # of all heads together, the same in all blocks
        heads = config.hidden_size
    units = Axis(f"ffn{number}", AxisKind.UNITS, config.feed_forward_units(number))

    def linear(
        layer: str, outputs: Axis | int, inputs: Axis | int, uses: int = len(users), bias: bool = True
    ) -> Iterator[Layer]:
        whole = f"{name}.{layer}"
        factors = {whole: (outputs, inputs)}
        if rank := config.linear_ranks.get(whole):
            factors = {f"{whole}.down": (rank, inputs), f"{whole}.up": (outputs, rank)}
        for factor, dimensions in factors.items():
            biased = bias and not factor.endswith(".down")
            yield Layer(factor, Kind.LINEAR, part, dimensions, frames, uses, biased, packable=True)

    bias, pointwise = config.attention_bias, config.convolution_bias
    if maps:
        yield from linear("attention.q_proj", heads, hidden, maps, bias)
        yield from linear("attention.k_proj", heads, hidden, maps, bias and config.family.key_bias)
        scores = f"{name}.attention.scores"
        sides = (f"{scores}.left", f"{scores}.right")
        yield Layer(scores, Kind.PRODUCT, part, (heads,), frames, maps, factors=sides)
    yield from linear("attention.v_proj", heads, hidden, bias=bias)
    yield Layer(f"{name}.attention.mixing", Kind.PRODUCT, part, (heads,), frames, len(users))
    yield from linear("attention.out_proj", hidden, heads, bias=bias)
    if config.family.relative_positions:
        yield from _relative_positions(config, number, maps, frames)
    if maps and config.position_embeddings_type == "relative_key":
        rows = config.left_max_position_embeddings + config.right_max_position_embeddings + 1
        table = f"{name}.attention.distance_embedding.weight"  # of its block: not of all, as a table
        yield Layer(table, Kind.VECTOR, part, (rows, config.head_dim), frames)
        yield Layer(f"{name}.attention.distances", Kind.PRODUCT, part, (heads,), frames, 2 * maps)
    if maps and config.position_embeddings_type == "relative":
        yield from _distances(config, name, heads, maps, frames)
    if maps and config.family.disentangled:
        yield Layer(f"{name}.attention.distances", Kind.PRODUCT, part, (heads,), frames, 4 * maps)
    if not config.layer_norms:
        yield from _block_norms(config, name, hidden, frames)
    if config.family.block == "conformer":
        yield from linear("first_feed_forward.intermediate_dense", units, hidden, bias=bias)
        yield from linear("first_feed_forward.output_dense", hidden, units, bias=bias)
        yield from linear("conv_module.pointwise_conv1.value", hidden, hidden, bias=pointwise)
        yield from linear("conv_module.pointwise_conv1.gate", hidden, hidden, bias=pointwise)
        yield _depthwise(config, name, hidden, frames, len(users))
        yield from linear("conv_module.pointwise_conv2", hidden, hidden, bias=pointwise)
    yield from linear("feed_forward.intermediate_dense", units, hidden, bias=bias)
    yield from linear("feed_forward.output_dense", hidden, units, bias=bias)
    if (width := config.adapter_attn_dim) is not None:
        yield _norm(f"{name}.adapter_layer.norm", part, hidden, frames)
        for layer, dimensions in (("linear_1", (width, hidden)), ("linear_2", (hidden, width))):
            yield Layer(f"{name}.adapter_layer.{layer}", Kind.LINEAR, part, dimensions, frames, len(users))


def _block_norms(config: ModelConfig, name: str, hidden: Axis, frames: Frames) -> Iterator[Layer]:
    """List a block's norms, before or after (``do_stable_layer_norm``) attention and feed-forward layers."""
    names = ["layer_norm", "final_layer_norm"]
    if config.family.block == "conformer":
        names += ["first_feed_forward_norm", "feed_forward_norm", "conv_module.layer_norm"]
    if config.family.block == "conformer" and config.family.convolution_norm == "layer":
        names.append("conv_module.depthwise_layer_norm")
    for norm in names:
        yield _norm(f"{name}.{norm}", Part.TRANSFORMER, hidden, frames)


def _depthwise(config: ModelConfig, name: str, hidden: Axis, frames: Frames, uses: int) -> Layer:
    """List the convolution of a Conformer's block, of each channel by itself; a batch norm is its bias."""
    layer, kernel = f"{name}.conv_module.depthwise_conv", config.conv_depthwise_kernel_size
    dimensions, groups = (hidden, 1, kernel), hidden.size
    bias = config.family.convolution_norm == "batch"
    return Layer(layer, Kind.CONVOLUTION, Part.TRANSFORMER, dimensions, frames, uses, bias, groups)


def _distances(
    config: ModelConfig, name: str, heads: Axis | int, maps: int, frames: Frames
) -> Iterator[Layer]:
    """List what attention needs to compare queries with sinusoids of the distance (Dai et al. 2019)."""
    part, attention = Part.TRANSFORMER, f"{name}.attention"
    dimensions = (heads, config.hidden_size)
    yield Layer(f"{attention}.linear_pos", Kind.LINEAR, part, dimensions, frames, 2 * maps, bias=False)
    for bias in ("pos_bias_u", "pos_bias_v"):
        yield Layer(f"{attention}.{bias}", Kind.VECTOR, part, (heads,), frames)
    yield Layer(f"{attention}.distances", Kind.PRODUCT, part, (heads,), frames, 2 * maps)


def _deltas(config: ModelConfig, number: int, frames: Frames) -> Iterator[Layer]:
    """List the low-rank deltas of a layer, one for each matrix of the shared block."""
    width, rank = config.hidden_size, config.layer_delta_rank
    heads, units = config.attention_heads(number) * config.head_dim, config.feed_forward_units(number)
    own = ("attention.q_proj", "attention.k_proj") if config.map(number) == number else ()
    matrices = {
        **dict.fromkeys((*own, "attention.v_proj"), (heads, width)),
        "attention.out_proj": (width, heads),
        "feed_forward.intermediate_dense": (units, width),
        "feed_forward.output_dense": (width, units),
    }
    if config.family.block == "conformer":
        matrices["first_feed_forward.intermediate_dense"] = (units, width)
        matrices["first_feed_forward.output_dense"] = (width, units)
        for layer in ("pointwise_conv1.value", "pointwise_conv1.gate", "pointwise_conv2"):
            matrices[f"conv_module.{layer}"] = (width, width)
    for matrix, (outputs, inputs) in matrices.items():
        name, part = f"{block_name(number)}.delta.{matrix}", Part.TRANSFORMER
        yield Layer(f"{name}.down", Kind.LINEAR, part, (rank, inputs), frames, bias=False)
        yield Layer(f"{name}.up", Kind.LINEAR, part, (outputs, rank), frames, bias=False, begins="zeros")


def _relative_positions(config: ModelConfig, number: int, maps: int, frames: Frames) -> Iterator[Layer]:
    """List the gate on a bias by distance (Chi et al. 2022), and in the first block the table of that
    bias.
    """
    name, part, heads = f"{block_name(number)}.attention", Part.TRANSFORMER, config.num_attention_heads
    constant = (1, heads, 1, 1)
    yield Layer(f"{name}.gru_rel_pos_const", Kind.VECTOR, part, constant, frames, begins="ones")
    gate = (8, config.head_dim)  # of every head
    yield Layer(f"{name}.gru_rel_pos_linear", Kind.LINEAR, part, gate, frames, heads * maps)
    if number == 0:
        table = (config.num_buckets, heads)
        yield Layer(f"{name}.rel_attn_embed", Kind.TABLE, part, table, frames, bias=False)
