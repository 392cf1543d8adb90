"""littlefoot serve among strangers: hostile recordings, foreign pages, floods of connections, full disks."""

from __future__ import annotations

import errno
import io
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import artifacts
import numpy as np
import pytest
import soundfile
from conftest import Run
from families import speechlike
from servers import RATE, Response, Running, encoded, gated, multipart, serving, wait_until
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from littlefoot.artifact.checkpoint import SAMPLES
from littlefoot.audio import isolation
from littlefoot.server.run import ACCEPTED_AT_ONCE, allow_open_files

CLIP = speechlike(1.0)


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Running]:
    with serving([tiny_model], hosts=()) as running:
        yield running


# Hostile recordings


@pytest.mark.parametrize("form", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_every_recording_is_decoded_in_another_process(server: Running, form: str) -> None:
    """Without one, this process would have to."""
    isolation.end_idle()  # those that earlier tests left
    isolation.prepare()
    (process,) = isolation.idle()
    os.kill(process.pid, signal.SIGSTOP)
    process.step_seconds = 0.2
    refused = server.transcribe(encoded(CLIP, form))
    assert (refused.status, refused.error["code"]) == (400, "invalid_audio")
    assert "a part of it took over" in refused.error["message"]
    assert server.transcribe(encoded(CLIP, form)).status == 200


def test_a_large_upload_is_read_where_it_lies(server: Running) -> None:
    """It is on disk, and only its descriptor goes to the other process."""
    file = io.BytesIO()
    soundfile.write(file, np.tile(CLIP, 17), RATE, format="WAV", subtype="FLOAT")
    assert len(file.getvalue()) > 1 << 20
    response = server.transcribe(file.getvalue(), [("response_format", "verbose_json")])
    assert response.json["duration"] == 17


def test_a_decoder_that_crashes_costs_its_own_request_only(server: Running) -> None:
    case = Path(__file__).parents[3] / "shared/cases/17-aac-layout-changes.aac"
    if not case.exists():
        pytest.skip("../shared is not here")
    refused = server.transcribe(case.read_bytes(), name="case.aac")
    assert (refused.status, refused.error["code"]) == (400, "invalid_audio")
    assert refused.error["message"].startswith("case.aac: changes after")
    assert server.is_alive()


def test_a_decoder_that_dies_is_400_and_the_next_request_is_served(server: Running) -> None:
    isolation.prepare()
    for process in isolation.idle():
        os.kill(process.pid, signal.SIGKILL)
    time.sleep(0.2)
    assert server.transcribe(encoded(CLIP)).status == 200


# Pages of other sites


NAMES = ["localhost", "127.0.0.1", "[::1]", "127.8.8.8", "LOCALHOST.", "app.example"]
FOREIGN = [
    "evil.example",
    "localhost.evil.example",
    "1.2.3.4",
    "[::2]",
    "",
    "[",
    "evil.example:80:80",
    "\u00e9",
]


def asked(running: Running, path: str, host: str, **headers: str) -> Response:
    return running.request("GET", path, headers={"Host": host, **headers})


def test_a_server_is_asked_by_its_names_only(tiny_model: Path) -> None:
    """A page whose name was made to lead here has the same foreign name as Host and as Origin."""
    with serving([tiny_model], hosts=["app.example"]) as running:
        for name in NAMES:
            for port in ("", f":{running.port}", ":80"):
                assert asked(running, "/v1/models", name + port).status == 200, name
        for name in FOREIGN:
            for path in (
                "/v1/models",
                "/",
                "/static/app.js",
                "/healthz",
                "/metrics",
                "/openapi.json",
                "/none",
            ):
                refused = asked(running, path, name, Origin=f"http://{name}")
                assert (refused.status, refused.error["code"]) == (403, "host_not_allowed"), (name, path)
        body, kind = multipart(encoded(CLIP))
        headers = {"Host": "evil.example", "Origin": "http://evil.example", "Content-Type": kind}
        assert running.request("POST", "/v1/audio/transcriptions", body, headers).status == 403


def test_nor_does_a_live_stream_open_under_a_foreign_name(server: Running) -> None:
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://evil.example:{server.port}/v1/live", sock=server.connect())
    assert refused.value.response.status_code == 403


def test_where_any_machine_may_come_any_name_will_do(tiny_model: Path) -> None:
    with serving([tiny_model]) as running:
        assert asked(running, "/v1/models", "anything.example").status == 200


@pytest.mark.parametrize(
    "path", ["/v1/audio/transcriptions/", "/healthz/", "/static", "//evil.example/%2e%2e"]
)
def test_no_redirect_repeats_what_the_client_calls_the_server(server: Running, path: str) -> None:
    response = asked(server, path, "localhost")
    assert response.status in (404, 405)
    assert "location" not in response.headers


def test_names_are_given_without_scheme_and_port(run: Run) -> None:
    for name in ("https://app.example", "app.example:80", "*", ""):
        result = run("serve", "littlefoot-en", "--allow-host", name)
        assert result.code == 2
        assert "without https:// and port" in result.err


def test_origins_and_sizes_are_checked_before_the_start(run: Run) -> None:
    for origin in ("app.example", "*", "https://", "https://app.example/page"):
        result = run("serve", "littlefoot-en", "--allow-origin", origin)
        assert (result.code, "give an origin such as https://app.example" in result.err) == (2, True)
    for size in ("nan", "inf", "0", "-1"):
        result = run("serve", "littlefoot-en", "--max-mb", size)
        assert (result.code, "give a size above 0" in result.err) == (2, True)


# Floods of connections


def silent(port: int, count: int) -> list[socket.socket]:
    """So many connections at once, which say nothing."""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        with suppress(BlockingIOError):
            client.connect(("127.0.0.1", port))
        clients.append(client)
    return clients


def test_a_burst_of_silent_connections_is_cut_to_the_limit(tiny_model: Path) -> None:
    with serving([tiny_model], connections=20) as running:
        wait_until(lambda: running.service.models.all()[0].recognizer is not None)
        clients = silent(running.port, 600)
        began = time.monotonic()
        assert running.transcribe(encoded(CLIP)).status == 200
        assert time.monotonic() - began < 2
        assert running.connections <= 20 + 2 * ACCEPTED_AT_ONCE
        wait_until(lambda: running.connections <= 20)
        for client in clients:
            client.close()


def test_the_oldest_of_those_that_wait_is_closed_and_no_other(tiny_model: Path) -> None:
    with serving([tiny_model], connections=3) as running:
        first, second, third = (running.connect() for _ in range(3))
        wait_until(lambda: running.connections == 3)
        with running.connect():
            assert first.recv(1) == b""
            for client in (second, third):
                client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")


def test_there_are_no_more_connections_than_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may have an upload, which is a file too."""
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (512, 1024))
    monkeypatch.setattr(resource, "setrlimit", lambda kind, limits: None)
    assert allow_open_files(100) == 100
    assert allow_open_files(1000) == (1024 - 256) // 2


@pytest.mark.slow
@pytest.mark.parametrize("files", [1024, 16_000])
def test_five_thousand_silent_connections_in_one_burst_keep_nobody_out(tmp_path: Path, files: int) -> None:
    """Whatever number of files the system allows the server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(6000, hard), hard))
    command = f"ulimit -n {files}; exec {sys.executable} -m littlefoot serve littlefoot-en-live --port 0"
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(["bash", "-c", command], stderr=file)
    try:
        wait_until(lambda: "loaded" in log.read_text())
        port = int(re.findall(r"http://127.0.0.1:(\d+)", log.read_text())[0])
        running = Running(port, None, lambda: None, None)
        speech = (SAMPLES / "digits.ogg").read_bytes()
        assert running.transcribe(speech).status == 200
        clients = silent(port, min(5000, hard - 500))
        began = time.monotonic()
        response = running.transcribe(speech)
        took = time.monotonic() - began
        assert b"THREE FOUR FIVE" in response.body
        assert took < 2
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < 1000 + 100
        for client in clients:
            client.close()
        assert "resource" not in log.read_text()
    finally:
        process.kill()
        process.wait()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# Text that is none, disks that are full, and the end


