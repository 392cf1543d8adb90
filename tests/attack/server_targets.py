"""The server: raw HTTP, forms, WebSocket frames, the messages of live streams and sessions, and Wyoming.

It runs in the process of the target, with a tiny random model. After every try it must still answer.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path

import artifacts
import numpy as np
from campaign import Target
from servers import encoded, multipart, wait_until

from littlefoot import artifact
from littlefoot.errors import LittlefootError
from littlefoot.runtime import recognizer
from littlefoot.server.limits import Limits
from littlefoot.server.models import Models
from littlefoot.server.run import Server, listen
from littlefoot.server.service import Service

KEY = "sesame"
CLIP = encoded(0.1 * np.random.default_rng(0).standard_normal(8000))
LIVE, REALTIME = (
    f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    f"Authorization: Bearer {KEY}\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    for path in ("/v1/live", "/v1/realtime")
)


class RefusedError(LittlefootError):
    """The server said no, or hung up."""


@cache
def ports() -> tuple[int, int]:
    """For HTTP and for Wyoming, of a server that was started, and has loaded its model."""
    folder = Path(tempfile.mkdtemp())
    model = artifact.save(artifacts.tiny(), folder / "tiny")
    limits = Limits(
        idle_seconds=0.2, total_seconds=20, audio_seconds=60, body_bytes=1_000_000, connections=50
    )
    models = Models([str(model)], lambda source: recognizer.load(source, threads=1, parallel=2))
    service = Service(models, limits, KEY, hosts=frozenset())
    listener, door = listen("127.0.0.1", 0), listen("127.0.0.1", 0)
    server = Server(service, door)
    threading.Thread(target=server.run, args=([listener],), daemon=True).start()
    wait_until(lambda: models.all()[0].recognizer is not None)
    return int(listener.getsockname()[1]), int(door.getsockname()[1])


def talk(data: bytes, wyoming: bool = False) -> bytes:
    """Send all, hear all, until the server hangs up."""
    with socket.create_connection(("127.0.0.1", ports()[wyoming]), 4.5) as client:
        return _exchange(client, data, lambda got: False)


def live(*parts: bytes, upgrade: str = LIVE) -> bytes:
    """Open a live stream, send all, hear all, until the server closes it."""
    with socket.create_connection(("127.0.0.1", ports()[0]), 4.5) as client:
        head = _exchange(client, upgrade.encode(), lambda got: b"\r\n\r\n" in got)
        return head + _exchange(client, b"".join(parts), lambda got: is_closed(head + got))


def _exchange(client: socket.socket, data: bytes, over: Callable[[bytes], bool]) -> bytes:
    got = b""
    with suppress(ConnectionError):
        client.sendall(data)
        while not over(got) and (part := client.recv(65536)):
            got += part
    return got


def is_closed(got: bytes) -> bool:
    """Whether a handshake was refused, or a frame that closes has come (RFC 6455, section 5.2)."""
    head, _, rest = got.partition(b"\r\n\r\n")
    while head.startswith(b"HTTP/1.1 101 ") and len(rest) > 1:
        if rest[0] & 15 == 8:
            return True
        size, start = rest[1], 2
        if size > 125:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(rest[2 : 2 + width], "big"), 2 + width
        rest = rest[start + size :]
    return False


def check_alive() -> None:
    answer = talk(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 "), f"the server answers {answer[:100]!r}"


def http(data: bytes, original: bytes) -> None:
    """Bytes of a connection; whatever they are, the answer is no fault of the server's."""
    got = talk(data)
    statuses = [int(status) for status in re.findall(rb"(?:^|\n|\})HTTP/1\.1 (\d{3}) ", got)]
    assert not [status for status in statuses if status >= 500 and status != 503], got[:500]
    check_alive()
    if not any(status < 300 for status in statuses):
        raise RefusedError(str(statuses))


def with_its_length(data: bytes) -> bytes:
    """A request whose Content-Length is that of its body."""
    head, end, body = data.partition(b"\r\n\r\n")
    return re.sub(rb"Content-Length: *[^\r]*", b"Content-Length: %d" % len(body), head) + end + body


