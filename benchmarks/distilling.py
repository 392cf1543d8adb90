"""Measure the seconds of speech per second of distillation, for students that share parts of their teacher.

    python benchmarks/distilling.py littlefoot-en ../shared/data/coffee --layers 3 --rounds 3

Every round trains the student for a few steps in each way, in two processes with a thread each; a row has the
median over the second halves of the runs. The time to fill the cache is not in it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from training import logged, table

FROZEN = ("train.freeze_front_end=true", "loss.feature_penalty=0")
WAYS: dict[str, tuple[str, ...]] = {
    "all is trained": (),
    "front end frozen, computed once": FROZEN,
    "front end frozen, teacher in a cache": (*FROZEN, "cache_top_k=0", "train.speeds=[1.0]"),
}


def main() -> None:
    """Distil, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--batch-seconds", type=float, default=8)
    options = parser.parse_args()
    speeds: dict[str, list[float]] = {name: [] for name in WAYS}
    for _ in range(options.rounds):
        for name, settings in WAYS.items():
            speeds[name].append(speed(options, settings))
            print(f"{name}: {speeds[name][-1]:.1f}", file=sys.stderr)
    print(table(speeds))


def speed(options: argparse.Namespace, settings: tuple[str, ...]) -> float:
    """Seconds of speech per second of one run."""
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        step = f"student: {{layers: {options.layers}}}, loss: {{kl: 1, feature_penalty: 1}}"
        recipe.write_text(f"steps: [distill: {{{step}}}]", encoding="utf-8")
        out = Path(folder) / "out"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        command += ["-m", "littlefoot", "shrink", options.model, "-o", str(out), "--recipe", str(recipe)]
        for path in options.data:
            command += ["--data", str(path)]
        common = (f"steps={options.steps}", f"batch_seconds={options.batch_seconds}", "short_first=false")
        common += ("dropout=false", "threads=1", "log_every=10", "cache_audio=true", "dev_sets=[none]")
        for setting in (*(f"train.{value}" for value in common), *settings):
            command += ["--set", f"distill.{setting}"]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return logged(Path(f"{out}-steps") / "1-distill" / "model-training" / "metrics.jsonl")


if __name__ == "__main__":
    main()
