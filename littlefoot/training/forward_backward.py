"""The forward-backward algorithm over graphs of alignments, batched, with posteriors for a gradient.

The score of a path through logits is the sum of its frames' logits and of the graph's weights. A graph's log
score is the logarithm of the sum of exp(score) over all its paths; its gradient with respect to the logits is
the posterior probability of every label at every frame (Rabiner 1989; Povey et al., "Purely sequence-trained
neural networks for ASR based on lattice-free MMI", Interspeech 2016).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import once_differentiable

from littlefoot.decode.graph import Floats, FrameGraph, Integers, TokenModel, ctc_graph


class _LogScore(torch.autograd.Function):
    """Log scores (B,) with a gradient that is known: the posteriors (B, F, V) of the labels."""

    @staticmethod
    def forward(ctx: Any, scores: Tensor, log_score: Tensor, posteriors: Tensor) -> Tensor:
        ctx.save_for_backward(posteriors)
        return log_score.to(scores.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (posteriors,) = ctx.saved_tensors
        return gradient[:, None, None] * posteriors, None, None


def denominator_score(log_probs: Tensor, frames: Tensor, denominator: Denominator) -> Tensor:
    """Log scores (B,) of a denominator, differentiable. Args as ``denominator_posteriors``."""
    return _apply(log_probs, *denominator_posteriors(log_probs, frames, denominator))


def numerator_score(log_probs: Tensor, frames: Tensor, graphs: Sequence[FrameGraph]) -> Tensor:
    """Log scores (B,) of a graph for each utterance, differentiable. Args as ``numerator_posteriors``."""
    return _apply(log_probs, *numerator_posteriors(log_probs, frames, graphs))


def _apply(scores: Tensor, log_score: Tensor, posteriors: Tensor) -> Tensor:
    result: Tensor = _LogScore.apply(scores, log_score, posteriors)  # type: ignore[no-untyped-call]
    return result


class Denominator:
    """A graph of all token sequences, weighted by an n-gram model, and all their alignments, for all speech.

    Every label can follow every other within two frames, so what becomes too improbable for a float is
    negligible for good. So the algorithm may work with probabilities, scaled anew at each frame: a frame is
    one product with a sparse matrix.

    With ``leak``, before each frame but the first a path may jump as from a random state, for ``leak`` times
    its weight (the leaky HMM of Povey et al. 2016): a model that is wrong about a word's
    beginning then says less about its end.
    """

    def __init__(self, model: TokenModel, blank: int, leak: float = 0.0) -> None:
        self.model, self.blank, self.leak = model, blank, leak
        self.graph = ctc_graph(model.graph(), blank)
        self._matrices: dict[tuple[torch.device, torch.dtype], Matrices] = {}

    def __str__(self) -> str:
        counts = len(self.model.final), len(self.graph.label), len(self.graph.source)
        return "{} histories, {} states, {} arcs".format(*counts)

    def matrices(self, like: Tensor) -> Matrices:
        """Move the graph to a tensor's device and precision."""
        key = like.device, like.dtype
        if key not in self._matrices:
            self._matrices[key] = matrices(self.graph, self.leak, like)
        return self._matrices[key]


class Rows(NamedTuple):
    """A sparse matrix of R rows by its N entries, row after row."""

    begins: Tensor
    """(R,) where each row begins among the entries."""
    column: Tensor
    """(N,)"""
    value: Tensor
    """(N,)"""

    def times(self, dense: Tensor) -> Tensor:
        """Multiply a matrix (C, B); return the product (R, B)."""
        return F.embedding_bag(self.column, dense, self.begins, mode="sum", per_sample_weights=self.value)


class Matrices(NamedTuple):
    """A graph of S states and V labels as matrices."""

    forward: Rows
    """(S, S) weights from the states of one frame to those of the next."""
    backward: Rows
    """The transpose of ``forward``."""
    leaked: Tensor
    """(S,) where a jump leads within one frame, times the leak."""
    label: Tensor
    """(S,)"""
    of_label: Rows
    """(V, S) 1 where a state has a label."""
    initial: Tensor
    """(S,)"""
    final: Tensor
    """(S,)"""


