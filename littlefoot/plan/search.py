"""Which candidate harms least: short trainings, of which the better ones are repeated with more steps.

Successive halving (Jamieson and Talwalkar, AISTATS 2016), by the harm: the KL divergence of the posteriors
from the first model's. After a short training all words are still wrong, but some models already say more
like the first one than others. What a candidate would reach in the end is extrapolated by a power law of the
steps (Hestness et al. 2017), and what that means in words is read off the candidates that recognise some.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

RUNGS = ((1 / 20, 6), (1 / 10, 4), (1 / 5, 2))
"""Steps of a trial as a share of all, and how many candidates are tried with so many."""
SLOPES = 0.1, 1.0
"""Of the power law, at least and at most: what short trials show must not run away."""
COMMON_SLOPE = 0.35
"""Where there is one trial only."""
WORDS = 1.0, 1.3
"""Coefficient and exponent of errors by harm, where no candidate shows them: those of our own models."""
EXPONENTS = 0.7, 1.6
DEAF = 0.9
"""Models with a higher word error rate tell nothing of it."""


def halve(
    items: Sequence[Item],
    kinds: Sequence[Hashable],
    steps: int,
    try_: Callable[[Sequence[Item], int], Sequence[float]],
) -> dict[int, dict[int, float]]:
    """Try items with more and more steps, fewer each time.

    Kinds of candidates learn in different ways: pruning begins with more harm than leaving layers out, and
    may end with less. So as long as there is room the best of each kind stays.

    Args:
        items: the first ones of each kind are tried if not all can be.
        kinds: of each item.
        steps: of the final training.
        try_: the harm of each item after so many steps; infinite for one that cannot be trained.

    Returns:
        for each item that was tried, by its place: steps -> harm.
    """
    left = list(range(len(items)))
    results: dict[int, dict[int, float]] = {}
    for share, count in RUNGS:
        left = _kinds_in_turn(left, kinds)[:count]
        tried = max(1, round(steps * share))
        for place, harm in zip(left, try_([items[place] for place in left], tried), strict=True):
            results.setdefault(place, {})[tried] = harm
        expected = {place: extrapolate(results[place], steps) for place in left}
        left = sorted((place for place in left if math.isfinite(expected[place])), key=expected.__getitem__)
        if not left:
            break
    return results


def _kinds_in_turn(places: Sequence[int], kinds: Sequence[Hashable]) -> list[int]:
    """The first place of each kind, the second of each, and so on."""
    seen: dict[Hashable, int] = {}
    turns = []
    for order, place in enumerate(places):
        turn = seen[kinds[place]] = seen.get(kinds[place], -1) + 1
        turns.append((turn, order, place))
    return [place for _, _, place in sorted(turns)]


def extrapolate(harms: Mapping[int, float], steps: int) -> float:
    """The harm after so many steps, from that after fewer: it falls as steps^-b, b by least squares."""
    last_steps, last = max(harms.items())
    if last <= 0 or not math.isfinite(last):
        return last
    slope = COMMON_SLOPE
    if len(harms) > 1:
        x, y = np.log(list(harms)), np.log(list(harms.values()))
        slope = -float(np.polyfit(x, y, 1)[0])
    slope = min(max(slope, SLOPES[0]), SLOPES[1])
    return last * math.exp(-slope * math.log(steps / last_steps))


def wer_of(harm: float, known: Iterable[tuple[float, float]], floor: float) -> float:
    """The word error rate of a model that harms so much.

    What it has beyond that of the first model, ``floor``, is taken for c * harm^p, fitted to what is known.

    Args:
        known: harm and word error rate of other models.
    """
    points = [(h, wer - floor) for h, wer in known if h > 0 and floor + 0.003 < wer < DEAF]
    coefficient, exponent = WORDS
    if points:
        x, y = np.log([h for h, _ in points]), np.log([more for _, more in points])
        if len(points) > 2 and np.ptp(x) > 0.5:
            exponent = float(np.clip(np.polyfit(x, y, 1)[0], *EXPONENTS))
        coefficient = math.exp(float(np.mean(y - exponent * x)))
    return min(1.0, floor + coefficient * math.pow(harm, exponent))
