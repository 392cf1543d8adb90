"""Run one model in a process that receives requests and sends answers as lines of JSON.

Modules are imported only if the model needs them, and on first use, so that load times and memory are those
of a program that uses the model. ``process.Process`` is the other side.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from littlefoot.audio import SAMPLE_RATE

LEAST_SECONDS = 0.06
"""Seconds for which a turn repeats a short recording, without the first run, which fills the caches."""

BLOCK_SECONDS = 0.02
"""Seconds of audio that a stream gets at once when its delays are measured."""


def main() -> None:
    """Serve requests until the input ends."""
    # Libraries print to stdout, so answers have a separate file.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"result": getattr(worker, request.pop("do"))(**request)}
        except Exception as error:  # any error of a model belongs to its row; the others continue
            answer = {"error": _described(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _described(error: Exception) -> str:
    from littlefoot.errors import LittlefootError

    return str(error) if isinstance(error, LittlefootError) else f"{type(error).__name__}: {error}"


class Worker:
    """The worker, with one method for each request."""

    def __init__(self) -> None:
        self._subject: Any = None

    def prepare(self, entry: dict[str, Any], folder: str, samples: int) -> dict[str, Any]:
        """Prepare the model (``entries.Kind.prepare``)."""
        from littlefoot.bench.entries import Entry
        from littlefoot.bench.kinds import kind

        found = Entry(**entry)
        return kind(found.kind).prepare(found, Path(folder), samples)

    def load(self, entry: dict[str, Any], folder: str, threads: int) -> dict[str, Any]:
        """Load the model; return the seconds, which include its imports the first time."""
        start = time.perf_counter()
        from littlefoot.bench.entries import Entry
        from littlefoot.bench.kinds import kind

        self._subject = None
        found = Entry(**entry)
        self._subject = kind(found.kind).load(found, Path(folder), threads)
        seconds = time.perf_counter() - start
        subject = self._subject
        return {
            "seconds": seconds,
            "engine": subject.engine,
            "precision": subject.precision,
            "kernels": getattr(subject, "kernels", "none"),
        }

    def turn(self, path: str) -> dict[str, Any]:
        """Recognise a clip a few times; return the median seconds."""
        waveform = _samples(path)
        return {"seconds": statistics.median(clocked(lambda: self._subject.transcribe(waveform)))}

    def transcribe(self, path: str) -> dict[str, Any]:
        """Recognise an utterance once; return its text, and seconds of the clock and of the processor."""
        waveform = _samples(path)
        processor = time.process_time()
        start = time.perf_counter()
        text = self._subject.transcribe(waveform)
        seconds = time.perf_counter() - start
        return {"text": text, "seconds": seconds, "cpu_seconds": time.process_time() - processor}

    def work(self, path: str, seconds: float) -> dict[str, Any]:
        """Recognise a clip repeatedly for some seconds; return the seconds of audio."""
        waveform = _samples(path)
        start = time.perf_counter()
        count = 0
        while time.perf_counter() - start < seconds:
            self._subject.transcribe(waveform)
            count += 1
        return {"audio_seconds": count * len(waveform) / SAMPLE_RATE}

    def stream(self, path: str) -> dict[str, Any] | None:
        """Feed an utterance to a streaming model and return its delays in seconds; None for others."""
        recognizer = getattr(self._subject, "recognizer", None)
        if recognizer is None or not recognizer.streams:
            return None
        waveform = _samples(path)
        chunk = recognizer.config.chunk_frames * recognizer.config.feature_stride
        stream, chunks = recognizer.stream(), []
        for begin in range(0, len(waveform) - chunk + 1, chunk):  # each completes one chunk
            start = time.perf_counter()
            stream.feed(waveform[begin : begin + chunk])
            chunks.append(time.perf_counter() - start)
        return {
            "latency": stream.latency_seconds,
            "chunks": chunks[1:],  # the first one also waits for the right context
            **delays(recognizer.stream(), waveform),
        }

    def peaks(self, threads: int) -> dict[str, float]:
        """Measure the peaks (``peak.measure_peaks``)."""
        from littlefoot.bench.peak import measure_peaks

        return measure_peaks(threads)

    def peak_rss(self) -> int | None:
        """Return the peak resident memory of this process, in bytes."""
        return peak_rss_bytes()

    def overhead(self) -> float:
        """Return the seconds that measuring adds to a turn."""
        times = clocked(lambda: None, 1e-3)
        return statistics.median(times)


def clocked(run: Callable[[], object], least: float = LEAST_SECONDS) -> list[float]:
    """Time several runs, at least ``least`` seconds together, without the first one if there are more."""
    times: list[float] = []
    end = time.perf_counter() + least
    while len(times) < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
        if len(times) == 1 and times[0] > 8 * least:  # caches matter little to it
            return times
    return times[1:]


def delays(stream: Any, waveform: Any) -> dict[str, Any]:
    """Return the times of the first text and of the first word, in seconds of the recording plus
    computing.
    """
    block = round(BLOCK_SECONDS * SAMPLE_RATE)
    text_at: float | None = None
    segments: list[Any] = []
    for begin in range(0, len(waveform), block):
        start = time.perf_counter()
        partial = stream.feed(waveform[begin : begin + block])
        taken = time.perf_counter() - start
        segments += partial.final
        if text_at is None and (partial.text or partial.final):
            text_at = min(begin + block, len(waveform)) / SAMPLE_RATE + taken
    start = time.perf_counter()
    segments += stream.finish().final
    finalisation = time.perf_counter() - start
    word_at = segments[0].start if segments else None
    first = None if text_at is None or word_at is None else text_at - word_at
    return {"first_partial": first, "finalisation": finalisation}


def peak_rss_bytes() -> int | None:
    """Return this process's peak of resident memory, or None if the system does not give it (Windows)."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)
    if sys.platform == "win32":
        return None
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def _samples(path: str) -> Any:
    import numpy as np

    return np.load(path)


if __name__ == "__main__":
    main()
