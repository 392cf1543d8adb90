"""List the layers of a model, in the order in which speech passes through them.

``inventory`` lists the layers of a configuration once. A model's size, its operations, the layers that can be
pruned, narrowed or packed, and the tensors in its file are short functions over that list. The layers compute
in ``littlefoot.network.encoder``, which looks their weights up by the same names: those of Hugging Face
checkpoints without the model's prefix.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from math import prod

from littlefoot.audio import SAMPLE_RATE
from littlefoot.network.config import ModelConfig

Shape = tuple[int, ...]

WAVEFORM_LAYER = "feature_extractor.conv_layers.0.conv"
"""Name of the convolution that reads the waveform, unless a spectrogram replaces it."""


class Kind(StrEnum):
    """The operation of a layer."""

    CONVOLUTION = "convolution"
    LINEAR = "linear"
    NORM = "norm"
    TABLE = "table"
    """A table whose rows are looked up."""
    VECTOR = "vector"
    """A summand or factor: one tensor with the layer's own name."""
    FILTERS = "filters"
    """A convolution without weights, whose kernel follows from the configuration."""
    PRODUCT = "product"
    """A product of two values for each pair of frames, without weights."""


class Part(StrEnum):
    """The part of the model that a layer belongs to."""

    FRONT_END = "front_end"
    PROJECTION = "projection"
    POSITIONS = "positions"
    TRANSFORMER = "transformer"
    HEAD = "head"


class AxisKind(StrEnum):
    """The kind of entries along an axis."""

    HIDDEN = "hidden"
    """Channels between all blocks."""
    GROUP = "group"
    """Hidden channels that one group of a positional convolution reads; they change with ``HIDDEN``."""
    HEADS = "heads"
    UNITS = "ffn"
    CHANNELS = "conv"
    """Channels of one convolution of the front end."""


@dataclass(frozen=True)
class Axis:
    """Indices of which a smaller model has fewer, the same ones in all layers that have the axis."""

    name: str
    """Name: ``hidden``, or with the layer's number ``heads3``, ``ffn3``, ``conv3``."""
    kind: AxisKind
    size: int
    width: int = 1
    """Rows or columns of a weight for each index, such as those of a head."""


