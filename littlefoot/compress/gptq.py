"""Round a matrix to few bits so that its output changes least (GPTQ, Frantar et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from littlefoot.artifact.packing import Table, levels_of
from littlefoot.compress.calibration import Array

DAMPING = 0.01
"""Share of the mean of the diagonal that is added to it, because few frames do not tell all channels apart.
"""
RATIOS = np.linspace(0.2, 1.0, 33)
"""Shares of a row's largest weight that are tried as the largest value of the codebook."""
BLOCK = 32


@dataclass(frozen=True)
class Factor:
    """Statistics of an input, on which the rounding of all layers that read it depends."""

    importance: npt.NDArray[np.float64]
    """(C,) means of the squares of each channel of the input."""
    order: npt.NDArray[np.intp]
    """(C,) the channels, the loudest first."""
    upper: npt.NDArray[np.float64]
    """(C, C) upper triangular: how the channels that follow in ``order`` take up the error of one."""

    @classmethod
    def of(cls, moments: Array) -> Factor:
        """Factorise the inverse of (C, C) means of the products of each two channels of an input.

        Take them over many times as many frames as there are channels: those of few frames fit their noise.
        """
        damped = moments.astype(np.float64)
        damped[np.diag_indices_from(damped)] += DAMPING * np.diag(damped).mean() + 1e-12
        importance = np.diag(damped)
        order = np.argsort(-importance, kind="stable")
        upper = np.linalg.cholesky(np.linalg.inv(damped[np.ix_(order, order)])).T
        return cls(importance, order, upper)


def round_to_bits(weight: Array, factor: Factor, bits: int) -> tuple[npt.NDArray[np.int8], Array]:
    """Round a linear layer's weight (C', C) to int8 levels of the same shape, and a scale (C',) for each row.

    Column by column, from the one with the loudest input: what rounding one leaves as an error in the output
    is taken up by the columns that are not rounded yet, by the inverse of the inputs' second moments.
    """
    levels, scales = round_groups(weight, factor, bits)
    return levels, scales[:, 0]


def round_groups(
    weight: Array, factor: Factor, bits: int, table: Table = (), group: int = 0
) -> tuple[npt.NDArray[np.int8], Array]:
    """Round like ``round_to_bits``, with a scale for each ``group`` columns of a row, (C', G); 0 for one per
    row.
    """
    known = levels_of(bits, table)
    scales = best_scales(weight, factor.importance, bits, table, group)
    order, upper = factor.order, factor.upper
    column_scales = np.repeat(scales, group or weight.shape[1], axis=1)[:, order]
    left = weight[:, order].astype(np.float64)
    rounded = np.zeros(weight.shape, np.int8)
    for begin in range(0, weight.shape[1], BLOCK):
        end = min(begin + BLOCK, weight.shape[1])
        errors = np.zeros((len(weight), end - begin))
        for column in range(begin, end):
            exact, scale = left[:, column], column_scales[:, column]
            rounded[:, column] = nearest(exact / scale, known)
            errors[:, column - begin] = (exact - rounded[:, column] * scale) / upper[column, column]
            left[:, column:end] -= np.outer(errors[:, column - begin], upper[column, column:end])
        left[:, end:] -= errors @ upper[begin:end, end:]
    levels = np.empty_like(rounded)
    levels[:, order] = rounded
    return levels, scales


def best_scales(
    weight: Array, importance: npt.NDArray[np.float64], bits: int, table: Table = (), group: int = 0
) -> Array:
    """Find the ``best_scale`` of each ``group`` columns: (C', G); 0: of all of them."""
    count = group or weight.shape[1]
    parts = [slice(begin, begin + count) for begin in range(0, weight.shape[1], count)]
    return np.stack([best_scale(weight[:, part], importance[part], bits, table) for part in parts], axis=1)


def best_scale(weight: Array, importance: npt.NDArray[np.float64], bits: int, table: Table = ()) -> Array:
    """Find the scale (C',) of each row with the smallest squared error, columns weighted by importance (C,).

    With two values in the codebook it is known: the weighted mean of the absolute weights.
    """
    known = levels_of(bits, table)
    if len(known) == 2:
        share = importance / max(float(importance.sum()), 1e-30)
        mean: Array = np.maximum(np.abs(weight) @ share, np.finfo(np.float32).tiny).astype(np.float32)
        return mean
    largest = np.maximum(np.abs(weight).max(axis=1), np.finfo(np.float32).tiny)
    tried = []
    for ratio in RATIOS:
        scale = largest * ratio / max(known[-1], -known[0])
        error = np.square(weight - nearest(weight / scale[:, None], known) * scale[:, None]) @ importance
        tried.append((scale, error))
    best = np.argmin([error for _, error in tried], axis=0)
    scales: Array = np.stack([scale for scale, _ in tried])[best, np.arange(len(weight))].astype(np.float32)
    return scales


def nearest(values: npt.NDArray[np.floating], levels: Table) -> npt.NDArray[np.floating]:
    """Round to the nearest of evenly spaced values."""
    low, step = levels[0], levels[1] - levels[0]
    places = np.clip(np.rint((values - low) / step), 0, len(levels) - 1)
    found: npt.NDArray[np.floating] = low + step * places
    return found
