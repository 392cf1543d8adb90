"""Select the candidates that meet the limits of size, speed and latency, before any training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from littlefoot.artifact import weights_file_bytes
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.plan.build import Builder, Stopwatch
from littlefoot.plan.candidates import Candidate
from littlefoot.plan.sizes import SLACK, rough_bytes
from littlefoot.plan.target import Figures, Target

SPEED_SLACK = 0.1
"""Largest relative difference between a shape's speed in 8 bits and in other precisions."""


@dataclass(frozen=True)
class Option:
    """A candidate and its figures."""

    candidate: Candidate
    figures: Figures
    """Figures without errors, which are known only after training."""


def survey(
    builder: Builder,
    candidates: Sequence[Candidate],
    target: Target,
    threads: int,
    progress: Callable[[str], None],
) -> list[Option]:
    """Return the candidates that meet a target's limits other than errors, the largest first.

    Of each family only the largest such candidate is returned, because smaller ones make more errors. Sizes
    are exact, and speeds are measured on this machine.

    Raises ConfigError, which names the nearest candidate, if none meets the target.
    """
    rough, impossible = [], set()
    for candidate in candidates:
        shaping = repr(candidate.shaping)
        if shaping in impossible:
            continue
        try:
            shape = builder.shape(candidate)
        except LittlefootError as error:
            progress(f"left out: {candidate.shape}: {error}")
            impossible.add(shaping)
            continue
        rough.append((rough_bytes(shape.config, candidate.steps), candidate))
    rough.sort(key=lambda pair: -pair[0])
    small = [c for size, c in rough if target.bytes is None or size * (1 - SLACK) <= target.bytes]
    if not small:
        raise ConfigError(_too_large(builder, rough[-1][1], target))
    stopwatch = Stopwatch(builder.model, threads, live=target.latency_ms is not None)
    fast = small if target.speed is None else _fast(builder, small, target.speed, stopwatch, progress)
    found: dict[tuple[str, str], Option] = {}  # by family
    missing: list[Option] = []
    for candidate in fast:
        if candidate.family in found:
            continue
        progress(f"building {candidate.name}")
        try:
            built = builder.build(candidate)
        except LittlefootError as error:
            progress(f"left out: {candidate.name}: {error}")
            continue
        figures = Figures(weights_file_bytes(built), latency_ms=built.config.algorithmic_latency_ms)
        if not target.misses(figures):
            figures = replace(figures, speed=stopwatch.speed(built))
        option = Option(candidate, figures)
        if target.misses(figures):  # the next of its family is smaller or faster
            missing.append(option)
        else:
            found[candidate.family] = option
    if not found:
        nearest = min(missing, key=lambda option: target.shortfall(option.figures), default=None)
        raise ConfigError(_unreachable(target, nearest))
    return sorted(found.values(), key=lambda option: -option.figures.bytes)


def _fast(
    builder: Builder,
    candidates: Sequence[Candidate],
    wanted: float,
    stopwatch: Stopwatch,
    progress: Callable[[str], None],
) -> list[Candidate]:
    """Return the candidates whose shape is fast enough in 8 bits, or in float32 if they have float32."""
    measured: dict[tuple[str, bool], float] = {}
    chosen = []
    for candidate in candidates:
        key = candidate.shape, bool(candidate.precision)
        if key not in measured:
            progress(f"measuring {candidate.shape or 'the model'}{' in 8 bits' if key[1] else ''}")
            artifact = builder.in_8_bits(candidate) if key[1] else builder.shape(candidate)
            measured[key] = stopwatch.speed(artifact)
        if measured[key] * (1 + SPEED_SLACK) >= wanted:
            chosen.append(candidate)
    if not chosen:
        (shape, eight), best = max(measured.items(), key=lambda item: item[1])
        name = f"{shape or 'all of it'}{', int8' if eight else ''}"
        raise ConfigError(
            f"{wanted:g} times real time cannot be reached with {stopwatch.threads} threads on this machine: "
            f"the fastest candidate that is small enough, {name}, runs at {best:.0f} times"
        )
    return chosen


def _too_large(builder: Builder, smallest: Candidate, target: Target) -> str:
    size = weights_file_bytes(builder.build(smallest)) / 1e6
    assert target.bytes is not None
    return (
        f"{target.bytes / 1e6:.2f} MB cannot be reached: the smallest candidate, {smallest.name}, has "
        f"{size:.2f} MB"
    )


def _unreachable(target: Target, nearest: Option | None) -> str:
    if nearest is None:
        return f"no candidate could be built for the target {target.text}: see the lines above"
    missed = "; ".join(target.misses(nearest.figures))
    return f"the target {target.text} cannot be reached: the nearest, {nearest.candidate.name}, has {missed}"
