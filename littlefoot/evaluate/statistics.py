"""Compute medians, intervals and ranks of measurements in rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Rounds = Sequence[Sequence[float]]
"""One number for each round of each launch."""

RESAMPLES = 2000
SETTLED = 0.05 / 2**0.5
"""Half-width of an interval, relative to its middle, at which two runs should agree within 5 %. The
difference of two estimates scatters by the square root of two times as much as one."""


def median_interval(values: Rounds, seed: int = 0) -> tuple[float, float, float]:
    """Compute the median of all values and its 95 % interval: (median, low, high).

    The bootstrap has two stages, launches and then rounds within each (Kalibera and Jones, "Rigorous
    benchmarking in reasonable time", ISMM 2013, section 6). Differences between starts of a process, such as
    its memory layout, do not average out over rounds.
    """
    table = np.array([list(rounds) for rounds in values], np.float64)  # (launches, rounds)
    generator = np.random.default_rng(seed)
    launches, rounds = table.shape
    chosen = generator.integers(launches, size=(RESAMPLES, launches, 1))
    within = generator.integers(rounds, size=(RESAMPLES, launches, rounds))
    medians = np.median(table[chosen, within].reshape(RESAMPLES, -1), axis=1)
    low, high = np.percentile(medians, [2.5, 97.5])
    return float(np.median(table)), float(low), float(high)


def ratios(above: Rounds, below: Rounds) -> list[list[float]]:
    """Divide two tables of rounds element by element."""
    return [
        [a / b for a, b in zip(first, second, strict=True)]
        for first, second in zip(above, below, strict=True)
    ]


def is_settled(middle: float, low: float, high: float) -> bool:
    """Return True if another run should agree within 5 %."""
    return max(high - middle, middle - low) <= SETTLED * middle


def ranks(count: int, better: Callable[[int, int], bool]) -> list[int]:
    """Return 1 + the number of better ones for each of ``count``; those that cannot be told apart share a
    rank.
    """
    return [1 + sum(better(other, one) for other in range(count) if other != one) for one in range(count)]


def percentiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return p50, p95 and p99."""
    p50, p95, p99 = np.percentile(np.array(values), [50, 95, 99])
    return float(p50), float(p95), float(p99)


def paired_difference(
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    words: npt.NDArray[np.int64],
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[float, float, float, float]:
    """Compare the errors per word of two models: (difference, low, high, two-sided p value).

    The difference is that of the second from the first. The paired bootstrap over utterances (Bisani and Ney,
    ICASSP 2004, section 4) scores both on the same draws, so that the difficulty of an utterance cancels out.

    Args:
        first, second: word errors of each utterance (N,).
        words: number of words in each reference (N,).
    """
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(words), size=(resamples, len(words)))
    totals = np.maximum(words[draws].sum(axis=1), 1)
    found = (second - first)[draws].sum(axis=1) / totals
    low, high = np.percentile(found, [2.5, 97.5])
    tail = min((found <= 0).mean(), (found >= 0).mean())
    difference = (second - first).sum() / max(int(words.sum()), 1)
    return float(difference), float(low), float(high), float(min(1.0, 2 * tail))
