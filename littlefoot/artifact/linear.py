"""Read and write the layers of an artifact that are computed in few bits.

A layer NAME, convolution or linear layer, with C' outputs and C inputs, is one of these:

- **in floating point**: ``NAME.weight`` of a floating type (``FloatWeight``);
- **in 8 bits**: ``NAME.weight`` int8, symmetric, and ``NAME.weight_scale`` (C',): W ~ scale * level, level in
  -127 ... 127 (``EightBitWeight``);
- **packed**: ``NAME.weight`` uint8, rows of bytes (``littlefoot.artifact.packing``), with
  ``NAME.weight_bits`` beside them (``PackedWeight``), and

  - ``NAME.weight_levels`` (n,) int8, a codebook other than that of two's complement;
  - ``NAME.weight_shape``, where the bytes do not give it: convolutions, and codebooks of three levels;
  - ``NAME.weight_multiplier`` (C', G) uint8, the group scales: factors of the levels in each of a row's G
    groups;
  - ``NAME.weight_scale_K`` (C',), the scales of K bits (``littlefoot.artifact.precisions``).

Its input, or a factor of the attention scores NAME.left or NAME.right, which have no weight, is rounded with
one scale and zero point, x ~ scale * (q - zero_point) (``Rounding``):

- ``NAME.input_scale`` and ``NAME.input_zero_point``, uint8, or int8 of factors;
- ``NAME.input_smoothing`` (C,), a factor of the input's channels whose inverse is in the weight (SmoothQuant,
  Xiao et al. 2023), so that a few large channels do not determine the range of all;
- ``NAME.input_shift`` (C,), the activation offset: subtracted before the input is rounded, its effect in the
  bias;
- ``NAME.input_bits``, fewer than 8; or, without a scale, 32: the input is not rounded.

Without any of these, the input of a linear layer is rounded by its own range, which is found at run time.
``littlefoot.artifact.quantized_weights`` checks all tensors before they are read here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact.packing import PACKED_BITS, Table, pack, unpack

Array = npt.NDArray[Any]
Arrays = Mapping[str, Array]

UNROUNDED = 32
"""Value of ``input_bits`` for a layer whose input is not rounded."""

_PACKED = ("weight_bits", "weight_levels", "weight_shape", "weight_multiplier")
_FEWER = {bits: f"weight_scale_{bits}" for bits in PACKED_BITS}
_INPUT = ("input_scale", "input_zero_point", "input_smoothing", "input_shift", "input_bits")

PARTS = ("weight_scale", *_PACKED, *_FEWER.values(), *_INPUT)
"""Suffixes of the tensors that may belong to a layer's weight, after its name and a dot."""

TRAINING_PARTS = ("log_weight_scale", "log_input_scale", "input_zero")
"""Suffixes of the tensors of a model whose quantization is being trained
(``littlefoot.compress.fake_quant``); engines ignore them."""


@dataclass(frozen=True, eq=False)
class Rounding:
    """The rounding of an input: q = round((x * smoothing - shift) / act_scale) + act_zero_point."""

    act_scale: Array
    """A float32 scalar."""
    act_zero_point: Array
    """A uint8 scalar; int8 for a factor of the attention scores."""
    bits: int = 8
    smoothing: Array | None = None
    """Factors of the channels (C,), or None."""
    shift: Array | None = None
    """Activation offset (C,), or None."""

    @property
    def limits(self) -> tuple[np.float32, np.float32]:
        """Return the lowest and the highest input that the unsigned levels can represent."""
        ends = (np.array([0, (1 << self.bits) - 1]) - int(self.act_zero_point)) * self.act_scale
        low, high = ends.astype(np.float32)
        return low, high

    def tensors(self, name: str) -> dict[str, Array]:
        """Return the tensors of an artifact that store it, by their suffixes."""
        values = (self.act_scale, self.act_zero_point, self.smoothing, self.shift)
        found = {f"{name}.{part}": v for part, v in zip(_INPUT, values, strict=False) if v is not None}
        bits = {f"{name}.input_bits": np.array(self.bits, np.uint8)} if self.bits != 8 else {}
        return {**found, **bits}


