"""What eval tells besides rates: speakers, utterances, confusions, spellings and normalizers."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
from conftest import Run

from littlefoot import artifact
from littlefoot.audio.manifest import Utterance
from littlefoot.errors import ConfigError, MissingExtraError
from littlefoot.evaluate import evaluation
from littlefoot.evaluate.details import by_speaker, compare, confusions, worst
from littlefoot.evaluate.metrics import normalize_text
from littlefoot.evaluate.normalizers import NORMALIZERS, normalizer
from littlefoot.evaluate.spellings import chosen

ROWS = [
    ("a", "anna", "one two three", "one two three"),
    ("b", "ben", "one two three four", "one too three"),
    ("c", "ben", "two", "too"),
    ("d", "carl", "", "um"),
]
COMPARED = [
    compare(id, speaker, "set", reference, hypothesis, normalize_text)
    for id, speaker, reference, hypothesis in ROWS
]


def test_errors_are_counted_by_utterance_and_speaker() -> None:
    assert [(each.errors, each.words) for each in COMPARED] == [(0, 3), (2, 4), (1, 1), (1, 0)]
    speakers = by_speaker(COMPARED)
    assert list(speakers) == ["carl", "ben", "anna"]  # the worst first
    assert (speakers["ben"].wer, speakers["ben"].utterances, speakers["ben"].words) == (3 / 5, 2, 5)
    assert speakers["ben"].cer == pytest.approx((1 + 5 + 1) / (18 + 3))
    assert [each.id for each in worst(COMPARED, 3)] == ["c", "d", "b"]


def test_confusions_are_counted_by_word() -> None:
    found = confusions(COMPARED)
    assert found.substitutions == [("TWO", "TOO", 2)]
    assert found.deletions == [("FOUR", 1)]
    assert found.insertions == [("UM", 1)]


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("I {want to / wanna} go {uh / } home", "i wanna go home", "I wanna go home"),
        ("I {want to / wanna} go {uh / } home", "want to go uh home", "I want to go uh home"),
        ("{colour / color}", "COLOR", "color"),
        ("{a / b / c} d", "c d", "c d"),
        ("and/or {x}", "x", "and/or {x}"),
        ("km/h {either/or}", "or", "km/h {either/or}"),
        ("", "x", ""),
    ],
)
def test_the_closest_spelling_counts(reference: str, hypothesis: str, expected: str) -> None:
    assert chosen(reference, hypothesis, normalize_text) == expected


def test_the_chosen_spellings_have_the_fewest_errors_of_all() -> None:
    generator = np.random.default_rng(0)

    def words(least: int, most: int) -> str:
        return " ".join(generator.choice(list("abc"), generator.integers(least, most + 1)))

    for _ in range(60):
        groups = [[words(0, 3) for _ in range(3)] for _ in range(3)]
        plain = [words(0, 2) for _ in range(4)]
        hypothesis = words(0, 9)
        reference = plain[0] + "".join(
            f" {{{' / '.join(group)}}} {text}" for group, text in zip(groups, plain[1:], strict=True)
        )

        def errors(text: str, hypothesis: str = hypothesis) -> int:
            counts = jiwer.process_words(text, hypothesis)
            return counts.substitutions + counts.deletions + counts.insertions

        every = [
            " ".join(
                " ".join([plain[0], *(f"{a} {b}" for a, b in zip(choice, plain[1:], strict=True))]).split()
            )
            for choice in product(*groups)
        ]
        found = " ".join(chosen(reference, hypothesis, str).split())
        assert found in every
        assert errors(found) == min(map(errors, every))


def test_whisper_s_normalizer_unifies_spellings_and_numbers() -> None:
    pytest.importorskip("whisper_normalizer")
    english = normalizer("whisper")
    assert english("Um, I'm twenty-one years, colour $20!") == english("i am 21 years color twenty dollars")
    assert normalizer("whisper-basic")("Das (lacht) ist  gut!") == "das ist gut"


def test_whisper_s_normalizer_is_that_of_transformers() -> None:
    english = pytest.importorskip("whisper_normalizer.english")
    transformers = pytest.importorskip("transformers.models.whisper.english_normalizer")
    theirs = transformers.EnglishTextNormalizer(english.EnglishSpellingNormalizer().mapping)
    for text in ("Mr. O'Neill won't pay two hundred and five dollars, fifty!", "the 2nd [noise] hmm colour"):
        assert normalizer("whisper")(text) == " ".join(theirs(text).split())


def test_normalizers_that_are_unknown_or_not_installed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="use one of littlefoot, whisper, whisper-basic"):
        normalizer("none")
    monkeypatch.setitem(__import__("sys").modules, "whisper_normalizer.basic", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'littlefoot\[normalize\]'"):
        normalizer(NORMALIZERS[1])


# The command


@pytest.fixture
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three recordings of two speakers, with what they are recognised as."""
    said = {"a": "ONE TWO", "b": "ONE TOO", "c": "WANNA GO"}

    def transcribe_all(
        recognizer: Any, utterances: list[Utterance], *rest: object
    ) -> tuple[list[str], list[str]]:
        return [said[utterance.id] for utterance in utterances], []

    monkeypatch.setattr(evaluation, "transcribe_all", transcribe_all)
    soundfile.write(tmp_path / "a.wav", np.zeros(1600), 16_000)
    rows = [("a", "anna", "one two"), ("b", "ben", "one two"), ("c", "ben", "{want to / wanna} go")]
    lines = ["id\tpath\tseconds\tspeaker\tsplit\ttext"]
    lines += [f"{id}\ta.wav\t1\t{speaker}\ttest\t{text}" for id, speaker, text in rows]
    path = tmp_path / "manifest.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    import artifacts

    return artifact.save(artifacts.tiny(), tmp_path / "model")


def test_json_is_complete(run: Run, model: Path, manifest: Path) -> None:
    found = json.loads(run("eval", model, manifest, "--json").out)
    assert found["wer"] == pytest.approx(1 / 6)
    assert found["normalizer"] == "littlefoot"
    assert found["per_speaker"]["ben"] == {"wer": 0.25, "cer": 1 / 15, "utterances": 2, "words": 4}
    assert found["confusions"] == {"substitutions": [["TWO", "TOO", 1]], "deletions": [], "insertions": []}
    assert [each["wer"] for each in found["per_utterance"]] == [0, 0.5, 0]
    assert found["per_utterance"][2]["reference"] == "WANNA GO"


def test_tables_are_shown_on_request(run: Run, model: Path, manifest: Path) -> None:
    plain = run("eval", model, manifest).out
    result = run("eval", model, manifest, "--speakers", "--worst", "1", "--confusions", "5")
    assert result.out.startswith(plain)
    assert result.out[len(plain) :].splitlines() == [
        "",
        "speaker            utterances   words   WER %   CER %",
        "ben                         2       4   25.00    6.67",
        "anna                        1       2    0.00    0.00",
        "",
        "b: 1 errors, 2 words",
        "  reference   ONE TWO",
        "  hypothesis  ONE TOO",
        "",
        "  count  reference -> hypothesis",
        "      1  TWO -> TOO",
    ]


def test_the_output_names_the_normalizer(run: Run, model: Path, manifest: Path) -> None:
    pytest.importorskip("whisper_normalizer")
    assert "normalizer 'whisper'" in run("eval", model, manifest, "--normalize", "whisper").out
    result = run("eval", model, manifest, "--normalize", "none")
    assert (result.code, result.out) == (2, "")
