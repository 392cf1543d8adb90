"""N-gram models: the definition spelled out, sums of one, ARPA files, and the command that builds them."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st

from littlefoot.decode.arpa import write_arpa
from littlefoot.decode.ngram import BEGIN, END, SPECIAL, UNKNOWN, estimate
from littlefoot.errors import ConfigError, LittlefootError

Gram = tuple[str, ...]

TEXT = """\
the cat sat on the mat
the dog sat on the log
a cat and a dog sat
the cat saw the dog
a dog saw a cat on the mat
on the mat the cat sat
the dog ran and the cat ran
the cat ran to the dog
a log is on a mat
zebra
"""
SENTENCES = [line.split() for line in TEXT.splitlines()]

CORPORA = st.lists(st.text("ab|", max_size=6), min_size=1, max_size=12).filter(any)
PRUNINGS = st.sampled_from([(), (0, 0, 1), (0, 1), (0, 1, 2), (0, 1, 100)])


def definition(sentences: Sequence[Sequence[str]], order: int, prune: Sequence[int]) -> Callable[..., float]:
    """The probability of a token after a history, as Chen and Goodman write it, without any table."""
    padded = [(BEGIN, *sentence, END) for sentence in sentences]
    raw: Counter[Gram] = Counter(
        words[start : start + length]
        for words in padded
        for length in range(1, order + 1)
        for start in range(len(words) - length + 1)
    )
    before = {gram: {longer[0] for longer in raw if longer[1:] == gram} for gram in raw}
    vocabulary = {UNKNOWN, END}.union(*sentences)
    thresholds = [*prune, *[prune[-1] if prune else 0] * order][:order]

    def adjusted(gram: Gram) -> int:
        return raw[gram] if len(gram) == order or gram[0] == BEGIN else len(before[gram])

    def discount(gram: Gram) -> float:
        times = Counter(adjusted(other) for other in raw if len(other) == len(gram) and other != (BEGIN,))
        found = [0.5, 1.0, 1.5]
        if times[1] and times[2] and times[3]:
            y = times[1] / (times[1] + 2 * times[2])
            exact = [k - (k + 1) * y * times[k + 1] / times[k] for k in (1, 2, 3)]
            found = exact if min(exact) > 0 else found
        return found[min(adjusted(gram), 3) - 1]

    def kept(gram: Gram) -> bool:
        return len(gram) == 1 or raw[gram] > thresholds[len(gram) - 1]

    def probability(token: str, history: Gram) -> float:
        history = history[max(0, len(history) - order + 1) :]
        lower = probability(token, history[1:]) if history else 1 / len(vocabulary)
        grams = [gram for gram in raw if gram[:-1] == history and gram != (BEGIN,)]
        if not grams:
            return lower
        total = sum(adjusted(gram) for gram in grams)
        left_over = sum(discount(gram) if kept(gram) else adjusted(gram) for gram in grams)
        gram = (*history, token)
        own = adjusted(gram) - discount(gram) if gram in grams and kept(gram) else 0
        return own / total + left_over / total * lower

    return probability


def histories(tokens: Sequence[str], order: int) -> list[Gram]:
    """Of every length that the order allows, seen or not; only the first token may be the begin."""
    inner = [token for token in tokens if token not in (BEGIN, END)]
    longest = [
        (first, *others)
        for length in range(order - 1)
        for first in (BEGIN, *inner)
        for others in product(inner, repeat=length)
    ]
    return [(), *longest]


def arpa(path: Path) -> list[dict[str, tuple[float, float]]]:
    """For each order: n-gram -> base-10 logarithms of probability and backoff. Checks the form on the way."""
    header, *sections = path.read_text(encoding="utf-8").split("\n\n")
    assert sections.pop() == "\\end\\\n"
    assert header.splitlines()[0] == "\\data\\"
    read = []
    for order, section in enumerate(sections, start=1):
        title, *lines = section.splitlines()
        assert title == f"\\{order}-grams:"
        assert header.splitlines()[order] == f"ngram {order}={len(lines)}"
        rows = [line.split("\t") for line in lines]
        assert {len(row) for row in rows} == {2 if order == len(sections) else 3}
        read.append({row[1]: (float(row[0]), float([*row, "0"][2])) for row in rows})
    return read


# What is estimated


def test_one_word_by_hand() -> None:
    model = estimate([["yes"]], order=1)
    # "yes" and the end occur once, less 0.5 each; what that leaves goes to three tokens alike.
    assert math.exp(model.log_prob("yes")) == pytest.approx(0.5 / 2 + 1 / 2 / 3)
    assert math.exp(model.log_prob(END)) == pytest.approx(0.5 / 2 + 1 / 2 / 3)
    assert math.exp(model.log_prob("no")) == pytest.approx(1 / 2 / 3)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("prune", [(), (0, 1), (0, 0, 1), (0, 1, 2)])
def test_probabilities_are_those_of_the_definition(order: int, prune: Sequence[int]) -> None:
    model = estimate(SENTENCES, order, prune[:order])
    probability = definition(SENTENCES, order, prune[:order])
    seen = {
        tuple(words[max(0, end - order + 1) : end])
        for words in ([BEGIN, *sentence] for sentence in SENTENCES)
        for end in range(len(words) + 1)
    }
    for history in [*seen, ("zebra", "the"), ("never", "seen", "cat")]:
        for token in (UNKNOWN, END, "the", "cat", "zebra"):
            assert model.log_prob(token, history) == pytest.approx(
                math.log(probability(token, history)), abs=1e-12
            )


@given(CORPORA, st.integers(1, 4), PRUNINGS)
@settings(max_examples=50, deadline=None)
def test_small_texts_too(sentences: list[str], order: int, prune: Sequence[int]) -> None:
    model = estimate(sentences, order, prune[:order])
    probability = definition(sentences, order, prune[:order])
    for history in [(BEGIN,), ("a",), ("b", "a"), (BEGIN, "a", "|")]:
        for token in (UNKNOWN, END, "a", "|"):
            expected = math.log(probability(token if token in model.tokens else UNKNOWN, history))
            assert model.log_prob(token, history) == pytest.approx(expected, abs=1e-12)


@given(CORPORA, st.integers(1, 4), PRUNINGS)
@settings(max_examples=50, deadline=None)
def test_probabilities_sum_to_one_after_every_history(
    sentences: list[str], order: int, prune: Sequence[int]
) -> None:
    model = estimate(sentences, order, prune[:order])
    predicted = [token for token in model.tokens if token != BEGIN]
    for history in histories(model.tokens, order):
        total = sum(math.exp(model.log_prob(token, history)) for token in predicted)
        assert total == pytest.approx(1, abs=1e-9)
    assert model.log_prob(BEGIN) == pytest.approx(-99 * math.log(10))


def test_the_figures_of_lmplz(tmp_path: Path) -> None:
    # lmplz -o 3 --prune 0 0 1 --discount_fallback
    write_arpa(estimate(SENTENCES, 3, (0, 0, 1)), tmp_path / "model.arpa")
    one, two, three = arpa(tmp_path / "model.arpa")
    assert (len(one), len(two), len(three)) == (17, 39, 8)
    assert one["<unk>"] == pytest.approx((-1.6048529, 0), abs=1e-6)
    assert one["<s>"][1] == pytest.approx(-0.13076828, abs=1e-6)
    assert one["cat"] == pytest.approx((-1.296874, -0.15490194), abs=1e-6)
    assert two["mat </s>"] == pytest.approx((-0.2778347, 0), abs=1e-6)
    assert two["<s> the"] == pytest.approx((-0.51746076, -0.0720864), abs=1e-6)
    assert two["the cat"] == pytest.approx((-1.3307323, -0.1585669), abs=1e-6)
    assert three["<s> the cat"][0] == pytest.approx(-1.4028187, abs=1e-6)
    assert three["sat on the"][0] == pytest.approx(-0.3349198, abs=1e-6)


def test_pruning_leaves_out_what_is_rare_and_only_that() -> None:
    full, pruned = estimate(SENTENCES, 3), estimate(SENTENCES, 3, (0, 1, 2))
    assert [len(table.last) for table in full.tables] == [17, 39, 47]
    padded = [[BEGIN, *sentence, END] for sentence in SENTENCES]
    for length, threshold in ((2, 1), (3, 2)):
        raw = Counter(
            tuple(words[i : i + length]) for words in padded for i in range(len(words) - length + 1)
        )
        table = pruned.tables[length - 1]
        assert len(table.last) == sum(count > threshold for count in raw.values())
    assert len(pruned.tables[0].last) == len(full.tables[0].last)


def test_a_model_is_no_longer_than_its_sentences() -> None:
    assert estimate([["a"], ["a", "b"]], order=9).order == 4
    assert estimate(SENTENCES, 3, (0, 0, 100)).order == 2


def test_characters_are_tokens_like_words() -> None:
    model = estimate(["HELLO|HELLO"], order=3)
    assert model.tokens == (*SPECIAL, *"HELO|")
    assert model.log_prob("O", "LL") > model.log_prob("H", "LL")


# What is asked of a model


def test_unknown_tokens_share_one_probability_and_old_history_is_ignored() -> None:
    model = estimate(SENTENCES, 3)
    assert model.log_prob("parrot", ["the"]) == model.log_prob(UNKNOWN, ["the"])
    assert model.log_prob("mat", ["sat", "parrot", "on", "the"]) == model.log_prob("mat", ["on", "the"])
    assert estimate(SENTENCES, 1).log_prob("mat", ["the"]) == estimate(SENTENCES, 1).log_prob("mat")


def test_perplexity_is_the_inverse_geometric_mean_with_ends_of_sentences() -> None:
    model = estimate(SENTENCES, 3)
    total = (
        model.log_prob("the", [BEGIN])
        + model.log_prob("cat", [BEGIN, "the"])
        + model.log_prob(END, ["the", "cat"])
        + model.log_prob(END, [BEGIN])
    )
    assert model.perplexity([["the", "cat"], []]) == pytest.approx(math.exp(-total / 4))


def test_context_helps_where_text_repeats_itself() -> None:
    text = [["one", "two", "three", "four"]] * 10
    assert estimate(text, 2).perplexity(text) < 0.5 * estimate(text, 1).perplexity(text)


def test_a_perplexity_of_nothing_is_refused() -> None:
    with pytest.raises(LittlefootError, match="no sentences"):
        estimate(SENTENCES, 2).perplexity([])


# ARPA files


@pytest.mark.parametrize("order", [1, 3])
def test_an_arpa_file_holds_the_model(order: int, tmp_path: Path) -> None:
    model = estimate([*SENTENCES, ["\u00e9l\u00e8ve", "<br>", "\\end\\"]], order)
    write_arpa(model, tmp_path / "new" / "model.arpa")
    read = arpa(tmp_path / "new" / "model.arpa")
    assert read[0][BEGIN][0] == -99
    assert [len(grams) for grams in read] == [len(table.last) for table in model.tables]

    def log_prob(words: list[str]) -> float:
        """By the rule of the format."""
        text = " ".join(words)
        if text in read[len(words) - 1]:
            return read[len(words) - 1][text][0]
        backoff = read[len(words) - 2].get(" ".join(words[:-1]), (0, 0))[1]
        return backoff + log_prob(words[1:])

    for history in histories(["the", "cat", "<br>"], order):
        for token in ("mat", END, UNKNOWN, "\u00e9l\u00e8ve", "\\end\\"):
            expected = model.log_prob(token, history) / math.log(10)
            assert log_prob([*history, token]) == pytest.approx(expected, abs=2e-6)


@pytest.mark.parametrize("order", [2, 3, 5])
@pytest.mark.parametrize("prune", [(), (0, 1)])
def test_kenlm_reads_the_same_model(order: int, prune: Sequence[int], tmp_path: Path) -> None:
    kenlm = pytest.importorskip("kenlm")
    model = estimate(SENTENCES, order, prune)
    write_arpa(model, tmp_path / "model.arpa")
    loaded = kenlm.Model(str(tmp_path / "model.arpa"))
    assert loaded.order == model.order
    for words in (["the", "cat", "ran", "to", "the", "mat"], ["a", "parrot", "sat"], [], ["zebra"] * 5):
        padded = [BEGIN, *words, END]
        expected = [model.log_prob(padded[end], padded[:end]) / math.log(10) for end in range(1, len(padded))]
        scores = [score for score, _, _ in loaded.full_scores(" ".join(words))]
        assert scores == pytest.approx(expected, abs=1e-5)


def test_a_file_that_cannot_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "model.arpa"
    write_arpa(estimate(SENTENCES, 1), path)
    old = path.read_bytes()

    class Full(tuple[str, ...]):
        def __getitem__(self, index: Any) -> Any:
            raise OSError("no space left")

    model = estimate(SENTENCES, 2)
    with pytest.raises(LittlefootError, match=r"model\.arpa cannot be written"):
        write_arpa(dataclasses.replace(model, tokens=Full(model.tokens)), path)
    assert path.read_bytes() == old
    assert list(tmp_path.glob(".model.arpa*")) == []


# What cannot be estimated


@pytest.mark.parametrize(
    ("order", "prune", "message"),
    [
        (0, (), "order 0 is impossible"),
        (-1, (), "order -1 is impossible"),
        (2, (0, 0, 1), "3 pruning thresholds for order 2"),
        (3, (1, 1), "begin with 0"),
        (3, (0, 2, 1), "do not decrease"),
        (3, (0, -1), "0, -1 are impossible"),
    ],
)
def test_impossible_settings_are_refused(order: int, prune: Sequence[int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimate(SENTENCES, order, prune)


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ([], "nothing to estimate from"),
        ([[], []], "nothing to estimate from"),
        ([["a", "<s>"]], "'<s>', which has a special meaning"),
        ([["</s>"]], "'</s>'"),
        ([["<unk>"]], "'<unk>'"),
        ([["a b"]], "'a b' is empty or holds white space"),
        ([["a", ""]], "'' is empty or holds white space"),
        (["a b"], "' ' is empty or holds white space"),
    ],
)
def test_impossible_texts_are_refused(sentences: Sequence[Sequence[str]], message: str) -> None:
    with pytest.raises(LittlefootError, match=message):
        estimate(sentences, 2)


# The command


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def test_a_model_is_built_from_text(run: Run, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.arpa"
    code, printed, messages = run("lm", "build", text, "-o", out)
    assert (code, messages) == (0, f"littlefoot: saved {out}\n")
    figures = [line.split()[:2] for line in printed.splitlines()]
    assert figures == [
        ["sentences", "10"],
        ["words", "57"],
        ["1-grams", "17"],
        ["2-grams", "39"],
        ["3-grams", "47"],
        ["size", f"{out.stat().st_size / 1e6:.2f}"],
    ]
    expected = tmp_path / "expected.arpa"
    write_arpa(estimate([line.upper().split() for line in TEXT.splitlines()], 3), expected)
    assert out.read_bytes() == expected.read_bytes()


def test_figures_as_json_order_and_pruning(run: Run, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.arpa"
    result = run("lm", "build", text, "-o", out, "--order", "4", "--prune", "0,0,1", "--json")
    figures = json.loads(result.out)
    assert figures["bytes"] == out.stat().st_size
    tables = estimate(SENTENCES, 4, (0, 0, 1)).tables
    assert figures["ngrams"] == [len(table.last) for table in tables]
    assert (figures["sentences"], figures["words"]) == (10, 57)


def test_manifests_standard_input_and_text_are_read_together_and_normalized(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    (folder / "manifest.tsv").write_text(
        "id\tpath\tseconds\tspeaker\tsplit\ttext\n"
        "a\ta.wav\t1\tann\ttrain\tDon't stop.\nb\tb.wav\t1\tbob\ttest\tsecret\nc\tc.wav\t1\tann\ttrain\t\n"
    )
    row = {"id": "x", "path": "x.wav", "seconds": 1, "speaker": "y", "split": "train", "text": "Twenty-one!"}
    lines = tmp_path / "lines.jsonl"
    lines.write_text(json.dumps(row))
    plain = tmp_path / "plain.txt"
    plain.write_text("\ufeffOui\u2026 l\u2019\u00e9l\u00e8ve\r\n\r\n", encoding="utf-8")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("na\u00efve\n".encode())))
    out = tmp_path / "model.arpa"
    result = run("lm", "build", folder, lines, "-", plain, "-o", out, "--order", "1")
    assert result.code == 0, result.err
    words = {"DON'T", "STOP", "TWENTY", "ONE", "NA\u00cfVE", "OUI", "L'\u00c9L\u00c8VE"}
    assert arpa(out)[0].keys() == {*SPECIAL, *words}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"text\.txt holds no words"),
        (b"\n ... \n", r"text\.txt holds no words"),
        (b"fine\nr\xe9sum\xe9\n", r"text\.txt, line 2: is not UTF-8"),
        (b"fine\n\n<s> never </s>\n", r"text\.txt, line 3: holds <s>, which has a special meaning"),
        (b"a <UNK> b\n", r"text\.txt, line 1: holds <unk>"),
    ],
)
def test_useless_text_is_named(run: Run, text: Path, content: bytes, message: str) -> None:
    text.write_bytes(content)
    result = run("lm", "build", text, "-o", text.with_suffix(".arpa"))
    assert (result.code, result.out) == (1, "")
    assert re.search(message, result.err)
    assert result.err.count("\n") == 1
    assert not text.with_suffix(".arpa").exists()


def test_missing_input_and_existing_output_are_named(run: Run, text: Path, tmp_path: Path) -> None:
    result = run("lm", "build", tmp_path / "none.txt", "-o", tmp_path / "out.arpa")
    assert result.code == 1
    assert "none.txt: cannot be read" in result.err
    result = run("lm", "build", tmp_path, "-o", tmp_path / "out.arpa")
    assert result.code == 1
    assert "holds neither manifest.tsv" in result.err
    result = run("lm", "build", text, "-o", text)
    assert result.code == 1
    assert "text.txt exists: choose another output" in result.err
    assert text.read_text() == TEXT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--order", "0"), "order 0 is impossible"),
        (("--prune", "0,few"), "--prune 0,few is not a list of numbers"),
        (("--prune", "1"), "begin with 0"),
    ],
)
def test_wrong_settings_are_exit_code_2(
    run: Run, text: Path, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    result = run("lm", "build", text, "-o", tmp_path / "out.arpa", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@given(CORPORA, st.integers(1, 6))
def test_a_limit_on_histories_prunes_as_far_as_it_must(corpus: list[str], limit: int) -> None:
    limited = estimate(corpus, 3, max_histories=limit)
    assert sum(len(set(table.prefix.tolist())) for table in limited.tables[1:]) <= limit
    thresholds = range(len("".join(corpus)) + 2)
    pruned = [estimate(corpus, 3, (0, threshold)) for threshold in thresholds]
    fitting = next(
        model
        for model in pruned
        if sum(len(set(table.prefix.tolist())) for table in model.tables[1:]) <= limit
    )
    assert limited.tokens == fitting.tokens
    for ours, theirs in zip(limited.tables, fitting.tables, strict=True):
        assert ours.log_prob.tolist() == theirs.log_prob.tolist()
