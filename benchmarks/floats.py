"""A model in floating point on the native kernels and on an engine in float32: speed, start and memory.

    python benchmarks/floats.py littlefoot-en --threads 1 2 --rounds 9

Speed: 10 s of noise, every round runs every engine once. Start: a new process for each, without and with the
cache of compiled models; the peak of its memory (Linux) includes Python and the packages.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from littlefoot.artifact import checkpoint
from littlefoot.audio import SAMPLE_RATE
from littlefoot.bench import quiet
from littlefoot.runtime.registry import create

SECONDS = 10
ENGINES = ("native", "openvino")
WAVEFORM = (0.1 * np.random.default_rng(0).standard_normal(SECONDS * SAMPLE_RATE)).astype(np.float32)


def speed(model: str, threads: int, rounds: int) -> None:
    """Print a row for each engine: seconds for 10 s of audio."""
    from speed import measure, ratio  # it imports PyTorch, which a start must not

    artifact = checkpoint.load(model)
    engines = {name: create(artifact, name, threads, "f32", cached=False) for name in ENGINES}
    times = measure({name: partial(engine.run, WAVEFORM) for name, engine in engines.items()}, rounds)
    for name, (values, _) in times.items():
        of_openvino, median = ratio(values, times["openvino"].wall), statistics.median(values)
        print(
            f"| {name}, threads {threads} | {median:.3f} ({min(values):.3f}) | {of_openvino:.2f} |",
            flush=True,
        )


def start(model: str, engine: str) -> dict[str, Any]:
    """Load a model, run it once, and return the seconds of both and the peak of memory, in MB."""
    begin = time.perf_counter()
    made = create(checkpoint.load(model), engine, 1, "f32")
    loaded = time.perf_counter()
    made.run(WAVEFORM)
    done = time.perf_counter()
    (peak,) = re.findall(r"VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return {"load": loaded - begin, "run": done - loaded, "peak": int(peak) * 1024 / 1e6}


def starts(model: str) -> None:
    """Print a row for each engine: seconds and memory of a start."""
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "LITTLEFOOT_CACHE": cache}
        for name in ENGINES:
            command = [sys.executable, __file__, model, "--start", name]
            runs = [
                subprocess.run(command, env=environment, capture_output=True, check=True) for _ in range(2)
            ]
            cold, warm = (json.loads(run.stdout) for run in runs)
            seconds = " | ".join(f"{value:.2f}" for value in (cold["load"], warm["load"], warm["run"]))
            print(f"| {name} | {seconds} | {warm['peak']:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", nargs="?", default="littlefoot-en")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--busy", action="store_true", help="measure beside other programs too")
    parser.add_argument("--start", choices=ENGINES, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.start:
        print(json.dumps(start(given.model, given.start)))
        return
    if not given.busy:
        quiet.wait()
    print("| engine | s for 10 s, median (min) | of openvino |\n|---|---|---|")
    for threads in given.threads:
        speed(given.model, threads, given.rounds)
    print("\n| engine | load s | with the cache | first 10 s | peak MB |\n|---|---|---|---|---|")
    starts(given.model)


if __name__ == "__main__":
    main()
