"""Lattice-free MMI: every number against an enumeration of all alignments, and a model that learns by it."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import groupby, product
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Run
from hypothesis import given, settings
from hypothesis import strategies as st
from tones import write_recipe
from torch import Tensor

from littlefoot.audio import manifest
from littlefoot.compress import load_recipe
from littlefoot.compress.finetune import begin
from littlefoot.decode import ngram
from littlefoot.decode.graph import (
    FrameGraph,
    TokenModel,
    compose,
    ctc_graph,
    linear,
    n_best,
    token_model,
    viterbi,
)
from littlefoot.errors import ConfigError, EngineError, TrainingError
from littlefoot.training import train as trainer
from littlefoot.training.forward_backward import (
    Denominator,
    denominator_posteriors,
    numerator_posteriors,
    occupancy,
)
from littlefoot.training.lfmmi import LFMMI, lattice_mmi, lfmmi, make_denominator, sequence_kl
from littlefoot.training.train_config import TrainConfig

BLANK, LABELS = 0, 4  # of the tokens 1, 2 and 3 the last does not occur in the texts
TEXTS = ["1 2 1", "1 1 2", "2 2 2 1", "2", "1 2 2 1 1 2 1", "1 2 1 2", "2 1"]
Alignment = tuple[int, ...]


def model(order: int = 3) -> TokenModel:
    return token_model(ngram.estimate([text.split() for text in TEXTS], order), LABELS, BLANK)


def anything(labels: int) -> TokenModel:
    """All token sequences, each with weight 1."""
    log_prob = np.zeros((1, labels))
    log_prob[0, BLANK] = -np.inf
    return TokenModel(np.zeros((1, labels), np.int64), log_prob, np.zeros(1), start=0)


def random_logits(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(*shape, generator=generator, dtype=torch.float64)


def tokens_of(path: Sequence[int]) -> tuple[int, ...]:
    return tuple(label for label, _ in groupby(path) if label != BLANK)


def path_scores(logits: Tensor, graph: TokenModel) -> dict[Alignment, float]:
    """The score of every path of labels through logits (F, V), by the definition."""
    return {
        path: graph.score(tokens_of(path)) + sum(float(logits[t, label]) for t, label in enumerate(path))
        for path in product(range(logits.shape[1]), repeat=len(logits))
    }


def log_sum(scores: Sequence[float]) -> float:
    return float(np.logaddexp.reduce(np.array(scores)))


def weight(graph: FrameGraph, path: Sequence[int]) -> float:
    """The sum of the weights of all state sequences that have these labels."""
    states = np.where(graph.label == path[0], np.exp(graph.initial), 0.0)
    for label in path[1:]:
        entered = np.bincount(graph.target, states[graph.source] * np.exp(graph.log_weight), len(graph.label))
        states = np.where(graph.label == label, entered, 0.0)
    return float(states @ np.exp(graph.final))


# Graphs


@settings(max_examples=25)
@given(st.lists(st.integers(1, 2), max_size=4), st.integers(1, 5))
def test_a_text_has_its_alignments_and_no_others(tokens: list[int], frames: int) -> None:
    graph = ctc_graph(linear(tokens), BLANK)
    for path in product(range(3), repeat=frames):
        assert weight(graph, path) == (1.0 if tokens_of(path) == tuple(tokens) else 0.0)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_the_denominator_weighs_every_alignment_as_the_n_gram_weighs_its_tokens(order: int) -> None:
    estimated = ngram.estimate([text.split() for text in TEXTS], order)
    automaton = token_model(estimated, LABELS, BLANK)
    graph = ctc_graph(automaton.graph(), BLANK)
    for path in product(range(LABELS), repeat=5):
        tokens = [*map(str, tokens_of(path)), ngram.END]
        expected = sum(
            estimated.log_prob(token, [ngram.BEGIN, *tokens[:place]]) for place, token in enumerate(tokens)
        )
        assert weight(graph, path) == pytest.approx(math.exp(expected), rel=1e-9)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize("size", [3, 4, 6])  # no token unknown, one, several
def test_the_probabilities_after_every_history_sum_to_one(order: int, size: int) -> None:
    estimated = ngram.estimate([text.split() for text in TEXTS], order)
    automaton = token_model(estimated, size, BLANK)
    totals = np.exp(automaton.log_prob).sum(1) + np.exp(automaton.final)
    np.testing.assert_allclose(totals, 1.0, rtol=1e-12)
    assert np.isneginf(automaton.log_prob[:, BLANK]).all()
    assert np.isfinite(np.delete(automaton.log_prob, BLANK, axis=1)).all()
    known = np.exp(estimated.log_prob("1", [ngram.BEGIN]))
    unknown = np.exp(estimated.log_prob(ngram.UNKNOWN, [ngram.BEGIN]))
    share = np.exp(automaton.log_prob[automaton.start])
    assert share[1] == pytest.approx(known if size > 3 else known / (1 - unknown))
    assert share[3:].sum() == pytest.approx(unknown if size > 3 else 0)


def test_a_tree_of_hypotheses_shares_beginnings_and_takes_on_the_models_weights() -> None:
    tree = n_best([[1, 2], [1, 3], [1], [1, 2]], np.log([0.4, 0.3, 0.2, 0.1]).tolist())
    assert len(tree.source) == 3
    graph = ctc_graph(compose(tree, model()), BLANK)
    for path in product(range(LABELS), repeat=4):
        tokens = tokens_of(path)
        share = {(1, 2): 0.5, (1, 3): 0.3, (1,): 0.2}.get(tokens, 0.0)
        assert weight(graph, path) == pytest.approx(share * math.exp(model().score(tokens)), rel=1e-9)


def test_the_best_path_is_the_best_of_all() -> None:
    logits = random_logits(6, LABELS)
    scores = path_scores(logits, model())
    graph = ctc_graph(model().graph(), BLANK)
    assert tuple(viterbi(logits.numpy(), graph)) == max(scores, key=lambda path: scores[path])
    with pytest.raises(EngineError, match="no path of the decoding graph has 2 frames"):
        viterbi(logits.numpy()[:2], ctc_graph(linear([1, 1]), BLANK))


# Forward and backward


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_scores_and_posteriors_are_those_of_all_paths(order: int) -> None:
    log_probs = random_logits(2, 6, LABELS).log_softmax(-1)
    frames = torch.tensor([6, 4])
    denominator = Denominator(model(order), BLANK)
    score, posteriors = denominator_posteriors(log_probs.float(), frames, denominator)
    of_logs = numerator_posteriors(log_probs.float(), frames, [denominator.graph] * 2)
    for utterance, length in enumerate(frames.tolist()):
        scores = path_scores(log_probs[utterance, :length], denominator.model)
        total = log_sum([*scores.values()])
        expected = torch.zeros(6, LABELS)
        for path, value in scores.items():
            for t, label in enumerate(path):
                expected[t, label] += math.exp(value - total)
        for found_score, found_posteriors in ((score, posteriors), of_logs):
            assert float(found_score[utterance]) == pytest.approx(total, abs=1e-5)
            torch.testing.assert_close(found_posteriors[utterance], expected, atol=1e-5, rtol=0)


def test_a_leak_adds_jumps_to_the_transitions() -> None:
    log_probs = random_logits(1, 5, LABELS).log_softmax(-1)
    denominator = Denominator(model(), BLANK, leak=0.3)
    graph = denominator.graph
    states = len(graph.label)
    transitions = np.zeros((states, states))
    np.add.at(transitions, (graph.source, graph.target), np.exp(graph.log_weight))
    leaky = transitions + 0.3 * np.outer(np.ones(states), occupancy(graph) @ transitions)

    now = log_probs[0].double().clone().requires_grad_()
    alpha = torch.tensor(np.exp(graph.initial)) * now[0, graph.label].exp()
    for t in range(1, 5):
        alpha = (alpha @ torch.tensor(leaky)) * now[t, graph.label].exp()
    expected = (alpha @ torch.tensor(np.exp(graph.final))).log()
    expected.backward()
    score, posteriors = denominator_posteriors(log_probs, torch.tensor([5]), denominator)
    assert float(score) == pytest.approx(expected.item(), abs=1e-10)
    torch.testing.assert_close(posteriors[0], now.grad)


def test_the_leaks_jumps_are_to_states_as_a_random_walk_meets_them() -> None:
    graph = ctc_graph(linear([1]), BLANK)  # blank -> 1 -> blank, with loops
    share = occupancy(graph, frames=2)
    # The walk begins before the token or in it; a frame later, half of each has moved on.
    expected = {(BLANK, True): 0.5 + 0.25, (1, False): 0.5 + 0.5, (BLANK, False): 0.25}
    for state, label in enumerate(graph.label.tolist()):
        begins = label == BLANK and graph.initial[state] == 0
        assert share[state] == pytest.approx(expected[label, bool(begins)] / 2)


def long_batch(scale: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Two utterances of 30 s and one of 10 s in frames of 20 ms."""
    logits = scale * random_logits(3, 1500, LABELS)
    lengths = torch.tensor([300, 0, 100])
    targets = torch.randint(1, LABELS, (400,), generator=torch.Generator().manual_seed(1))
    return logits, torch.tensor([1500, 1500, 500]), targets, lengths


