"""littlefoot serve over HTTP: what it answers, what it refuses, and that it lives on."""

from __future__ import annotations

import json
import math
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
import pytest
from families import speechlike
from prometheus_client.parser import text_string_to_metric_families
from servers import RATE, Running, encoded, gated, multipart, serving, wait_until

from littlefoot.artifact import Artifact
from littlefoot.errors import CheckpointError, ConfigError
from littlefoot.runtime import recognizer
from littlefoot.runtime.recognizer import Recognizer
from littlefoot.server.limits import Limits
from littlefoot.server.models import Models
from littlefoot.transcript.results import Transcription
from littlefoot.transcript.writers import WRITERS

CLIP = speechlike(1.0)


@pytest.fixture(scope="module")
def tiny() -> Artifact:
    return artifacts.tiny()


@pytest.fixture(scope="module")
def server(tiny_model: Path) -> Iterator[Running]:
    with serving(
        [tiny_model, f"other={tiny_model}"], audio_seconds=100, body_bytes=300_000, idle_seconds=2
    ) as running:
        yield running


@pytest.fixture(scope="module")
def expected(tiny_model: Path) -> Transcription:
    return recognizer.load(tiny_model).transcribe(encoded(CLIP))


# What is answered


def test_the_transcription_is_the_recognizer_s(server: Running, expected: Transcription) -> None:
    response = server.transcribe(encoded(CLIP), [("model", "tiny"), ("prompt", "x"), ("temperature", "0.5")])
    assert response.status == 200
    assert response.json["text"] == expected.text
    assert len(expected.text) > 10


@pytest.mark.parametrize("form", ["text", "srt", "vtt"])
def test_text_formats_are_the_writers(server: Running, expected: Transcription, form: str) -> None:
    response = server.transcribe(encoded(CLIP), [("response_format", form)])
    assert response.status == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.body.decode() == WRITERS[form](expected, None)


def test_verbose_json_has_what_was_asked_for(server: Running, expected: Transcription) -> None:
    def verbose(*granularities: str) -> Any:
        fields = [("timestamp_granularities[]", each) for each in granularities]
        return server.transcribe(encoded(CLIP), [("response_format", "verbose_json"), *fields]).json

    plain, words, both = verbose(), verbose("word"), verbose("word", "segment")
    assert plain["duration"] == 1.0
    assert [s["text"] for s in plain["segments"]] == [s.text for s in expected.segments]
    assert "words" not in plain
    assert "segments" not in words
    assert [w["word"] for w in words["words"]] == [w.word for w in expected.words]
    assert [w["start"] for w in words["words"]] == [round(w.start, 3) for w in expected.words]
    assert both == {**plain, **words}


def test_logprobs_are_those_of_the_words(server: Running, expected: Transcription) -> None:
    answer = server.transcribe(encoded(CLIP), [("include[]", "logprobs")]).json
    assert "".join(token["token"] for token in answer["logprobs"]) == answer["text"] == expected.text
    assert [token["bytes"] for token in answer["logprobs"]] == [
        list(token["token"].encode()) for token in answer["logprobs"]
    ]
    first = expected.words[0]
    assert answer["logprobs"][0]["logprob"] == round(len(first.word) * math.log(first.confidence), 4)
    for wrong in ([("include[]", "tokens")], [("include[]", "logprobs"), ("response_format", "text")]):
        assert server.transcribe(encoded(CLIP), wrong).error["param"] == "include"


def test_idle_models_are_unloaded_and_come_back(tiny_model: Path) -> None:
    with serving([tiny_model], idle_minutes=0.005) as running:
        found = running.service.models.find("tiny")
        wait_until(lambda: found.recognizer is not None)
        with found.in_use():
            time.sleep(0.5)
            assert found.recognizer is not None
        wait_until(lambda: found.recognizer is None)
        assert running.transcribe(encoded(CLIP)).status == 200
        wait_until(lambda: found.users == 0)


