"""Smaller and mixed language models against their definitions: entropy pruning, interpolation, weights."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import Run
from test_compact import LETTERS
from test_ngram import SENTENCES, TEXT

from littlefoot.decode import lm as language_models
from littlefoot.decode.arpa import read_arpa, write_arpa
from littlefoot.decode.compact import CompactNGram, compact_bytes, write_compact
from littlefoot.decode.lm import load
from littlefoot.decode.mixture import best_weights, mix
from littlefoot.decode.ngram import BEGIN, END, UNKNOWN, NGram, Table, estimate
from littlefoot.decode.pruning import fit, keep_likeliest, normalize, prune
from littlefoot.errors import ConfigError, LittlefootError

MODEL = estimate(SENTENCES, 3)
OTHER = estimate([line.split() for line in ("the mouse ran", "a mouse saw the cat", "the cat sat")], 2)


def ngrams(model: NGram, order: int) -> list[tuple[str, ...]]:
    return [tuple(model.tokens[number] for number in gram) for gram in model.grams(order).tolist()]


def assert_sums_are_one(model: NGram) -> None:
    predicted = [token for token in model.tokens if token != BEGIN]
    for history in product([BEGIN, "the", "cat", "on", "mouse"], repeat=2):
        total = sum(math.exp(model.log_prob(token, history)) for token in predicted)
        assert total == pytest.approx(1, abs=1e-6)


def test_scores_of_many_ngrams_are_those_of_each() -> None:
    for order in (1, 2, 3):
        grams = np.array(list(product(range(len(MODEL.tokens)), repeat=order)))[::5]
        expected = [
            MODEL.log_prob(MODEL.tokens[gram[-1]], [MODEL.tokens[number] for number in gram[:-1]])
            for gram in grams.tolist()
        ]
        assert MODEL.scores(grams) == pytest.approx(expected)


def test_a_token_that_a_model_lacks_ends_histories_and_is_impossible() -> None:
    the, cat = MODEL.tokens.index("the"), MODEL.tokens.index("cat")
    scores = MODEL.scores(np.array([[the, -1, cat], [-1, the, cat], [the, cat, -1]]))
    assert scores == pytest.approx([MODEL.log_prob("cat"), MODEL.log_prob("cat", ["the"]), -math.inf])


# Pruning


def worth(model: NGram, order: int, row: int) -> float:
    """By definition: the divergence of the model without an n-gram, over all tokens after its history."""
    table = model.tables[order - 1]
    keep = np.arange(len(table.last)) != row
    whole = replace(model, tables=model.tables[:order])
    left = Table(table.prefix[keep], table.last[keep], table.log_prob[keep], table.log_backoff[keep])
    without = normalize(model.tokens, [*model.tables[: order - 1], left])
    history = ngrams(model, order)[row][:-1]
    divergence = 0.0
    for token in model.tokens:
        if token != BEGIN:
            before, after = whole.log_prob(token, history), without.log_prob(token, history)
            divergence += math.exp(before) * (before - after)
    probability = math.exp(model.log_prob(END)) if history[0] == BEGIN else 1.0
    for end in range(1 if history[0] == BEGIN else 0, len(history)):
        probability *= math.exp(model.log_prob(history[end], history[:end]))
    return probability * divergence


@pytest.mark.parametrize("threshold", [1e-3, 2e-3, 4e-3])
def test_pruning_keeps_what_is_worth_more_than_the_threshold(threshold: float) -> None:
    pruned = prune(MODEL, threshold)
    keep: set[tuple[str, ...]] = set()
    for order in (3, 2):
        grams = ngrams(MODEL, order)
        keep = {gram[:-1] for gram in keep}
        keep |= {gram for row, gram in enumerate(grams) if worth(MODEL, order, row) > threshold}
        assert set(ngrams(pruned, order) if order <= pruned.order else []) == keep
        assert 0 < len(keep) < len(grams)
    for gram in ngrams(pruned, 2):
        assert pruned.log_prob(gram[-1], gram[:-1]) == pytest.approx(MODEL.log_prob(gram[-1], gram[:-1]))
    assert_sums_are_one(pruned)


def test_a_model_is_pruned_to_a_size_and_no_further() -> None:
    whole = compact_bytes(MODEL)
    assert fit(MODEL, whole) is MODEL
    sizes = [compact_bytes(fit(MODEL, limit)) for limit in (whole - 10, whole - 100, whole - 300)]
    for size, limit in zip(sizes, (whole - 10, whole - 100, whole - 300), strict=True):
        assert limit - 60 < size <= limit
    assert_sums_are_one(fit(MODEL, whole - 100))
    with pytest.raises(ConfigError, match=r"17 tokens does not fit in 0\.00 MB: allow more"):
        fit(MODEL, 100)


def test_entropy_pruning_costs_less_than_leaving_out_what_is_rare() -> None:
    rare = estimate(SENTENCES, 3, prune=(0, 0, 1))
    pruned = fit(MODEL, compact_bytes(rare))
    assert pruned.perplexity(SENTENCES) < rare.perplexity(SENTENCES)


def test_the_likeliest_tokens_are_kept_and_sorted() -> None:
    small = keep_likeliest(MODEL, 7, unknown=1e-3)
    single = dict(MODEL.words())
    ranked = sorted(MODEL.tokens[3:], key=lambda token: -single[token])
    assert small.tokens[3:] == tuple(ranked[:4])
    assert dict(small.words())[UNKNOWN] == pytest.approx(math.log(1e-3))
    assert_sums_are_one(small)
    kept = {gram for gram in ngrams(MODEL, 3) if set(gram) <= set(small.tokens)}
    assert set(ngrams(small, 3)) == kept
    for gram in kept:
        assert small.log_prob(gram[-1], gram[:-1]) == pytest.approx(MODEL.log_prob(gram[-1], gram[:-1]))


@pytest.mark.parametrize("threshold", [-1e-9, math.inf, math.nan])
def test_impossible_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"the pruning threshold .* is impossible: it is at least 0"):
        prune(MODEL, threshold)


# Mixtures


def test_a_mixture_has_the_weighted_means_of_the_probabilities() -> None:
    mixed = mix([MODEL, OTHER], [3, 1])
    assert set(mixed.tokens) == set(MODEL.tokens) | set(OTHER.tokens)
    for order in (1, 2, 3):
        grams = set(ngrams(MODEL, order)) | (set(ngrams(OTHER, order)) if order < 3 else set())
        assert set(ngrams(mixed, order)) == grams
        for *history, token in grams:
            means = [
                weight * math.exp(model.log_prob(token, history)) if token in model.tokens else 0.0
                for model, weight in ((MODEL, 0.75), (OTHER, 0.25))
            ]
            assert mixed.log_prob(token, history) == pytest.approx(math.log(sum(means)))
    assert_sums_are_one(mixed)


def test_a_model_alone_stays_itself() -> None:
    alone = mix([MODEL], [0.2])
    assert alone.perplexity(SENTENCES) == pytest.approx(MODEL.perplexity(SENTENCES))
    assert ngrams(alone, 3) == ngrams(MODEL, 3)


def test_the_best_weights_make_the_text_likeliest() -> None:
    text = [line.split() for line in ("the mouse sat on the mat", "a mouse ran", "the unheard cat")]
    share, rest = best_weights([MODEL, OTHER], text)
    assert share + rest == pytest.approx(1)
    padded = [[BEGIN, *sentence, END] for sentence in text]

    def likelihood(weight: float) -> float:
        total = 0.0
        for sentence in padded:
            for end in range(1, len(sentence)):
                token, history = sentence[end], sentence[:end]
                found = [
                    part * math.exp(model.log_prob(token, history[-2:]))
                    for model, part in ((MODEL, weight), (OTHER, 1 - weight))
                    if token in model.tokens
                ]
                total += math.log(sum(found)) if found else 0.0
        return total

    assert 0.05 < share < 0.95
    assert likelihood(share) >= max(likelihood(weight) for weight in np.linspace(0.001, 0.999, 300)) - 1e-9


@pytest.mark.parametrize(
    ("models", "weights", "message"),
    [
        ([], [], "0 weights do not fit 0 models"),
        ([MODEL, OTHER], [1.0], "1 weights do not fit 2 models: give one for each"),
        ([MODEL, OTHER], [1.0, 0.0], "the weights 1, 0 are impossible: they are positive numbers"),
        ([MODEL], [math.nan], "the weights nan are impossible"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    models: Sequence[NGram], weights: Sequence[float], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        mix(models, weights)
    with pytest.raises(LittlefootError, match="no word of the text: tune with a text of their language"):
        best_weights([OTHER], [])


# The commands, and models with names


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "first.arpa", tmp_path / "second.arpa"]
    for path, model in zip(paths, (MODEL, OTHER), strict=True):
        write_arpa(model, path)
    return paths


def test_models_are_mixed_tuned_and_pruned(run: Run, parts: list[Path], tmp_path: Path) -> None:
    (tmp_path / "dev.txt").write_text("the mouse sat\n")
    out = tmp_path / "mixed.arpa"
    code, printed, messages = run("lm", "mix", *parts, "-o", out, "--weights", "3,1")
    assert (code, messages) == (0, f"littlefoot: saved {out}\n")
    assert "[0.75, 0.25]" in printed
    assert read_arpa(out).perplexity(SENTENCES) == pytest.approx(
        mix([MODEL, OTHER], [3, 1]).perplexity(SENTENCES), rel=1e-5
    )
    small = tmp_path / "small.lflm"
    code, printed, _ = run(
        "lm", "mix", *parts, "-o", small, "--tune", tmp_path / "dev.txt", "--max-mb", "0.0082", "--json"
    )
    figures = json.loads(printed)
    assert code == 0
    assert sum(figures["weights"]) == pytest.approx(1, abs=1e-3)
    assert figures["bytes"] == small.stat().st_size <= 8200
    assert sum(figures["ngrams"]) < sum(len(table.last) for table in mix([MODEL, OTHER], [1, 1]).tables)
    assert len(CompactNGram(small).tokens) == figures["ngrams"][0]


def test_a_compact_model_is_built_from_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text(TEXT)
    code, _, _ = run("lm", "build", tmp_path / "text.txt", "-o", tmp_path / "model.lflm")
    assert code == 0
    expected = estimate([line.upper().split() for line in TEXT.splitlines()], 3)
    state = load(tmp_path / "model.lflm", LETTERS).begin()
    log_prob, _ = CompactNGram(tmp_path / "model.lflm").step(state, "THE")
    assert log_prob == pytest.approx(expected.log_prob("THE", [BEGIN]), rel=1e-6)


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--weights", "1,x"], 2, "--weights 1,x is not a list of numbers such as 0.7,0.3"),
        (["--weights", "1"], 2, "1 weights do not fit 2 models"),
        (["--weights", "1,1", "--tune", "text"], 2, "--weights and --tune exclude each other"),
        (["--max-mb", "0.001"], 2, "does not fit in 0.00 MB"),
    ],
)
def test_wrong_options_are_named(
    options: list[str], code: int, message: str, run: Run, parts: list[Path], tmp_path: Path
) -> None:
    found, _, messages = run("lm", "mix", *parts, "-o", tmp_path / "out.arpa", *options)
    assert found == code
    assert message in messages
    assert not (tmp_path / "out.arpa").exists()


def test_a_name_is_the_model_that_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_models, "BUNDLED", tmp_path)
    with pytest.raises(LittlefootError, match=r"'en' is not part of this .*scripts/english_lm\.py"):
        load("en", LETTERS)
    with pytest.raises(LittlefootError, match=r"de: neither a file nor the name of a language model \(en\)"):
        load("de", LETTERS)
    write_compact(estimate([["SO", "LONG"]], 2), tmp_path / "en.lflm")
    assert "LONG" in load("en", LETTERS)
