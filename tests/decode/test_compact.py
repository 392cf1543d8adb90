"""Compact files of language models: the scores of the model, sizes, damage."""

from __future__ import annotations

import string
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from test_ngram import SENTENCES

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.arpa import write_arpa
from littlefoot.decode.compact import CompactNGram, compact_bytes, write_compact
from littlefoot.decode.lm import Folded, load
from littlefoot.decode.ngram import BEGIN, END, NGram, estimate
from littlefoot.decode.pruning import prune
from littlefoot.errors import LittlefootError

LETTERS = Vocabulary(("<pad>", "|", "'", *string.ascii_uppercase))
UPPER = [[word.upper() for word in sentence] for sentence in SENTENCES]


def varied(sentences: int = 400, words: int = 60) -> NGram:
    """A model with thousands of different probabilities."""
    generator = np.random.default_rng(0)
    ranks = np.minimum(generator.zipf(1.3, (sentences, 12)), words)
    return estimate([[f"W{rank}" for rank in sentence] for sentence in ranks.tolist()], 3)


def written(model: NGram, directory: Path) -> CompactNGram:
    write_compact(model, directory / "model.lflm")
    return CompactNGram(directory / "model.lflm")


@pytest.mark.parametrize("threshold", [0.0, 1e-3, 1e-2])
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_scores_are_those_of_the_model(order: int, threshold: float, tmp_path: Path) -> None:
    model = prune(estimate(SENTENCES, order), threshold)  # pruned ones lack parts of longer n-grams
    compact = written(model, tmp_path)
    assert compact.tokens == model.tokens
    assert dict(compact.words()) == pytest.approx(dict(model.words()), rel=1e-6)
    tokens = ["the", "cat", "dog", "on", "nobody", END]
    for words in product(tokens, repeat=4):
        state, expected = compact.begin(), model.begin()
        for word in words:
            every = compact.log_probs(state, tokens)
            assert every == pytest.approx(model.log_probs(expected, tokens), rel=1e-6)
            log_prob, state = compact.step(state, word)
            wanted, expected = model.step(expected, word)
            assert log_prob == pytest.approx(wanted, rel=1e-6)
            assert log_prob == pytest.approx(every[tokens.index(word)], rel=1e-6)


def test_states_are_equal_where_histories_are_and_hashable(tmp_path: Path) -> None:
    compact = written(estimate(SENTENCES, 3), tmp_path)

    def after(*words: str) -> object:
        state = compact.begin()
        for word in words:
            state = compact.step(state, word)[1]
        return state

    assert after("the", "cat", "sat") == after("a", "cat", "sat")
    assert hash(after("cat")) == hash(after("cat"))
    assert after("the", "cat") != after("the", "dog")
    assert after("the", "nobody") == after("nobody")
    assert "cat" in compact
    assert "nobody" not in compact
    assert BEGIN in compact


def test_more_than_256_values_are_rounded_a_little(tmp_path: Path) -> None:
    model = varied()
    assert len(np.unique(model.tables[2].log_prob)) > 256
    compact = written(model, tmp_path)
    grams = model.grams(3)[::7]
    errors = []
    for first, second, third in ([model.tokens[number] for number in gram] for gram in grams.tolist()):
        state = compact.begin() if first == BEGIN else compact.step((), first)[1]
        _, state = compact.step(state, second)
        errors.append(compact.step(state, third)[0] - model.log_prob(third, [first, second]))
    assert np.abs(errors).mean() < 0.01
    assert np.abs(errors).max() < 0.5


def test_a_file_takes_the_bytes_that_were_said_or_a_little_less(tmp_path: Path) -> None:
    for model in (varied(), estimate(SENTENCES, 4), estimate(SENTENCES, 1)):
        write_compact(model, tmp_path / "model.lflm")
        size = (tmp_path / "model.lflm").stat().st_size
        assert size <= compact_bytes(model) < size + 12_000


def test_a_file_is_much_smaller_than_an_arpa_file(tmp_path: Path) -> None:
    model = varied(4000, 2000)
    write_compact(model, tmp_path / "model.lflm")
    write_arpa(model, tmp_path / "model.arpa")
    assert (tmp_path / "model.lflm").stat().st_size < (tmp_path / "model.arpa").stat().st_size / 3


def test_a_recogniser_reads_it_and_refuses_another_alphabet(tmp_path: Path) -> None:
    write_compact(estimate(UPPER, 3), tmp_path / "upper.lflm")
    write_compact(estimate([["да", "нет"]], 2), tmp_path / "russian.lflm")
    model = load(tmp_path / "upper.lflm", LETTERS)
    assert isinstance(model, Folded)
    assert isinstance(model.model, CompactNGram)
    with pytest.raises(LittlefootError, match="2 of its 2 words need characters such as"):
        load(tmp_path / "russian.lflm", LETTERS)


@pytest.mark.parametrize("place", [0.02, 0.3, 0.6, 0.99])
def test_damage_is_found(place: float, tmp_path: Path) -> None:
    path = tmp_path / "model.lflm"
    write_compact(estimate(SENTENCES, 3), path)
    content = bytearray(path.read_bytes())
    where = int(place * len(content))
    for damaged in (content[:where], content[:where] + bytes([content[where] ^ 16]) + content[where + 1 :]):
        path.write_bytes(damaged)
        with pytest.raises(LittlefootError, match="damaged or no compact language model: get the file again"):
            CompactNGram(path)


def test_files_that_are_no_models_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.lflm").write_bytes(b"")
    (tmp_path / "text.lflm").write_bytes(b"to be or not to be, that is the question")
    for name, message in (("missing", "cannot be read"), ("empty", "cannot be read"), ("text", "damaged")):
        with pytest.raises(LittlefootError, match=f"{name}.lflm.*{message}"):
            CompactNGram(tmp_path / f"{name}.lflm")
    with pytest.raises(LittlefootError, match=r"none/model.lflm cannot be written .*: choose another output"):
        write_compact(estimate(SENTENCES, 1), tmp_path / "text.lflm" / "none" / "model.lflm")
