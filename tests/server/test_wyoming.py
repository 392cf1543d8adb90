"""The Wyoming protocol, with the client of its own package over TCP."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Run
from families import speechlike
from servers import PATIENCE, Running, serving
from wyoming.asr import Transcribe, Transcript
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.client import AsyncTcpClient
from wyoming.error import Error
from wyoming.event import Event
from wyoming.info import Describe, Info
from wyoming.ping import Ping

from littlefoot.artifact.checkpoint import SAMPLES
from littlefoot.audio import pcm, reading
from littlefoot.runtime import recognizer
from littlefoot.server.run import listen
from littlefoot.server.utterances import PcmFormat, PcmStream

CLIP = speechlike(1.0)


@pytest.fixture(scope="module")
def door(tiny_model: Path) -> Iterator[tuple[Running, int]]:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with serving(
        ["littlefoot-en-live", tiny_model], wyoming=listener, streams=3, audio_seconds=20, idle_seconds=3
    ) as running:
        yield running, port


def talk(port: int, *events: Event) -> list[Event]:
    """Send events, and return all answers up to a transcript, an error or the end."""

    async def run() -> list[Event]:
        answers: list[Event] = []
        async with AsyncTcpClient("127.0.0.1", port, read_timeout=PATIENCE) as client:
            for event in events:
                await client.write_event(event)
            while (event := await client.read_event()) is not None:
                answers.append(event)
                if event.type in ("transcript-stop", "info", "pong", "error"):
                    break
                if event.type == "transcript" and answers[0].type == "transcript":
                    break
        return answers

    return asyncio.run(run())


def spoken(samples: Any, rate: int = 16_000, channels: int = 1, each: int = 1600) -> list[Event]:
    data = pcm.to_int16(np.repeat(np.asarray(samples, np.float32), channels)).tobytes()
    step = 2 * channels * each
    return [
        AudioStart(rate, 2, channels).event(),
        *(
            AudioChunk(rate, 2, channels, data[begin : begin + step]).event()
            for begin in range(0, len(data), step)
        ),
        AudioStop().event(),
    ]


def raw(port: int, data: bytes) -> dict[str, Any]:
    """The error event that answers bytes, after which the connection ends."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        connection.sendall(data)
        received = b""
        while block := connection.recv(65_536):
            received += block
    head, _, rest = received.partition(b"\n")
    assert json.loads(head)["type"] == "error"
    return dict(json.loads(rest))


def test_describe_lists_the_models_and_their_languages(door: tuple[Running, int]) -> None:
    (event,) = talk(door[1], Describe().event())
    (program,) = Info.from_event(event).asr
    assert [model.name for model in program.models] == ["littlefoot-en-live", "tiny"]
    assert {*program.models[0].languages} == {"en"}
    assert program.supports_transcript_streaming


def test_a_streaming_model_sends_its_segments_and_then_all_of_the_text(door: tuple[Running, int]) -> None:
    samples = pcm.to_float(pcm.to_int16(reading.read(SAMPLES / "digits.ogg")))
    stream = recognizer.load("littlefoot-en-live").stream()
    parts = [stream.feed(samples), stream.finish()]
    expected = " ".join(segment.text for part in parts for segment in part.final)
    answers = talk(door[1], Transcribe(language="en").event(), *spoken(samples))
    kinds = [event.type for event in answers]
    assert (kinds[0], kinds[-2:]) == ("transcript-start", ["transcript", "transcript-stop"])
    assert "".join(event.data["text"] for event in answers if event.type == "transcript-chunk") == expected
    assert answers[-2].data == {"text": expected, "language": "en"}
    assert expected.startswith("ONE TWO THREE")


def test_another_model_transcribes_the_whole_utterance(door: tuple[Running, int], tiny_model: Path) -> None:
    (answer,) = talk(door[1], Transcribe(name="tiny").event(), *spoken(CLIP))
    expected = recognizer.load(tiny_model).transcribe(pcm.to_float(pcm.to_int16(CLIP))).text
    assert Transcript.from_event(answer).text == expected
    assert len(expected) > 10


def test_a_connection_takes_several_utterances_and_skips_unknown_events(door: tuple[Running, int]) -> None:
    utterance = [Transcribe(name="tiny").event(), *spoken(CLIP)]
    ping = Ping("hello").event()
    answers = talk(door[1], *utterance, Event("new-in-2030"), *utterance, ping)
    assert answers[0].type == "transcript"
    assert talk(door[1], Event("new-in-2030"), ping)[0].data == {"text": "hello"}


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_any_rate_and_channels_become_16_khz(rate: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32) / 2
    data = pcm.to_int16(np.repeat(tone, 2)).tobytes()
    samples = PcmStream(PcmFormat(rate, 2, 2))
    parts = [samples.convert(data[at : at + 1001]) for at in range(0, len(data), 1001)]
    whole = np.concatenate([*parts, samples.convert(b"", last=True)])
    assert abs(len(whole) - 16_000) <= 2
    expected = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000) / 2
    assert np.abs(whole[1000:15_000] - expected[1000:15_000]).max() < 0.01


@pytest.mark.parametrize(
    ("events", "code"),
    [
        ([Transcribe(name="none").event()], "model_not_found"),
        ([AudioStop().event()], "invalid_message"),
        ([AudioStart(16_000, 4, 1).event()], "invalid_value"),
        ([AudioStart(1, 2, 1).event()], "invalid_value"),
        ([AudioStart(16_000, 2, 9).event()], "invalid_value"),
        ([Event("audio-start", {"rate": "fast"})], "invalid_value"),
        ([*spoken(CLIP)[:2], AudioChunk(8_000, 2, 1, b"").event()], "invalid_value"),
        (spoken(np.zeros(16_000 * 21), each=200_000)[:-1], "audio_too_long"),
    ],
)
def test_what_cannot_be_done_is_an_error_event(
    door: tuple[Running, int], events: list[Event], code: str
) -> None:
    answer = talk(door[1], *events)[-1]
    assert Error.is_type(answer.type)
    assert Error.from_event(answer).code == code


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"null\n",
        b'{"type": 7}\n',
        b'{"type": "describe", "data": 7}\n',
        b'{"type": "audio-chunk", "payload_length": 1000000000}\n',
        b'{"type": "audio-chunk", "payload_length": -1}\n',
        b'{"type": "audio-chunk", "data_length": 10000000}\n',
        b"[" * 60_000 + b"\n",
        b"x" * 70_000 + b"\n",
    ],
)
def test_what_is_no_event_ends_the_connection_with_an_error(door: tuple[Running, int], data: bytes) -> None:
    assert raw(door[1], data)["code"] == "invalid_message"


def test_too_many_connections_are_refused(door: tuple[Running, int]) -> None:
    _, port = door
    kept = [socket.create_connection(("127.0.0.1", port), PATIENCE) for _ in range(3)]
    try:
        assert raw(port, b"")["code"] == "too_many_streams"
    finally:
        for connection in kept:
            connection.close()


def test_a_key_and_an_open_door_do_not_go_together(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITTLEFOOT_API_KEY", "sesame")
    result = run("serve", "littlefoot-en-live", "--host", "0.0.0.0", "--wyoming", "10300")
    assert result.code == 2
    assert "the Wyoming protocol has no keys" in result.err
