"""Store which engine is the fastest for a model on this machine, beside the compiled models.

``runtime.measuring`` measures it, and ``engine="auto"`` uses it. A choice belongs to the model's weights and
architecture, the processor, the versions of the engines, and the settings. If any of these changes, the
choice is not found, and a rule decides again (``registry``).
"""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from littlefoot.artifact import Artifact
from littlefoot.runtime import cache
from littlefoot.runtime.protocols import EngineSettings
from littlefoot.system import machine

Work = Literal["recordings", "streams"]

SUFFIX = ".engine"

ROUNDS = 5
"""Rounds of a measurement at least, if they fit into ``LIMIT_SECONDS``."""
SECONDS = 1.0
"""Time after which there are no more rounds."""
LIMIT_SECONDS = 10.0
"""Time after which a measurement ends on a busy machine or with a large model."""
MARGIN = 0.05
"""Share of the time that another engine must save to be chosen instead of the rule's."""
HOPELESS = 2.0
"""Multiple of the fastest engine's time from which on an engine takes part in no more rounds."""


@dataclass(frozen=True)
class Choice:
    """The result of a measurement."""

    engine: str
    rule: str
    """Engine that is used without a measurement."""
    milliseconds: dict[str, float]
    """Median time of each engine, for the same piece of audio."""
    model: str
    work: Work
    measured: str
    """Date."""
    context: dict[str, Any]
    """All that the choice depends on besides the model."""

    certain: bool = True
    """False if the rounds contradicted one another: the rule's engine was kept, and nothing is stored."""

    @property
    def reason(self) -> str:
        """Say in a few words why this engine was chosen."""
        times = sorted(self.milliseconds.items(), key=lambda item: item[1])
        listed = ", ".join(f"{name} {value:.1f} ms" for name, value in times)
        if not self.certain:
            return f"{listed}: the machine is too busy to choose, measure again"
        if self.engine == self.rule != times[0][0]:
            return f"{listed}: the rule takes {self.rule}, and none is {MARGIN:.0%} faster"
        return listed

    def __str__(self) -> str:
        threads = self.context["threads"]
        return f"{self.work}, threads {threads}: {self.engine} ({self.reason})"

    def to_dict(self) -> dict[str, Any]:
        """Return what ``littlefoot doctor --json`` prints."""
        return {**asdict(self), "text": str(self)}


def known(artifact: Artifact, settings: EngineSettings, work: Work) -> Choice | None:
    """Return the stored choice for a model with these settings, or None if there is none that is valid."""
    if not any(cache.names(SUFFIX)):  # then the weights need no digest
        return None
    current = context(settings, work)
    choice = _read(_name(artifact, current))
    return choice if choice is not None and choice.context == current else None


def store(artifact: Artifact, choice: Choice) -> None:
    """Store a choice; nothing is stored if the cache cannot be written."""
    cache.store(_name(artifact, choice.context), json.dumps(asdict(choice), sort_keys=True).encode())


def current() -> list[Choice]:
    """List the stored choices that are valid for this machine and its packages, by model."""
    here = _machine()
    found = [choice for name in cache.names(SUFFIX) if (choice := _read(name)) is not None]
    valid = [choice for choice in found if here.items() <= choice.context.items()]
    return sorted(valid, key=lambda choice: (choice.model, choice.work, choice.context["threads"]))


def context(settings: EngineSettings, work: Work) -> dict[str, Any]:
    """Return what a choice depends on besides the model."""
    return {
        **_machine(),
        "work": work,
        "threads": settings.threads,
        "parallel": settings.parallel,
        "precision": settings.precision,
    }


def race(
    runners: Mapping[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Run functions in turns, and return the seconds of each in every round.

    Each runs twice before, because engines prepare their code in the first run. One that is ``HOPELESS`` in
    the second run takes part in no further round: its only time is that of the second run.
    """

    def timed(run: Callable[[], object]) -> float:
        began = clock()
        run()
        return clock() - began

    begin = clock()
    for run in runners.values():
        run()
    times = {name: [timed(run)] for name, run in runners.items()}
    limit = HOPELESS * min(first for (first,) in times.values())
    racing = [name for name, (first,) in times.items() if first <= limit]
    if len(racing) < 2:
        return times
    for name in racing:
        times[name].clear()
    start, number = clock(), 0
    while number == 0 or (clock() - begin < LIMIT_SECONDS and (number < ROUNDS or clock() - start < SECONDS)):
        for name in racing[number % len(racing) :] + racing[: number % len(racing)]:
            times[name].append(timed(runners[name]))
        number += 1
    return times


def decide(times: Mapping[str, Sequence[float]], rule: str) -> tuple[str, bool]:
    """Return the engine to use, and whether the measurement is certain enough to be stored.

    Another engine takes the place of the rule's if it saves ``MARGIN`` of the time, in the median of all
    rounds and in three rounds of four. If it does so in the median only, the machine was too busy.
    """
    medians = {name: statistics.median(values) for name, values in times.items()}
    best = min(medians, key=medians.__getitem__)
    if best == rule or medians[best] > (1 - MARGIN) * medians[rule]:
        return rule, True
    if min(len(times[best]), len(times[rule])) == 1:  # one of them was hopeless
        return best, True
    pairs = list(zip(times[best], times[rule], strict=True))
    won = sum(mine <= (1 - MARGIN) * theirs for mine, theirs in pairs)
    certain = won >= 0.75 * len(pairs)
    return (best if certain else rule), certain


def _machine() -> dict[str, Any]:
    return {
        "processor": machine.processor(),
        "features": hashlib.sha256(" ".join(sorted(machine.flags())).encode()).hexdigest()[:16],
        "versions": {
            **{name: machine.package_version(name) for name in ("littlefoot", "openvino", "onnxruntime")},
            "kernels": _kernels(),
        },
    }


def _kernels() -> str | None:
    """Return a digest of the native kernels as they are installed; None without them.

    Their version stays the same in development.
    """
    spec = find_spec("littlefoot_native")
    if spec is None or spec.origin is None:
        return None
    modules = sorted(Path(spec.origin).parent.glob("_core*"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in modules)).hexdigest()[:16]


def _name(artifact: Artifact, found: Mapping[str, Any]) -> str:
    architecture = {key: value for key, value in artifact.config.to_dict().items() if key != "littlefoot"}
    content = json.dumps([architecture, artifact.weights_digest, found], sort_keys=True, default=str)
    return hashlib.sha256(content.encode()).hexdigest()[:32] + SUFFIX


def _read(name: str) -> Choice | None:
    """Read a stored choice; None if it is absent, damaged, or written by another version."""
    data = cache.load(name)
    if data is None:
        return None
    try:
        return Choice(**json.loads(bytes(data)))
    except (ValueError, TypeError):
        return None