def test_the_first_model_is_the_default_and_all_are_listed(server: Running, tiny_model: Path) -> None:
    listed = server.request("GET", "/v1/models").json["data"]
    assert [each["id"] for each in listed] == ["tiny", "other"]
    assert listed[0]["littlefoot"]["bytes"] == sum(path.stat().st_size for path in tiny_model.iterdir())
    assert server.request("GET", "/v1/models/other").json["id"] == "other"
    assert server.request("GET", "/v1/models/none").error["code"] == "model_not_found"


def test_models_are_loaded_once_when_first_asked_for(tiny_model: Path) -> None:
    loaded: list[str] = []

    def load(source: str) -> Recognizer:
        loaded.append(source)
        return recognizer.load(source, threads=1, parallel=2)

    with serving([tiny_model, f"other={tiny_model}"], load) as running:
        wait_until(lambda: running.service.models.find("tiny").recognizer is not None)
        assert len(loaded) == 1
        with ThreadPoolExecutor(4) as pool:
            ask = [pool.submit(running.transcribe, encoded(CLIP), [("model", "other")]) for _ in range(4)]
            assert {future.result().status for future in ask} == {200}
        assert len(loaded) == 2
        for each in running.request("GET", "/v1/models").json["data"]:
            assert each["littlefoot"]["loaded"]
            assert each["littlefoot"]["x_realtime"] > 0


def test_a_model_that_cannot_be_loaded_leaves_the_others_alone(tiny_model: Path) -> None:
    def load(source: str) -> Recognizer:
        if source == "littlefoot-en":
            raise CheckpointError("damaged")
        return recognizer.load(source, threads=1)

    with serving(["littlefoot-en", tiny_model], load) as running:
        for _ in range(2):
            assert running.transcribe(encoded(CLIP)).error["code"] == "model_unavailable"
        assert running.transcribe(encoded(CLIP), [("model", "tiny")]).status == 200


def test_names_of_models_must_differ(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="two models are called 'tiny'"):
        Models([str(tiny_model), str(tiny_model)], recognizer.load)


def test_a_stream_s_parts_make_the_text(server: Running, expected: Transcription) -> None:
    events = _events(server.transcribe(encoded(CLIP), [("stream", "true")]).body)
    *deltas, done = events
    assert {event["type"] for event in deltas} == {"transcript.text.delta"}
    assert done["type"] == "transcript.text.done"
    assert "".join(event["delta"] for event in deltas) == done["text"] == expected.text
    verbose = [("stream", "true"), ("response_format", "verbose_json")]
    assert _events(server.transcribe(encoded(CLIP), verbose).body)[-1]["segments"]


def _events(body: bytes) -> list[Any]:
    *events, last, end = body.decode().split("\n\n")
    assert (last, end) == ("data: [DONE]", "")
    return [json.loads(event.removeprefix("data: ")) for event in events]


