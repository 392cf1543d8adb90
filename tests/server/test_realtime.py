"""Transcription sessions of OpenAI's realtime API, with OpenAI's client."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import soxr
from families import speechlike
from servers import Running, serving

from littlefoot.artifact.checkpoint import SAMPLES
from littlefoot.audio import pcm, reading
from littlefoot.runtime import recognizer
from littlefoot.server.realtime import RATE

CLIP = speechlike(1.0)
KEY = "sesame"


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Running]:
    with serving(["littlefoot-en-live", tiny_model], api_key=KEY, audio_seconds=20) as running:
        yield running


def session(server: Running, *events: dict[str, Any], model: str = "tiny", key: str = KEY) -> list[Any]:
    """Send events; return the answers up to an error or a transcript, behind session.created."""
    client = openai.OpenAI(api_key=key, base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0)
    answers = []
    with client.realtime.connect(model=model, max_retries=0) as connection:
        assert connection.recv().type == "session.created"
        for event in events:
            connection.send(event)  # type: ignore[arg-type]
        while not answers or answers[-1].type not in (
            "error",
            "session.updated",
            "input_audio_buffer.cleared",
            "conversation.item.input_audio_transcription.completed",
        ):
            answers.append(connection.recv())
    return answers


def appended(samples: Any, seconds: float = 0.5) -> list[dict[str, Any]]:
    data = pcm.to_int16(np.asarray(samples, np.float32)).tobytes()
    step = 2 * round(RATE * seconds)
    return [
        {"type": "input_audio_buffer.append", "audio": base64.b64encode(data[at : at + step]).decode()}
        for at in range(0, len(data), step)
    ]


COMMIT = {"type": "input_audio_buffer.commit"}


def test_a_live_model_sends_deltas_and_the_transcript(server: Running) -> None:
    samples = soxr.resample(reading.read(SAMPLES / "digits.ogg"), 16_000, RATE)
    committed, *deltas, done = [
        answer
        for answer in session(server, *appended(samples), COMMIT, model="littlefoot-en-live")
        if answer.type != "session.updated"
    ]
    order = [committed, *deltas]
    assert "input_audio_buffer.committed" in [answer.type for answer in order]
    assert "".join(getattr(answer, "delta", "") for answer in order) == done.transcript
    assert done.transcript.startswith("ONE TWO THREE")
    assert {answer.item_id for answer in order} == {done.item_id}
    assert done.usage.seconds == 4


def test_another_model_transcribes_what_was_committed(server: Running, tiny_model: Path) -> None:
    update = {
        "type": "session.update",
        "session": {
            "type": "transcription",
            "audio": {"input": {"format": {"type": "audio/pcm", "rate": 16_000}, "turn_detection": None}},
        },
    }
    data = pcm.to_int16(CLIP)
    append = {"type": "input_audio_buffer.append", "audio": base64.b64encode(data.tobytes()).decode()}
    (updated,) = session(server, update)
    assert updated.session.audio.input.format.rate == 16_000
    client = openai.OpenAI(api_key=KEY, base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0)
    with client.realtime.connect(model="tiny", max_retries=0) as connection:
        for event in (update, append, COMMIT, append, COMMIT):
            connection.send(event)  # type: ignore[arg-type]
        answers = [connection.recv()]
        while [answer.type for answer in answers].count(answers[-1].type) < 2:
            answers.append(connection.recv())
    committed = [answer for answer in answers if answer.type == "input_audio_buffer.committed"]
    assert committed[1].previous_item_id == committed[0].item_id
    done = next(answer for answer in answers if answer.type.endswith("completed"))
    assert done.transcript == recognizer.load(tiny_model).transcribe(pcm.to_float(data)).text


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (COMMIT, "input_audio_buffer_commit_empty"),
        ({"type": "input_audio_buffer.append", "audio": "not base64"}, "invalid_value"),
        ({"type": "input_audio_buffer.append", "audio": 7}, "invalid_value"),
        ({"type": "response.create"}, "unknown_event"),
        ({"type": "session.update", "session": 7}, "invalid_value"),
        ({"type": "session.update", "session": {"type": "realtime"}}, "invalid_value"),
        (
            {
                "type": "session.update",
                "session": {"audio": {"input": {"turn_detection": {"type": "server_vad"}}}},
            },
            "invalid_value",
        ),
        (
            {
                "type": "session.update",
                "session": {"audio": {"input": {"transcription": {"model": "whisper-1"}}}},
            },
            "model_not_found",
        ),
    ],
)
def test_what_cannot_be_had_is_an_error_and_the_session_goes_on(
    server: Running, event: dict[str, Any], code: str
) -> None:
    clear = {"type": "input_audio_buffer.clear"}
    (answer,) = session(server, {**event, "event_id": "mine"})
    assert (answer.error.code, answer.error.event_id) == (code, "mine")
    assert session(server, clear)[-1].type == "input_audio_buffer.cleared"


def test_an_item_beyond_the_limit_is_an_error(server: Running) -> None:
    answers = session(server, *appended(np.zeros(21 * RATE), seconds=10))
    assert answers[-1].error.code == "audio_too_long"


def test_a_session_needs_the_key(server: Running) -> None:
    client = openai.OpenAI(api_key="wrong", base_url=f"http://127.0.0.1:{server.port}/v1", max_retries=0)
    with client.realtime.connect(model="tiny", max_retries=0) as connection:
        answer = json.loads(connection.recv_bytes())
    assert answer["error"]["code"] == "invalid_api_key"
