"""``littlefoot label``: throughput by workers, what deaths cost, what confidence is worth.

    python benchmarks/label.py speed littlefoot-en MANIFEST... --split test
    python benchmarks/label.py deaths littlefoot-en MANIFEST... --split test
    python benchmarks/label.py confidence littlefoot-en MANIFEST... --split test

Every run is the command in a process of its own. For speed they take turns, round by round; times hold the
loading of the model by the workers, and Ray's start, but not the driver's.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from littlefoot.audio import manifest
from littlefoot.evaluate.metrics import evaluate
from littlefoot.system import machine

LIMITS = (0.0, 0.6, 0.7, 0.8, 0.9)


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "deaths", "confidence"))
    parser.add_argument("model")
    parser.add_argument("manifests", nargs="+")
    parser.add_argument("--split")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shard-rows", type=int, default=25)
    parser.add_argument("--on", nargs="+", choices=("processes", "Ray"), default=("processes", "Ray"))
    options = parser.parse_args()
    print(f"{machine.threads()} cores, load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        {"speed": speed, "deaths": deaths, "confidence": confidence}[options.what](options, Path(folder))


def start(options: argparse.Namespace, out: Path, on: str, workers: int) -> subprocess.Popen[str]:
    """Start the command with its results on a pipe."""
    command = [sys.executable, "-m", "littlefoot", "label", options.model, *options.manifests, "-o", str(out)]
    command += ["--json", "--workers", str(workers), "--shard-rows", str(options.shard_rows)]
    command += ["--split", options.split] if options.split else []
    command += ["--ray", "local"] if on == "Ray" else []
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the end of a process and return the summary that it prints."""
    before = computed()
    said, _ = process.communicate()
    assert process.returncode == 0, process.returncode
    found: dict[str, Any] = json.loads(said)
    return {**found, "cpu_seconds": computed() - before}


def computed() -> float:
    """Processor seconds of all processes that were waited for: drivers and their workers, but not Ray's."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def speed(options: argparse.Namespace, folder: Path) -> None:
    """Throughput with one and two workers."""
    kinds = [(on, workers) for on in options.on for workers in (1, 2)]
    runs: dict[tuple[str, int], list[dict[str, Any]]] = {kind: [] for kind in kinds}
    result(start(options, folder / "warm", "processes", 1))
    for turn in range(options.rounds):
        for kind in kinds:
            runs[kind].append(result(start(options, folder / f"{turn}-{kind}", *kind)))
            print(kind, runs[kind][-1]["run_seconds"], file=sys.stderr)
    print("| on | workers | s, median (all) | x real time | times as fast as one process | processor s |")
    print("|---|---|---|---|---|---|")
    for (on, workers), found in runs.items():
        seconds = [run["run_seconds"] for run in found]
        ratios = [a["run_seconds"] / b["run_seconds"] for a, b in zip(runs[kinds[0]], found, strict=True)]
        every = ", ".join(f"{each:.1f}" for each in seconds)
        rate = statistics.median(run["x_realtime"] for run in found)
        median = statistics.median(seconds)
        cells = [f"{median:.1f} ({every})", f"{rate:.0f}", f"{statistics.median(ratios):.2f}"]
        cpu = statistics.median(run["cpu_seconds"] for run in found)
        cells.append(f"{cpu:.1f}" if on == "processes" else "-")
        print(f"| {on} | {workers} | " + " | ".join(cells) + " |")
    print(f"{found[0]['rows']} recordings, {60 * found[0]['hours']:.1f} minutes")


def deaths(options: argparse.Namespace, folder: Path) -> None:
    """Kill a worker and a driver; count the recordings that are transcribed again, and the differences."""
    whole = folder / "whole"
    rows = result(start(options, whole, "processes", 2))["rows"]
    print(f"{rows} recordings, shards of {options.shard_rows}, 2 workers; killed when half of them were done")
    print("| on | killed | workers lost | heard after the kill of the driver | failed | the same manifest |")
    print("|---|---|---|---|---|---|")
    for on in options.on:
        for who in ("a worker", "the driver"):
            out = folder / f"{on}-{who}"
            process = start(options, out, on, 2)
            until(lambda out=out, rows=rows: done(out) >= rows / options.shard_rows / 2)
            if who == "a worker":
                time.sleep(0.3)  # between two shards the worker would not be missed
                workers_of(process)[0].kill()
                found, again = result(process), "-"
            else:
                process.kill()
                process.wait()
                before = sum(len(shard.read_text().splitlines()) for shard in finished(out))
                found = result(start(options, out, on, 2))
                again = f"{found['run_rows']} of {rows}; {before} were done"
            same = (out / "manifest.tsv").read_bytes() == (whole / "manifest.tsv").read_bytes()
            print(
                f"| {on} | {who} | {found['workers_lost']} | {again} | {found['failed']} |"
                f" {'yes' if same else 'NO'} |"
            )


def finished(out: Path) -> list[Path]:
    """Shards that are there."""
    return list((out / "shards").glob("[0-9]*.jsonl"))


def done(out: Path) -> int:
    """Return the number of finished shards."""
    return len(finished(out))


def workers_of(driver: subprocess.Popen[str]) -> list[psutil.Process]:
    """List the worker processes."""
    found = []
    for process in psutil.Process(driver.pid).children(recursive=True):
        command = " ".join(process.cmdline())
        if "spawn_main" in command or "Labeller" in command:
            found.append(process)
    return found


def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    while not condition():
        time.sleep(0.02)


def confidence(options: argparse.Namespace, folder: Path) -> None:
    """Word errors of what is left above a confidence, for each set."""
    print("| set | " + " | ".join(f"from {limit:g}" for limit in LIMITS) + " |")
    print("|---|" + "---|" * len(LIMITS))
    for path in options.manifests:
        alone = argparse.Namespace(**{**vars(options), "manifests": [path]})
        out = folder / Path(path).absolute().name
        result(start(alone, out, "processes", 2))
        spoken = {utterance.id: utterance.text for utterance in manifest.read(path, options.split)}
        labels = manifest.read(out)
        total = sum(label.seconds or 0 for label in labels)
        cells = []
        for limit in LIMITS:
            kept = [label for label in labels if (label.confidence or 0) >= limit]
            if not kept:
                cells.append("-")
                continue
            wer = evaluate([spoken[label.id] for label in kept], [label.text for label in kept]).wer
            share = sum(label.seconds or 0 for label in kept) / total
            cells.append(f"{100 * wer:.1f} ({100 * share:.0f} %)")
        print(f"| {labels[0].set_name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