def test_a_stream_s_words_come_before_the_rest_is_computed(tiny: Artifact) -> None:
    gate, load = gated(tiny)
    body, kind = multipart(encoded(speechlike(30.0)), [("stream", "true")])
    with serving(["littlefoot-en"], load) as running, running.connect() as client:
        head = "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
        client.sendall(f"{head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
        gate.let()  # the first window
        got = b""
        while b"transcript.text.delta" not in got:
            part = client.recv(10_000)
            assert part
            got += part
        assert b"transcript.text.done" not in got
        gate.let()
        while part := client.recv(10_000):
            got += part
        assert b"transcript.text.done" in got


def test_metrics_count(server: Running) -> None:
    def value(name: str, **labels: str) -> float:
        families = text_string_to_metric_families(server.request("GET", "/metrics").body.decode())
        samples = [s for family in families for s in family.samples if s.name == name]
        return sum(s.value for s in samples if labels.items() <= s.labels.items())

    route = "/v1/audio/transcriptions"
    before = value("littlefoot_requests_total", route=route, status="200")
    audio = value("littlefoot_audio_seconds_total", model="tiny", kind="file")
    assert server.transcribe(encoded(CLIP)).status == 200
    assert server.request("GET", "/some/path").status == 404
    assert value("littlefoot_requests_total", route=route, status="200") == before + 1
    assert value("littlefoot_audio_seconds_total", model="tiny", kind="file") == pytest.approx(audio + 1)
    assert value("littlefoot_requests_total", route="none", status="404") >= 1
    assert value("process_resident_memory_bytes") > 1e6


# The page


def test_the_page_and_all_that_it_needs_are_there_under_a_strict_policy(server: Running) -> None:
    page = server.request("GET", "/")
    assert page.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'; ")
    assert "unsafe" not in page.headers["content-security-policy"]
    needed = {"/" + name for name in re.findall(r'(?:src|href)="([^"]+)"', page.body.decode())}
    scripts = {"/static/app.js", "/static/worklet.js", "/static/microphone.js"}
    for script in scripts:
        text = server.request("GET", script).body.decode()
        needed |= {"/static/" + name for name in re.findall(r'from "\./([^"]+)"', text)}
    assert len(needed | scripts) == 10
    for path in needed | scripts:
        assert server.request("GET", path).status == 200
    assert server.request("GET", "/static/../app.py").status == 404
    assert server.request("GET", "/static/%2e%2e/app.py").status == 404


# What is refused


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ([("response_format", "doc")], "response_format"),
        ([("timestamp_granularities[]", "word")], "timestamp_granularities"),
        (
            [("response_format", "verbose_json"), ("timestamp_granularities[]", "letter")],
            "timestamp_granularities",
        ),
        ([("temperature", "hot")], "temperature"),
        ([("temperature", "nan")], "temperature"),
        ([("stream", "maybe")], "stream"),
        ([("stream", "true"), ("response_format", "srt")], "stream"),
    ],
)
def test_wrong_fields_are_named(server: Running, fields: list[tuple[str, str]], param: str) -> None:
    response = server.transcribe(encoded(CLIP), fields)
    assert response.status == 400
    assert response.error["param"] == param
    assert response.error["type"] == "invalid_request_error"


def test_an_unknown_model_is_404_and_says_which_there_are(server: Running) -> None:
    response = server.transcribe(encoded(CLIP), [("model", "whisper-1")])
    assert response.status == 404
    assert response.error["code"] == "model_not_found"
    assert "tiny, other" in response.error["message"]


@pytest.mark.parametrize(
    "kind", ["application/json", "application/x-www-form-urlencoded", "audio/wav", "", "\u00e9" * 200]
)
def test_other_content_types_are_415(server: Running, kind: str) -> None:
    response = server.request("POST", "/v1/audio/transcriptions", b"{}" * 5000, {"Content-Type": kind})
    assert response.status == 415
    assert "multipart/form-data" in response.error["message"]


def test_compressed_bodies_are_415(server: Running) -> None:
    assert server.transcribe(encoded(CLIP), headers={"Content-Encoding": "gzip"}).status == 415


@pytest.mark.parametrize(
    "body",
    [b"", b"garbage" * 1000, b"--limit\r\n\r\n\r\nx", b"--limit\r\nContent-Disposition: form-data\r\n\r\nx"],
)
def test_broken_forms_are_400(server: Running, body: bytes) -> None:
    kind = {"Content-Type": "multipart/form-data; boundary=limit"}
    assert server.request("POST", "/v1/audio/transcriptions", body, kind).error["code"] in (
        "invalid_form",
        "missing_file",
    )
    assert server.is_alive()


def test_a_form_without_a_boundary_is_400(server: Running) -> None:
    kind = {"Content-Type": "multipart/form-data"}
    assert server.request("POST", "/v1/audio/transcriptions", b"x", kind).status == 400


@pytest.mark.parametrize(
    ("file", "fields", "code"),
    [
        (None, [], "missing_file"),
        (None, [("file", "text")], "missing_file"),
        (b"", [], "empty_file"),
        (b"no audio" * 100, [], "invalid_audio"),
        (encoded(CLIP)[:-2000], [], "invalid_audio"),
        (encoded(CLIP, "OGG")[:2000], [], "invalid_audio"),
        (encoded(CLIP, "FLAC")[:4000], [], "invalid_audio"),
    ],
)
def test_what_is_no_whole_recording_is_400(
    server: Running, file: bytes | None, fields: list[tuple[str, str]], code: str
) -> None:
    response = server.transcribe(file, fields, name="cut\noff.wav")
    assert response.status == 400
    assert response.error["code"] == code
    assert "Traceback" not in response.error["message"]
    assert server.is_alive()


