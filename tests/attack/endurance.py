"""Run for long, and watch the memory.

    python tests/attack/endurance.py lengths stream streams --write docs/reliability.md

``lengths``: transcriptions of different lengths in one process. ``stream``: hours of one live stream, fed as
fast as it goes. ``streams``: many live streams of one server at once. Each must give the same text at its end
as at its beginning, and its memory must level off.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from campaign import write
from websockets.sync.client import connect

import littlefoot
from littlefoot.artifact.checkpoint import SAMPLES
from littlefoot.audio import reading

RATE = 16_000
MOST_GROWTH_MB = 60.0
"""From the first quarter of a run to its end."""


class Result(NamedTuple):
    """A row of the table."""

    what: str
    tries: int
    failures: list[str]
    memory_mb: list[float]
    """Of the process, at even distances."""
    seconds: float

    @property
    def growth_mb(self) -> float:
        quarter = max(1, len(self.memory_mb) // 4)
        return max(self.memory_mb[-quarter:]) - max(self.memory_mb[:quarter])


def memory_mb(pid: int | str = "self") -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 1)


def clips() -> list[np.ndarray]:
    return [reading.read(path) for path in sorted(SAMPLES.glob("*.ogg"))]


def talk(seconds: float) -> np.ndarray:
    """The bundled clips with pauses of a second, again and again: samples (T,)."""
    once = np.concatenate([part for clip in clips() for part in (clip, np.zeros(RATE, np.float32))])
    return np.resize(once, round(seconds * RATE))


def lengths(model: str, count: int) -> Result:
    """Transcribe ``count`` pieces of speech of 0.05 to 25 s, of different lengths, then the first again."""
    recognizer = littlefoot.load(model)
    speech = talk(120)
    random = np.random.default_rng(0)
    sizes = random.permutation(np.unique(random.integers(800, 25 * RATE, 2 * count)))[:count]
    starts = random.integers(0, len(speech) - 25 * RATE, count)
    memory, first, failures = [], [], []
    began = time.monotonic()
    for index, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        result = recognizer.transcribe(speech[start : start + size])
        if abs(result.duration - size / RATE) > 1e-6:
            failures.append(f"{size} samples last {result.duration} s")
        if index < 50:
            first.append(result.text)
        if index % (count // 20) == 0:
            memory.append(memory_mb())
    for index, text in enumerate(first):
        again = recognizer.transcribe(speech[starts[index] : starts[index] + sizes[index]]).text
        if again != text:
            failures.append(f"number {index} is another text now: {text!r}, {again!r}")
    memory.append(memory_mb())
    what = f"{count:,} transcriptions of {len(set(sizes.tolist())):,} lengths in one process ({model})"
    return Result(what, count, failures, memory, time.monotonic() - began)


def stream(model: str, hours: float) -> Result:
    """Feed one live stream for so many hours of audio, 100 ms at a time."""
    recognizer = littlefoot.load(model, threads=1)
    stream = recognizer.stream()
    even = math.lcm(recognizer.config.stride * (recognizer.config.chunk_frames or 1), RATE // 10)
    period = talk(sum(map(len, clips())) / RATE + len(clips()))
    period = np.pad(period, (0, -len(period) % even))  # each round is cut into the same chunks
    seconds = 3600 * hours
    feeds = round(seconds * 10)
    piece = RATE // 10
    said: list[tuple[float, str]] = []
    memory, failures, slowest = [], [], 0.0
    began = time.monotonic()
    for index in range(feeds):
        places = np.arange(index * piece, (index + 1) * piece) % len(period)
        before = time.monotonic()
        partial = stream.feed(period[places])
        slowest = max(slowest, time.monotonic() - before)
        said += [(segment.start, segment.text) for segment in partial.final]
        if index % (feeds // 20) == 0:
            memory.append(memory_mb())
    said += [(segment.start, segment.text) for segment in stream.finish().final]
    memory.append(memory_mb())
    length = len(period) / RATE
    rounds = int(seconds / length)
    texts = [
        " ".join(text for start, text in said if number * length <= start + 0.3 < (number + 1) * length)
        for number in range(rounds)
    ]
    usual = texts[1]
    if not usual:
        failures.append("nothing was said")
    failures += [f"round {number}: {text!r}" for number, text in enumerate(texts[1:-1], 1) if text != usual]
    what = f"{hours:g} h of one stream ({model}), {rounds} rounds of one talk, 100 ms at a time"
    what += f", the slowest in {1000 * slowest:.0f} ms"
    return Result(what, rounds, failures, memory, time.monotonic() - began)


def streams(model: str, count: int, minutes: float) -> Result:
    """So many live streams of one server at once, as fast as it takes their audio."""
    samples = np.rint(32767 * talk(60 * minutes)).astype("<i2").tobytes()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as file:
            server = subprocess.Popen(
                [sys.executable, "-m", "littlefoot", "serve", model, "--port", "0", "--streams", str(count)],
                stderr=file,
            )
        try:
            _wait(lambda: "loaded" in log.read_text())
            url = re.findall(r"http://(\S+)", log.read_text())[0]
            memory = [memory_mb(server.pid)]
            with ThreadPoolExecutor(count) as pool:
                running = [pool.submit(_say, f"ws://{url}/v1/live", samples) for _ in range(count)]
                while not all(each.done() for each in running):
                    time.sleep(5)
                    memory.append(memory_mb(server.pid))
            texts = [each.result() for each in running]
            failures = [f"stream {number}: {text}" for number, text in enumerate(texts) if text != texts[0]]
            failures += ["nothing was said"] * (not texts[0]) + ["the server died"] * (
                server.poll() is not None
            )
        finally:
            server.kill()
            server.wait()
    what = f"{count} streams of {minutes:g} min at once ({model})"
    return Result(what, count, failures, memory, time.monotonic() - began)


def _say(url: str, samples: bytes) -> str:
    """Send the samples, half a second at a time; what was said."""
    said = []
    with connect(url, open_timeout=60, ping_interval=None) as socket:
        socket.send('{"type": "start"}')
        with ThreadPoolExecutor(1) as pool:
            sending = pool.submit(_send, socket, samples)
            for message in map(json.loads, socket):
                if message["type"] == "final":
                    said.append(message["text"])
                if message["type"] == "error":
                    return str(message)
            sending.result()
    return " ".join(said)


def _send(socket: object, samples: bytes) -> None:
    for start in range(0, len(samples), RATE):
        socket.send(samples[start : start + RATE])  # type: ignore[attr-defined]
    socket.send('{"type": "stop"}')  # type: ignore[attr-defined]


def _wait(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not true():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)


def table(results: list[Result]) -> str:
    lines = [
        f"`python tests/attack/endurance.py {' '.join(sys.argv[1:])}`, {time.strftime('%Y-%m-%d')}",
        "",
        "| what | tries | failures | memory at the start, most, at the end, MB | growth, MB | took, s |",
        "|---|---|---|---|---|---|",
    ]
    for result in results:
        memory = f"{result.memory_mb[0]:.0f}, {max(result.memory_mb):.0f}, {result.memory_mb[-1]:.0f}"
        failures = len(result.failures) or "none"
        cells = f"{result.what} | {result.tries:,} | {failures} | {memory} | {result.growth_mb:.0f}"
        lines.append(f"| {cells} | {result.seconds:.0f} |")
    note = "\nGrowth: the most memory in the last quarter of a run, less the most in its first quarter.\n"
    return "\n".join(lines) + "\n" + note


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=["lengths", "stream", "streams"])
    parser.add_argument("--count", type=int, default=2000, help="transcriptions")
    parser.add_argument("--hours", type=float, default=2.0, help="of one stream")
    parser.add_argument("--streams", type=int, default=30)
    parser.add_argument("--minutes", type=float, default=4.0, help="of each of many streams")
    parser.add_argument("--write", type=Path, help="put the table into this page")
    options = parser.parse_args()
    run = {
        "lengths": lambda: lengths("littlefoot-en-live", options.count),
        "stream": lambda: stream("littlefoot-en-live", options.hours),
        "streams": lambda: streams("littlefoot-en-live", options.streams, options.minutes),
    }
    results = []
    for what in options.what:
        results.append(run[what]())
        print(results[-1], flush=True)
    print(table(results))
    if options.write:
        write(options.write, table(results), "endurance")
    return int(any(each.failures or each.growth_mb > MOST_GROWTH_MB for each in results))


if __name__ == "__main__":
    sys.exit(main())