@dataclass(frozen=True)
class Frames:
    """The outputs of a layer in time."""

    stride: int = 1
    """Samples between the beginnings of two frames."""
    receptive_field: int = 1
    """Samples that a frame depends on."""

    @property
    def per_second(self) -> float:
        return SAMPLE_RATE / self.stride

    def count(self, samples: int) -> int:
        """Return the number of frames of a recording, given its samples."""
        return max((samples - self.receptive_field) // self.stride + 1, 0)

    def after(self, kernel: int, stride: int) -> Frames:
        """Return the frames of a convolution over these frames."""
        return Frames(self.stride * stride, self.receptive_field + (kernel - 1) * self.stride)


@dataclass(frozen=True)
class Layer:
    """A layer with its kind, its weight and the number of its uses."""

    name: str
    kind: Kind
    part: Part
    dimensions: tuple[Axis | int, ...]
    """Dimensions of the weight, outputs first: axes, or sizes that no smaller model changes."""
    frames: Frames
    uses: int = 1
    """Uses in a pass on each frame: a layer of a shared block counts once for each layer that uses it."""
    bias: bool = True
    groups: int = 1
    """Groups of a convolution, each of which reads its own share of the input's channels."""
    packable: bool = False
    """Whether the weight may have fewer than 8 bits, as linear layers of blocks do."""
    factors: tuple[str, ...] = ()
    """Factors of a product that may be rounded to 8 bits, by the names that quantization gives them."""
    begins: str = "random"
    """Initial values of training from scratch: ``random``, ``zeros`` or ``ones``."""
    optional: bool = False
    """Whether only training reads it, so that a model may lack it."""

    @property
    def shape(self) -> Shape:
        """Return the shape of the weight."""
        return tuple(d if isinstance(d, int) else d.size * d.width for d in self.dimensions)

    @property
    def axes(self) -> tuple[Axis | None, ...]:
        """Return the axis of each dimension of the weight; None for sizes that no smaller model changes."""
        return tuple(None if isinstance(d, int) else d for d in self.dimensions)

    @property
    def multiplies(self) -> bool:
        """Return True if the weight is a matrix that multiplies inputs, and can be quantized."""
        return self.kind in (Kind.CONVOLUTION, Kind.LINEAR)

    @property
    def inputs(self) -> int:
        """Return the number of channels that a convolution or linear layer reads."""
        return self.groups * self.shape[1]

    @property
    def tensors(self) -> dict[str, tuple[Axis | int, ...]]:
        """Return the weights by their names, with their dimensions."""
        if self.kind is Kind.VECTOR:
            return {self.name: self.dimensions}
        if self.kind in (Kind.FILTERS, Kind.PRODUCT):
            return {}
        weight = {f"{self.name}.weight": self.dimensions}
        return {**weight, f"{self.name}.bias": self.dimensions[:1]} if self.bias else weight

    def macs(self, samples: int) -> int:
        """Count the multiply-accumulates of a pass over a number of samples, without those of norms."""
        count = self.frames.count(samples)
        if self.kind is Kind.PRODUCT:
            return prod(self.shape) * self.uses * count * count
        if self.multiplies or self.kind is Kind.FILTERS:
            return prod(self.shape) * self.uses * count
        return 0


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


_BLOCK = re.compile(r"encoder\.layers\.(\d+)\.(.*)")
_CONVOLUTION = re.compile(r"feature_extractor\.conv_layers\.(\d+)\..*")


def block_name(number: int) -> str:
    """Return the name of a Transformer layer, with which the names of its parts begin."""
    return f"encoder.layers.{number}"


def in_block(name: str) -> tuple[int, str] | None:
    """Return the Transformer layer of a tensor or layer, and its name in it; None if it is in none."""
    match = _BLOCK.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def convolution_of(name: str) -> int | None:
    """Return the convolution of the front end that a tensor or layer belongs to, itself or as its norm."""
    match = _CONVOLUTION.fullmatch(name)
    return int(match[1]) if match else None


# The functions below list the layers, in the order of the network.


def _layers(config: ModelConfig) -> Iterator[Layer]:
    """List convolutions, projection, positions, Transformer blocks and head.

    The norm before the blocks follows them if their own norms come first (``do_stable_layer_norm``).
    """
    hidden = Axis("hidden", AxisKind.HIDDEN, config.hidden_size)
    frames = Frames()
    channels: Axis | int = 1
    for number, outputs in enumerate(config.conv_dim):
        kernel, stride = config.conv_kernel[number], config.conv_stride[number]
        frames = frames.after(kernel, stride)
        if number == 0 and config.feat_extract_first == "log_mel":
            yield from _log_mel(frames, outputs, kernel)
            channels = outputs
        else:
            made = Axis(f"conv{number}", AxisKind.CHANNELS, outputs)
            yield from _convolution(config, number, (made, channels, kernel), frames)
            channels = made
    part = Part.PROJECTION
    if config.feat_proj_layer_norm:
        yield _norm("feature_projection.layer_norm", part, channels, frames)
    yield Layer("feature_projection.projection", Kind.LINEAR, part, (hidden, channels), frames)
    yield Layer("masked_spec_embed", Kind.VECTOR, part, (hidden,), frames, optional=True)
    yield from _positions(config, hidden, frames)
    yield _norm("encoder.layer_norm", Part.TRANSFORMER, hidden, frames)
    for number in range(config.num_hidden_layers):
        yield from _block(config, number, hidden, frames)
    yield Layer("lm_head", Kind.LINEAR, Part.HEAD, (config.vocab_size, hidden), frames)


def _norm(name: str, part: Part, channels: Axis | int, frames: Frames) -> Layer:
    return Layer(name, Kind.NORM, part, (channels,), frames, begins="ones")


def _log_mel(frames: Frames, bands: int, window: int) -> Iterator[Layer]:
    """List the spectrogram that replaces the first convolution: windowed sinusoids, then bands of their
    powers.
    """
    waves = 2 * ((window - 1) // 2)
    yield Layer("feature_extractor.log_mel.sinusoids", Kind.FILTERS, Part.FRONT_END, (waves, window), frames)
    yield Layer("feature_extractor.log_mel.bands", Kind.FILTERS, Part.FRONT_END, (bands, waves), frames)


def _convolution(
    config: ModelConfig, number: int, dimensions: tuple[Axis | int, ...], frames: Frames
) -> Iterator[Layer]:
    """List one of the front end's convolutions, and its norm."""
    name = f"feature_extractor.conv_layers.{number}"
    part = Part.FRONT_END
    yield Layer(f"{name}.conv", Kind.CONVOLUTION, part, dimensions, frames, bias=config.conv_bias)
    if config.feat_extract_norm == "layer" or number == 0:
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


def _block(config: ModelConfig, number: int, hidden: Axis, frames: Frames) -> Iterator[Layer]:
    """List one Transformer layer: its own parts, and the block that it shares with others.

    A layer that uses another's map has no queries and keys, unless its shared block has them for another
    layer.
    """
    name, part = block_name(number), Part.TRANSFORMER
    if config.layer_norms:
        yield from _block_norms(name, hidden, frames)
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

    def linear(layer: str, outputs: Axis | int, inputs: Axis | int, uses: int = len(users)) -> Layer:
        return Layer(f"{name}.{layer}", Kind.LINEAR, part, (outputs, inputs), frames, uses, packable=True)

    if maps:
        yield linear("attention.q_proj", heads, hidden, maps)
        yield linear("attention.k_proj", heads, hidden, maps)
        scores = f"{name}.attention.scores"
        sides = (f"{scores}.left", f"{scores}.right")
        yield Layer(scores, Kind.PRODUCT, part, (heads,), frames, maps, factors=sides)
    yield linear("attention.v_proj", heads, hidden)
    yield Layer(f"{name}.attention.mixing", Kind.PRODUCT, part, (heads,), frames, len(users))
    yield linear("attention.out_proj", hidden, heads)
    if config.family.relative_positions:
        yield from _relative_positions(config, number, maps, frames)
    if not config.layer_norms:
        yield from _block_norms(name, hidden, frames)
    yield linear("feed_forward.intermediate_dense", units, hidden)
    yield linear("feed_forward.output_dense", hidden, units)
    if (width := config.adapter_attn_dim) is not None:
        yield _norm(f"{name}.adapter_layer.norm", part, hidden, frames)
        for layer, dimensions in (("linear_1", (width, hidden)), ("linear_2", (hidden, width))):
            yield Layer(f"{name}.adapter_layer.{layer}", Kind.LINEAR, part, dimensions, frames, len(users))


def _block_norms(name: str, hidden: Axis, frames: Frames) -> Iterator[Layer]:
    """List a block's norms, before or after (``do_stable_layer_norm``) attention and feed-forward layers."""
    yield _norm(f"{name}.layer_norm", Part.TRANSFORMER, hidden, frames)
    yield _norm(f"{name}.final_layer_norm", Part.TRANSFORMER, hidden, frames)


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
