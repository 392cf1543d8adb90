"""Whole processes, as a user starts them: time to the first text, and memory for long recordings.

    python benchmarks/process.py [start | memory]

Random weights of wav2vec2-base geometry, as a checkpoint and as int8; noise as audio. Needs transformers.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile
from speed import BASE, int8, noise, random_checkpoint

from littlefoot import artifact
from littlefoot.artifact import checkpoint
from littlefoot.audio import SAMPLE_RATE

LITTLEFOOT = Path(sys.executable).with_name("littlefoot")


def run(*arguments: str | Path) -> tuple[float, float]:
    """Run littlefoot in a new process: wall seconds, and its peak resident memory in MB.

    The peak is read from /proc while it runs: the one that wait4 reports includes this process before the
    new one began.
    """
    start = time.perf_counter()
    process = subprocess.Popen([LITTLEFOOT, *map(str, arguments)], stdout=subprocess.DEVNULL)
    status, peak = Path(f"/proc/{process.pid}/status"), 0.0
    while process.poll() is None:
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM"):
                peak = int(line.split()[1]) * 1024 / 1e6
        time.sleep(0.01)
    seconds = time.perf_counter() - start
    if process.returncode:
        raise SystemExit(f"littlefoot {arguments} failed")
    return seconds, peak


def write_noise(path: Path, seconds: int) -> Path:
    """Noise as 16-bit wav, block by block."""
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        for block in range(0, seconds, 60):
            file.write(noise(min(60, seconds - block), block) * np.float32(0.1))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=("start", "memory"), help="both where it is not given")
    what = parser.parse_args().what
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["LITTLEFOOT_CACHE"] = str(folder / "cache")
        # An installed package has its bytecode. Without, each start would compile all of its modules.
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = str(folder / "bytecode")
        random_checkpoint(BASE, folder / "base")
        artifact.save(int8(checkpoint.load(folder / "base")), folder / "base-int8")
        if what != "memory":
            starts(folder)
        if what != "start":
            memory(folder)


def starts(folder: Path) -> None:
    """Print how long whole processes take."""
    clip = write_noise(folder / "10.wav", 10)
    print("| process | wall seconds, median of 7 (min - max) |\n|---|---|")
    for label, arguments in (
        ("littlefoot --help", ("--help",)),
        ("base f32, 10 s clip, warm cache", ("transcribe", folder / "base", clip)),
        ("base int8, 10 s clip, warm cache", ("transcribe", folder / "base-int8", clip)),
        ("littlefoot-en, 10 s clip, warm cache", ("transcribe", "littlefoot-en", clip)),
    ):
        run(*arguments)
        times = [run(*arguments)[0] for _ in range(7)]
        print(f"| {label} | {statistics.median(times):.2f} ({min(times):.2f} - {max(times):.2f}) |")


def memory(folder: Path) -> None:
    """Print the peak memory of a minute and of an hour."""
    minute, hour = (write_noise(folder / f"{s}.wav", s) for s in (60, 3600))
    print("\n| model | peak memory, 1 minute | 1 hour | ratio |\n|---|---|---|---|")
    for model in ("littlefoot-en", folder / "base-int8"):
        short, long = run("transcribe", model, minute)[1], run("transcribe", model, hour)[1]
        print(f"| {Path(model).name} | {short:.0f} MB | {long:.0f} MB | {long / short:.2f} |")


if __name__ == "__main__":
    main()
