"""Measure the page of ``littlefoot export --to web`` in Debian's Chromium, and print a table.

For each model: what a first visit downloads; seconds from opening the page to "Ready"; seconds from choosing
a recording of 3 s to its first text, once the model has loaded; and how many times faster than real time the
sample clips, 26 s in one recording, are recognised on the one thread of the page's worker: by the clock, as
the page itself shows it, and by the processor time of that thread, which other programs change less. Both are
the median, the least and the most of several runs.

    PYTHONPATH=tests/support python benchmarks/web.py littlefoot-en littlefoot-en-live
"""

from __future__ import annotations

import argparse
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import soundfile
from browsers import WITHOUT_RELAXED, chromium, offering
from playwright.sync_api import Browser, Page, expect

from littlefoot.artifact import checkpoint
from littlefoot.audio import SAMPLE_RATE, reading
from littlefoot.web import site

TIMEOUT = 120_000


class Measured(NamedTuple):
    megabytes: float
    ready: float
    first: float
    speeds: list[tuple[float, float]]
    """Times real time of each run, by the clock and by processor time."""


def measure(
    browser: Browser, script: str, address: str, folder: Path, short: Path, long: Path, runs: int
) -> Measured:
    size = sum(path.stat().st_size for path in folder.iterdir()) / 1e6
    page = browser.new_page()
    page.add_init_script(script)
    began = time.perf_counter()
    page.goto(address)
    status = page.get_by_role("status")
    expect(status).to_contain_text("Ready", timeout=TIMEOUT)
    ready = time.perf_counter() - began
    expect(status).to_contain_text("also without a network", timeout=TIMEOUT)  # nothing is fetched any more
    first = first_text(page, short)
    speeds = [speed(page, long) for _ in range(runs)]
    page.close()
    return Measured(size, ready, first, speeds)


def first_text(page: Page, recording: Path) -> float:
    began = time.perf_counter()
    page.get_by_label("Choose a recording").set_input_files(recording)
    page.wait_for_function(
        "() => document.querySelector('#segments li') || document.querySelector('#partial').textContent",
        timeout=TIMEOUT,
        polling="raf",
    )
    found = time.perf_counter() - began
    expect(page.get_by_role("status")).to_contain_text("Done", timeout=TIMEOUT)
    return found


def speed(page: Page, recording: Path) -> tuple[float, float]:
    page.get_by_role("button", name="Clear").click()
    before = thread_seconds()
    page.get_by_label("Choose a recording").set_input_files(recording)
    expect(page.get_by_role("status")).to_contain_text("Done", timeout=TIMEOUT)
    used = max(seconds - before.get(thread, 0.0) for thread, seconds in thread_seconds().items())
    shown = re.search(r"([\d.]+) s of audio in ([\d.]+) s", page.locator("#figures").inner_text())
    assert shown
    return float(shown[1]) / float(shown[2]), float(shown[1]) / used


def thread_seconds() -> dict[int, float]:
    """Return the processor time of each thread of the browser; the worker's is the one that grows most."""
    return {
        thread.id: thread.user_time + thread.system_time
        for process in psutil.Process().children(recursive=True)
        if "--type=renderer" in process.cmdline()
        for thread in process.threads()
    }


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", help="bundled names, or directories of artifacts")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--without-relaxed", action="store_true", help="as a browser without relaxed vectors")
    given = parser.parse_args()
    script = WITHOUT_RELAXED if given.without_relaxed else ""
    clips = [reading.read(path) for path in sorted(checkpoint.SAMPLES.glob("*.ogg"))]
    print("| model | download, MB | ready, s | first text, s | by the clock | by processor time |")
    print("| --- | --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as root, chromium(Path(root)) as browser:
        short, long = Path(root) / "short.wav", Path(root) / "long.wav"
        soundfile.write(short, clips[0], SAMPLE_RATE)
        soundfile.write(long, np.concatenate(clips), SAMPLE_RATE)
        for number, model in enumerate(given.models):
            name, folder = Path(model).name, Path(root) / str(number)
            site.save(checkpoint.load(model), name, folder)
            with offering(folder) as address:
                found = measure(browser, script, address, folder, short, long, given.runs)
            clock, processor = (spread(list(values)) for values in zip(*found.speeds, strict=True))
            print(
                f"| `{name}` | {found.megabytes:.1f} | {found.ready:.2f} | {found.first:.2f} "
                f"| {clock} | {processor} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
