"""Weights of few bits, packed without gaps.

Levels of b bits are the integers of two's complement, -2^(b-1) ... 2^(b-1) - 1; of one bit -1 and +1.
Each row of a matrix is a string of bits, the lowest bit of its first level first, eight to a byte.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from littlefoot.errors import ConfigError

PACKED_BITS = (1, 2, 3, 4)


def level_range(bits: int) -> tuple[int, int]:
    """The lowest and the highest level."""
    return (-1, 1) if bits == 1 else (-(1 << (bits - 1)), (1 << (bits - 1)) - 1)


def packed_columns(columns: int, bits: int) -> int:
    """Bytes of a row of so many levels. Raises ConfigError where they do not fill whole bytes."""
    if columns * bits % 8:
        raise ConfigError(
            f"{columns} columns of {bits} bits do not fill whole bytes: keep this layer in 8 bits"
        )
    return columns * bits // 8


def pack(levels: npt.NDArray[np.int8], bits: int) -> npt.NDArray[np.uint8]:
    """Levels (R, C) -> bytes (R, C * bits / 8).

    Raises ConfigError for columns that do not fill whole bytes, and for levels that so few bits do not have.
    """
    rows, columns = levels.shape
    width = packed_columns(columns, bits)
    low, high = level_range(bits)
    if levels.size and (levels.min() < low or levels.max() > high or (bits == 1 and not levels.all())):
        raise ConfigError(
            f"the levels go from {levels.min()} to {levels.max()}, but {bits} bits have {low} ... {high}"
        )
    codes = (levels > 0 if bits == 1 else levels).astype(np.uint8)
    strings = (codes[:, :, None] >> np.arange(bits, dtype=np.uint8)) & 1  # (R, C, bits)
    packed: npt.NDArray[np.uint8] = np.packbits(
        strings.reshape(rows, columns * bits), axis=1, bitorder="little"
    )
    return packed.reshape(rows, width)


def unpack(packed: npt.NDArray[np.uint8], bits: int) -> npt.NDArray[np.int8]:
    """The inverse of ``pack``."""
    rows, width = packed.shape
    columns = width * 8 // bits
    strings = np.unpackbits(packed, axis=1, bitorder="little").reshape(rows, columns, bits)
    codes = (strings << np.arange(bits, dtype=np.uint8)).sum(axis=2, dtype=np.uint8).astype(np.int8)
    negative = codes == 0 if bits == 1 else codes >= 1 << (bits - 1)
    levels: npt.NDArray[np.int8] = np.where(negative, codes - (1 if bits == 1 else 1 << bits), codes).astype(
        np.int8
    )
    return levels
