"""Weighted graphs of token sequences, and of the frames that CTC lets them become.

A ``TokenGraph`` accepts sequences of tokens: a transcript, a teacher's hypotheses, or all sequences, weighted
by an n-gram model. ``ctc_graph`` turns it into the graph of their alignments (Graves et al. 2006): every
token for one or more frames, any number of blanks between two, at least one between equal ones. There are no
empty arcs, and a sequence of labels that has one path in tokens has one path in frames.

All weights are natural logarithms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from littlefoot.decode.ngram import BEGIN, END, SPECIAL, UNKNOWN, NGram
from littlefoot.errors import EngineError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TokenGraph:
    """Token sequences and their weights: Q states, A arcs."""

    source: Integers
    """(A,) the state that an arc leaves."""
    target: Integers
    """(A,) the state that an arc enters."""
    token: Integers
    """(A,) the token of an arc."""
    log_weight: Floats
    """(A,)"""
    final: Floats
    """(Q,) weight of ending in a state; -inf where no sequence ends."""
    start: int = 0


@dataclass(frozen=True)
class FrameGraph:
    """Alignments and their weights: S states, A arcs. A path is in one state at each frame."""

    source: Integers
    """(A,)"""
    target: Integers
    """(A,)"""
    log_weight: Floats
    """(A,)"""
    label: Integers
    """(S,) the token or blank of the frames spent in a state; ascending."""
    initial: Floats
    """(S,) weight of being in a state at the first frame."""
    final: Floats
    """(S,) weight of being in it at the last frame."""


@dataclass(frozen=True)
class TokenModel:
    """An n-gram model of V tokens as an automaton whose H states are histories.

    After any history the probabilities of all tokens and of the end sum to 1.
    """

    target: Integers
    """(H, V) the history after a token."""
    log_prob: Floats
    """(H, V) log probability of a token after a history; -inf for the blank."""
    final: Floats
    """(H,) log probability of the end after a history."""
    start: int

    def score(self, tokens: Sequence[int]) -> float:
        """Return the logarithm of the probability of a whole sequence."""
        state, total = self.start, 0.0
        for token in tokens:
            total += self.log_prob[state, token]
            state = self.target[state, token]
        return float(total + self.final[state])

    def graph(self) -> TokenGraph:
        """Return a graph of all token sequences."""
        source, token = np.nonzero(np.isfinite(self.log_prob))
        target, log_prob = self.target[source, token], self.log_prob[source, token]
        return TokenGraph(source, target, token, log_prob, self.final, self.start)


def token_model(model: NGram, size: int, blank: int) -> TokenModel:
    """Make an n-gram model of the ``size`` tokens of a vocabulary, which the model calls "0", "1", "2", ...

    A state is the longest part of the history after which the model has tokens, so probabilities are exactly
    the model's. Tokens that it lacks share the probability of ``<unk>``.
    """
    width = len(model.tokens)
    log_prob = model.tables[0].log_prob[None]  # (H, width)
    target = np.zeros((1, width), np.int64)  # (H, width)
    states = np.zeros(1, np.int64)  # of n-grams one shorter: the state that each is, or -1
    suffixes = np.zeros(width, np.int64)  # of this order's n-grams: all tokens but the first, one order lower
    start = 0
    for table, longer in pairwise(model.tables):
        found = np.unique(longer.prefix)
        added = len(target) + np.arange(len(found))
        target[states[table.prefix[found]], table.last[found]] = added
        lower = states[suffixes[found]]
        target = np.concatenate([target, target[lower]])
        log_prob = np.concatenate([log_prob, table.log_backoff[found, None] + log_prob[lower]])
        states = np.full(len(table.last), -1)
        states[found] = added
        log_prob[states[longer.prefix], longer.last] = longer.log_prob
        if table is model.tables[0]:
            start = max(int(states[SPECIAL.index(BEGIN)]), 0)
        keys = table.prefix * width + table.last
        suffixes = keys.searchsorted(suffixes[longer.prefix] * width + longer.last)

    known = np.array([int(token) for token in model.tokens[len(SPECIAL) :]])
    others = np.setdiff1d(np.arange(size), [*known, blank])
    unknown = log_prob[:, SPECIAL.index(UNKNOWN)] - np.log(max(len(others), 1))
    of_tokens = np.full((len(target), size), -np.inf)
    of_tokens[:, known] = log_prob[:, len(SPECIAL) :]
    of_tokens[:, others] = unknown[:, None]
    after = np.zeros((len(target), size), np.int64)
    after[:, known] = target[:, len(SPECIAL) :]
    final = log_prob[:, SPECIAL.index(END)]
    total = np.logaddexp(np.logaddexp.reduce(of_tokens, axis=1), final)  # below 0 if no token is unknown
    return TokenModel(after, of_tokens - total[:, None], final - total, start)


def linear(tokens: Sequence[int]) -> TokenGraph:
    """Make a graph of one sequence, with weight 1."""
    length = len(tokens)
    final = np.full(length + 1, -np.inf)
    final[-1] = 0.0
    states = np.arange(length)
    return TokenGraph(states, states + 1, np.array(tokens, np.int64), np.zeros(length), final)


def n_best(hypotheses: Sequence[Sequence[int]], log_weights: Sequence[float]) -> TokenGraph:
    """Make a graph of sequences with weights: a tree of their common beginnings."""
    arcs: dict[tuple[int, int], int] = {}
    ends = []
    for tokens in hypotheses:
        state = 0
        for token in tokens:
            state = arcs.setdefault((state, token), len(arcs) + 1)
        ends.append(state)
    final = np.full(len(arcs) + 1, -np.inf)
    np.logaddexp.at(final, ends, np.array(log_weights, np.float64))
    pairs = np.array([*arcs], np.int64).reshape(-1, 2)
    return TokenGraph(pairs[:, 0], np.arange(len(arcs)) + 1, pairs[:, 1], np.zeros(len(arcs)), final)


def compose(graph: TokenGraph, model: TokenModel) -> TokenGraph:
    """Multiply the weight of each path of a graph by the model's probability of its tokens."""
    leaving: list[list[int]] = [[] for _ in graph.final]
    for arc, state in enumerate(graph.source.tolist()):
        leaving[state].append(arc)
    pairs = {(graph.start, model.start): 0}  # the states: of the graph, of the model
    waiting = list(pairs)
    arcs: list[tuple[int, int, int, float]] = []
    for state, history in waiting:  # grows while it is read
        for arc in leaving[state]:
            token = int(graph.token[arc])
            after = int(graph.target[arc]), int(model.target[history, token])
            if after not in pairs:
                pairs[after] = len(pairs)
                waiting.append(after)
            weight = float(graph.log_weight[arc] + model.log_prob[history, token])
            arcs.append((pairs[state, history], pairs[after], token, weight))
    source, target, token_of, log_weight = np.array(arcs, np.float64).reshape(-1, 4).T
    ends = np.array(waiting)
    return TokenGraph(
        source.astype(np.int64),
        target.astype(np.int64),
        token_of.astype(np.int64),
        log_weight,
        graph.final[ends[:, 0]] + model.final[ends[:, 1]],
    )