def test_the_message_names_the_file(server: Running) -> None:
    assert "talk.mp3: " in server.transcribe(b"no audio", name="talk.mp3").error["message"]


@pytest.mark.parametrize("stream", ["true", "false"])
def test_a_recording_that_is_refused_is_so_in_streams_too(server: Running, stream: str) -> None:
    assert server.transcribe(encoded(CLIP)[:-2000], [("stream", stream)]).status == 400


@pytest.mark.parametrize("path", ["/v1/audio/translations", "/v1/chat/completions", "/nowhere"])
def test_unknown_paths_are_404_in_openai_s_form(server: Running, path: str) -> None:
    response = server.request("POST", path, b"{}")
    assert response.status == 404
    assert path in response.error["message"]


def test_a_wrong_method_is_405(server: Running) -> None:
    response = server.request("GET", "/v1/audio/transcriptions")
    assert response.status == 405
    assert response.headers["allow"] == "POST"


# Limits


def test_a_body_that_announces_too_much_is_413(server: Running) -> None:
    response = server.transcribe(bytes(400_000))
    assert response.status == 413
    assert "0.3 MB" in response.error["message"]


def test_a_body_is_measured_while_it_arrives(server: Running) -> None:
    """It has no end and says no length: an answer comes all the same."""
    with server.connect() as client:
        client.sendall(
            b"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            b"Content-Type: multipart/form-data; boundary=limit\r\n\r\n"
        )
        body, _ = multipart(b"")
        start, chunk = body.removesuffix(b"\r\n--limit--\r\n"), bytes(50_000)

        def send() -> None:
            with suppress(OSError):  # the server has closed the connection
                client.sendall(b"%x\r\n%s\r\n" % (len(start), start))
                for _ in range(10_000):  # 500 MB
                    client.sendall(b"%x\r\n%s\r\n" % (len(chunk), chunk))

        sender = threading.Thread(target=send)
        sender.start()
        got = client.recv(10_000)
        with suppress(OSError):  # closed by now
            client.shutdown(socket.SHUT_RDWR)
        sender.join()
        assert got.startswith(b"HTTP/1.1 413 ")
    assert server.is_alive()


@pytest.fixture(scope="module")
def bombs() -> dict[str, bytes]:
    """Ten minutes of silence in few bytes; the limit is one."""
    silence = np.zeros(600 * RATE, np.float32)
    flac = encoded(silence, "FLAC")
    lying = bytearray(flac)
    lying[21] &= 0xF0  # STREAMINFO's count of samples, 36 bits (RFC 9639, section 8.2): one second
    lying[22:26] = RATE.to_bytes(4, "big")
    unknown = bytearray(lying)
    unknown[22:26] = bytes(4)
    return {"flac": flac, "lying": bytes(lying), "unknown": bytes(unknown), "mp3": encoded(silence, "MP3")}


@pytest.mark.parametrize("name", ["flac", "lying", "unknown", "mp3"])
def test_long_silence_in_few_bytes_is_not_recognised(
    tiny: Artifact, bombs: dict[str, bytes], name: str
) -> None:
    gate, load = gated(tiny)
    gate.let(100)
    with serving(["littlefoot-en"], load, audio_seconds=60, body_bytes=10_000_000) as running:
        wait_until(lambda: running.service.models.find(None).recognizer is not None)
        before = gate.begun
        assert len(bombs[name]) < 1_500_000
        response = running.transcribe(bombs[name])
        if name == "lying":  # what its header announces is all that is read, and that it is not all is said
            assert response.status == 400
            assert "holds more than the 16000 samples that its header counts" in response.error["message"]
            assert gate.begun - before <= 1
        else:
            assert response.status == 413
            assert response.error["code"] == "audio_too_long"
            assert gate.begun == before
        assert running.is_alive()


