"""Live recognition: what a chunk takes, how many streams a machine keeps up with, memory, errors by latency.

    python benchmarks/streaming.py speed littlefoot-en-live --threads 1
    python benchmarks/streaming.py speed s3 --int8 --engine native openvino
    python benchmarks/streaming.py streams s3 --int8 --count 30 --threads 2 --engine native openvino
    python benchmarks/streaming.py streams littlefoot-en-live --count 100 --threads 2 --engine native openvino
    python benchmarks/streaming.py memory littlefoot-en-live --hours 2
    python benchmarks/streaming.py errors littlefoot-en-live ../shared/data --chunks 2 10 26
    python benchmarks/streaming.py delays littlefoot-en-live ../shared/data --split dev --limit 100

``s3`` is DistillW2V2's S3 geometry with random weights (right for speed, which does not depend on them): 12
layers of 384, chunks of 480 ms, a history of 6 s; ``s3-small`` the same with a front end of 128 channels.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from accuracy import percent
from speed import geometry, int8, noise

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.audio import SAMPLE_RATE, manifest
from littlefoot.audio.reading import read
from littlefoot.bench import quiet
from littlefoot.evaluate.metrics import evaluate
from littlefoot.runtime.recognizer import Recognizer
from littlefoot.runtime.registry import begin_stream, create, create_stream

STREAMING = {"chunk_frames": 24, "left_context_frames": 300}
BLOCK = 1600
"""Samples fed at once: 100 ms, as a sound card gives them."""
WHOLE = 1_000_000
"""Frames of a chunk that no recording fills."""


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("speed", "streams", "memory", "errors", "delays"))
    parser.add_argument("model", help="a streaming model, or s3, s3-small")
    parser.add_argument("data", type=Path, nargs="?", help="folder of sets, for errors and delays")
    parser.add_argument("--int8", action="store_true", help="quantize s3 first")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--parallel", type=int, default=1, help="chunks that OpenVINO computes at once")
    parser.add_argument(
        "--engine", nargs="*", default=["openvino"], help="engines of speed and streams, one by one"
    )
    parser.add_argument("--count", type=int, default=8, help="streams at once")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--hours", type=float, default=2)
    parser.add_argument("--chunks", type=int, nargs="*", default=[], help="frames decided at once")
    parser.add_argument("--split", default="test")
    parser.add_argument("--limit", type=int, help="recordings for delays")
    parser.add_argument("--busy", action="store_true", help="measure beside other programs too")
    options = parser.parse_args()
    if not options.busy and options.what in ("speed", "streams", "delays"):
        quiet.wait()
    artifact = (
        s3(options.model, options.int8) if options.model.startswith("s3") else checkpoint.load(options.model)
    )
    measure = {"speed": speed, "streams": streams, "memory": memory, "errors": errors, "delays": delays}
    measure[options.what](artifact, options)


def s3(name: str, quantized: bool) -> Artifact:
    """Random weights."""
    from littlefoot.artifact.vocabulary import Vocabulary
    from littlefoot.compress.student import StudentConfig
    from littlefoot.training.module import CTCModel

    narrow = (128,) * 7 if name == "s3-small" else None
    config = geometry(StudentConfig(size="S3", conv_dim=narrow)).replace(**STREAMING)
    vocabulary = Vocabulary(tuple(f"t{i}" for i in range(config.vocab_size)), 0)
    made = CTCModel.from_config(config, vocabulary, do_normalize=False).to_artifact()
    print(f"{made.parameters / 1e6:.2f} million parameters")
    return int8(made) if quantized else made


def recognizer(artifact: Artifact, threads: int, parallel: int = 1, name: str = "openvino") -> Recognizer:
    """Load a recogniser with its stream engine."""
    engine = create_stream(artifact, name, threads, parallel=parallel)
    return Recognizer(artifact, create(artifact, "openvino", threads), lambda: engine)


def speed(artifact: Artifact, options: argparse.Namespace) -> None:
    """Milliseconds that a chunk takes, and the algorithmic latency beside it."""
    waveform = 0.1 * noise(options.seconds)
    for name in options.engine:
        frames = begin_stream(artifact.config, create_stream(artifact, name, options.threads))
        times = []
        for start in range(0, len(waveform), BLOCK):
            began = time.perf_counter()
            if len(frames.feed(waveform[start : start + BLOCK])):  # a chunk was complete
                times.append(1000 * (time.perf_counter() - began))
        times = times[3:]
        p50, p95, p99 = np.percentile(times, (50, 95, 99))
        print(
            f"{name}: latency {1000 * frames.latency_seconds:.0f} ms; chunks {len(times)}, compute ms "
            f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f}"
        )


def streams(artifact: Artifact, options: argparse.Namespace) -> None:
    """Feed streams in real time, each from a thread of its own, and see how late their results are."""
    for name in options.engine:
        at_once(artifact, name, options)


def at_once(artifact: Artifact, name: str, options: argparse.Namespace) -> None:
    """Feed the streams of one engine."""
    shared = recognizer(artifact, options.threads, options.parallel, name)
    late: list[float] = []
    opened = threading.Barrier(options.count)
    used = time.process_time()

    def live(number: int) -> None:
        nonlocal used
        stream = shared.stream()
        waveform = 0.1 * noise(options.seconds, number)
        if opened.wait() == 0:
            used = time.process_time()
        began = time.perf_counter() + 0.1 * np.random.default_rng(number).random()
        for block, start in enumerate(range(0, len(waveform), BLOCK)):
            due = began + (block + 1) * BLOCK / SAMPLE_RATE  # when a sound card would have it
            time.sleep(max(0.0, due - time.perf_counter()))
            stream.feed(waveform[start : start + BLOCK])
            late.append(1000 * (time.perf_counter() - due))

    threads = [threading.Thread(target=live, args=(number,)) for number in range(options.count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    load = (time.process_time() - used) / options.seconds
    last = np.array(late[-len(late) // 5 :])
    p50, p95, p99 = np.percentile(late, (50, 95, 99))
    print(
        f"{name}, {options.count} streams, {options.seconds:g} s: results late by ms p50 {p50:.1f}, "
        f"p95 {p95:.1f}, p99 {p99:.1f}; in the last fifth p95 {np.percentile(last, 95):.1f}; "
        f"processor seconds per second {load:.2f}"
    )


def memory(artifact: Artifact, options: argparse.Namespace) -> None:
    """Resident memory while hours of audio pass."""
    stream = recognizer(artifact, options.threads).stream()
    rng = np.random.default_rng(0)
    began, blocks = time.perf_counter(), int(3600 * options.hours * SAMPLE_RATE / BLOCK)
    for block in range(blocks + 1):
        if block % (blocks // 8) == 0:
            spent = time.perf_counter() - began
            print(f"{block * BLOCK / SAMPLE_RATE / 60:6.1f} min of audio: {resident():.1f} MB, {spent:.1f} s")
        stream.feed((0.1 * rng.standard_normal(BLOCK)).astype(np.float32))


def resident() -> float:
    """MB of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1000


