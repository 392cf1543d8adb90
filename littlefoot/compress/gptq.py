"""Rounding a matrix to few bits so that its output changes least (GPTQ, Frantar et al. 2023)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from littlefoot.compress.calibration import Array
from littlefoot.packing import level_range

DAMPING = 0.01
"""Added to the diagonal, as a share of its mean: few frames do not tell all channels apart."""
RATIOS = np.linspace(0.4, 1.0, 25)
"""Shares of a row's largest weight that are tried as the largest level."""
BLOCK = 128


def round_to_bits(weight: Array, rows: Array, bits: int) -> tuple[npt.NDArray[np.int8], Array]:
    """A linear layer's weight (C', C) -> levels int8 of the same shape, and the scale (C',) of each row.

    Column by column: what rounding one leaves as an error in the output is taken up by the columns that are
    not rounded yet, by the inverse of the inputs' second moments.

    Args:
        rows: (N, C) samples of the layer's input.
    """
    low, high = level_range(bits)
    moments = rows.T.astype(np.float64) @ rows.astype(np.float64) / max(len(rows), 1)
    moments[np.diag_indices_from(moments)] += DAMPING * np.diag(moments).mean() + 1e-12
    scale = best_scale(weight, np.diag(moments), bits)
    upper = np.linalg.cholesky(np.linalg.inv(moments)).T  # (C, C), upper triangular
    left = weight.astype(np.float64)
    levels = np.zeros(weight.shape, np.int8)
    for begin in range(0, weight.shape[1], BLOCK):
        end = min(begin + BLOCK, weight.shape[1])
        errors = np.zeros((len(weight), end - begin))
        for column in range(begin, end):
            exact = left[:, column]
            levels[:, column] = _nearest(exact / scale, low, high)
            errors[:, column - begin] = (exact - levels[:, column] * scale) / upper[column, column]
            left[:, column:end] -= np.outer(errors[:, column - begin], upper[column, column:end])
        left[:, end:] -= errors @ upper[begin:end, end:]
    return levels, scale


def best_scale(weight: Array, importance: npt.NDArray[np.float64], bits: int) -> Array:
    """The scale (C',) of each row with the smallest squared error, columns weighted by importance (C,)."""
    low, high = level_range(bits)
    largest = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny)
    tried = []
    for ratio in RATIOS:
        scale = largest * ratio / max(high, -low)
        error = np.square(weight - _nearest(weight / scale[:, None], low, high) * scale[:, None]) @ importance
        tried.append((scale, error))
    best = np.argmin([error for _, error in tried], axis=0)
    scales: Array = np.stack([scale for scale, _ in tried])[best, np.arange(len(weight))].astype(np.float32)
    return scales


def _nearest(values: npt.NDArray[np.floating], low: int, high: int) -> npt.NDArray[np.floating]:
    """The nearest level; with one bit there is no zero."""
    if (low, high) == (-1, 1):
        return np.where(values >= 0, 1.0, -1.0)
    nearest: npt.NDArray[np.floating] = np.clip(np.rint(values), low, high)
    return nearest