def test_an_upload_that_stalls_is_408(server: Running) -> None:
    body, kind = multipart(encoded(CLIP))
    with server.connect() as client:
        head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:1000])
        assert client.recv(10_000).startswith(b"HTTP/1.1 408 ")
    assert server.is_alive()


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_an_upload_that_breaks_off_leaves_nothing(server: Running, share: float) -> None:
    body, kind = multipart(encoded(CLIP))
    with server.connect() as client:
        head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
        client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: int(share * len(body))])
    assert server.is_alive()


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_request_that_never_comes_ends_the_connection(server: Running, sent: bytes) -> None:
    with server.connect() as client:
        client.sendall(sent)
        assert client.recv(1) == b""


@pytest.mark.parametrize("garbage", [bytes(range(256)) * 10, b"\x16\x03\x01" + bytes(500), b"A" * 100_000])
def test_garbage_instead_of_http_is_400(server: Running, garbage: bytes) -> None:
    with server.connect() as client:
        client.sendall(garbage)
        assert client.recv(10_000).startswith(b"HTTP/1.1 400 ")
    assert server.is_alive()


def test_idle_connections_keep_nobody_out(tiny_model: Path) -> None:
    with serving([tiny_model], connections=20) as running:
        idle = [running.connect() for _ in range(100)]
        try:
            assert running.transcribe(encoded(CLIP)).status == 200
            assert running.transcribe(encoded(CLIP)).status == 200
        finally:
            for each in idle:
                each.close()
        assert running.is_alive()


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc/net/tcp, which Linux has")
def test_a_client_that_takes_nothing_is_dropped_and_holds_up_nobody(tiny_model: Path) -> None:
    with serving([tiny_model], idle_seconds=1) as running:
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", running.port))
            port = client.getsockname()[1]
            wait_until(lambda: _is_open(port))
            client.settimeout(0.2)
            with suppress(TimeoutError):
                for _ in range(5000):
                    client.sendall(b"GET /static/app.js HTTP/1.1\r\nHost: x\r\n\r\n")
            assert running.transcribe(encoded(CLIP)).status == 200
            wait_until(lambda: not running.connections)
            wait_until(lambda: not _is_open(port))  # nor does the kernel hold what was not taken
        assert running.is_alive()


def _is_open(port: int) -> bool:
    """Whether the server's end of a connection from a local port exists (Linux)."""
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return any(row[2] == f"0100007F:{port:04X}" for row in rows)


def test_a_full_queue_is_429_with_a_time_to_come_back(tiny: Artifact) -> None:
    gate, load = gated(tiny)
    with serving(["littlefoot-en"], load, parallel=1, queue=1) as running, ThreadPoolExecutor(2) as pool:
        first = pool.submit(running.transcribe, encoded(CLIP))
        wait_until(lambda: running.service.jobs.running == 1)
        second = pool.submit(running.transcribe, encoded(CLIP))
        wait_until(lambda: running.service.jobs.waiting == 1)
        refused = running.transcribe(encoded(CLIP))
        assert refused.status == 429
        assert refused.error["type"] == "rate_limit_error"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        gate.let(2)
        assert first.result().status == second.result().status == 200


def test_a_client_that_vanishes_ends_its_job_and_those_that_wait(tiny: Artifact) -> None:
    gate, load = gated(tiny)
    with serving(["littlefoot-en"], load, parallel=1, queue=5) as running:
        wait_until(lambda: running.service.models.find(None).recognizer is not None)
        before = gate.begun
        body, kind = multipart(encoded(speechlike(60.0)))  # four windows
        head = f"POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: {kind}\r\n"
        clients = [running.connect() for _ in range(3)]
        for client in clients:
            client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        wait_until(lambda: running.service.jobs.waiting == 2 and gate.begun == before + 1)
        for client in clients:
            client.close()
        wait_until(lambda: running.service.jobs.waiting == running.requests == 0)
        assert running.request("GET", "/healthz").status == 200  # by now the running job was told as well
        gate.let(20)
        assert running.is_alive()
        assert gate.begun - before == 1


