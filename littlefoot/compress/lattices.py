"""Make lattices of a teacher's best texts, for ``littlefoot.training.lfmmi``."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.beam import BeamConfig, BeamDecoder
from littlefoot.decode.graph import FrameGraph, TokenGraph, TokenModel, compose, ctc_graph, n_best
from littlefoot.decode.spans import log_softmax

HYPOTHESES = 8
"""Texts in a lattice, at most."""
BEAM = 16


def teacher_lattices(
    logits: Tensor, frames: Tensor, vocabulary: Vocabulary, model: TokenModel
) -> list[FrameGraph]:
    """Find the alignments of the best texts of each utterance by a beam search without a language model.

    A text weighs its probability by ``model`` times the teacher's confidence in it: its probability given
    the speech, as a share of those of all texts of the lattice. All token sequences that the search counts
    as the text are in the lattice (``spellings``), so the teacher's own paths are, but for those through
    special tokens that it gives less than the search's ``token_floor`` in every frame.

    Args:
        logits: (B, F, V) the teacher's.
        frames: (B,)
        model: of the denominator that they are used with.
    """
    decoder = BeamDecoder(vocabulary, 1.0, BeamConfig(beam=BEAM))  # no times are asked for
    rows = logits.detach().double().cpu().numpy()
    lattices = []
    for row, count in zip(rows, frames.tolist(), strict=True):
        search = decoder.start()
        search.feed(row[:count])
        likely = (log_softmax(row[:count]) >= decoder.config.token_floor).any(0)
        best = search.finish(HYPOTHESES).alternatives
        scores = np.array([alternative.score for alternative in best])
        beliefs = scores - np.logaddexp.reduce(scores)
        texts = [vocabulary.encode(alternative.text) for alternative in best]
        special = np.flatnonzero(decoder.special & likely).tolist()
        graph = spellings(texts, beliefs.tolist(), vocabulary.delimiter, special)
        lattices.append(ctc_graph(compose(graph, model), vocabulary.blank))
    return lattices


def spellings(
    texts: Sequence[Sequence[int]], log_weights: Sequence[float], delimiter: int, special: Sequence[int]
) -> TokenGraph:
    """Make a graph of texts that accepts all token sequences of each, with the text's weight.

    These are the sequences that ``littlefoot.decode.beam`` counts as one text: those with delimiters before,
    after and repeated between its words, and with special tokens anywhere.

    Args:
        texts: tokens without special ones, and without delimiters at the ends.
        delimiter: the word delimiter; -1 for an alphabet that has none.
        special: tokens that write nothing.
    """
    texts, log_weights = [*texts], [*log_weights]
    if delimiter >= 0:
        log_weights += [weight for text, weight in zip(texts, log_weights, strict=True) if text]
        texts += [[*text, delimiter] for text in texts if text]
    tree = n_best(texts, log_weights)
    states = np.arange(len(tree.final))
    after_delimiter = np.concatenate([[tree.start], tree.target[tree.token == delimiter]])
    if delimiter < 0:
        after_delimiter = after_delimiter[:0]
    loops = np.concatenate([after_delimiter, np.repeat(states, len(special))]).astype(np.int64)
    silent = np.concatenate([np.full(len(after_delimiter), delimiter), np.tile(special, len(states))]).astype(
        np.int64
    )
    return TokenGraph(
        np.concatenate([tree.source, loops]),
        np.concatenate([tree.target, loops]),
        np.concatenate([tree.token, silent]),
        np.concatenate([tree.log_weight, np.zeros(len(loops))]),
        tree.final,
        tree.start,
    )
