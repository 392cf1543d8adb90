"""ARPA files as they are read, and language models for an alphabet."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from test_decode import ENGLISH
from test_ngram import SENTENCES

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.arpa import read_arpa, write_arpa
from littlefoot.decode.lm import KenLM, LanguageModel, load
from littlefoot.decode.ngram import BEGIN, END, UNKNOWN, NGram, estimate
from littlefoot.errors import ConfigError, LittlefootError, MissingExtraError

BY_HAND = """\
made by hand

\\data\\
ngram 1=5
ngram 2=3
ngram 3=1

\\1-grams:
-99\t<s>\t-0.5
-1\t</s>
-0.7 a -0.25
-0.9\tb\t-0.125
-2\t<UNK>

\\2-grams:
-0.3\t<s> a\t-0.0625
-0.4\ta b
-0.2\tb </s>

\\3-grams:
-0.1\t<s> a b

\\end\\
"""


def scores(model: LanguageModel, words: list[str]) -> list[float]:
    """Base-10 logarithms of the words and the end of a sentence."""
    state = model.begin()
    found = []
    for word in [*words, END]:
        log_prob, state = model.step(state, word)
        found.append(log_prob / 2.302585092994046)
    return found


# Reading


def test_scores_are_those_computed_by_hand(tmp_path: Path) -> None:
    (tmp_path / "hand.arpa").write_text(BY_HAND)
    model = read_arpa(tmp_path / "hand.arpa")
    assert model.tokens == (UNKNOWN, BEGIN, END, "a", "b")
    assert scores(model, ["a", "b"]) == pytest.approx([-0.3, -0.1, -0.2])
    # b: <s> a has -0.0625, "a a" is not there: a has -0.25, then -0.7; b after a, a: "a b".
    assert scores(model, ["a", "a", "b"]) == pytest.approx([-0.3, -0.0625 - 0.25 - 0.7, -0.4, -0.2])
    assert scores(model, ["c", "b"]) == pytest.approx([-0.5 - 2, -0.9, -0.2])
    assert scores(model, []) == pytest.approx([-0.5 - 1])
    assert "a" in model
    assert UNKNOWN not in model
    assert "c" not in model


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("prune", [(), (0, 1)])
def test_what_is_written_is_read(order: int, prune: tuple[int, ...], tmp_path: Path) -> None:
    model = estimate([*SENTENCES, ["\u00e9l\u00e8ve", "<br>", "\\end\\"]], order, prune[:order])
    write_arpa(model, tmp_path / "model.arpa")
    read = read_arpa(tmp_path / "model.arpa")
    assert read.tokens == model.tokens
    for words in (["the", "cat", "ran", "parrot", "the", "mat"], [], ["\u00e9l\u00e8ve", "<br>", "\\end\\"]):
        assert scores(read, words) == pytest.approx(scores(model, words), abs=1e-5)
    write_arpa(read, tmp_path / "again.arpa")
    assert (tmp_path / "again.arpa").read_bytes() == (tmp_path / "model.arpa").read_bytes()


def test_states_are_what_the_future_depends_on() -> None:
    model = estimate(SENTENCES, 3)
    state = model.begin()
    for place, word in enumerate(["the", "cat", "sat", "on"]):
        log_prob, state = model.step(state, word)
        assert log_prob == model.log_prob(word, [BEGIN, "the", "cat", "sat"][: place + 1])
    other = model.step(model.step(model.begin(), "sat")[1], "on")[1]
    assert other == state
    assert estimate(SENTENCES, 1).begin() == ()


def test_all_tokens_at_once_have_the_scores_of_each() -> None:
    for model in (estimate(SENTENCES, 1), estimate(SENTENCES, 4, (0, 0, 1)), estimate(["ab|ba", "b|b"], 5)):
        tokens = [*model.tokens[:2], *model.tokens[3:9], "never seen"]
        state = model.begin()
        for token in tokens[2:] + tokens[2:5]:
            scores_at_once = model.log_probs(state, tokens).tolist()
            assert scores_at_once == pytest.approx([model.step(state, each)[0] for each in tokens])
            _, state = model.step(state, token)


def test_special_tokens_that_a_file_lacks_are_nearly_impossible(tmp_path: Path) -> None:
    text = BY_HAND.replace("-2\t<UNK>\n", "").replace("ngram 1=5", "ngram 1=4")
    (tmp_path / "hand.arpa").write_text(text)
    assert scores(read_arpa(tmp_path / "hand.arpa"), ["c"])[0] == pytest.approx(-100.5)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\\end\\\n", "", "line 2[0-9]: the file ends too early"),
        ("\\data\\", "", r"no line up to here is \\data\\"),
        ("ngram 2=3", "ngram 2=4", r"expected one of 4 2-grams .* found \\3-grams:"),
        ("ngram 2=3", "ngram 2=2", r"line 18: expected \\3-grams:, found -0.2"),
        ("ngram 1=5\n", "", "line 4: expected the number of 1-grams"),
        ("-0.4\ta b", "many\ta b", "line 17: expected one of 3 2-grams"),
        ("-0.4\ta b", "0.4\ta b", "line 17: expected one of 3 2-grams"),
        ("-0.4\ta b", "nan\ta b", "line 17: expected one of 3 2-grams"),
        ("-0.4\ta b", "-0.4\ta", "line 17: expected one of 3 2-grams"),
        ("-0.4\ta b", "-0.4\ta c", "line 17: a token is not among the 1-grams"),
        ("-0.4\ta b", "-0.4\tb </s>", "line 18: the n-gram occurs in the file twice"),
        ("-0.9\tb", "-0.9\ta", "line 12: the token stands in the file twice"),
        ("<s> a b", "b a b", "line 21: its first 2 tokens are not among the 2-grams"),
    ],
)
def test_damaged_files_are_named(old: str, new: str, message: str, tmp_path: Path) -> None:
    assert old in BY_HAND
    (tmp_path / "bad.arpa").write_text(BY_HAND.replace(old, new, 1))
    with pytest.raises(LittlefootError, match=rf"bad\.arpa, {message}|bad\.arpa, line \d+: {message}"):
        read_arpa(tmp_path / "bad.arpa")


def test_missing_and_binary_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(LittlefootError, match=r"none\.arpa: neither a file nor the name of"):
        load(tmp_path / "none.arpa", ENGLISH)
    (tmp_path / "noise.arpa").write_bytes(bytes(range(256)) * 8)
    with pytest.raises(LittlefootError, match=r"noise\.arpa, line \d+: no line up to here is \\data\\"):
        load(tmp_path / "noise.arpa", ENGLISH)


# KenLM


def test_kenlm_gives_the_same_scores(tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    write_arpa(estimate(SENTENCES, 4, (0, 0, 1)), tmp_path / "model.arpa")
    model, loaded = read_arpa(tmp_path / "model.arpa"), kenlm.Model(str(tmp_path / "model.arpa"))
    ours = KenLM(tmp_path / "model.arpa")
    for words in (["the", "cat", "ran", "to", "the", "mat"], ["a", "parrot", "sat"], [], ["zebra"] * 5):
        expected = [score for score, _, _ in loaded.full_scores(" ".join(words))]
        assert scores(model, words) == pytest.approx(expected, abs=1e-5)
        assert scores(ours, words) == pytest.approx(expected, abs=1e-5)
    assert "cat" in ours
    assert "parrot" not in ours
    assert ours.step(ours.begin(), "the")[1] == ours.step(ours.begin(), "the")[1]


def test_a_binary_file_needs_kenlm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("littlefoot.decode.lm.find_spec", lambda name: None)
    (tmp_path / "model.bin").write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
    with pytest.raises(MissingExtraError, match=r"model\.bin.*pip install 'littlefoot\[lm\]'"):
        load(tmp_path / "model.bin", ENGLISH)


# Files as people have them


@pytest.mark.parametrize("opener", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_files_are_read(opener: Callable[[bytes], bytes], tmp_path: Path) -> None:
    (tmp_path / "plain.arpa").write_text(BY_HAND)
    (tmp_path / "packed").write_bytes(opener(BY_HAND.encode()))
    plain, packed = read_arpa(tmp_path / "plain.arpa"), read_arpa(tmp_path / "packed")
    assert packed.tokens == plain.tokens
    np.testing.assert_array_equal(packed.tables[1].log_prob, plain.tables[1].log_prob)
    (tmp_path / "cut").write_bytes(opener(BY_HAND.encode())[:-60])
    with pytest.raises(LittlefootError, match="cut"):
        read_arpa(tmp_path / "cut")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("made by hand", "\ufeffmade by hand"),
        ("-99\t<s>", "-inf\t<s>"),
        ("\n", "\r\n"),
        ("ngram 1=5", "ngram 1=5 "),
    ],
)
def test_what_other_tools_write_is_read(before: str, after: str, tmp_path: Path) -> None:
    (tmp_path / "model.arpa").write_bytes(BY_HAND.replace(before, after).encode())
    model = read_arpa(tmp_path / "model.arpa")
    assert said(model, "a", "b") == said(read_text(BY_HAND, tmp_path), "a", "b")


def test_a_mark_at_the_beginning_may_be_the_first_line(tmp_path: Path) -> None:
    text = BY_HAND.removeprefix("made by hand\n\n")
    assert text.startswith("\\data")
    assert read_text("\ufeff" + text, tmp_path).order == 3


def test_of_a_doubled_end_the_real_one_is_taken(tmp_path: Path) -> None:
    doubled = BY_HAND.replace("ngram 1=5", "ngram 1=6").replace("-1\t</s>", "0\t</s>\t-0.5\n-1\t</s>")
    assert said(read_text(doubled, tmp_path), "b", "</s>") == said(read_text(BY_HAND, tmp_path), "b", "</s>")
    letters = BY_HAND.replace("ngram 1=5", "ngram 1=6").replace("-0.9\tb", "-0.8\tb\n-0.9\tb")
    with pytest.raises(LittlefootError, match="token stands in the file twice"):
        read_text(letters, tmp_path)


def read_text(text: str, directory: Path) -> NGram:
    path = directory / "text.arpa"
    path.write_text(text, encoding="utf-8")
    return read_arpa(path)


# Alphabets


def saved(model: NGram, directory: Path) -> Path:
    path = directory / "model.arpa"
    write_arpa(model, path)
    return path


def test_a_model_of_another_alphabet_is_refused_by_its_characters(tmp_path: Path) -> None:
    path = saved(estimate([["xy", "yx", "xyz", "x", "A"]], 2), tmp_path)
    with pytest.raises(
        ConfigError, match=r"4 of its 5 words need characters such as 'x' 'y' 'z', which .* \|ABC'"
    ):
        load(path, ENGLISH)
    cyrillic = saved(estimate([["\u0434\u0430", "\u043d\u0435\u0442"]], 1), tmp_path)
    with pytest.raises(ConfigError, match="'\u0434'"):
        load(cyrillic, ENGLISH)


def said(model: LanguageModel, *words: str) -> list[float]:
    """The scores of each word of a sentence, to the digits that files have."""
    state, found = model.begin(), []
    for word in words:
        score, state = model.step(state, word)
        found.append(score)
    return [round(score, 5) for score in found]


@pytest.mark.parametrize("binary", [False, True])
def test_a_model_in_another_case_and_form_is_asked_in_its_own(
    binary: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = estimate([["ab", "ba", "caba\u0308"], ["ab", "Cab"]], 2)  # the umlaut in two characters
    alphabet = Vocabulary(("<pad>", "|", "A", "B", "C", "\u00c4"))
    path = saved(own, tmp_path)
    if binary:
        path.write_bytes(b"mmap lm http://kheafield.com/code format version 5\n\0")
        monkeypatch.setattr("littlefoot.decode.lm.KenLM", lambda path: own)
    found = load(path, alphabet)
    assert said(found, "AB", "BA", "CAB\u00c4") == said(own, "ab", "ba", "caba\u0308")
    assert said(found, "AB", "CAB") == said(own, "ab", "Cab")
    assert "CAB" in found
    assert "BB" not in found


def test_of_several_cases_the_alphabets_own_is_taken_or_else_the_likeliest(tmp_path: Path) -> None:
    own = estimate([["ab", "Ab", "Ab", "Ba", "Ba", "bA"], ["AB"]], 1)
    found = load(saved(own, tmp_path), ENGLISH)
    assert said(found, "AB") == said(own, "AB")
    assert said(found, "BA") == said(own, "Ba")


def test_a_model_of_characters_in_another_case_is_asked_in_its_own(tmp_path: Path) -> None:
    own = estimate(["ab|ba", "b|a"], 2)
    found = load(saved(own, tmp_path), ENGLISH)
    np.testing.assert_allclose(
        found.log_probs(found.begin(), ["A", "B"]), own.log_probs(own.begin(), ["a", "b"]), rtol=1e-6
    )


def test_words_that_the_alphabet_cannot_spell_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "CAB" in load(saved(estimate([["CAB", "AB", "na\u00efve"]], 2), tmp_path), ENGLISH)
    assert "1 of its 3 words need characters such as" in caplog.text


def test_a_model_of_characters_is_one_with_the_delimiter(tmp_path: Path) -> None:
    spaced = Vocabulary(("a", "b", " ", "<blank>"), blank=3, word_delimiter=" ")
    assert "|" in load(saved(estimate(["ab|ba", "xyz|x"], 3), tmp_path), spaced)
