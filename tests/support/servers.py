"""Servers inside of the test's process, and clients that may misbehave."""

from __future__ import annotations

import http.client
import io
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from uvicorn.server import ServerState

from littlefoot.artifact import Artifact
from littlefoot.decode.beam import BeamDecoder
from littlefoot.runtime import recognizer
from littlefoot.runtime.recognizer import Recognizer
from littlefoot.server.limits import Limits
from littlefoot.server.models import Models
from littlefoot.server.run import Server, listen
from littlefoot.server.service import Service

RATE = 16_000
PATIENCE = 30.0
"""Seconds after which a test gives up; nothing waits for so long if it works."""


@dataclass
class Running:
    """A server that answers."""

    port: int
    service: Service
    stop: Callable[[], None]
    state: ServerState

    @property
    def connections(self) -> int:
        """That are open."""
        return len(self.state.connections)

    @property
    def requests(self) -> int:
        """That are worked on, whether or not their clients are still there."""
        return len(self.state.tasks)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), PATIENCE)

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Response:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        try:
            connection.request(method, path, body, headers or {})
            got = connection.getresponse()
            return Response(got.status, {k.lower(): v for k, v in got.getheaders()}, got.read())
        finally:
            connection.close()

    def transcribe(
        self,
        file: bytes | None,
        fields: Sequence[tuple[str, str]] = (),
        name: str = "clip.wav",
        headers: dict[str, str] | None = None,
    ) -> Response:
        body, kind = multipart(file, fields, name)
        return self.request(
            "POST", "/v1/audio/transcriptions", body, {"Content-Type": kind, **(headers or {})}
        )

    def is_alive(self) -> bool:
        """Whether it answers, and does no work."""
        assert self.request("GET", "/healthz").status == 200
        wait_until(lambda: self.service.jobs.running == self.service.streams == 0)
        return True


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        """In OpenAI's form."""
        assert set(self.json) == {"error"}
        assert set(self.json["error"]) == {"message", "type", "param", "code"}
        return dict(self.json["error"])


@contextmanager
def serving(
    models: Sequence[str | Path],
    load: Callable[..., Recognizer] | None = None,
    api_key: str | None = None,
    origins: Sequence[str] = (),
    decoder: Callable[[Recognizer], BeamDecoder] | None = None,
    hosts: Sequence[str] | None = None,
    wyoming: socket.socket | None = None,
    **limits: Any,
) -> Iterator[Running]:
    """A server in a thread, on a free port."""
    load = load or partial(recognizer.load, threads=2, parallel=2)
    served = Models([str(model) for model in models], load, decoder)
    names = None if hosts is None else frozenset(hosts)
    service = Service(served, Limits(**limits), api_key, frozenset(origins), names)
    server, listener = Server(service, wyoming), listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()

    def stop() -> None:
        server.should_exit = True

    try:
        wait_until(lambda: server.started or not thread.is_alive())
        yield Running(port, service, stop, server.server_state)
    finally:
        stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


class Gate:
    """An engine whose runs wait until they are let through."""

    name = "gate"

    def __init__(self, artifact: Artifact) -> None:
        self._config = artifact.config
        self._free = threading.Semaphore(0)
        self.begun = 0

    def let(self, count: int = 1) -> None:
        self._free.release(count)

    def run(self, waveform: np.ndarray) -> np.ndarray:
        """Says E (token 5) and a delimiter (4) in turns, a second each."""
        self.begun += 1
        assert self._free.acquire(timeout=PATIENCE)
        frames = self._config.frames(len(waveform))
        second = RATE // self._config.stride
        tokens = np.where(np.arange(frames) // second % 2, 4, 5)
        return np.float32(9 * np.eye(self._config.vocab_size)[tokens])


def gated(artifact: Artifact) -> tuple[Gate, Callable[[str], Recognizer]]:
    """A gate, open for what loading runs, and what loads it."""
    gate = Gate(artifact)
    gate.let(2)
    return gate, lambda source: Recognizer(artifact, gate)


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def encoded(samples: np.ndarray, form: str = "WAV", rate: int = RATE) -> bytes:
    """A file of samples (T,)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=form)
    return buffer.getvalue()


def multipart(
    file: bytes | None, fields: Sequence[tuple[str, str]] = (), name: str = "clip.wav"
) -> tuple[bytes, str]:
    """A form, and its content type."""
    parts = [
        f'--limit\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        for key, value in fields
    ]
    if file is not None:
        head = f'--limit\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        parts.append(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + file + b"\r\n")
    return b"".join([*parts, b"--limit--\r\n"]), "multipart/form-data; boundary=limit"