def ctc_graph(tokens: TokenGraph, blank: int) -> FrameGraph:
    """Make the graph of the alignments of a graph's sequences.

    A state is a label together with a state of the token graph: the token that led there, or a blank after
    it.
    """
    size, arcs = len(tokens.final), len(tokens.source)
    label = np.concatenate([tokens.token, np.full(size, blank)])
    keys, inverse = np.unique(
        label * size + np.concatenate([tokens.target, np.arange(size)]), return_inverse=True
    )
    label, place = np.divmod(keys, size)  # (S,)
    spoken, silent = inverse[:arcs], inverse[arcs:]  # the state that each arc enters; the blank at each place

    every = np.arange(len(label))
    voiced = np.flatnonzero(label != blank)
    # From each state, each arc that leaves its place, but for those with the same token.
    by_source = np.argsort(tokens.source, kind="stable")
    counts = np.bincount(tokens.source, minlength=size)  # (Q,)
    firsts = np.cumsum(counts) - counts
    leaving = counts[place]  # (S,)
    source = np.repeat(every, leaving)
    nth = np.arange(len(source)) - np.repeat(np.cumsum(leaving) - leaving, leaving)
    arc = by_source[firsts[place[source]] + nth]
    allowed = label[source] != tokens.token[arc]
    source, arc = source[allowed], arc[allowed]

    initial = np.full(len(label), -np.inf)
    initial[silent[tokens.start]] = 0.0
    begins = tokens.source == tokens.start
    np.logaddexp.at(initial, spoken[begins], tokens.log_weight[begins])
    return FrameGraph(
        np.concatenate([every, voiced, source]),
        np.concatenate([every, silent[place[voiced]], spoken[arc]]),
        np.concatenate([np.zeros(len(every) + len(voiced)), tokens.log_weight[arc]]),
        label,
        initial,
        tokens.final[place],
    )


def viterbi(logits: NDArray[np.floating], graph: FrameGraph) -> Integers:
    """Find the labels (F,) of a graph's heaviest path (Viterbi 1967) through logits (F, V).

    Raises EngineError if no path has this number of frames.
    """
    scores = np.asarray(logits, np.float64)[:, graph.label]  # (F, S)
    order = np.argsort(graph.target, kind="stable")
    source, log_weight = graph.source[order], graph.log_weight[order]
    begins = np.searchsorted(graph.target[order], np.arange(len(graph.label) + 1))
    best = np.empty_like(scores)  # (F, S) of all paths that end in a state
    before = graph.initial
    for frame, score in enumerate(scores):
        if frame:
            before = np.maximum.reduceat(best[frame - 1][source] + log_weight, begins[:-1])
        best[frame] = before + score
    state = int(np.argmax(best[-1] + graph.final)) if len(best) else 0
    if not len(best) or np.isneginf(best[-1, state] + graph.final[state]):
        raise EngineError(f"no path of the decoding graph has {len(best)} frames")
    path = [state]
    for frame in range(len(best) - 1, 0, -1):
        entering = slice(begins[state], begins[state + 1])
        state = int(source[entering][np.argmax(best[frame - 1][source[entering]] + log_weight[entering])])
        path.append(state)
    return graph.label[path[::-1]]
