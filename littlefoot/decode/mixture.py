"""Several n-gram models as one: the weighted mean of their probabilities (linear interpolation).

The n-grams of the mixture are those of all models; what none of them has is approximated by backing off
(Stolcke, "SRILM: an extensible language modeling toolkit", ICSLP 2002, section 4.2). The best weights for a
text come from expectation maximisation (Jelinek and Mercer, "Interpolated estimation of Markov source
parameters from sparse data", 1980).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from littlefoot.decode.ngram import BEGIN, END, Integers, NGram, Table
from littlefoot.decode.pruning import normalize
from littlefoot.errors import ConfigError, LittlefootError

Floats = NDArray[np.float64]

_ROUNDS = 100
"""Rounds of expectation maximisation; it converges long before."""


def mix(models: Sequence[NGram], weights: Sequence[float]) -> NGram:
    """Mix several models into one, whose probabilities are the weighted means of theirs.

    A token that a model does not have has the probability 0 in it.

    Args:
        models: M of them; their tokens may differ.
        weights: M positive numbers; their sum counts as 1.

    Raises:
        ConfigError: there are no models, or the weights do not fit them.
    """
    if not models or len(weights) != len(models):
        raise ConfigError(f"{len(weights)} weights do not fit {len(models)} models: give one for each")
    if not all(0 < weight < np.inf for weight in weights):
        named = ", ".join(f"{weight:g}" for weight in weights)
        raise ConfigError(f"the weights {named} are impossible: they are positive numbers")
    log_weights = np.log(np.array(weights) / sum(weights))
    tokens = tuple(dict.fromkeys(token for model in models for token in model.tokens))
    tables: list[Table] = []
    for order in range(1, max(model.order for model in models) + 1):
        prefix, last = _union(models, tokens, tables, order)
        table = Table(prefix, last, np.zeros(len(last)), np.zeros(len(last)))
        grams = NGram(tokens, (*tables, table)).grams(order)
        scores = np.full(len(grams), -np.inf)
        for model, log_weight in zip(models, log_weights, strict=True):
            scores = np.logaddexp(scores, log_weight + _scores(model, tokens, grams))
        tables.append(replace(table, log_prob=scores))
    return normalize(tokens, tables)


def best_weights(models: Sequence[NGram], sentences: Iterable[Sequence[str]]) -> list[float]:
    """Find the weights of the mixture that maximise the likelihood of a text; they sum to 1.

    Args:
        models: M of them.
        sentences: the tokens of each. Tokens that no model has do not count.

    Raises:
        LittlefootError: no token counts.
    """
    tokens = tuple(dict.fromkeys(token for model in models for token in model.tokens))
    number = {token: index for index, token in enumerate(tokens)}
    order = max(model.order for model in models)
    rows: list[list[int]] = []
    for sentence in sentences:
        numbers = [number.get(token, -1) for token in [BEGIN, *sentence, END]]
        padded = [-1] * (order - 1) + numbers
        rows += [padded[end - order : end] for end in range(order + 1, len(padded) + 1)]
    grams = np.array(rows, np.int64).reshape(-1, order)
    probabilities = np.exp([_scores(model, tokens, grams) for model in models])  # (M, N)
    probabilities = probabilities[:, probabilities.max(axis=0) > 0]
    if not probabilities.size:
        raise LittlefootError("the models have no word of the text: tune with a text of their language")
    weights: Floats = np.full(len(models), 1 / len(models))
    for _ in range(_ROUNDS):
        shares = weights[:, None] * probabilities
        weights = (shares / shares.sum(axis=0)).mean(axis=1)
    return [float(weight) for weight in weights]


def _scores(model: NGram, tokens: Sequence[str], grams: Integers) -> Floats:
    """(N,) as ``NGram.scores``, for n-grams (N, n) of the numbers of other tokens, n of any size."""
    numbers = {token: number for number, token in enumerate(model.tokens)}
    own = np.array([numbers.get(token, -1) for token in tokens] + [-1])  # the last for -1
    return model.scores(own[grams[:, max(0, grams.shape[1] - model.order) :]])


def _union(
    models: Sequence[NGram], tokens: tuple[str, ...], tables: Sequence[Table], order: int
) -> tuple[Integers, Integers]:
    """Return the n-grams that a model has, each once: (N,) their prefixes in the tables so far, (N,) last
    tokens.
    """
    if order == 1:
        return np.zeros(len(tokens), np.int64), np.arange(len(tokens))
    number = {token: index for index, token in enumerate(tokens)}
    shorter = NGram(tokens, tuple(tables))
    keys = []
    for model in models:
        if order <= model.order:
            grams = np.array([number[token] for token in model.tokens])[model.grams(order)]
            keys.append(shorter.rows(grams[:, :-1]) * len(tokens) + grams[:, -1])
    prefix, last = np.divmod(np.unique(np.concatenate(keys)), len(tokens))
    return prefix, last
