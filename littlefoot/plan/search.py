"""Find the best candidate by short trainings, and repeat the better ones with more steps.

The method is successive halving (Jamieson and Talwalkar, AISTATS 2016) by the divergence: the KL divergence
of the posteriors from the first model's. After a short training most words are still wrong, but the
divergence already distinguishes the candidates. A power law of the steps (Hestness et al. 2017) extrapolates
it to the final training, and the candidates that recognise some words show the word error rate that it
corresponds to.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")

RUNGS = ((1 / 20, 6), (1 / 10, 4), (1 / 5, 2))
"""Rounds: the steps of each trial as a share of all steps, and the number of candidates."""
SLOPES = 0.1, 1.0
"""Least and largest exponent of the power law, which limit the extrapolation of short trials."""
COMMON_SLOPE = 0.35
"""Exponent if there is only one trial."""
WORDS = 1.0, 1.3
"""Coefficient and exponent of errors by divergence, from our own models, if there is no candidate to fit."""
EXPONENTS = 0.7, 1.6
"""Least and largest exponent of errors by divergence."""
DEAF = 0.9
"""Word error rate above which models are not used for the fit."""


def halve(
    items: Sequence[Item],
    kinds: Sequence[Hashable],
    steps: int,
    try_: Callable[[Sequence[Item], int], Sequence[float]],
) -> dict[int, dict[int, float]]:
    """Try items with increasing steps, fewer items each time.

    Methods converge differently: pruning starts with a larger divergence than leaving out layers, and may end
    with a smaller one. The best candidate of each kind therefore stays in as long as there is room.

    Args:
        items: candidates; if there are too many, the first ones of each kind are tried.
        kinds: kind of each item.
        steps: steps of the final training.
        try_: returns the divergence of each item after a number of steps; infinite if it cannot be trained.

    Returns:
        for each tried item, by its index: steps -> divergence.
    """
    left = list(range(len(items)))
    results: dict[int, dict[int, float]] = {}
    for share, count in RUNGS:
        left = _kinds_in_turn(left, kinds)[:count]
        tried = max(1, round(steps * share))
        for place, divergence in zip(left, try_([items[place] for place in left], tried), strict=True):
            results.setdefault(place, {})[tried] = divergence
        expected = {place: extrapolate(results[place], steps) for place in left}
        left = sorted((place for place in left if math.isfinite(expected[place])), key=expected.__getitem__)
        if not left:
            break
    return results


def _kinds_in_turn(places: Sequence[int], kinds: Sequence[Hashable]) -> list[int]:
    """Return the first index of each kind, then the second of each, and so on."""
    seen: dict[Hashable, int] = {}
    turns = []
    for order, place in enumerate(places):
        turn = seen[kinds[place]] = seen.get(kinds[place], -1) + 1
        turns.append((turn, order, place))
    return [place for _, _, place in sorted(turns)]


def extrapolate(divergences: Mapping[int, float], steps: int) -> float:
    """Extrapolate the divergence to more steps: it falls as steps^-b, with b by least squares."""
    last_steps, last = max(divergences.items())
    if last <= 0 or not math.isfinite(last):
        return last
    slope = COMMON_SLOPE
    if len(divergences) > 1:
        x, y = np.log(list(divergences)), np.log(list(divergences.values()))
        slope = -float(np.polyfit(x, y, 1)[0])
    slope = min(max(slope, SLOPES[0]), SLOPES[1])
    return last * math.exp(-slope * math.log(steps / last_steps))


def wer_of(divergence: float, known: Iterable[tuple[float, float]], floor: float) -> float:
    """Estimate the word error rate of a model from its divergence.

    The part beyond the first model's rate, ``floor``, is modelled as c * divergence^p, fitted to other
    models.

    Args:
        known: divergence and word error rate of other models.
    """
    points = [(h, wer - floor) for h, wer in known if h > 0 and floor + 0.003 < wer < DEAF]
    coefficient, exponent = WORDS
    if points:
        x, y = np.log([h for h, _ in points]), np.log([more for _, more in points])
        if len(points) > 2 and np.ptp(x) > 0.5:
            exponent = float(np.clip(np.polyfit(x, y, 1)[0], *EXPONENTS))
        coefficient = math.exp(float(np.mean(y - exponent * x)))
    return min(1.0, floor + coefficient * math.pow(divergence, exponent))
