"""The command littlefoot serve, with the client that OpenAI wrote."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import openai
import pytest
from conftest import Run, heed_interrupts
from servers import PATIENCE, RATE, encoded, wait_until

import littlefoot
from littlefoot.artifact.checkpoint import SAMPLES
from littlefoot.audio.reading import read
from littlefoot.transcript.results import Transcription
from littlefoot.transcript.writers import srt, vtt

CLIP = SAMPLES / "digits.ogg"
KEY = "sesame"


class Process(NamedTuple):
    process: subprocess.Popen[str]
    url: str
    client: openai.OpenAI


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def start(cache: Path, *arguments: str) -> Process:
    """``littlefoot serve``, when it listens."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "littlefoot",
            "serve",
            "littlefoot-en",
            "--port",
            "0",
            "--engine",
            "openvino",
            *arguments,
        ],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "LITTLEFOOT_CACHE": str(cache), "LITTLEFOOT_API_KEY": KEY},
        preexec_fn=heed_interrupts,
    )
    assert process.stderr is not None
    line = process.stderr.readline()
    found = re.search(r"http://\S+", line)
    assert found is not None, line + process.stderr.read()
    url = found[0]
    return Process(process, url, openai.OpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0))


def end(running: Process) -> None:
    running.client.close()
    running.process.kill()
    running.process.communicate()


@pytest.fixture(scope="module")
def server(cache: Path) -> Iterator[Process]:
    running = start(cache)
    yield running
    end(running)


@pytest.fixture(scope="module")
def expected() -> Transcription:
    return littlefoot.load("littlefoot-en").transcribe(CLIP)


def test_the_client_gets_text(server: Process, expected: Transcription) -> None:
    answer = server.client.audio.transcriptions.create(model="littlefoot-en", file=CLIP)
    assert answer.text == expected.text
    assert "THREE FOUR FIVE" in answer.text
    assert answer.usage is not None
    assert answer.usage.type == "duration"


def test_the_client_gets_subtitles_and_plain_text(server: Process, expected: Transcription) -> None:
    def get(form: str) -> str:
        return server.client.audio.transcriptions.create(
            model="littlefoot-en", file=CLIP, response_format=form
        )

    assert get("text") == expected.text + "\n"
    assert get("srt") == srt(expected)
    assert get("vtt") == vtt(expected)


def test_the_client_gets_times(server: Process, expected: Transcription) -> None:
    answer = server.client.audio.transcriptions.create(
        model="littlefoot-en",
        file=CLIP,
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="en",
        prompt="numbers",
        temperature=0.2,
    )
    assert isinstance(answer, openai.types.audio.TranscriptionVerbose)
    assert answer.language == "en"
    assert answer.duration == pytest.approx(expected.duration, abs=1e-3)
    assert answer.words is not None
    assert [(word.word, word.start) for word in answer.words] == [
        (word.word, round(word.start, 3)) for word in expected.words
    ]
    assert answer.segments is not None
    for segment in answer.segments:  # all that the type promises is there
        type(segment).model_validate(segment.model_dump(), strict=True)
        assert -1 < segment.avg_logprob < 0


def test_the_client_streams(server: Process, expected: Transcription) -> None:
    stream = server.client.audio.transcriptions.create(model="littlefoot-en", file=CLIP, stream=True)
    *deltas, done = list(stream)
    assert len(deltas) >= 1
    assert all(isinstance(event, openai.types.audio.TranscriptionTextDeltaEvent) for event in deltas)
    assert isinstance(done, openai.types.audio.TranscriptionTextDoneEvent)
    assert "".join(event.delta for event in deltas) == done.text == expected.text


def test_the_client_lists_models(server: Process) -> None:
    assert [model.id for model in server.client.models.list()] == ["littlefoot-en"]
    assert server.client.models.retrieve("littlefoot-en").owned_by == "littlefoot"


