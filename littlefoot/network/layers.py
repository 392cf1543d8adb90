"""Define the layers of a model: their kinds, parts, axes and frames, and the names of their places."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from math import prod

from littlefoot.audio import SAMPLE_RATE

Shape = tuple[int, ...]


WAVEFORM_LAYER = "feature_extractor.conv_layers.0.conv"
"""Name of the convolution that reads the waveform, unless a spectrogram replaces it."""


class Kind(StrEnum):
    """The operation of a layer."""

    CONVOLUTION = "convolution"
    IMAGE_CONVOLUTION = "image convolution"
    """A convolution over frames and bands, which stays in floating point."""
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
    ADAPTER = "adapter"
    HEAD = "head"


class AxisKind(StrEnum):
    """The kind of entries along an axis."""

    HIDDEN = "hidden"
    """Channels between all blocks."""
    GROUP = "group"
    """Hidden channels that one group of a positional convolution reads; they change with ``HIDDEN``."""
    HEADS = "heads"
    UNITS = "ffn"
    ADAPTER_UNITS = "adapter"
    """Feed-forward units of the blocks behind the encoder, as many as in its blocks before pruning."""
    CHANNELS = "conv"
    """Channels of one convolution of the front end."""
    IMAGES = "images"
    """Channels of one convolution over frames and bands, which a student may have fewer of."""


@dataclass(frozen=True)
class Axis:
    """Indices of which a smaller model has fewer, the same ones in all layers that have the axis."""

    name: str
    """Name: ``hidden``, or with the layer's number ``heads3``, ``ffn3``, ``conv3``."""
    kind: AxisKind
    size: int
    width: int = 1
    """Rows or columns of a weight for each index, such as those of a head; of ``IMAGES``, bands in this
    dimension."""


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
        if self.multiplies or self.kind in (Kind.FILTERS, Kind.IMAGE_CONVOLUTION):
            return prod(self.shape) * self.uses * count
        return 0


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