HALF = "\ud83d"
"""Half of an emoji; UTF-8 has no bytes for it, JSON has."""


@pytest.mark.parametrize(
    "message",
    [
        {"type": "start", "api_key": HALF},
        {"type": "start", "model": HALF},
        {"type": "start", HALF: 1},
        {"type": HALF},
    ],
)
def test_half_a_character_is_an_invalid_message(tiny_model: Path, message: dict[str, str]) -> None:
    with (
        serving([tiny_model], api_key="sesame") as running,
        connect(f"ws{running.url[4:]}/v1/live") as client,
    ):
        client.send(json.dumps(message))
        assert json.loads(client.recv())["error"]["code"] == "invalid_message"
        with pytest.raises(ConnectionClosed) as closed:
            client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1007


@pytest.mark.parametrize("field", ["model", "response_format", "language", "stream", "temperature", "other"])
def test_half_a_character_in_a_form_is_400(server: Running, field: str) -> None:
    """In this encoding, a form can have it."""
    body, kind = multipart(encoded(CLIP), [(field, r"\ud83d")])
    kind += "; charset=raw_unicode_escape"
    refused = server.request("POST", "/v1/audio/transcriptions", body, {"Content-Type": kind})
    assert (refused.status, refused.error["code"]) == (400, "invalid_form")