def same(a: Rounding | None, b: Rounding | None) -> bool:
    """Return True if two layers with the same input round it in the same way."""
    if a is None or b is None:
        return a is b
    mine, theirs = a.tensors(""), b.tensors("")
    return mine.keys() == theirs.keys() and all(np.array_equal(v, theirs[k]) for k, v in mine.items())


@dataclass(frozen=True, eq=False)
class FloatWeight:
    """A weight in floating point, of any width."""

    data: Array
    """(C', ...)."""

    def tensors(self, name: str) -> dict[str, Array]:
        """Return the tensors of an artifact that store it, by their suffixes."""
        return {f"{name}.weight": self.data}


@dataclass(frozen=True, eq=False)
class EightBitWeight:
    """A weight in 8 bits, with one scale for each output."""

    qdata: npt.NDArray[np.int8]
    """(C', ...)."""
    scale: Array
    """(C',)."""

    @property
    def levels(self) -> npt.NDArray[np.int8]:
        """Return the integers (C', ...) that the scale turns into weights."""
        return self.qdata

    @property
    def convolves(self) -> bool:
        """Return True if the layer is a convolution."""
        return self.qdata.ndim > 2

    def tensors(self, name: str) -> dict[str, Array]:
        """Return the tensors of an artifact that store it, by their suffixes."""
        return {f"{name}.weight": self.qdata, f"{name}.weight_scale": self.scale}


@dataclass(frozen=True, eq=False)
class PackedWeight:
    """A weight of fewer than 8 bits, packed without gaps."""

    qdata: npt.NDArray[np.uint8]
    """Packed codes (C', bytes of a row)."""
    scale: Array
    """(C',)."""
    bits: int
    table: Table = ()
    """Codebook, if it is not that of two's complement."""
    written_shape: tuple[int, ...] | None = None
    """Shape (C', ...), where the bytes do not give it."""
    multiplier: npt.NDArray[np.uint8] | None = None
    """Group scales (C', G): factors of the levels in each group of columns; None without groups."""
    fewer: Mapping[int, Array] = field(default_factory=dict)
    """Scales (C',) of the nested precisions, which have fewer bits of the same codes, by their bits."""

    @classmethod
    def pack(
        cls,
        levels: npt.NDArray[np.int8],
        scale: Array,
        bits: int,
        table: Table = (),
        multiplier: npt.NDArray[np.uint8] | None = None,
        fewer: Mapping[int, Array] | None = None,
    ) -> PackedWeight:
        """Pack levels (C', ...); the channels and taps of a convolution's output form one row.

        Raises ConfigError for columns that do not fill whole bytes, and for levels outside of the codebook.
        """
        packed = pack(levels.reshape(len(levels), -1), bits, table)
        shape = levels.shape if levels.ndim > 2 or len(table) == 3 else None
        return cls(packed, scale, bits, table, shape, multiplier, fewer or {})

    @property
    def levels(self) -> npt.NDArray[np.int8]:
        """Return the integers (C', ...) of 8-bit products, which the scale turns into weights.

        The group scales are multiplied in.
        """
        shape = self.written_shape
        codes = unpack(self.qdata, self.bits, self.table, None if shape is None else prod(shape[1:]))
        if self.multiplier is not None:
            grouped = codes.reshape(*self.multiplier.shape, -1) * self.multiplier[:, :, None].astype(np.int8)
            codes = grouped.reshape(codes.shape)
        return codes if shape is None else codes.reshape(shape)

    @property
    def convolves(self) -> bool:
        """Return True if the layer is a convolution."""
        return self.written_shape is not None and len(self.written_shape) > 2

    def tensors(self, name: str) -> dict[str, Array]:
        """Return the tensors of an artifact that store it, by their suffixes."""
        found: dict[str, Array] = {
            f"{name}.weight": self.qdata,
            f"{name}.weight_bits": np.array(self.bits, np.uint8),
            f"{name}.weight_scale": self.scale,
        }
        if self.table:
            found[f"{name}.weight_levels"] = np.array(self.table, np.int8)
        if self.written_shape is not None:
            found[f"{name}.weight_shape"] = np.array(self.written_shape, np.int32)
        if self.multiplier is not None:
            found[f"{name}.weight_multiplier"] = self.multiplier
        return {**found, **{f"{name}.{_FEWER[bits]}": scale for bits, scale in self.fewer.items()}}


