"""Output formats: text, JSON, SRT and WebVTT, byte for byte."""

import json
from dataclasses import replace

import pytest

from littlefoot.results import Alternative, Segment, Transcription, Word
from littlefoot.writers import WRITERS

EMPTY = Transcription(text="", segments=[], words=[], duration=1.0)
SPEECH = Transcription(
    text="HI THERE I'M <ÅSA> & CO",
    segments=[Segment(0.02, 0.9996, "HI THERE"), Segment(3725.0, 3726.5004, "I'M <ÅSA> & CO")],
    words=[Word("HI", 0.02, 0.1, 0.98765), Word("THERE", 0.30000000000000004, 0.9996, 0.5)],
    duration=3727.00006,
)


def test_the_formats() -> None:
    assert sorted(WRITERS) == ["json", "srt", "text", "vtt"]


def test_text() -> None:
    assert WRITERS["text"](SPEECH, "talk.wav") == "HI THERE I'M <ÅSA> & CO\n"
    assert WRITERS["text"](EMPTY, None) == "\n"


def test_json_has_the_promised_keys_on_one_line() -> None:
    written = WRITERS["json"](SPEECH, "talk.wav")
    assert written.index("\n") == len(written) - 1
    assert "ÅSA" in written
    assert json.loads(written) == {
        "file": "talk.wav",
        "text": "HI THERE I'M <ÅSA> & CO",
        "duration": 3727.0,
        "segments": [
            {"start": 0.02, "end": 1.0, "text": "HI THERE"},
            {"start": 3725.0, "end": 3726.5, "text": "I'M <ÅSA> & CO"},
        ],
        "words": [
            {"word": "HI", "start": 0.02, "end": 0.1, "confidence": 0.9877},
            {"word": "THERE", "start": 0.3, "end": 1.0, "confidence": 0.5},
        ],
    }
    several = replace(SPEECH, alternatives=[Alternative("HI", -0.12345), Alternative("HIGH", -2.0)])
    assert json.loads(WRITERS["json"](several, None))["alternatives"] == [
        {"text": "HI", "score": -0.1235},
        {"text": "HIGH", "score": -2.0},
    ]
    empty: dict[str, object] = {"file": None, "text": "", "duration": 1.0, "segments": [], "words": []}
    assert json.loads(WRITERS["json"](EMPTY, None)) == empty


def test_srt() -> None:
    assert WRITERS["srt"](SPEECH, "talk.wav") == (
        "1\n00:00:00,020 --> 00:00:01,000\nHI THERE\n\n2\n01:02:05,000 --> 01:02:06,500\nI'M <ÅSA> & CO\n"
    )
    assert WRITERS["srt"](EMPTY, None) == ""


def test_vtt() -> None:
    assert WRITERS["vtt"](SPEECH, "talk.wav") == (
        "WEBVTT\n"
        "\n00:00:00.020 --> 00:00:01.000\nHI THERE\n"
        "\n01:02:05.000 --> 01:02:06.500\nI'M &lt;ÅSA&gt; &amp; CO\n"
    )
    assert WRITERS["vtt"](EMPTY, None) == "WEBVTT\n"


@pytest.mark.parametrize(
    ("seconds", "stamp"),
    [
        (0.0, "00:00:00,000"),
        (0.0004, "00:00:00,000"),
        (0.9996, "00:00:01,000"),
        (59.9999, "00:01:00,000"),
        (3599.9996, "01:00:00,000"),
        (86399.5, "23:59:59,500"),
        (360000.25, "100:00:00,250"),
    ],
)
def test_time_stamps_round_to_milliseconds_and_carry(seconds: float, stamp: str) -> None:
    said = Transcription("A", [Segment(seconds, seconds + 1, "A")], [], seconds + 1)
    assert WRITERS["srt"](said, None).startswith(f"1\n{stamp} --> ")