def test_the_client_raises_what_it_should(server: Process) -> None:
    create = server.client.audio.transcriptions.create
    with pytest.raises(openai.NotFoundError, match="there is no model 'whisper-1' here"):
        create(model="whisper-1", file=CLIP)
    with pytest.raises(openai.BadRequestError, match="is not readable audio") as refused:
        create(model="littlefoot-en", file=("notes.txt", b"no audio"))
    assert refused.value.code == "invalid_audio"
    assert refused.value.param == "file"
    with pytest.raises(openai.AuthenticationError):
        server.client.with_options(api_key="wrong").models.list()


def test_a_file_that_is_too_large_is_an_error_and_no_broken_connection(cache: Path) -> None:
    running = start(cache, "--max-mb", "1", "--max-seconds", "30")
    create = running.client.audio.transcriptions.create
    with pytest.raises(openai.APIStatusError) as refused:
        create(model="littlefoot-en", file=("large.wav", bytes(20_000_000)))
    assert refused.value.status_code == 413
    with pytest.raises(openai.APIStatusError, match="longer than 30 s") as refused:
        create(model="littlefoot-en", file=("bomb.flac", encoded(np.zeros(31 * RATE, np.float32), "FLAC")))
    assert refused.value.status_code == 413
    end(running)


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 130)])
def test_a_signal_ends_the_server_when_it_has_answered(cache: Path, sign: signal.Signals, code: int) -> None:
    running = start(cache)
    speech = encoded(np.resize(read(CLIP), 60 * RATE))
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(
            running.client.audio.transcriptions.create, model="littlefoot-en", file=("noise.wav", speech)
        )
        assert running.process.stderr is not None
        wait_until(lambda: "littlefoot_jobs_running 1.0" in _metrics(running.url))
        running.process.send_signal(sign)
        assert asked.result().usage.seconds == 60
    assert running.process.wait(PATIENCE) == code
    assert "Traceback" not in running.process.stderr.read()
    end(running)


def _metrics(url: str) -> str:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), PATIENCE) as client:
        client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        got = b""
        while part := client.recv(100_000):
            got += part
    return got.decode()


@pytest.mark.slow
def test_ten_thousand_open_sockets_keep_nobody_out(cache: Path) -> None:
    """Or as many as this process may open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(10_000, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, count + 500), hard))
    running = start(cache, "--connections", str(count + 100), "--idle", "60")
    host, port = running.url.removeprefix("http://").split(":")
    sockets = [socket.create_connection((host, int(port)), PATIENCE) for _ in range(count)]
    try:
        for client in sockets[::2]:
            client.sendall(b"POST /v1/audio/transcriptions HTTP/1.1\r\nX-Slow: ")
        answer = running.client.audio.transcriptions.create(model="littlefoot-en", file=CLIP)
        assert "THREE FOUR FIVE" in answer.text
        assert running.process.poll() is None
    finally:
        for client in sockets:
            client.close()
        end(running)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_wrong_usage_is_told_before_anything_is_served(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("serve").code == 2
    missing = run("serve", "nowhere")
    assert (missing.code, missing.err.count("\n")) == (1, 1)
    for option in ("--max-seconds", "--idle", "--timeout", "--idle-minutes", "--grace", "--streams"):
        refused = run("serve", "littlefoot-en", option, "0")
        assert refused.code == 2
        assert option in refused.err
    monkeypatch.setenv("LITTLEFOOT_API_KEY", " ")
    empty = run("serve", "littlefoot-en")
    assert empty.code == 2
    assert "LITTLEFOOT_API_KEY is empty" in empty.err


def test_a_port_that_is_taken_is_exit_code_1(run: Run, server: Process) -> None:
    result = run("serve", "littlefoot-en", "--port", server.url.rpartition(":")[2])
    assert result.code == 1
    assert "Address already in use" in result.err


def test_without_the_extra_the_command_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.startswith("littlefoot.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "fastapi", None)
    result = run("serve", "littlefoot-en")
    assert result.code == 1
    assert "pip install 'littlefoot[serve]'" in result.err
