"""littlefoot serve over a WebSocket: live PCM, and what else may come."""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
import pytest
from families import speechlike
from servers import RATE, Running, encoded, gated, serving, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from littlefoot.runtime import recognizer

SPEECH = np.round(20_000 * speechlike(4.0)).astype(np.int16)


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Running]:
    with serving([tiny_model], audio_seconds=20, idle_seconds=2, streams=4) as running:
        yield running


def live(running: Running, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{running.port}/v1/live", **options)


def started(running: Running, **start: Any) -> ClientConnection:
    client = live(running)
    client.send(json.dumps({"type": "start", **start}))
    assert json.loads(client.recv())["type"] == "ready"
    return client


def rest(client: ClientConnection) -> tuple[list[dict[str, Any]], int]:
    """All messages up to the end, and the code of the close frame."""
    messages = []
    try:
        while True:
            messages.append(json.loads(client.recv(timeout=30)))
    except ConnectionClosed as closed:
        return messages, closed.rcvd.code if closed.rcvd else 1006


def refusal(client: ClientConnection) -> tuple[str, int]:
    """The code of the error message, and that of the close frame."""
    messages, code = rest(client)
    assert messages[-1]["type"] == "error"
    assert messages[-1]["error"]["message"]
    return messages[-1]["error"]["code"], code


def cut(data: bytes, lengths: Sequence[int]) -> Iterator[bytes]:
    position = 0
    while position < len(data):
        for length in lengths:
            yield data[position : position + length]
            position += length


@pytest.mark.parametrize("lengths", [(3200,), (1, 7777, 2), (200_000,)])
def test_segments_are_those_of_the_recognizer_s_stream(
    server: Running, tiny_model: Path, lengths: Sequence[int]
) -> None:
    stream = recognizer.load(tiny_model).stream()
    expected = [*stream.feed(SPEECH).final, *stream.finish().final]
    with started(server, model="tiny", rate=RATE) as client:
        for piece in cut(SPEECH.tobytes(), lengths):
            client.send(piece)
        client.send('{"type": "stop"}')
        messages, code = rest(client)
    finals = [message for message in messages if message["type"] == "final"]
    assert [message["text"] for message in finals] == [segment.text for segment in expected]
    assert [message["start"] for message in finals] == [round(segment.start, 3) for segment in expected]
    assert any(message["type"] == "partial" and message["text"] for message in messages)
    assert messages[-1] == {"type": "done", "duration": 4.0}
    assert code == 1000


def test_partial_text_comes_while_audio_is_sent(server: Running) -> None:
    with started(server) as client:
        client.send(SPEECH[: 3 * RATE].tobytes())
        message = json.loads(client.recv(timeout=30))
        assert message["type"] == "partial"
        assert 0 < message["audio"] <= 3


def test_streams_do_not_hear_each_other(server: Running, tiny_model: Path) -> None:
    """Four at once over one engine, each with other audio."""
    speech = [np.roll(SPEECH, 5000 * number) for number in range(4)]
    alone = []
    for samples in speech:
        stream = recognizer.load(tiny_model).stream()
        alone.append([segment.text for segment in [*stream.feed(samples).final, *stream.finish().final]])
    clients = [started(server) for _ in speech]
    for start in range(0, 4 * RATE, RATE // 2):
        for client, samples in zip(clients, speech, strict=True):
            client.send(samples[start : start + RATE // 2].tobytes())
    together = []
    for client in clients:
        client.send('{"type": "stop"}')
        messages, _ = rest(client)
        together.append([message["text"] for message in messages if message["type"] == "final"])
    assert together == alone
    assert len({tuple(texts) for texts in alone}) == 4


@pytest.mark.parametrize(
    ("messages", "error", "code"),
    [
        ([b"\x00\x01" * 100], "no_start", 1003),
        (["no JSON"], "invalid_message", 1007),
        (["[1, 2]"], "invalid_message", 1007),
        (["[" * 100_000], "invalid_message", 1007),
        (['{"type": 5}'], "invalid_message", 1007),
        (['{"type": "stop"}'], "no_start", 1003),
        (['{"type": "start", "model": "whisper-1"}'], "model_not_found", 1008),
        (['{"type": "start", "model": {}}'], "invalid_value", 1007),
        (['{"type": "start", "rate": 48000}'], "invalid_value", 1007),
        (['{"type": "start"}', '{"type": "start"}'], "invalid_message", 1007),
        (['{"type": "start"}', '{"type": "unknown"}'], "invalid_message", 1007),
        (['{"type": "start"}', encoded(speechlike(1.0))], "no_pcm", 1003),
        (['{"type": "start"}', b"\x1aE\xdf\xa3" + bytes(100)], "no_pcm", 1003),
        (['{"type": "start"}', b"\0\0\0\x18ftypM4A " + bytes(100)], "no_pcm", 1003),
        (['{"type": "start"}', bytes(900_000)], "audio_too_long", 1008),
    ],
)
def test_what_is_not_in_the_protocol_is_named_and_closed(
    server: Running, messages: list[str | bytes], error: str, code: int
) -> None:
    with live(server) as client:
        for message in messages:
            client.send(message)
        assert refusal(client) == (error, code)
    assert server.is_alive()


def test_a_message_of_more_than_a_megabyte_is_1009(server: Running) -> None:
    with started(server) as client:
        with suppress(ConnectionClosed):
            client.send(bytes(1_100_000))
        assert rest(client)[1] == 1009
    assert server.is_alive()


def test_any_bytes_are_samples_and_harm_nothing(server: Running) -> None:
    noise = np.random.default_rng(0).bytes(100_001)
    with started(server) as client:
        client.send(noise)
        client.send(b"")
        client.send('{"type": "stop"}')
        messages, code = rest(client)
    assert messages[-1]["type"] == "done"
    assert code == 1000
    assert server.is_alive()


@pytest.mark.parametrize(
    "garbage",
    [
        np.random.default_rng(0).bytes(5000),  # the same always: one in 256 announces a frame that goes on
        b"\xff" * 5000,  # reserved bits and opcode
        b"\x81\x05hello",  # a client's frame must be masked
        b"\x82\xff" + b"\x7f" + bytes(7) + bytes(4),  # a length of 2^62
        b"\x81\x82\x00\x00\x00\x00\xff\xff",  # text that is not UTF-8
    ],
)
def test_frames_that_are_none_end_the_connection(server: Running, garbage: bytes) -> None:
    with server.connect() as client:
        key = base64.b64encode(os.urandom(16)).decode()
        client.sendall(
            f"GET /v1/live HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n".encode()
        )
        assert client.recv(10_000).startswith(b"HTTP/1.1 101 ")
        client.sendall(garbage)
        got = b""
        with suppress(ConnectionResetError):
            while part := client.recv(10_000):
                got += part
        assert got[:1] == b"\x88"  # a close frame
        assert int.from_bytes(got[2:4], "big") in (1002, 1007, 1009)
    assert server.is_alive()


@pytest.mark.parametrize("path", ["/v1/nothing", "/"])
def test_other_paths_are_no_websockets(server: Running, path: str) -> None:
    with pytest.raises(InvalidStatus), connect(f"ws://127.0.0.1:{server.port}{path}"):
        pass
    assert server.is_alive()


@pytest.mark.parametrize("start", [False, True])
def test_a_client_that_says_nothing_is_closed(server: Running, start: bool) -> None:
    with started(server) if start else live(server) as client:
        assert refusal(client) == ("idle_timeout", 1008)
    assert server.is_alive()


def test_a_client_that_vanishes_gives_its_place_back(server: Running) -> None:
    for _ in range(5):  # there are four places
        client = started(server)
        client.send(SPEECH.tobytes())
        client.socket.close()
        client.close()
        wait_until(lambda: server.service.streams == 0)
    assert server.is_alive()


def test_one_stream_too_many_is_asked_to_come_later(server: Running) -> None:
    clients = [started(server) for _ in range(4)]
    with live(server) as client:
        assert refusal(client) == ("too_many_streams", 1013)
    for client in clients:
        client.close()
    assert server.is_alive()


def test_a_stream_that_waits_for_a_thread_does_not_keep_requests_out() -> None:
    gate, load = gated(artifacts.tiny())
    gate.let(1)
    with serving(["littlefoot-en"], load, parallel=1) as running:
        client = started(running)
        client.send(bytes(2 * 4 * RATE))
        wait_until(lambda: gate.begun >= 3)
        assert running.request("GET", "/v1/models").status == 200
        gate.let(20)
        assert running.transcribe(encoded(speechlike(1.0))).status == 200
        client.close()
        assert running.is_alive()


def test_the_key_comes_in_a_header_or_in_the_first_message(tiny_model: Path) -> None:
    with serving([tiny_model], api_key="sesame") as running:
        for start in ({}, {"api_key": "wrong"}, {"api_key": 5}):
            with live(running) as client:
                client.send(json.dumps({"type": "start", **start}))
                assert refusal(client)[1] == 1008
        with started(running, api_key="sesame"):
            pass
        with live(running, additional_headers={"Authorization": "Bearer sesame"}) as client:
            client.send('{"type": "start"}')
            assert json.loads(client.recv())["type"] == "ready"


def test_pages_of_other_sites_are_refused_before_the_handshake(server: Running) -> None:
    with pytest.raises(InvalidStatus) as refused, live(server, origin="https://evil.example"):
        pass
    assert refused.value.response.status_code == 403
    with live(server, origin=server.url):
        pass


def test_shutting_down_says_what_was_heard(tiny_model: Path) -> None:
    with serving([tiny_model]) as running:
        client = started(running)
        client.send(SPEECH.tobytes())
        while json.loads(client.recv(timeout=30))["audio"] < 4:
            pass
        running.stop()
        messages, code = rest(client)
        assert [message["type"] for message in messages][-1] == "done"
        assert any(message["type"] == "final" and message["text"] for message in messages)
        assert code == 1001


@pytest.mark.slow
def test_audio_that_waits_for_its_turn_for_long_ends_no_stream() -> None:
    """Where many streams are computed, nothing is read from one for long, its answers to pings included."""
    gate, load = gated(artifacts.tiny())
    with serving(["littlefoot-en"], load) as running:
        wait_until(lambda: running.service.models.all()[0].recognizer is not None)
        with connect(f"ws{running.url[4:]}/v1/live", ping_interval=None) as client:
            client.send('{"type": "start"}')
            assert json.loads(client.recv())["type"] == "ready"
            sender = threading.Thread(target=lambda: [client.send(bytes(900_000)) for _ in range(8)])
            sender.start()
            for _ in range(2):  # a ping after 20 s would have waited for 20 s
                time.sleep(22)
                gate.let()
            gate.let(10_000)
            sender.join()
            client.send('{"type": "stop"}')
            assert json.loads(list(client)[-1])["type"] == "done"
