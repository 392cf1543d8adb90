"""Output formats: text, JSON, SRT, WebVTT, TSV, CTM and TextGrid, byte for byte."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from littlefoot.transcript.results import Alternative, Segment, Transcription, Word
from littlefoot.transcript.writers import WRITERS

EMPTY = Transcription(text="", segments=[], words=[], duration=1.0)
SPEECH = Transcription(
    text="HI THERE I'M <ÅSA> & CO",
    segments=[Segment(0.02, 1.2996, "HI THERE"), Segment(3725.0, 3726.5004, "I'M <ÅSA> & CO")],
    words=[
        Word("HI", 0.02, 0.1, 0.98765),
        Word("THERE", 0.30000000000000004, 1.2996, 0.5),
        Word("I'M", 3725.0, 3725.25, 0.9),
        Word("<ÅSA>", 3725.3, 3725.7, 1.0),
        Word("&", 3725.8, 3725.9, 1.0),
        Word("CO", 3726.0, 3726.5004, 1.0),
    ],
    duration=3727.00006,
)


def test_the_formats() -> None:
    assert sorted(WRITERS) == ["ctm", "json", "srt", "text", "textgrid", "tsv", "vtt"]


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
            {"start": 0.02, "end": 1.3, "text": "HI THERE"},
            {"start": 3725.0, "end": 3726.5, "text": "I'M <ÅSA> & CO"},
        ],
        "words": [
            {"word": "HI", "start": 0.02, "end": 0.1, "confidence": 0.9877},
            {"word": "THERE", "start": 0.3, "end": 1.3, "confidence": 0.5},
            {"word": "I'M", "start": 3725.0, "end": 3725.25, "confidence": 0.9},
            {"word": "<ÅSA>", "start": 3725.3, "end": 3725.7, "confidence": 1.0},
            {"word": "&", "start": 3725.8, "end": 3725.9, "confidence": 1.0},
            {"word": "CO", "start": 3726.0, "end": 3726.5, "confidence": 1.0},
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
        "1\n00:00:00,020 --> 00:00:01,300\nHI THERE\n\n2\n01:02:05,000 --> 01:02:06,500\nI'M <ÅSA> & CO\n"
    )
    assert WRITERS["srt"](EMPTY, None) == ""


def test_vtt() -> None:
    assert WRITERS["vtt"](SPEECH, "talk.wav") == (
        "WEBVTT\n"
        "\n00:00:00.020 --> 00:00:01.300\nHI THERE\n"
        "\n01:02:05.000 --> 01:02:06.500\nI'M &lt;ÅSA&gt; &amp; CO\n"
    )
    assert WRITERS["vtt"](EMPTY, None) == "WEBVTT\n"


def test_tsv() -> None:
    assert WRITERS["tsv"](SPEECH, "talk.wav") == (
        "start\tend\ttext\n20\t1300\tHI THERE\n3725000\t3726500\tI'M <ÅSA> & CO\n"
    )
    assert WRITERS["tsv"](EMPTY, None) == "start\tend\ttext\n"


def test_ctm() -> None:
    lines = WRITERS["ctm"](SPEECH, "talks/my talk.one.wav").splitlines()
    assert lines[:2] == ["my_talk.one 1 0.020 0.080 HI 0.9877", "my_talk.one 1 0.300 1.000 THERE 0.5000"]
    assert all(len(line.split()) == 6 for line in lines)
    assert WRITERS["ctm"](SPEECH, None).startswith("recording 1 ")
    assert WRITERS["ctm"](EMPTY, None) == ""


def test_json_is_as_its_documented_schema_says() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parents[2] / "docs" / "transcription.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    several = replace(SPEECH, alternatives=[Alternative("HI", -0.12345), Alternative("HIGH", -2.0)])
    for transcription, file in ((SPEECH, "talk.wav"), (several, None), (EMPTY, "-")):
        jsonschema.validate(json.loads(WRITERS["json"](transcription, file)), schema)
    record = json.loads(WRITERS["json"](SPEECH, None))
    for damage in ({"duration": "1"}, {"words": [{"word": "HI"}]}, {"surprise": 1}, {"segments": None}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**record, **damage}, schema)


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


def test_textgrid_has_tiers_without_gaps_and_overlaps() -> None:
    letters = (("h", 0.1, 0.2), ('"', 0.2, 0.3))
    said = Transcription(
        'h" x',
        [Segment(0.1, 0.5, 'h" x')],
        [Word('h"', 0.1, 0.4, 0.5, letters=letters), Word("x", 0.35, 0.5, 1.0)],
        duration=0.5,
        aligned=True,
    )
    assert WRITERS["textgrid"](said, "talk.wav") == (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\nxmin = 0\nxmax = 0.500000\n'
        "tiers? <exists>\nsize = 3\nitem []:\n"
        + tier(1, "segments", (0, 0.1, ""), (0.1, 0.5, 'h"" x'))
        + tier(2, "words", (0, 0.1, ""), (0.1, 0.4, 'h""'), (0.4, 0.5, "x"))
        + tier(3, "characters", (0, 0.1, ""), (0.1, 0.2, "h"), (0.2, 0.3, '""'), (0.3, 0.5, ""))
    )
    assert WRITERS["textgrid"](EMPTY).endswith(tier(1, "segments", (0, 1, "")) + tier(2, "words", (0, 1, "")))


def tier(number: int, name: str, *intervals: tuple[float, float, str]) -> str:
    head = (
        f'    item [{number}]:\n        class = "IntervalTier"\n        name = "{name}"\n        xmin = 0\n'
    )
    return (
        f"{head}        xmax = {intervals[-1][1]:.6f}\n        intervals: size = {len(intervals)}\n"
        + "".join(
            f"        intervals [{place}]:\n            xmin = {start:.6f}\n            xmax = {end:.6f}\n"
            f'            text = "{label}"\n'
            for place, (start, end, label) in enumerate(intervals, start=1)
        )
    )


def test_textgrid_gives_each_speaker_tiers() -> None:
    said = Transcription(
        "A B",
        [Segment(0.0, 0.6, "A", "left"), Segment(0.5, 1.0, "B", "right")],
        [Word("A", 0.0, 0.6, 1.0, "left"), Word("B", 0.5, 1.0, 1.0, "right")],
        duration=1.0,
    )
    written = WRITERS["textgrid"](said)
    names = ["left segments", "left words", "right segments", "right words"]
    assert [line.split('"')[1] for line in written.splitlines() if "name =" in line] == names
