"""Teacher lattices against an enumeration of all paths, in float64."""

from __future__ import annotations

from itertools import groupby, product

import numpy as np
import pytest
import torch
from torch import Tensor

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.compress import lattices as module
from littlefoot.compress.lattices import HYPOTHESES, spellings, teacher_lattices
from littlefoot.decode import ngram
from littlefoot.decode.graph import TokenModel, compose, ctc_graph, token_model
from littlefoot.training.forward_backward import Denominator, numerator_score
from littlefoot.training.lfmmi import lattice_mmi

WORDS = Vocabulary(("<pad>", "|", "A", "B", "<unk>"), 0)
LETTERS = Vocabulary(("<pad>", "A", "B", "<unk>"), 0, " ")  # no word delimiter, as in Chinese
TEXTS = ["A B", "AB A", "B", "BA"]


def model(vocabulary: Vocabulary) -> TokenModel:
    texts = [text if vocabulary.delimiter >= 0 else text.replace(" ", "") for text in TEXTS]
    tokens = [[str(token) for token in vocabulary.encode(text)] for text in texts]
    return token_model(ngram.estimate(tokens, 2), len(vocabulary.tokens), 0)


def collapsed(path: tuple[int, ...]) -> tuple[int, ...]:
    """The tokens of an alignment, special ones included."""
    return tuple(token for token, _ in groupby(path) if token)


def all_paths(vocabulary: Vocabulary, logits: Tensor) -> list[tuple[str, tuple[int, ...], float]]:
    """Text, tokens and log probability of every path through logits (F, V)."""
    log_probs = torch.log_softmax(logits, -1).tolist()
    return [
        (vocabulary.decode(collapsed(path)), collapsed(path), sum(map(list.__getitem__, log_probs, path)))
        for path in product(range(logits.shape[1]), repeat=len(logits))
    ]


@pytest.mark.parametrize("vocabulary", [WORDS, LETTERS], ids=["delimiter", "no delimiter"])
@pytest.mark.parametrize("count", [1, 3, 5])
def test_a_lattice_holds_every_path_of_the_best_texts(
    vocabulary: Vocabulary, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BEAM", 10_000)  # nothing is pruned
    logits = torch.randn(count, len(vocabulary.tokens), generator=torch.Generator().manual_seed(count))
    logits = logits.double()
    paths = all_paths(vocabulary, logits)
    scores: dict[str, float] = {}
    for text, _, score in paths:
        scores[text] = float(np.logaddexp(scores.get(text, -np.inf), score))
    best = sorted(scores, key=lambda text: -scores[text])[:HYPOTHESES]
    everything = float(np.logaddexp.reduce([scores[text] for text in best]))
    tokens = model(vocabulary)
    expected = np.logaddexp.reduce(
        [
            score + tokens.score(spelled) + scores[text] - everything
            for text, spelled, score in paths
            if text in best
        ]
    )
    frames = torch.tensor([count])
    (lattice,) = teacher_lattices(logits[None], frames, vocabulary, tokens)
    found = numerator_score(torch.log_softmax(logits, -1)[None], frames, [lattice])
    assert float(found[0]) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("path", ["AB|", "|AB", "A_B|_|", "|_|AB", "A?B", "?AB|?"])
def test_what_a_certain_teacher_says_is_in_its_lattice(path: str) -> None:
    labels = torch.tensor(["_|AB?".index(letter) for letter in path])
    logits = 40.0 * torch.nn.functional.one_hot(labels, 5).double()[None]
    frames = torch.tensor([len(path)])
    denominator = Denominator(model(WORDS), 0)
    lattices = teacher_lattices(logits, frames, WORDS, denominator.model)
    assert float(lattice_mmi(logits, frames, lattices, denominator)) == pytest.approx(0, abs=1e-6)


def test_other_texts_are_not_in_a_lattice() -> None:
    tokens = model(WORDS)
    graph = compose(spellings([[2, 3], []], [0.0, 0.0], WORDS.delimiter, [4]), tokens)
    lattice = ctc_graph(graph, 0)
    for path in product(range(5), repeat=4):
        sure = torch.full((1, 4, 5), -np.inf, dtype=torch.float64)
        sure[0, range(4), path] = 0.0
        found = float(numerator_score(sure, torch.tensor([4]), [lattice])[0])
        expected = tokens.score(collapsed(path)) if WORDS.decode(collapsed(path)) in ("AB", "") else -np.inf
        assert found == pytest.approx(expected, abs=1e-9), path
