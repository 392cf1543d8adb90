"""``littlefoot serve`` under load: requests per second, live streams, memory.

    python benchmarks/server.py clips littlefoot-en
    python benchmarks/server.py streams MODEL --count 8
    python benchmarks/server.py memory littlefoot-en --requests 10000

The server is a process of its own; its clients share the machine with it. Beside the times stands what the
server's process computed for, which other load on the machine changes little.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import io
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import soundfile
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import connect

from littlefoot.artifact.checkpoint import SAMPLES
from littlefoot.audio import SAMPLE_RATE
from littlefoot.audio.reading import read
from littlefoot.system import machine

BLOCK = SAMPLE_RATE // 10


def main() -> None:
    """Run one of the measurements."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("clips", "streams", "memory"))
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=8, help="streams at once")
    parser.add_argument("--seconds", type=float, default=60, help="of each stream")
    parser.add_argument("--requests", type=int, default=10_000, help="for memory")
    parser.add_argument("--clips", type=int, default=200, help="for each measurement of clips")
    parser.add_argument(
        "--parallel", type=int, nargs="+", default=[1, 2], help="servers to compare, for clips"
    )
    options = parser.parse_args()
    print(f"{machine.threads()} cores, load average {os.getloadavg()[0]:.1f}")
    {"clips": clips, "streams": streams, "memory": memory}[options.what](options)