def matrices(graph: FrameGraph, leak: float, like: Tensor) -> Matrices:
    states, weight = len(graph.label), np.exp(graph.log_weight)

    def tensor(values: NDArray[Any]) -> Tensor:
        dtype = like.dtype if values.dtype == np.float64 else torch.int64
        return torch.from_numpy(values).to(like.device, dtype)

    def rows(row: Integers, column: Integers, value: Floats, count: int) -> Rows:
        order = np.lexsort((column, row))
        begins = np.searchsorted(row[order], np.arange(count))
        return Rows(tensor(begins), tensor(column[order]), tensor(value[order]))

    leaked = np.bincount(graph.target, occupancy(graph)[graph.source] * weight, states)
    return Matrices(
        rows(graph.target, graph.source, weight, states),
        rows(graph.source, graph.target, weight, states),
        tensor(leak * leaked),
        tensor(graph.label),
        rows(graph.label, np.arange(states), np.ones(states), int(graph.label.max()) + 1),
        tensor(np.exp(graph.initial)),
        tensor(np.exp(graph.final)),
    )


def occupancy(graph: FrameGraph, frames: int = 100) -> Floats:
    """(S,) how often a random walk is in each state in its first frames, as Kaldi's chain models have it."""
    states, weight = len(graph.label), np.exp(graph.log_weight)
    leaving = np.bincount(graph.source, weight, states)
    now = np.exp(graph.initial) / np.exp(graph.initial).sum()
    total = np.zeros(states)
    for _ in range(frames):
        total += now
        now = np.bincount(graph.target, (now / leaving)[graph.source] * weight, states)
    mean: Floats = total / total.sum()
    return mean


