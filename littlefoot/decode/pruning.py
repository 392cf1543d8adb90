"""Smaller n-gram models: leave out what backing off predicts nearly as well.

Stolcke, "Entropy-based pruning of backoff language models", DARPA Broadcast News Workshop 1998. An n-gram's
worth is the Kullback-Leibler divergence (nats per token) between the model with it and without it alone.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from littlefoot.decode.compact import compact_bytes
from littlefoot.decode.ngram import BEGIN, END, SPECIAL, UNKNOWN, Integers, NGram, Table
from littlefoot.errors import ConfigError

Floats = NDArray[np.float64]

_WORTH_RANGE = (1e-15, 1e3)
_HALVINGS = 40

_LEAST = 1e-9
"""Probability that is always left to tokens that do not follow a history in the model."""


def prune(model: NGram, threshold: float) -> NGram:
    """Leave out n-grams of two tokens and more that are worth no more than a threshold, and normalise again.

    What begins a longer n-gram that stays, stays.

    Args:
        model: normalised, as ``estimate`` and ``mix`` make it.
        threshold: nats per token; 1e-8 leaves out little, 1e-6 much.

    Raises:
        ConfigError: the threshold is negative or not finite.
    """
    if not 0 <= threshold < np.inf:
        raise ConfigError(f"the pruning threshold {threshold} is impossible: it is at least 0")
    left = _above(model, _worths(model), threshold)
    return normalize(left.tokens, left.tables)


def fit(model: NGram, max_bytes: int) -> NGram:
    """Prune a model just as much as its compact file (``littlefoot.decode.compact``) may have bytes.

    Raises:
        ConfigError: the single tokens alone have more.
    """
    worths = _worths(model)
    low, high = np.log(_WORTH_RANGE)
    if compact_bytes(_above(model, worths, np.exp(high))) > max_bytes:
        raise ConfigError(
            f"a model of {len(model.tokens)} tokens does not fit in {max_bytes / 1e6:.2f} MB: allow more"
        )
    if compact_bytes(model) <= max_bytes:
        return model
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if compact_bytes(_above(model, worths, np.exp(middle))) > max_bytes:
            low = middle
        else:
            high = middle
    left = _above(model, worths, np.exp(high))
    return normalize(left.tokens, left.tables)


def keep_likeliest(model: NGram, count: int, unknown: float) -> NGram:
    """Return the model of its ``count`` likeliest tokens, special ones included, the likeliest first.

    N-grams with others are left out, and their probability goes to all tokens that are left.

    Args:
        model: of more tokens.
        count: how many to keep.
        unknown: the probability of ``<unk>``. A recogniser spells one word: let it be that of any one that is
            left out, not of all together.
    """
    single = model.tables[0].log_prob
    ranked = sorted(range(len(SPECIAL), len(model.tokens)), key=lambda number: (-single[number], number))
    chosen = [*range(len(SPECIAL)), *ranked[: max(0, count - len(SPECIAL))]]
    number = np.full(len(model.tokens), -1)
    number[chosen] = np.arange(len(chosen))
    log_prob = single[chosen]
    log_prob[SPECIAL.index(UNKNOWN)] = -np.inf
    log_prob -= np.logaddexp.reduce(log_prob) - np.log1p(-unknown)
    log_prob[SPECIAL.index(UNKNOWN)] = np.log(unknown)
    none = np.zeros(len(chosen), np.int64)
    tables = [Table(none, np.arange(len(chosen)), log_prob, np.zeros(len(chosen)))]
    rows = number  # (N,) where the n-grams of one order are now, -1 where nowhere
    for table in model.tables[1:]:
        prefix, last = rows[table.prefix], number[table.last]
        kept = np.flatnonzero((prefix >= 0) & (last >= 0))
        sorting = kept[np.lexsort((last[kept], prefix[kept]))]
        if not len(sorting):
            break
        tables.append(Table(prefix[sorting], last[sorting], table.log_prob[sorting], np.zeros(len(sorting))))
        rows = np.full(len(table.last), -1)
        rows[sorting] = np.arange(len(sorting))
    return normalize([model.tokens[index] for index in chosen], tables)


def normalize(tokens: Sequence[str], tables: Sequence[Table]) -> NGram:
    """Compute the backoffs with which these probabilities sum to 1 over all tokens, after every history."""
    done = [replace(tables[0], log_backoff=np.zeros(len(tokens)))]
    for table in tables[1:]:
        shorter = NGram(tuple(tokens), tuple(done))
        order = len(done) + 1
        grams = NGram(tuple(tokens), (*done, table)).grams(order)
        left, lower = _left(table, shorter.scores(grams[:, 1:]), len(done[-1].last))
        followed = np.bincount(table.prefix, minlength=len(left)) > 0
        done[-1] = replace(done[-1], log_backoff=np.where(followed, np.log(left) - np.log(lower), 0.0))
        done.append(replace(table, log_backoff=np.zeros(len(table.last))))
    return NGram(tuple(tokens), tuple(done))


def _left(table: Table, lower: Floats, histories: int) -> tuple[Floats, Floats]:
    """(H,) what histories leave to tokens that do not follow them, and what shorter histories give those.

    ``lower``: (N,) log probabilities of the last tokens of the table after histories one token shorter.
    """
    taken = np.bincount(table.prefix, np.exp(table.log_prob), histories)
    given = np.bincount(table.prefix, np.exp(lower), histories)
    return np.maximum(1 - taken, _LEAST), np.maximum(1 - given, _LEAST)


def _histories(model: NGram) -> list[Floats]:
    """Return for each order the log probabilities (N,) of its n-grams as histories."""
    single = model.tables[0].log_prob.copy()
    single[SPECIAL.index(BEGIN)] = single[SPECIAL.index(END)]  # as many sentences begin as end
    found = [single]
    for table in model.tables[1:]:
        found.append(found[-1][table.prefix] + table.log_prob)
    return found


def _worth(model: NGram, order: int, histories: Floats) -> Floats:
    """(N,) of the n-grams of an order, equations 4 to 6; ``histories``: (H,) log probabilities."""
    table = model.tables[order - 1]
    lower = model.scores(model.grams(order)[:, 1:])
    left, given = _left(table, lower, len(histories))
    before = (np.log(left) - np.log(given))[table.prefix]
    left, given = left[table.prefix], given[table.prefix]
    probability = np.exp(table.log_prob)
    after = np.log(left + probability) - np.log(given + np.exp(lower))
    change = probability * (lower + after - table.log_prob) + left * (after - before)
    worth: Floats = -np.exp(histories[table.prefix]) * change
    return worth


def _worths(model: NGram) -> list[Floats]:
    """Return for each order the worth (N,) of its n-grams; single tokens always stay."""
    single = np.full(len(model.tokens), np.inf)
    histories = _histories(model)
    return [single, *(_worth(model, order, histories[order - 2]) for order in range(2, model.order + 1))]


def _above(model: NGram, worths: Sequence[Floats], threshold: float) -> NGram:
    """Keep the n-grams that are worth more than a threshold or are the beginning of one, without backoffs."""
    kept = [worth > threshold for worth in worths]
    for order in range(model.order, 1, -1):
        begins = model.tables[order - 1].prefix[kept[order - 1]]
        kept[order - 2][begins] = True
    tables = []
    numbers: Integers = np.zeros(1, np.int64)
    for table, keep in zip(model.tables, kept, strict=True):
        if not keep.any():
            break
        none = np.zeros(np.count_nonzero(keep))
        tables.append(Table(numbers[table.prefix[keep]], table.last[keep], table.log_prob[keep], none))
        numbers = np.cumsum(keep) - 1
    return NGram(model.tokens, tuple(tables))