def requests() -> list[bytes]:
    made = []
    for fields in (
        [("model", "tiny"), ("response_format", "verbose_json"), ("timestamp_granularities[]", "word")],
        [("stream", "true"), ("language", "en"), ("temperature", "0.5")],
    ):
        body, kind = multipart(CLIP, fields)
        head = (
            "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            f"Authorization: Bearer {KEY}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        made.append(head.encode() + body)
    paths = ("/v1/models", "/v1/models/tiny", "/openapi.json", "/", "/static/app.js", "/metrics")
    rest = f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {KEY}\r\nConnection: close\r\n\r\n"
    return made + [f"GET {path} {rest}".encode() for path in paths]


def frame(payload: bytes, opcode: int = 1) -> bytes:
    """A WebSocket frame (RFC 6455, section 5.2), masked with zeros so that mutations reach what it says."""
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes([0x80 | opcode]) + length + bytes(4) + payload


def frames(data: bytes, original: bytes) -> None:
    """What follows the handshake of a live stream."""
    _judge(live(data))


def messages(data: bytes, original: bytes) -> None:
    """Whole messages, a line each: text where it is UTF-8, else audio."""
    _judge(live(*_in_frames(data)))


def sessions(data: bytes, original: bytes) -> None:
    """Whole events of a realtime session, a line each."""
    _judge(live(*_in_frames(data), upgrade=REALTIME), b"input_audio_transcription.completed")


def events(data: bytes, original: bytes) -> None:
    """Events of the Wyoming protocol."""
    got = talk(data, wyoming=True)
    assert b"server_error" not in got, got[-300:]
    check_alive()
    if b'"transcript"' not in got:
        raise RefusedError("no transcript")


def _in_frames(data: bytes) -> list[bytes]:
    parts = []
    for line in data.split(b"\n"):
        try:
            line.decode()
            parts.append(frame(line[:60_000]))
        except UnicodeDecodeError:
            parts.append(frame(line[:60_000], 2))
    return parts


def _judge(got: bytes, end: bytes = b'"type": "done"') -> None:
    assert got.startswith(b"HTTP/1.1 101 "), got[:200]
    assert b"server_error" not in got, got[-300:]
    assert not re.search(rb"\x88.\x03\xf3", got, re.DOTALL), "closed with 1011"
    check_alive()
    if end not in got:
        raise RefusedError("no end")


def conversations() -> list[bytes]:
    start = json.dumps({"type": "start", "model": "tiny", "rate": 16000, "api_key": KEY}).encode()
    audio = bytes(range(128, 256)) * 20
    return [b"\n".join([start, audio, b'{"type": "stop"}'])]


def conversations_in_frames() -> list[bytes]:
    start, audio, stop = conversations()[0].split(b"\n", 1)[0], bytes(3200), b'{"type": "stop"}'
    return [frame(start) + frame(audio, 2) * 3 + frame(b"", 9) + frame(stop)]


def realtime_conversations() -> list[bytes]:
    audio = base64.b64encode(bytes(range(128, 256)) * 40).decode()
    section = {"format": {"type": "audio/pcm", "rate": 16000}, "transcription": {"model": "tiny"}}
    told = [
        {"type": "session.update", "session": {"type": "transcription", "audio": {"input": section}}},
        {"type": "input_audio_buffer.append", "audio": audio},
        {"type": "input_audio_buffer.commit"},
    ]
    return [b"\n".join(json.dumps(event).encode() for event in told)]


def wyoming_conversations() -> list[bytes]:
    form = {"rate": 22050, "width": 2, "channels": 2}
    audio = bytes(range(128, 256)) * 40
    told = [
        ({"type": "describe"}, b""),
        ({"type": "transcribe", "data": {"name": "tiny", "language": "en"}}, b""),
        ({"type": "audio-start", "data": form}, b""),
        ({"type": "audio-chunk", "data": form, "payload_length": len(audio)}, audio),
        ({"type": "audio-stop"}, b""),
    ]
    return [b"".join(json.dumps(head).encode() + b"\n" + payload for head, payload in told)]


TARGETS = [
    Target("HTTP", requests, http, repair=with_its_length, share=2, slowness=100),
    Target("WebSocket frames", conversations_in_frames, frames, slowness=100),
    Target("live messages", conversations, messages, slowness=100),
    Target("realtime sessions", realtime_conversations, sessions, slowness=100),
    Target("Wyoming", wyoming_conversations, events, slowness=100),
]