@contextmanager
def one_thread() -> Iterator[None]:
    """Small operations on one thread of the CPU: several would mostly wait for one another after each."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@torch.no_grad()
@one_thread()
def denominator_posteriors(
    log_probs: Tensor, frames: Tensor, denominator: Denominator
) -> tuple[Tensor, Tensor]:
    """Compute the log score of each utterance and the posteriors of its labels.

    Of the states at F frames the square root is kept, from which the others are computed again when the
    backward pass needs them: less memory, and no more time where memory is slow to get.

    Args:
        log_probs: (B, F, V) with the sum of exp(log_probs) near 1 at each frame, so that it has no overflow.
        frames: (B,) of each utterance, at least 1.

    Returns:
        (B,) float64, and (B, F, V), zero after an utterance's last frame.
    """
    graph = denominator.matrices(log_probs)
    last = (frames - 1).tolist()
    length, states, batch = max(last) + 1, len(graph.label), len(last)
    ending: list[list[int]] = [[] for _ in range(length)]  # the utterances whose last frame each is
    for utterance, t in enumerate(last):
        ending[t].append(utterance)
    probs = log_probs[:, :length].permute(1, 2, 0).exp().contiguous()  # (F, V, B)
    total = probs.new_ones(length, batch)  # sums of alpha
    stride = math.isqrt(length)
    begins = range(0, length, stride)
    kept = probs.new_empty(len(begins), states, batch)  # alpha there; what is between is computed twice
    alphas = probs.new_empty(stride, states, batch)  # alpha from one of them to the next
    at_end = probs.new_empty(states, batch)  # alpha at each utterance's last frame
    emission = probs.new_empty(states, batch)  # at a frame, the probability of each state's label

    def advance(t: int) -> None:
        """Alpha at frame t from that of the frame before, whose sum divides it."""
        before = alphas[(t - 1) % stride]
        entering = graph.forward.times(before)
        if denominator.leak:
            entering.addr_(graph.leaked, total[t - 1])
        torch.index_select(probs[t], 0, graph.label, out=emission)
        torch.mul(entering, emission, out=alphas[t % stride])

    alphas[0] = graph.initial[:, None] * probs[0].index_select(0, graph.label)
    for t in range(length):
        if t:
            probs[t] /= total[t - 1]
            advance(t)
        alpha = alphas[t % stride]
        torch.sum(alpha, 0, out=total[t])
        if t % stride == 0:
            kept[t // stride] = alpha
        for utterance in ending[t]:
            at_end[:, utterance] = alpha[:, utterance]
    ended = (at_end * graph.final[:, None]).sum(0)  # (B,)
    before = torch.arange(length, device=frames.device)[:, None] < frames - 1  # (F, B)
    log_score = ended.double().log() + torch.where(before, total.double().log(), 0.0).sum(0)

    posteriors = torch.zeros_like(log_probs)
    labels = len(graph.of_label.begins)
    beta = alpha.new_zeros(states, batch)
    for begin in reversed(begins):
        within = range(begin, min(begin + stride, length))
        alphas[0] = kept[begin // stride]
        for t in within[1:]:
            advance(t)
        for t in reversed(within):
            for utterance in ending[t]:
                beta[:, utterance] = graph.final / ended[utterance]
            posteriors[:, t, :labels] = graph.of_label.times(alphas[t - begin].mul_(beta)).T
            torch.index_select(probs[t], 0, graph.label, out=emission)
            emission *= beta
            beta = graph.backward.times(emission)
            if denominator.leak:
                beta += (graph.leaked[:, None] * emission).sum(0)
    return log_score, posteriors


@torch.no_grad()
def numerator_posteriors(
    log_probs: Tensor, frames: Tensor, graphs: Sequence[FrameGraph]
) -> tuple[Tensor, Tensor]:
    """Compute posteriors like ``denominator_posteriors``, with a graph for each utterance.

    The computation uses logarithms, because a frame may leave only paths that were improbable before it. If a
    graph has no path of this number of frames, the score is -inf and the posteriors are zero.
    """
    like = log_probs
    entering, entering_weight = _padded(graphs, "target", "source", like)
    leaving, leaving_weight = _padded(graphs, "source", "target", like)
    label = _stacked([graph.label for graph in graphs], 0, like)  # (B, S)
    initial = _stacked([graph.initial for graph in graphs], -np.inf, like)
    final = _stacked([graph.final for graph in graphs], -np.inf, like)
    last, length = frames - 1, int(frames.max())

    def sums(values: Tensor, neighbour: Tensor, weight: Tensor) -> Tensor:
        """(B, S) log of the summed weights through each state's neighbours (B, S, D)."""
        through = values.gather(1, neighbour.flatten(1)).view_as(weight) + weight
        return through.logsumexp(-1)

    alphas: list[Tensor] = []
    tops: list[Tensor] = []  # alpha is kept with 0 as its largest value
    for t in range(length):
        alpha = sums(alphas[-1], entering, entering_weight) if t else initial
        alpha = alpha + log_probs[:, t].gather(1, label)
        top = alpha.amax(1, keepdim=True).nan_to_num(neginf=0.0)
        alphas.append(alpha - top)
        tops.append(top)
    utterances = torch.arange(len(graphs), device=frames.device)
    ended = (torch.stack(alphas)[last, utterances] + final).logsumexp(1)  # (B,)
    log_score = ended.double() + torch.cat(tops, 1).double().cumsum(1)[utterances, last]

    posteriors = torch.zeros_like(log_probs)
    at_end = final - ended.nan_to_num(neginf=0.0)[:, None]
    beta = torch.full_like(final, -np.inf)
    for t in reversed(range(length)):
        beta = torch.where((last == t)[:, None], at_end, beta)
        posteriors[:, t].scatter_add_(1, label, (alphas[t] + beta).exp())
        emitted = beta + log_probs[:, t].gather(1, label) - tops[t]
        beta = sums(emitted, leaving, leaving_weight)
    return log_score, posteriors


def _stacked(rows: Sequence[NDArray[Any]], padding: float, like: Tensor) -> Tensor:
    """Arrays of different lengths as one tensor (B, longest)."""
    padded = np.full((len(rows), max(map(len, rows))), padding, rows[0].dtype)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    dtype = like.dtype if padded.dtype == np.float64 else torch.int64
    return torch.from_numpy(padded).to(like.device, dtype)


def _padded(graphs: Sequence[FrameGraph], of: str, other: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """(B, S, D) the states at the ``other`` ends of the arcs at each state, and their weights."""
    states = max(len(graph.label) for graph in graphs)
    degree = max(int(np.bincount(getattr(graph, of)).max()) for graph in graphs)
    neighbour = np.zeros((len(graphs), states, degree), np.int64)
    weight = np.full(neighbour.shape, -np.inf)
    for number, graph in enumerate(graphs):
        order = np.argsort(getattr(graph, of), kind="stable")
        row = getattr(graph, of)[order]
        nth = np.arange(len(row)) - np.searchsorted(row, row)
        neighbour[number, row, nth] = getattr(graph, other)[order]
        weight[number, row, nth] = graph.log_weight[order]
    return torch.from_numpy(neighbour).to(like.device), torch.from_numpy(weight).to(like.device, like.dtype)