@pytest.mark.parametrize("scale", [1.0, 100.0])
@pytest.mark.parametrize("leak", [0.0, 0.1])
def test_thirty_seconds_in_float32_are_as_in_float64(scale: float, leak: float) -> None:
    logits, frames, targets, lengths = long_batch(scale)
    denominator = Denominator(model(4), BLANK, leak)
    results = []
    for dtype in (torch.float32, torch.float64):
        given_logits = logits.to(dtype).requires_grad_()
        loss = lfmmi(given_logits, frames, targets, lengths, denominator)
        loss.backward()
        posteriors = denominator_posteriors(logits.to(dtype).log_softmax(-1), frames, denominator)[1]
        results.append((float(loss.detach()), posteriors.double(), given_logits.grad))
    (loss32, posteriors32, gradient32), (loss64, posteriors64, _) = results
    assert loss32 == pytest.approx(loss64, rel=1e-5)
    assert gradient32 is not None
    assert gradient32.isfinite().all()
    torch.testing.assert_close(posteriors32, posteriors64, atol=3e-5, rtol=0)
    torch.testing.assert_close(posteriors32[0].sum(-1), torch.ones(1500).double(), atol=3e-5, rtol=0)
    assert (posteriors32[2, 500:] == 0).all()


@pytest.mark.parametrize("scale", [1e3, 1e4])  # with 1e5, PyTorch's CTC has no finite gradient any more
def test_extreme_logits_have_finite_losses_and_gradients(scale: float) -> None:
    logits, frames, targets, lengths = long_batch(scale)
    denominator = Denominator(model(4), BLANK)
    student = logits.float().requires_grad_()
    lattice = ctc_graph(linear([1, 2]), BLANK)
    losses = [
        lfmmi(student, frames, targets, lengths, denominator),
        sequence_kl(student, -logits.float(), frames, denominator),
        lattice_mmi(student, frames, [lattice] * 3, denominator),
    ]
    assert all(loss.isfinite() for loss in losses)
    torch.stack(losses).sum().backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_the_denominator_bears_any_finite_logits() -> None:
    logits, frames, _, _ = long_batch(1e30)
    score, posteriors = denominator_posteriors(
        logits.float().log_softmax(-1), frames, Denominator(model(4), BLANK)
    )
    assert score.isfinite().all()
    torch.testing.assert_close(posteriors.sum((1, 2)), frames.float(), rtol=1e-5, atol=0)