Weight = FloatWeight | EightBitWeight | PackedWeight


class Product(StrEnum):
    """The way in which a layer's product is computed."""

    FLOAT = "float"
    """Product in floating point."""
    STATIC = "static"
    """Product in 8 bits, with an input that is rounded by a fixed scale."""
    DYNAMIC = "dynamic"
    """Product in 8 bits, with an input that is rounded by its own range at run time."""
    WEIGHT_ONLY = "weight only"
    """Product in floating point, with a weight that is expanded to floating point."""


@dataclass(frozen=True, eq=False)
class StoredLayer:
    """A layer as an artifact stores it, without its bias."""

    weight: Weight
    inputs: Rounding | None = None
    """Rounding of the input; None if it is not rounded, or rounded by its own range at run time."""
    unrounded: bool = False
    """Whether the input is not rounded."""

    @property
    def product(self) -> Product:
        if isinstance(self.weight, FloatWeight):
            return Product.FLOAT
        if self.inputs is not None:
            return Product.STATIC
        return Product.WEIGHT_ONLY if self.unrounded or self.weight.convolves else Product.DYNAMIC

    def tensors(self, name: str) -> dict[str, Array]:
        """Return the tensors of an artifact that store it, by their suffixes."""
        found = self.weight.tensors(name)
        if self.inputs is not None:
            return {**found, **self.inputs.tensors(name)}
        return {**found, f"{name}.input_bits": np.array(UNROUNDED, np.uint8)} if self.unrounded else found


def read(name: str, weights: Arrays) -> StoredLayer:
    """Read the layer of this name."""
    inputs = read_rounding(name, weights)
    unrounded = inputs is None and f"{name}.input_bits" in weights
    return StoredLayer(read_weight(name, weights), inputs, unrounded)


def read_weight(name: str, weights: Arrays) -> Weight:
    """Read the weight of the layer of this name."""
    stored = weights[f"{name}.weight"]
    if stored.dtype.kind == "f":
        return FloatWeight(stored)
    scale = weights[f"{name}.weight_scale"]
    bits, table, shape, multiplier = (weights.get(f"{name}.{part}") for part in _PACKED)
    if bits is None:
        return EightBitWeight(stored, scale)
    return PackedWeight(
        stored,
        scale,
        int(bits),
        () if table is None else tuple(table.tolist()),
        None if shape is None else tuple(shape.tolist()),
        multiplier,
        {k: weights[f"{name}.{part}"] for k, part in _FEWER.items() if f"{name}.{part}" in weights},
    )


def read_rounding(name: str, weights: Arrays) -> Rounding | None:
    """Read the rounding of a layer's input, or of a factor of a product; None without a fixed scale."""
    scale, _, smoothing, shift, bits = (weights.get(f"{name}.{part}") for part in _INPUT)
    if scale is None:
        return None
    zero_point = weights[f"{name}.input_zero_point"]
    return Rounding(scale, zero_point, 8 if bits is None else int(bits), smoothing, shift)


def put(weights: Arrays, layers: Mapping[str, StoredLayer]) -> dict[str, Array]:
    """Return the tensors of an artifact in which layers replace those of the same names."""
    old = {f"{name}.{part}" for name in layers for part in PARTS}
    made = {name: array for name, array in weights.items() if name not in old}
    for name, layer in layers.items():
        made.update(layer.tensors(name))
    return made


def _with(parts: Iterable[str], weights: Arrays) -> list[str]:
    """Return the layers that have any of these tensors, in order."""
    wanted = set(parts)
    split = (name.rpartition(".") for name in weights)
    return list(dict.fromkeys(layer for layer, _, part in split if part in wanted))


def quantized_layers(weights: Arrays) -> list[str]:
    """Return the layers and factors of products that are computed in 8 bits or fewer."""
    return _with(("weight_scale", "input_scale"), weights)


def rounded_inputs(weights: Arrays) -> list[str]:
    """Return the layers and factors of products whose input is rounded by a fixed scale."""
    return _with(("input_scale",), weights)


def packed_layers(weights: Arrays) -> list[str]:
    """Return the layers whose weight is packed."""
    return _with(("weight_bits",), weights)