def test_a_request_that_takes_too_long_is_ended(tiny: Artifact) -> None:
    gate, load = gated(tiny)
    with serving(["littlefoot-en"], load, total_seconds=1) as running:
        for stream in ("false", "true"):
            response = running.transcribe(encoded(CLIP), [("stream", stream)])
            assert response.status == 503
            assert response.error["code"] == "timeout"
        gate.let(10)
        assert running.is_alive()


def test_a_fault_is_500_and_shows_nothing(tiny: Artifact) -> None:
    class Faulty:
        name = "faulty"
        runs = 0

        def run(self, waveform: np.ndarray) -> np.ndarray:
            self.runs += 1
            if self.runs > 2:  # those of loading
                raise RuntimeError("a secret")
            return np.zeros((tiny.config.frames(len(waveform)), tiny.config.vocab_size), np.float32)

    engine = Faulty()
    with serving(["littlefoot-en"], lambda source: Recognizer(tiny, engine)) as running:
        response = running.transcribe(encoded(CLIP))
        assert response.status == 500
        assert response.error["type"] == "server_error"
        assert b"secret" not in response.body
        assert running.is_alive()


def test_shutting_down_finishes_what_runs_and_what_waits(tiny: Artifact) -> None:
    gate, load = gated(tiny)
    with serving(["littlefoot-en"], load, parallel=1) as running, ThreadPoolExecutor(2) as pool:
        asked = [pool.submit(running.transcribe, encoded(CLIP)) for _ in range(2)]
        wait_until(lambda: running.service.jobs.waiting == 1)
        running.stop()
        wait_until(lambda: running.service.ending.is_set())
        with pytest.raises(ConnectionRefusedError):
            running.connect()
        gate.let(2)
        assert [future.result().status for future in asked] == [200, 200]


@pytest.mark.parametrize("wrong", [{"parallel": 0}, {"queue": -1}, {"idle_seconds": float("nan")}])
def test_impossible_limits_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Limits(**wrong)


# Rights


def test_an_api_key_guards_the_api_and_nothing_else(tiny_model: Path) -> None:
    with serving([tiny_model], api_key="sesame") as running:

        def ask(*header: str) -> int:
            headers = {"Authorization": header[0]} if header else {}
            return running.request("GET", "/v1/models", headers=headers).status

        assert ask() == ask("Bearer") == ask("Bearer wrong") == ask("Basic sesame") == ask("sesame") == 401
        assert ask("Bearer s\u00e9same") == 401
        assert ask("Bearer sesame") == ask("bearer sesame") == 200
        assert running.transcribe(encoded(CLIP)).error["code"] == "missing_api_key"
        assert running.transcribe(encoded(CLIP), headers={"Authorization": "Bearer sesame"}).status == 200
        for path in ("/", "/healthz", "/metrics"):
            assert running.request("GET", path).status == 200


def test_pages_of_other_sites_may_not_use_the_server(server: Running, tiny_model: Path) -> None:
    def ask(running: Running, origin: str) -> Any:
        return running.transcribe(encoded(CLIP), headers={"Origin": origin})

    for origin in ("https://evil.example", "null", "http://[", f"http://127.0.0.1:{server.port + 1}"):
        response = ask(server, origin)
        assert response.status == 403
        assert "access-control-allow-origin" not in response.headers
    assert ask(server, server.url).status == 200
    with serving([tiny_model], origins=["https://friend.example"]) as running:
        response = ask(running, "https://friend.example")
        assert response.status == 200
        assert response.headers["access-control-allow-origin"] == "https://friend.example"
        assert ask(running, "https://evil.example").status == 403


def test_a_flood_of_requests_leaves_no_threads_and_no_jobs(server: Running) -> None:
    before = threading.active_count()
    with ThreadPoolExecutor(16) as pool:
        statuses = [
            pool.submit(server.transcribe, encoded(CLIP) if number % 2 else b"garbage")
            for number in range(100)
        ]
        assert [future.result().status for future in statuses] == [400, 200] * 50
    assert server.is_alive()
    assert threading.active_count() <= before + 8
