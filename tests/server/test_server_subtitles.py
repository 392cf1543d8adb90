"""The server writes the subtitles of its page, by the rules of all subtitles."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from servers import Response, Running, serving

from littlefoot.transcript.results import Transcription, Word
from littlefoot.transcript.segments import segments
from littlefoot.transcript.writers import WRITERS


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(["littlefoot-en-live"]) as running:
        yield running


WORDS = [Word(f"WORD{i}", i * 0.5, i * 0.5 + 0.4, 1.0) for i in range(40)]
SAID = Transcription(" ".join(word.word for word in WORDS), segments(WORDS), WORDS, 20.0)


def sent(said: Transcription, with_words: bool) -> list[dict[str, Any]]:
    return [
        {
            "start": segment.start,
            "end": segment.end,
            "text": segment.text,
            "words": [
                {"text": word.word, "start": word.start, "end": word.end}
                for word in said.words
                if with_words and segment.start <= word.start < segment.end
            ],
        }
        for segment in said.segments
    ]


def ask(server: Running, body: object) -> Response:
    headers = {"Content-Type": "application/json"}
    return server.request("POST", "/v1/subtitles", json.dumps(body).encode(), headers)


@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_they_are_those_of_the_writers(form: str, server: Running) -> None:
    answer = ask(server, {"segments": sent(SAID, True), "format": form, "duration": 20.0})
    assert answer.body.decode() == WRITERS[form](SAID)
    alone = Transcription(SAID.text, SAID.segments, [], 20.0)
    answer = ask(server, {"segments": sent(SAID, False), "format": form, "duration": 20.0})
    assert answer.body.decode() == WRITERS[form](alone)


def test_long_segments_are_cut(server: Running) -> None:
    answer = ask(server, {"segments": [{"start": 0, "end": 60, "text": "\u4f60\u597d" * 200}]})
    assert all(len(line) <= 29 for line in answer.body.decode().split("\n"))


@pytest.mark.parametrize(
    ("body", "place"),
    [
        ({}, "segments"),
        ({"segments": [{"start": -1, "end": 1, "text": "A"}]}, "segments.0.start"),
        ({"segments": [], "format": "doc"}, "format"),
        ("words", "the body"),
    ],
)
def test_other_requests_are_refused_by_name(body: object, place: str, server: Running) -> None:
    answer = ask(server, body)
    assert answer.status == 400
    assert place in answer.error["message"]


def test_too_much_is_refused(server: Running) -> None:
    answer = ask(server, {"segments": [{"start": 0, "end": 1, "text": "A" * 11_000_000}]})
    assert answer.status == 413
