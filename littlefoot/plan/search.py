"""Which candidate errs least: short trainings, of which the better ones are repeated with more steps.

Successive halving (Jamieson and Talwalkar, AISTATS 2016). What a candidate would reach in the end is
extrapolated from its own trials by a power law of the steps (Hestness et al. 2017).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")

RUNGS = ((1 / 40, 12), (1 / 20, 5), (1 / 10, 2))
"""Steps of a trial as a share of all, and how many candidates are tried with so many."""
SLOPES = 0.1, 1.0
"""Of the power law, at least and at most; an extrapolation from short trials must not run away."""
COMMON_SLOPE = 0.35
"""Where there is one trial only."""


def halve(
    items: Sequence[Item], steps: int, judge: Callable[[Sequence[Item], int], Sequence[float]]
) -> dict[int, dict[int, float]]:
    """Try items with more and more steps, fewer each time.

    Args:
        items: those that should be tried if not all can be, first.
        steps: of the final training.
        judge: the word error rate of each item after so many steps.

    Returns:
        for each item that was tried, by its place: steps -> word error rate.
    """
    left = list(range(len(items)))
    results: dict[int, dict[int, float]] = {}
    for share, count in RUNGS:
        left = left[:count]
        tried = max(1, round(steps * share))
        rates = judge([items[place] for place in left], tried)
        for place, rate in zip(left, rates, strict=True):
            results.setdefault(place, {})[tried] = rate
        left = [place for _, place in sorted(zip(rates, left, strict=True))]
    return results


def extrapolate(rates: Mapping[int, float], steps: int, floor: float) -> float:
    """The word error rate after so many steps, from those after fewer.

    What is above the first model's, ``floor``, falls as steps^-b, with b from a least squares fit of the
    logarithms. A candidate that is no worse than the first model stays as it is.
    """
    points = [(math.log(n), math.log(max(rate - floor, 1e-4))) for n, rate in sorted(rates.items())]
    last_steps, last_rate = max(rates.items())
    if last_rate <= floor:
        return last_rate
    slope = COMMON_SLOPE
    if len(points) > 1:
        mean_x = sum(x for x, _ in points) / len(points)
        mean_y = sum(y for _, y in points) / len(points)
        slope = -sum((x - mean_x) * (y - mean_y) for x, y in points) / sum(
            (x - mean_x) ** 2 for x, _ in points
        )
    slope = min(max(slope, SLOPES[0]), SLOPES[1])
    return floor + (last_rate - floor) * math.exp(-slope * math.log(steps / last_steps))