# Losses


def test_the_loss_is_the_posterior_probability_of_the_text() -> None:
    logits = random_logits(1, 6, LABELS)
    denominator = Denominator(model(), BLANK)
    scores = path_scores(logits[0] * 0.7, denominator.model)
    right = log_sum([score for path, score in scores.items() if tokens_of(path) == (1, 1, 2)])
    expected = (log_sum([*scores.values()]) - right + 0.25 * float(logits.square().sum())) / 3
    loss = lfmmi(
        logits.float(),
        torch.tensor([6]),
        torch.tensor([1, 1, 2]),
        torch.tensor([3]),
        denominator,
        acoustic_scale=0.7,
        l2=0.5,
    )
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_against_everything_with_weight_one_it_is_ctc() -> None:
    logits, frames, targets, lengths = long_batch(1.0)
    ours = logits.clone().requires_grad_()
    theirs = logits.clone().requires_grad_()
    loss = lfmmi(ours, frames, targets, lengths, Denominator(anything(LABELS), BLANK))
    log_probs = theirs.log_softmax(-1).transpose(0, 1)
    ctc = F.ctc_loss(log_probs, targets, frames, lengths, blank=BLANK, reduction="sum") / 400
    torch.testing.assert_close(loss, ctc)
    torch.testing.assert_close(*torch.autograd.grad((loss, ctc), (ours, theirs)))