def errors(artifact: Artifact, options: argparse.Namespace) -> None:
    """Print the WER of streams by their latency, beside that of whole recordings with the same model."""
    shared = recognizer(artifact, options.threads)
    everything = artifact.config.replace(chunk_frames=WHOLE)
    whole = recognizer(replace(artifact, config=everything), options.threads)
    rows = recordings(options)
    waveforms = [read(row.path) for row in rows]
    references = [row.text for row in rows]

    def show(name: str, texts: list[str]) -> None:
        result = evaluate(references, texts)
        print(f"| {name} | {percent(result.wer, result.wer_interval)} |")

    print("| latency | WER % |\n|---|---|")
    show("the whole recording", [whole.transcribe(waveform).text for waveform in waveforms])
    for chunk in options.chunks or [artifact.config.chunk_frames]:
        texts = []
        for waveform in waveforms:
            stream = shared.stream(chunk)
            partial = stream.feed(waveform)
            texts.append(" ".join(s.text for s in [*partial.final, *stream.finish().final]))
        show(latency(shared, chunk), texts)


def delays(artifact: Artifact, options: argparse.Namespace) -> None:
    """Measure the delays from the beginning of speech to the first text, and from its end to the final text.

    Recordings are followed by silence. Blocks come when a sound card would give them, and wait while the one
    before is computed. Begin and end are those of the segment's first and last word.
    """
    shared = recognizer(artifact, options.threads)
    print("| latency | first text: p50 s | p95 | final segment: p50 s | p95 |\n|---|---|---|---|---|")
    silence = np.zeros(2 * SAMPLE_RATE, np.float32)
    waveforms = [np.concatenate([read(row.path), silence]) for row in recordings(options)[: options.limit]]
    for chunk in options.chunks or [artifact.config.chunk_frames]:
        first, final = delays_of(shared, chunk, waveforms)
        figures = [*np.percentile(first, (50, 95)), *np.percentile(final, (50, 95))]
        print(f"| {latency(shared, chunk)} | " + " | ".join(f"{x:.2f}" for x in figures) + " |")


def delays_of(
    shared: Recognizer, chunk: int, waveforms: Sequence[np.ndarray]
) -> tuple[list[float], list[float]]:
    """Seconds until the first text, and until it is final, of all segments."""
    first: list[float] = []
    final: list[float] = []
    for waveform in waveforms:
        stream = shared.stream(chunk)
        now, shown = 0.0, 0.0  # shown: when the segment had its first text
        for start in range(0, len(waveform), BLOCK):
            block = waveform[start : start + BLOCK]
            began = time.perf_counter()
            partial = stream.feed(block)
            now = max(now, (start + len(block)) / SAMPLE_RATE) + time.perf_counter() - began
            for segment in partial.final:
                first.append((shown or now) - segment.start)
                final.append(now - segment.end)
                shown = 0.0
            if partial.text and not shown:
                shown = now
    return first, final


def latency(shared: Recognizer, chunk: int) -> str:
    """Return a row's name."""
    return f"{1000 * shared.stream(chunk).latency_seconds:.0f} ms ({chunk} frames)"


def recordings(options: argparse.Namespace) -> list[manifest.Utterance]:
    """Read the recordings of a split from all sets."""
    sets = sorted(options.data.glob("*/manifest.tsv"))
    return [u for path in sets for u in manifest.read(path) if u.split == options.split]


if __name__ == "__main__":
    main()