def test_half_a_character_as_a_file_s_name_is_left_out(server: Running) -> None:
    body, kind = multipart(b"no audio", name=r"a\ud83db.wav")
    kind += "; charset=raw_unicode_escape"
    refused = server.request("POST", "/v1/audio/transcriptions", body, {"Content-Type": kind})
    assert refused.error["message"].startswith("ab.wav: is not readable audio")


def test_a_full_disk_is_507_and_the_next_small_recording_is_served(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Full(tempfile.SpooledTemporaryFile[bytes]):
        def rollover(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("starlette.formparsers.SpooledTemporaryFile", Full)
    refused = server.transcribe(bytes(2_000_000))
    assert (refused.status, refused.error["code"]) == (507, "insufficient_storage")
    assert server.transcribe(encoded(CLIP)).status == 200


@pytest.mark.parametrize("stream", ["false", "true"])
def test_what_runs_when_the_grace_is_over_is_told_in_json(
    stream: str, caplog: pytest.LogCaptureFixture
) -> None:
    gate, load = gated(artifacts.tiny())
    with ThreadPoolExecutor(1) as pool:
        with serving(["littlefoot-en"], load, grace_seconds=1) as running:
            asked = pool.submit(running.transcribe, encoded(CLIP), [("stream", stream)])
            wait_until(lambda: gate.begun == 3)
            running.stop()
            response = asked.result()
            gate.let()
        assert (response.status, response.error["code"]) == (503, "stopping")
        assert response.headers["retry-after"] == "10"
    assert not [record for record in caplog.records if record.exc_info]


def test_the_description_of_the_api_is_behind_the_key(tiny_model: Path) -> None:
    with serving([tiny_model], api_key="sesame") as running:
        assert running.request("GET", "/openapi.json").status == 401
        known = running.request("GET", "/openapi.json", headers={"Authorization": "Bearer sesame"}).json
        assert known["paths"]["/v1/models"]["get"]["security"] == [{"HTTPBearer": []}]
        assert "security" not in known["paths"]["/healthz"]["get"]
        assert set(known["paths"]) == {
            "/v1/audio/transcriptions",
            "/v1/subtitles",
            "/v1/models",
            "/v1/models/{name}",
            "/healthz",
            "/metrics",
        }


def test_segments_that_stall_are_408(tiny_model: Path) -> None:
    with serving([tiny_model], idle_seconds=0.5) as running, running.connect() as client:
        client.sendall(b"POST /v1/subtitles HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{")
        assert client.recv(1000).startswith(b"HTTP/1.1 408 ")