@pytest.mark.parametrize("name", ["lfmmi", "sequence_kl", "lattice_mmi"])
@pytest.mark.parametrize("leak", [0.0, 0.2])
def test_gradients_are_finite_differences(name: str, leak: float) -> None:
    frames, denominator = torch.tensor([5, 3]), Denominator(model(), BLANK, leak)
    tree = compose(n_best([[1, 2], [2]], [-0.1, -2.0]), denominator.model)
    lattices = [ctc_graph(tree, BLANK), ctc_graph(linear([1]), BLANK)]

    def loss(logits: Tensor) -> Tensor:
        if name == "lfmmi":
            targets, lengths = torch.tensor([1, 2, 1]), torch.tensor([2, 1])
            return lfmmi(logits, frames, targets, lengths, denominator, 0.8, 0.01)
        if name == "sequence_kl":
            return sequence_kl(logits, random_logits(2, 5, LABELS, seed=9), frames, denominator, 0.8, 0.01)
        return lattice_mmi(logits, frames, lattices, denominator, 0.8, 0.01)

    assert torch.autograd.gradcheck(loss, random_logits(2, 5, LABELS).requires_grad_(), rtol=1e-3, atol=1e-7)


def test_the_divergence_is_that_of_the_distributions_over_paths() -> None:
    student, teacher = random_logits(1, 5, LABELS), random_logits(1, 5, LABELS, seed=1)
    denominator = Denominator(model(), BLANK)
    scores = [
        np.array([*path_scores(logits[0], denominator.model).values()]) for logits in (student, teacher)
    ]
    of_student, of_teacher = (each - log_sum(each.tolist()) for each in scores)
    expected = float((np.exp(of_teacher) * (of_teacher - of_student)).sum())
    found = sequence_kl(student.float(), teacher.float(), torch.tensor([5]), denominator)
    assert 5 * float(found) == pytest.approx(expected, abs=1e-5)


def test_a_student_like_its_teacher_has_nothing_to_learn() -> None:
    teacher = random_logits(2, 40, LABELS).float()
    student = (teacher + 3.0).requires_grad_()  # a constant changes nothing
    loss = sequence_kl(student, teacher, torch.tensor([40, 30]), Denominator(model(), BLANK))
    loss.backward()
    assert student.grad is not None
    assert float(loss.detach()) == pytest.approx(0, abs=1e-5)
    assert float(student.grad.abs().max()) < 1e-6


def test_a_lattice_of_one_text_is_the_text() -> None:
    logits, frames = random_logits(2, 9, LABELS), torch.tensor([9, 7])
    denominator = Denominator(model(), BLANK)
    texts = [[1, 1, 2], [2, 3]]
    lattices = [ctc_graph(compose(linear(text), denominator.model), BLANK) for text in texts]
    targets, lengths = torch.tensor(texts[0] + texts[1]), torch.tensor([3, 2])
    whole = lattice_mmi(logits, frames, lattices, denominator) * 16
    torch.testing.assert_close(whole, lfmmi(logits, frames, targets, lengths, denominator) * 5)


def test_a_batch_is_the_mean_of_its_utterances() -> None:
    logits, frames = random_logits(3, 30, LABELS).float(), torch.tensor([30, 12, 21])
    denominator = Denominator(model(), BLANK, leak=0.01)
    texts = [[1, 2, 2, 1], [3], [2, 1, 2]]
    lengths = torch.tensor([len(text) for text in texts])
    batch = lfmmi(logits, frames, torch.tensor([1, 2, 2, 1, 3, 2, 1, 2]), lengths, denominator)
    alone = [
        lfmmi(
            logits[i : i + 1, :count], frames[i : i + 1], torch.tensor(text), lengths[i : i + 1], denominator
        )
        for i, (text, count) in enumerate(zip(texts, frames.tolist(), strict=True))
    ]
    assert float(batch) == pytest.approx(sum(map(float, torch.stack(alone) * lengths)) / 8, rel=1e-5)


