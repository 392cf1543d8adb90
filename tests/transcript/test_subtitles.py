"""Subtitles: cues that can be read, cut where speech is, and understood by what others wrote."""

import io
import itertools
import json
import shutil
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from littlefoot.errors import ConfigError
from littlefoot.transcript.results import Segment, Transcription, Word
from littlefoot.transcript.segments import cut, segments, width
from littlefoot.transcript.subtitles import Layout, cues
from littlefoot.transcript.writers import WRITERS


def say(*words: tuple[str, float, float], duration: float | None = None) -> Transcription:
    spoken = [Word(word, start, end, 1.0) for word, start, end in words]
    text = " ".join(word.word for word in spoken)
    return Transcription(text, segments(spoken), spoken, duration or (spoken[-1].end + 5 if spoken else 5.0))


def evenly(text: str, each: float = 0.3, gap: float = 0.1) -> Transcription:
    """Every word takes ``each`` seconds, with ``gap`` seconds between them."""
    return say(*((word, i * (each + gap), i * (each + gap) + each) for i, word in enumerate(text.split())))


@st.composite
def speech(draw: st.DrawFn) -> Transcription:
    at = 0.0
    words = []
    for _ in range(draw(st.integers(0, 40))):
        at += draw(st.sampled_from([0.0, 0.05, 0.3, 0.59, 0.7, 4.0]))
        end = at + draw(st.sampled_from([0.02, 0.2, 0.5, 1.5]))
        words.append((draw(st.text("ABCÄ'&<>", min_size=1, max_size=16)), at, end))
        at = end
    return say(*words)


@given(
    said=speech(), characters=st.integers(1, 60), lines=st.integers(1, 3), seconds=st.sampled_from([1.0, 7.0])
)
@settings(max_examples=300, deadline=None)
def test_every_cue_keeps_to_the_layout_and_no_word_is_lost(
    said: Transcription, characters: int, lines: int, seconds: float
) -> None:
    made = cues(said, Layout(characters, lines, seconds))
    shown = "".join(line for cue in made for line in cue.lines)
    assert shown.replace(" ", "") == "".join(word.word for word in said.words)
    end = 0.0
    for cue in made:
        assert cue.start >= end
        assert cue.start <= cue.end <= cue.start + max(seconds, 1.0)
        end = cue.end
        assert len(cue.lines) <= lines
        assert all(len(line) <= characters for line in cue.lines)


@given(said=speech())
@settings(max_examples=100, deadline=None)
def test_words_that_fit_are_never_cut(said: Transcription) -> None:
    made = cues(said, Layout(16, 2, 7.0))
    assert [word for cue in made for line in cue.lines for word in line.split()] == [
        word.word for word in said.words
    ]
    starts = {word.start for word in said.words}
    assert all(cue.start in starts for cue in made)


def test_lines_are_about_equally_long() -> None:
    said = evenly("IT WAS THE BEST OF TIMES IT WAS THE WORST OF")
    assert [cue.lines for cue in cues(said)] == [["IT WAS THE BEST OF TIMES", "IT WAS THE WORST OF"]]


def test_too_long_speech_is_cut_at_its_longest_gap() -> None:
    words = [("WORD", i * 0.4, i * 0.4 + 0.3) for i in range(40)]
    # A breath after the thirteenth.
    words = [
        (word, start + 0.3 * (i > 12), end + 0.3 * (i > 12)) for i, (word, start, end) in enumerate(words)
    ]
    made = cues(say(*words))
    assert sum(len(line.split()) for line in made[0].lines) == 13
    assert made[1].start == words[13][1]


def test_a_pause_ends_a_cue_and_a_short_one_stays_a_second() -> None:
    made = cues(say(("YES", 1.0, 1.2), ("NO", 1.9, 2.1), ("WELL", 9.0, 9.1), duration=9.5))
    assert [(cue.start, cue.end) for cue in made] == [(1.0, 1.9), (1.9, 2.9), (9.0, 9.5)]


def test_a_language_without_spaces() -> None:
    words = [Word(character, i * 0.2, i * 0.2 + 0.2, 1.0) for i, character in enumerate("你好世界今天很好")]
    said = Transcription("你好世界今天很好", segments(words, ""), words, 5.0)
    assert cues(said, Layout(line_characters=8))[0].lines == ["你好世界", "今天很好"]  # two columns each


SCRIPTS = {
    "chinese": "的一是不了人我在有他这为之大来以个中上们",
    "japanese": "きょうはとてもいい天気ですね",
    "thai": "วันนี้อากาศดีมาก",
    "latin": "ABCDEFGHIJ",
}


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("form", ["a word", "words", "letters"])
def test_long_words_of_every_script_are_cut_at_characters(script: str, form: str) -> None:
    text = SCRIPTS[script] * 8
    if form == "words":  # each for itself, where the alphabet has no delimiter
        words = [Word(character, i * 0.2, i * 0.2 + 0.2, 1.0) for i, character in enumerate(text)]
    else:
        letters = [(character, i * 0.2, i * 0.2 + 0.1) for i, character in enumerate(text)]
        words = [Word(text, 0.0, len(text) * 0.2, 1.0, letters=tuple(letters) if form == "letters" else ())]
    said = Transcription(text, segments(words, "", text=text), words, 60.0)
    made = cues(said)
    assert "".join(line for cue in made for line in cue.lines) == text
    assert len(made) > 1
    for cue in made:
        assert len(cue.lines) <= 2
        assert all(width(line) <= 42 for line in cue.lines)
        assert cue.end - cue.start <= 7.0
    assert "".join(segment.text for segment in said.segments) == text
    if form == "words":
        assert all(width(segment.text) <= 84 for segment in said.segments)


