"""Case, full stops at pauses, and punctuation models."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Run

from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.transcript.results import Alternative, Segment, Transcription, Word
from littlefoot.transcript.style import find_punctuate, restyle
from littlefoot.transcript.writers import WRITERS

WORDS = [
    Word("HELLO", 0.0, 0.4, 0.9),
    Word("WORLD", 0.5, 0.9, 0.8),
    Word("IT'S", 1.5, 1.8, 0.7),  # after a pause of 0.6 s
    Word("ME", 2.3, 2.5, 0.6),
]
SAID = Transcription(
    "HELLO WORLD IT'S ME",
    [Segment(0.0, 0.9, "HELLO WORLD"), Segment(1.5, 2.5, "IT'S ME")],
    WORDS,
    3.0,
    [Alternative("HELLO WORD", -1.0)],
)


def shout(words: list[str]) -> list[str]:
    """A punctuation model."""
    return [f"{word.lower()}!" for word in words]


def lose(words: list[str]) -> list[str]:
    """A bad one."""
    return words[1:]


def test_lower_and_upper_change_every_text() -> None:
    found = restyle(SAID, "lower")
    assert found.text == "hello world it's me"
    assert [segment.text for segment in found.segments] == ["hello world", "it's me"]
    assert [word.word for word in found.words] == ["hello", "world", "it's", "me"]
    assert found.alternatives == [Alternative("hello word", -1.0)]
    assert restyle(found, "upper") == SAID
    assert restyle(SAID) == SAID


def test_a_pause_ends_a_sentence() -> None:
    found = restyle(SAID, "sentence")
    assert found.text == "Hello world. It's me."
    assert [segment.text for segment in found.segments] == ["Hello world.", "It's me."]
    assert [(word.word, word.ends) for word in found.words] == [
        *(("Hello", False), ("world.", True)),
        *(("It's", False), ("me.", True)),
    ]
    assert [(word.start, word.end, word.confidence) for word in found.words] == [
        (word.start, word.end, word.confidence) for word in WORDS
    ]


def test_marks_that_are_there_already_stay() -> None:
    words = [replace(WORDS[0], word="hello?"), replace(WORDS[1], word="'yes'")]
    said = Transcription("hello? 'yes'", [Segment(0.0, 0.9, "hello? 'yes'")], words, 1.0)
    assert restyle(said, "sentence").text == "Hello? 'Yes'."


def test_scripts_have_their_own_full_stop() -> None:
    words = [Word("\u4f60", 0.0, 0.1, 1.0), Word("\u597d", 0.1, 0.2, 1.0)]
    said = Transcription("\u4f60\u597d", [Segment(0.0, 0.2, "\u4f60\u597d")], words, 1.0)
    assert restyle(said, "sentence").text == "\u4f60\u597d\u3002"


def test_the_characters_of_long_words_follow() -> None:
    word = Word("AB", 0.0, 1.0, 1.0, letters=(("A", 0.0, 0.5), ("B", 0.5, 1.0)))
    found = restyle(Transcription("AB", [Segment(0.0, 1.0, "AB")], [word], 1.0), "sentence").words[0]
    assert found.letters == (("A", 0.0, 0.5), ("b.", 0.5, 1.0))


def test_each_speaker_of_a_call_has_sentences_of_his_own() -> None:
    words = [
        Word("HOW", 0.0, 0.3, 1.0, "left"),
        Word("FINE", 0.2, 0.4, 1.0, "right"),
        Word("NOW", 0.4, 0.6, 1.0, "left"),
    ]
    segments = [Segment(0.0, 0.6, "HOW NOW", "left"), Segment(0.2, 0.4, "FINE", "right")]
    found = restyle(Transcription("HOW NOW FINE", segments, words, 1.0), "sentence")
    assert found.text == "How now. Fine."
    assert [word.word for word in found.words] == ["How", "Fine.", "now."]


def test_nothing_said_stays_nothing() -> None:
    empty = Transcription("", [], [], 1.0)
    assert restyle(empty, "sentence") == empty
    assert restyle(empty, punctuate=shout) == empty


def test_a_punctuation_model_is_any_function_of_words() -> None:
    found = restyle(SAID, punctuate=shout)
    assert found.text == "hello! world! it's! me!"
    assert [segment.text for segment in found.segments] == ["hello! world!", "it's! me!"]
    assert restyle(SAID, "upper", shout).text == "HELLO! WORLD! IT'S! ME!"
    assert WRITERS["srt"](found).count(" --> ") == 4  # a sentence begins a new cue


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(LittlefootError, match="returned 3 words for 4"):
        restyle(SAID, punctuate=lose)
    with pytest.raises(LittlefootError, match=r"the punctuation model failed \(TypeError: .*one for each"):
        restyle(SAID, punctuate=os.path.join)
    with pytest.raises(ConfigError, match="use one of lower, upper, sentence"):
        restyle(SAID, "title")
    with pytest.raises(ConfigError, match="leave the case 'sentence' out"):
        restyle(SAID, "sentence", shout)


@pytest.mark.parametrize("name", ["nowhere:f", "json:nothing", "json", "", ":f", "json:__name__"])
def test_functions_that_are_not_there_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="punctuation model"):
        find_punctuate(name)


def test_the_command_writes_sentences(run: Run, tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "littlefoot" / "bundled" / "samples" / "digits.ogg"
    plain = run("transcribe", "littlefoot-en-live", sample).out
    assert plain.isupper()
    assert run("transcribe", "littlefoot-en-live", sample, "--case", "lower").out == plain.lower()
    written = run("transcribe", "littlefoot-en-live", sample, "--case", "sentence").out
    assert written == plain.strip().capitalize() + ".\n"
    found = run("transcribe", "littlefoot-en-live", sample, "--punctuate", "test_style:shout").out
    assert found == plain.strip().lower().replace(" ", "! ") + "!\n"


@pytest.mark.parametrize(
    "options",
    [("--case", "title"), ("--case", "lower", "--stream"), ("--punctuate", "json:nothing")],
)
def test_the_command_refuses_wrong_settings(run: Run, options: tuple[str, ...]) -> None:
    result = run("transcribe", "littlefoot-en-live", "missing.wav", *options)
    assert (result.code, result.out) == (2, "")
