"""Measure whether recordings side by side would be faster: throughput by length and threads.

    python benchmarks/batches.py littlefoot-en-2bit INT8 littlefoot-en

Weights that recordings share are read once for all rows that a call computes. What that can save shows in
short recordings: one of a second has 50 frames, one of 10 s has 500, of which a thread takes 64 at once. So
the first table has the audio seconds that one thread computes in a second of processor time, by length. The
second table has audio seconds per second for recordings of 2 to 15 s: one after another on two threads, and
two at once with a thread each, as ``label --workers 2`` and ``serve --parallel 2`` compute them.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from speed import measure, noise

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.bench import quiet
from littlefoot.runtime.protocols import Engine, EngineSettings
from littlefoot.runtime.registry import create_named

ENGINES = ("native", "openvino")
LENGTHS = (1.0, 2.0, 4.0, 8.0, 16.0)
RECORDINGS = (2.1, 3.3, 4.2, 5.6, 6.4, 8.8, 11.3, 14.7)
"""Seconds of the recordings of the second table."""


def engine(artifact: Artifact, name: str, threads: int, parallel: int = 1) -> Engine:
    """Load a model without the cache."""
    return create_named(artifact, EngineSettings(threads, cached=False, parallel=parallel), name)


def by_length(models: dict[str, Artifact], rounds: int) -> None:
    """Print audio seconds per second of processor time, on one thread."""
    print(f"| model | engine | {' | '.join(f'{length:g} s' for length in LENGTHS)} |")
    print("|---|---|" + "---|" * len(LENGTHS))
    clips = [noise(length) for length in LENGTHS]
    for name, artifact in models.items():
        engines = {kind: engine(artifact, kind, 1) for kind in ENGINES}
        entries = {
            f"{kind} {length}": partial(made.run, clip)
            for kind, made in engines.items()
            for length, clip in zip(LENGTHS, clips, strict=True)
        }
        times = measure(entries, rounds)
        for kind in ENGINES:
            cells = [
                f"{length / statistics.median(times[f'{kind} {length}'].processor):.1f}" for length in LENGTHS
            ]
            print(f"| {name} | {kind} | {' | '.join(cells)} |", flush=True)


def one_after_another(made: Engine, clips: list[np.ndarray]) -> None:
    for clip in clips:
        made.run(clip)


def two_at_once(makers: list[Engine], clips: list[np.ndarray]) -> None:
    """Run a half of the recordings on each engine. Native engines with a thread each do not wait."""
    with ThreadPoolExecutor(len(makers)) as pool:
        list(pool.map(one_after_another, makers, [clips[part :: len(makers)] for part in range(len(makers))]))


def side_by_side(models: dict[str, Artifact], rounds: int) -> None:
    """Print audio seconds per second, and per second of processor time."""
    print("\n| model | engine | | x real time | audio s per processor s |\n|---|---|---|---|---|")
    clips, seconds = [noise(length) for length in RECORDINGS], sum(RECORDINGS)
    for name, artifact in models.items():
        entries: dict[str, Callable[[], object]] = {}
        for kind in ENGINES:
            made = engine(artifact, kind, 2)
            entries[f"{kind} | one after another, two threads"] = partial(one_after_another, made, clips)
            if kind == "openvino":  # its two requests share the weights
                makers = [engine(artifact, kind, 2, parallel=2)] * 2
            else:
                makers = [engine(artifact, kind, 1) for _ in range(2)]
            entries[f"{kind} | two at once, a thread each"] = partial(two_at_once, makers, clips)
        for label, (wall, processor) in measure(entries, rounds).items():
            speed, work = (seconds / statistics.median(each) for each in (wall, processor))
            print(f"| {name} | {label} | {speed:.1f} | {work:.1f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--busy", action="store_true", help="measure beside other programs too")
    given = parser.parse_args()
    models = {Path(name).name: checkpoint.load(name) for name in given.models}
    if not given.busy:
        quiet.wait()
    by_length(models, given.rounds)
    side_by_side(models, given.rounds)


if __name__ == "__main__":
    main()