def test_a_mark_stays_on_its_character() -> None:
    said = say(("นี้" * 30, 0.0, 5.0))
    lines = [line for cue in cues(said, Layout(line_characters=7)) for line in cue.lines]
    assert all(line.startswith("น") for line in lines)


def test_words_beside_a_long_one_keep_their_spaces() -> None:
    said = say(("OK", 0.0, 0.2), ("X" * 60, 0.3, 3.0), ("AND", 3.1, 3.3))
    assert " ".join(line for cue in cues(said) for line in cue.lines).startswith("OK XXX")
    assert cues(said)[-1].lines[-1].endswith("X AND")


# Speakers


def call() -> Transcription:
    """Two people who talk at the same time."""
    left = [Word(word, i * 0.5, i * 0.5 + 0.4, 1.0, "left") for i, word in enumerate(["HOW", "ARE", "YOU"])]
    right = [Word("FINE", 0.6, 1.0, 1.0, "right"), Word("THANKS", 1.1, 1.6, 1.0, "right")]
    words = sorted([*left, *right], key=lambda word: word.start)
    return Transcription("HOW ARE YOU FINE THANKS", [], words, 3.0)


def test_speakers_have_cues_of_their_own_and_are_named() -> None:
    assert [(cue.start, cue.lines) for cue in cues(call())] == [
        (0.0, ["HOW ARE YOU"]),
        (0.6, ["FINE THANKS"]),
    ]
    assert "\nleft: HOW ARE YOU\n" in WRITERS["srt"](call())
    assert "\n<v right>FINE THANKS\n" in WRITERS["vtt"](call())
    words = json.loads(WRITERS["json"](call()))["words"]
    assert [word["speaker"] for word in words] == ["left", "left", "right", "left", "right"]


def test_without_words_the_segments_are_shown() -> None:
    said = Transcription("HI THERE BYE", [Segment(1.0, 2.0, "HI THERE"), Segment(5.0, 6.5, "BYE")], [], 8.0)
    assert [(cue.start, cue.end, cue.lines) for cue in cues(said)] == [
        (1.0, 2.0, ["HI THERE"]),
        (5.0, 6.5, ["BYE"]),
    ]


@pytest.mark.parametrize("layout", [(0, 2, 7.0), (42, 0, 7.0), (42, 2, 0.0), (42, 2, float("nan"))])
def test_an_impossible_layout_is_refused(layout: tuple[int, int, float]) -> None:
    with pytest.raises(ConfigError, match="all must be positive"):
        Layout(*layout)


# Read back


@given(said=speech())
@settings(max_examples=100, deadline=None)
def test_srt_is_read_by_a_library(said: Transcription) -> None:
    srt = pytest.importorskip("srt")
    read = list(srt.parse(WRITERS["srt"](said), ignore_errors=False))
    made = cues(said)
    assert [each.index for each in read] == list(range(1, len(made) + 1))
    assert [each.content.split("\n") for each in read] == [cue.lines for cue in made]
    for each, cue in zip(read, made, strict=True):
        assert abs(each.start - timedelta(seconds=cue.start)) <= timedelta(milliseconds=1)
        assert abs(each.end - timedelta(seconds=cue.end)) <= timedelta(milliseconds=1)
    assert all(a.end <= b.start for a, b in itertools.pairwise(read))


@given(said=speech())
@settings(max_examples=100, deadline=None)
def test_vtt_is_read_by_a_library(said: Transcription) -> None:
    import html

    webvtt = pytest.importorskip("webvtt")
    read = list(webvtt.from_buffer(io.StringIO(WRITERS["vtt"](said))))
    made = cues(said)
    assert [[html.unescape(line) for line in each.raw_text.split("\n")] for each in read] == [
        c.lines for c in made
    ]
    for each, cue in zip(read, made, strict=True):
        assert each.start_in_seconds == pytest.approx(cue.start, abs=1.001)  # it drops the milliseconds
        assert each.start.endswith(f"{round(cue.start * 1000) % 1000:03}")


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
@pytest.mark.parametrize("form", ["srt", "vtt"])
def test_ffprobe_reads_the_same_cues(form: str, tmp_path: Path) -> None:
    said = evenly("IT WAS THE BEST OF TIMES & IT WAS THE WORST OF TIMES IT WAS THE AGE OF WISDOM " * 3)
    path = tmp_path / f"talk.{form}"
    path.write_text(WRITERS[form](said), encoding="utf-8")
    command = ["ffprobe", "-v", "error", "-show_packets", "-of", "json", str(path)]
    packets = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["packets"]
    made = cues(said)
    assert [float(packet["pts_time"]) for packet in packets] == pytest.approx(
        [c.start for c in made], abs=1e-3
    )
    lengths = [float(packet["duration_time"]) for packet in packets]
    assert lengths == pytest.approx([cue.end - cue.start for cue in made], abs=2e-3)


def test_words_of_scripts_without_spaces_become_characters_and_others_stay_whole() -> None:
    def spoken(text: str) -> Word:
        letters = tuple((letter, i * 0.2, i * 0.2 + 0.1) for i, letter in enumerate(text))
        return Word(text, 0.0, len(text) * 0.2, 0.5, letters=letters)

    found = cut([spoken("你好" * 20)])
    assert [word.word for word in found] == list("你好" * 20)
    assert found[1] == Word("好", 0.2, pytest.approx(0.3), 0.5)  # type: ignore[arg-type]
    for whole in ("A" * 60, "你好" * 5, "ΛΟΓΟΣ" * 12):
        assert [word.word for word in cut([spoken(whole)])] == [whole]