def test_a_text_that_does_not_fit_its_frames_counts_as_zero() -> None:
    logits, denominator = random_logits(2, 4, LABELS).requires_grad_(), Denominator(model(), BLANK)
    frames, lengths = torch.tensor([4, 4]), torch.tensor([3, 2])
    texts = [[1, 1, 1], [1, 2]]  # three equal tokens need five frames
    loss = lfmmi(logits, frames, torch.tensor([1, 1, 1, 1, 2]), lengths, denominator) * 5
    alone = lfmmi(logits[1:], frames[1:], torch.tensor(texts[1]), lengths[1:], denominator) * 2
    torch.testing.assert_close(loss, alone)
    lattices = [ctc_graph(compose(linear(text), denominator.model), BLANK) for text in texts]
    torch.testing.assert_close(lattice_mmi(logits, frames, lattices, denominator) * 8, alone)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[0] == 0).all()
    assert (gradient[1] != 0).any()


def test_half_precision_logits_have_a_loss_in_single_precision() -> None:
    logits = random_logits(1, 20, LABELS).bfloat16().requires_grad_()
    arguments = torch.tensor([20]), torch.tensor([1, 2]), torch.tensor([2]), Denominator(model(), BLANK)
    with torch.autocast("cpu", torch.bfloat16):
        loss = lfmmi(logits, *arguments)
    loss.backward()
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, lfmmi(logits.float(), *arguments))


# Training


def test_a_tiny_model_learns_by_it(tones: Path, tmp_path: Path) -> None:
    quiet = {"speeds": [1.0], "time_mask_fraction": 0.0, "feature_mask_fraction": 0.0}
    recipe_path = write_recipe(tmp_path, tones, steps=250, ema_decay=0.9, loss="lfmmi", **quiet)
    recipe = load_recipe(recipe_path)
    corpus = manifest.index(recipe.data)
    started = begin(recipe)
    denominator = make_denominator(corpus.of_split("train"), started.vocabulary, recipe.train)
    objective = LFMMI(started, denominator, recipe.train)
    wer = trainer.train(objective, corpus, recipe.train, tmp_path / "out")
    assert wer is not None
    assert wer <= 0.25


def test_the_command_trains_by_it(run: Run, tones: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tones, steps=2)
    result = run("train", recipe, "-o", tmp_path / "out", "--loss", "lfmmi")
    assert result.code == 0
    assert re.search(r"denominator: \d+ histories, \d+ states, \d+ arcs", result.err)


def test_the_denominator_is_made_of_the_texts_that_are_trained_on(tones: Path) -> None:
    vocabulary = begin(load_recipe(write_recipe(tones.parent, tones))).vocabulary
    usable = manifest.read(tones, "train")
    others = manifest.read(tones, "dev")[:1]
    outside = [manifest.Utterance("x", Path("x.wav"), 1.0, "", "train", "XYZ")]
    doubtful = [manifest.Utterance("y", Path("y.wav"), 1.0, "", "train", "A", disagreement=0.5)]
    made = make_denominator([*usable, *outside, *doubtful], vocabulary, TrainConfig())
    expected = make_denominator(usable, vocabulary, TrainConfig())
    np.testing.assert_array_equal(made.model.log_prob, expected.model.log_prob)
    with pytest.raises(TrainingError, match=r"denominator .*: check the manifests"):
        make_denominator(outside, vocabulary, TrainConfig())
    few = make_denominator([*usable, *others], vocabulary, TrainConfig(lfmmi_histories=3))
    assert len(few.model.final) <= 4  # and the empty one


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"loss": "mmi"}, "train.loss must be ctc or lfmmi, not 'mmi'"),
        ({"lfmmi_order": 0}, "train.lfmmi_order must be greater than 0"),
        ({"lfmmi_histories": 0}, "train.lfmmi_histories must be greater than 0"),
        ({"lfmmi_acoustic_scale": 0.0}, "train.lfmmi_acoustic_scale must be greater than 0"),
        ({"lfmmi_leak": -1.0}, "train.lfmmi_leak must be at least 0, not -1"),
        ({"lfmmi_l2": -1.0}, "train.lfmmi_l2 must be at least 0, not -1"),
    ],
)
def test_impossible_settings_are_refused(setting: dict[str, float | str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TrainConfig(**setting)
