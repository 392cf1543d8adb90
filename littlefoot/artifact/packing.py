"""Pack weights of few bits without gaps.

The codebook of b bits consists of the integers of two's complement, -2^(b-1) ... 2^(b-1) - 1; of -1 and +1
for one bit; or of the levels of a table, whose codes are their indices. Each row of a matrix is a string of
bits, the lowest bit of its first code first, eight to a byte. With a table of three levels, five codes share
a byte as digits in base three, the first one the lowest: 1.6 bits each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from littlefoot.errors import ConfigError

PACKED_BITS = (1, 2, 3, 4)

Table = tuple[int, ...]
"""A codebook of evenly spaced levels, ascending; empty for two's complement."""

TERNARY: Table = (-1, 0, 1)
_TRITS = 5
"""Base-three digits of a byte: 3^5 = 243."""


def level_range(bits: int) -> tuple[int, int]:
    """Return the lowest and the highest level of two's complement."""
    return (-1, 1) if bits == 1 else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def symmetric(bits: int) -> Table:
    """Return the odd levels -(2^b - 1) ... 2^b - 1: as many above zero as below, and no zero."""
    return tuple(range(1 - (1 << bits), 1 << bits, 2))


def levels_of(bits: int, table: Table = ()) -> Table:
    """Return all levels, ascending."""
    low, high = level_range(bits)
    return table or tuple(range(low, high + 1, 2 if bits == 1 else 1))


def packed_columns(columns: int, bits: int, table: Table = ()) -> int:
    """Return the bytes of a row of ``columns`` codes. Raises ConfigError if they do not fill whole bytes."""
    if len(table) == 3:
        return -(-columns // _TRITS)
    if columns * bits % 8:
        raise ConfigError(
            f"{columns} columns of {bits} bits do not fill whole bytes: keep this layer in 8 bits"
        )
    return columns * bits // 8


def pack(levels: npt.NDArray[np.int8], bits: int, table: Table = ()) -> npt.NDArray[np.uint8]:
    """Pack levels (R, C) into bytes (R, C * bits / 8), or (R, C / 5), rounded up, with a table of three.

    Raises ConfigError for columns that do not fill whole bytes, and for levels outside of the codebook.
    """
    rows, columns = levels.shape
    width = packed_columns(columns, bits, table)
    known = levels_of(bits, table)
    if not np.isin(levels, known).all():
        raise ConfigError(
            f"the levels go from {levels.min()} to {levels.max()}, but {bits} bits have "
            + (", ".join(map(str, table)) if table else f"{known[0]} ... {known[-1]}")
        )
    if table:
        codes = np.searchsorted(np.array(table), levels).astype(np.uint8)
    else:
        codes = (levels > 0 if bits == 1 else levels).astype(np.uint8)
    if len(table) == 3:
        digits = np.zeros((rows, width * _TRITS), np.uint8)
        digits[:, :columns] = codes
        powers = 3 ** np.arange(_TRITS, dtype=np.uint8)
        summed: npt.NDArray[np.uint8] = (digits.reshape(rows, width, _TRITS) * powers).sum(
            axis=2, dtype=np.uint8
        )
        return summed
    strings = (codes[:, :, None] >> np.arange(bits, dtype=np.uint8)) & 1  # (R, C, bits)
    packed: npt.NDArray[np.uint8] = np.packbits(
        strings.reshape(rows, columns * bits), axis=1, bitorder="little"
    )
    return packed.reshape(rows, width)


def unpack(
    packed: npt.NDArray[np.uint8], bits: int, table: Table = (), columns: int | None = None
) -> npt.NDArray[np.int8]:
    """Invert ``pack``. A table of three needs ``columns``, because its last bytes may not be full."""
    rows, width = packed.shape
    levels: npt.NDArray[np.int8]
    if len(table) == 3:
        digits = packed[:, :, None] // 3 ** np.arange(_TRITS, dtype=np.uint8) % 3
        levels = np.array(table, np.int8)[digits.reshape(rows, width * _TRITS)[:, :columns]]
        return levels
    count = width * 8 // bits
    strings = np.unpackbits(packed, axis=1, bitorder="little").reshape(rows, count, bits)
    codes = (strings << np.arange(bits, dtype=np.uint8)).sum(axis=2, dtype=np.uint8)
    if table:
        levels = np.array(table, np.int8)[codes]
        return levels
    signed = codes.astype(np.int8)
    negative = signed == 0 if bits == 1 else signed >= 1 << (bits - 1)
    levels = np.where(negative, signed - (1 if bits == 1 else 1 << bits), signed).astype(np.int8)
    return levels


LARGEST_LEVEL = 127
"""Largest integer of the weights of 8-bit products, group scales included."""


@dataclass(frozen=True)
class WeightCode:
    """The storage of a layer's weight: its bits (16 and 32 are floating point), codebook and groups."""

    bits: int
    table: Table = ()
    """Codebook, if it is not that of two's complement."""
    group: int = 0
    """Columns that share a scale; 0: all columns of a row."""

    def groups(self, columns: int) -> int:
        """Return the number of scales of a row."""
        return columns // self.group if self.group else 1

    @property
    def levels(self) -> Table:
        return levels_of(self.bits, self.table)

    @property
    def largest_multiplier(self) -> int:
        """Return the largest group scale, as a multiple of the row's scale."""
        return LARGEST_LEVEL // max(self.levels[-1], -self.levels[0])


def layer_bytes(shape: Sequence[int], code: WeightCode) -> int:
    """Return the bytes of a linear layer's weight (R, C) in an artifact, with its scales.

    Raises ConfigError if its columns do not fill whole bytes, or if groups do not divide them.
    """
    rows, columns = shape
    if code.bits >= 8:
        return rows * columns * code.bits // 8 + (4 * rows if code.bits == 8 else 0)
    if code.group and columns % code.group:
        raise ConfigError(f"groups of {code.group} do not divide its {columns} columns")
    size = rows * packed_columns(columns, code.bits, code.table) + 4 * rows + 1
    size += len(code.table) + (8 if len(code.table) == 3 else 0)
    groups = code.groups(columns)
    return size + (rows * groups if groups > 1 else 0)
