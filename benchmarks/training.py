"""Measure the seconds of speech per second of training, with one and several processes.

    python benchmarks/training.py recipes/littlefoot-en-first.yaml --rounds 3

Every round trains the recipe's model for a few steps with each way of using the processor, in processes of
their own; a row has the median over the second halves of the runs, when all kernels are compiled.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

WAYS = (("1 process, 1 thread", 1, 1), ("1 process, 2 threads", 1, 2), ("2 processes, 1 thread each", 2, 1))


def main() -> None:
    """Train, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    options = parser.parse_args()
    speeds: dict[str, list[float]] = {name: [] for name, _, _ in WAYS}
    for _ in range(options.rounds):
        for name, processes, threads in WAYS:
            speeds[name].append(speed(options.recipe, options.steps, processes, threads))
            print(f"{name}: {speeds[name][-1]:.1f}", file=sys.stderr)
    print(table(speeds))


def table(speeds: dict[str, list[float]]) -> str:
    """Rounds of each way, as Markdown."""
    lines = ["| way | audio seconds per second, median (min - max) | ratio to the first |", "|---|---|---|"]
    first = next(iter(speeds.values()))
    for name, values in speeds.items():
        ratio = statistics.median(value / base for value, base in zip(values, first, strict=True))
        middle = statistics.median(values)
        lines.append(f"| {name} | {middle:.1f} ({min(values):.1f} - {max(values):.1f}) | {ratio:.2f} |")
    return "\n".join(lines)


def speed(recipe: Path, steps: int, processes: int, threads: int) -> float:
    """Seconds of speech per second of one run."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [
            "--nproc_per_node",
            str(processes),
            "-m",
            "littlefoot",
            "train",
            str(recipe),
            "-o",
            str(out),
        ]
        for setting in (f"steps={steps}", f"threads={threads}", "log_every=10", "short_first=false"):
            command += ["--set", f"train.{setting}"]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "ACCELERATE_USE_CPU": "true"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return logged(out.with_name("out-training") / "metrics.jsonl")


def logged(metrics: Path) -> float:
    """Seconds of speech per second in the second half of a run."""
    rows = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    values = [row["audio_seconds_per_second"] for row in rows if "loss" in row]
    return statistics.median(values[len(values) // 2 :])


if __name__ == "__main__":
    main()
