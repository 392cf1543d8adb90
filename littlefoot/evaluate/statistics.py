"""Compute medians, intervals and ranks of measurements in rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

Rounds = Sequence[Sequence[float]]
"""One number for each round of each launch."""

RESAMPLES = 2000
LEAST_SPEAKERS = 5
"""Number of speakers below which intervals are over utterances."""
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


def clusters_of(speakers: Sequence[tuple[str, str]]) -> npt.NDArray[np.int64]:
    """Return (N,) which utterances belong together in a bootstrap: those of one speaker.

    Utterances of one speaker are alike, so intervals that draw them one by one are too narrow for other
    speakers. With fewer than LEAST_SPEAKERS there is too little to draw from: every utterance then counts for
    itself, and so does one without a speaker.

    Args:
        speakers: set and speaker of each utterance; names of speakers hold within a set.
    """
    named = [key if key[1] else (str(number), "") for number, key in enumerate(speakers)]
    if len({key for key in speakers if key[1]}) < LEAST_SPEAKERS:
        return np.arange(len(speakers))
    numbers = {key: number for number, key in enumerate(dict.fromkeys(named))}
    return np.array([numbers[key] for key in named], np.int64)


def cluster_sums(values: npt.NDArray[np.int64], clusters: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the sums (K, ...) of values (N, ...) over each of K clusters (N,)."""
    _, places = np.unique(clusters, return_inverse=True)
    sums = np.zeros((places.max(initial=-1) + 1, *values.shape[1:]), np.int64)
    np.add.at(sums, places, values)
    return sums


Compare = Callable[[float, float], float]
"""A number made of a model's error rate and another's."""


def paired_statistic(
    errors: npt.NDArray[np.int64],
    others: npt.NDArray[np.int64],
    words: npt.NDArray[np.int64],
    clusters: npt.NDArray[np.int64],
    compare: Compare,
) -> tuple[float, float, float]:
    """Compare the error rates of two models on the same utterances: (number, low, high), 95 %.

    The paired bootstrap as in ``paired_difference``, of any number made of the two rates.

    Args:
        errors, others: word errors of each utterance (N,), of the model and of the other one.
        words: number of words in each reference (N,).
        clusters: (N,) from ``clusters_of``.
    """
    totals = cluster_sums(np.stack([errors, others, words], axis=1), clusters)  # (K, 3)
    draws = np.random.default_rng(0).integers(len(totals), size=(RESAMPLES, len(totals)))

    def number(sums: npt.NDArray[np.int64]) -> float:
        mine, theirs = sums[:2] / max(int(sums[2]), 1)
        return compare(float(mine), float(theirs))

    low, high = np.percentile([number(totals[draw].sum(axis=0)) for draw in draws], [2.5, 97.5])
    return number(totals.sum(axis=0)), float(low), float(high)


def paired_difference(
    first: npt.NDArray[np.int64],
    second: npt.NDArray[np.int64],
    words: npt.NDArray[np.int64],
) -> tuple[float, float, float, float]:
    """Compare the errors per word of two models: (difference, low, high, two-sided p value).

    The difference is that of the second from the first. The paired bootstrap over utterances (Bisani and Ney,
    ICASSP 2004, section 4) scores both on the same draws, so that the difficulty of an utterance cancels out.

    Args:
        first, second: word errors of each utterance (N,).
        words: number of words in each reference (N,).
    """
    draws = np.random.default_rng(0).integers(len(words), size=(RESAMPLES, len(words)))
    totals = np.maximum(words[draws].sum(axis=1), 1)
    found = (second - first)[draws].sum(axis=1) / totals
    low, high = np.percentile(found, [2.5, 97.5])
    tail = min((found <= 0).mean(), (found >= 0).mean())
    difference = (second - first).sum() / max(int(words.sum()), 1)
    return float(difference), float(low), float(high), float(min(1.0, 2 * tail))