class Server:
    """``littlefoot serve`` in a process."""

    def __init__(self, model: str, *arguments: str) -> None:
        command = [sys.executable, "-m", "littlefoot", "serve", model, "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        found = re.search(r"http://([\d.]+):(\d+)", self.process.stderr.readline())
        assert found is not None
        self.host, self.port = found[1], int(found[2])
        threading.Thread(target=self.process.stderr.read, daemon=True).start()

    def metrics(self) -> dict[str, float]:
        """Read the metrics by name, summed over their labels."""
        connection = http.client.HTTPConnection(self.host, self.port)
        connection.request("GET", "/metrics")
        families = text_string_to_metric_families(connection.getresponse().read().decode())
        connection.close()
        sums: dict[str, float] = {}
        for sample in itertools.chain.from_iterable(family.samples for family in families):
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        return sums

    def cpu(self) -> float:
        """Seconds that it computed."""
        return self.metrics()["process_cpu_seconds_total"]


@contextmanager
def server(model: str, *arguments: str) -> Iterator[Server]:
    """Start a server, and yield it when its model is loaded."""
    started = Server(model, *arguments)
    try:
        _ask(started, [_form(_clip(0, 1.0))])
        yield started
    finally:
        started.process.terminate()
        started.process.wait()


def clips(options: argparse.Namespace) -> None:
    """Requests per second and what each takes, by how many are asked at once; servers take turns."""
    speech = SAMPLES / "digits.ogg"
    seconds = len(read(speech)) / SAMPLE_RATE
    form = _form(speech.read_bytes())
    print(f"clips of {seconds:.1f} s\n")
    print("| at once | `--parallel` | clips / s | x real time | p50 ms | p95 ms | CPU ms a clip | refused |")
    print("|---|---|---|---|---|---|---|---|")
    servers = [Server(options.model, "--parallel", str(count)) for count in options.parallel]
    try:
        for each in servers:
            _ask(each, [form] * 4)
        for at_once in (1, 8, 32):
            for count, each in zip(options.parallel, servers, strict=True):
                cpu, began = each.cpu(), time.perf_counter()
                with ThreadPoolExecutor(at_once) as pool:
                    shares = [[form] * (options.clips // at_once)] * at_once
                    asked = [pool.submit(_ask, each, share) for share in shares]
                    answers = [answer for future in asked for answer in future.result()]
                spent, cpu = time.perf_counter() - began, each.cpu() - cpu
                times = [1000 * took for status, took in answers if status == 200]
                p50, p95 = np.percentile(times, (50, 95))
                per_second = len(times) / spent
                print(
                    f"| {at_once} | {count} | {per_second:.1f} | {per_second * seconds:.0f} | {p50:.0f} "
                    f"| {p95:.0f} | {1000 * cpu / len(answers):.1f} | {len(answers) - len(times)} |",
                    flush=True,
                )
    finally:
        for each in servers:
            each.process.terminate()
            each.process.wait()


def memory(options: argparse.Namespace) -> None:
    """Resident memory of the server while clips of all lengths up to 2 s pass, four at once."""
    rng = np.random.default_rng(0)
    with server(options.model) as running, ThreadPoolExecutor(4) as pool:
        failed = 0
        for done in range(0, options.requests + 1, options.requests // 10):
            resident = running.metrics()["process_resident_memory_bytes"] / 1e6
            print(f"{done:6d} requests: {resident:.1f} MB", flush=True)
            if done < options.requests:
                forms = [
                    _form(_clip(int(rng.integers(SAMPLE_RATE)), rng.uniform(0.2, 2.0)))
                    for _ in range(options.requests // 10)
                ]
                shares = [forms[part::4] for part in range(4)]
                for answers in pool.map(lambda share: _ask(running, share), shares):
                    failed += sum(status != 200 for status, _ in answers)
        print(f"{failed} failed; open files {running.metrics()['process_open_fds']:.0f}")


def streams(options: argparse.Namespace) -> None:
    """Live streams fed in real time: the delay of each message after the audio that it covers."""
    with server(options.model) as running:
        cpu, began = running.cpu(), time.perf_counter()
        late = asyncio.run(_all_streams(running, options.count, options.seconds))
        spent, cpu = time.perf_counter() - began, running.cpu() - cpu
    flat = [1000 * each for one in late for each in one]
    last = [1000 * each for one in late for each in one[-len(one) // 5 :]]
    p50, p95, p99 = np.percentile(flat, (50, 95, 99))
    print(
        f"{options.count} streams of {options.seconds:g} s, {len(flat)} messages: late by ms p50 {p50:.0f}, "
        f"p95 {p95:.0f}, p99 {p99:.0f}; in the last fifth p95 {np.percentile(last, 95):.0f}; "
        f"{cpu / spent:.2f} cores busy"
    )


async def _all_streams(running: Server, count: int, seconds: float) -> list[list[float]]:
    return await asyncio.gather(*(_stream(running, number, seconds) for number in range(count)))


async def _stream(running: Server, number: int, seconds: float) -> list[float]:
    """Seconds by which the messages of one stream were late."""
    samples = (32767 * _speech(number * SAMPLE_RATE // 2, seconds)).astype("<i2")
    late = []
    async with connect(f"ws://{running.host}:{running.port}/v1/live") as socket:
        await socket.send('{"type": "start"}')
        assert json.loads(await socket.recv())["type"] == "ready"
        await asyncio.sleep(0.1 * number / 8)
        began = time.perf_counter()

        async def send() -> None:
            for end in range(BLOCK, len(samples) + 1, BLOCK):
                await asyncio.sleep(max(0.0, began + end / SAMPLE_RATE - time.perf_counter()))
                await socket.send(samples[end - BLOCK : end].tobytes())
            await socket.send('{"type": "stop"}')

        sender = asyncio.create_task(send())
        async for text in socket:
            message = json.loads(text)
            if "audio" in message:
                late.append(time.perf_counter() - began - message["audio"])
        await sender
    return late


def _speech(start: int, seconds: float) -> np.ndarray:
    """Join the bundled clips one after another, repeatedly."""
    clips = np.concatenate([read(path) for path in sorted(SAMPLES.glob("*.ogg"))])
    return np.roll(np.resize(clips, round(seconds * SAMPLE_RATE)), -start)


def _clip(start: int, seconds: float) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(
        buffer, _speech(start, max(seconds, 2.0))[: round(seconds * SAMPLE_RATE)], SAMPLE_RATE, format="WAV"
    )
    return buffer.getvalue()


def _form(file: bytes) -> bytes:
    head = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="clip"\r\n\r\n'
    return head + file + b"\r\n--limit--\r\n"


def _ask(running: Server, forms: list[bytes]) -> list[tuple[int, float]]:
    """Status and seconds of each request, after another on one connection."""
    connection = http.client.HTTPConnection(running.host, running.port)
    answers = []
    for form in forms:
        began = time.perf_counter()
        connection.request(
            "POST",
            "/v1/audio/transcriptions",
            form,
            {"Content-Type": "multipart/form-data; boundary=limit"},
        )
        response = connection.getresponse()
        response.read()
        answers.append((response.status, time.perf_counter() - began))
    connection.close()
    return answers


if __name__ == "__main__":
    main()
