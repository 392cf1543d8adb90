"""Make lattices of a teacher's best texts, for ``littlefoot.training.lfmmi``."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.beam import BeamConfig, BeamDecoder
from littlefoot.decode.graph import FrameGraph, TokenModel, compose, ctc_graph, n_best

HYPOTHESES = 8
"""Texts in a lattice, at most."""
BEAM = 16


def teacher_lattices(
    logits: Tensor, frames: Tensor, vocabulary: Vocabulary, model: TokenModel
) -> list[FrameGraph]:
    """The alignments of the best texts of each utterance, found by a beam search without a language model.

    A text weighs its probability by ``model`` times how far the teacher believes it: its probability given
    the speech, as a share of those of all texts of the lattice.

    Args:
        logits: (B, F, V) the teacher's.
        frames: (B,)
        model: of the denominator that they are used with.
    """
    decoder = BeamDecoder(vocabulary, 1.0, BeamConfig(beam=BEAM))  # no times are asked for
    rows = logits.detach().float().cpu().numpy()
    lattices = []
    for row, count in zip(rows, frames.tolist(), strict=True):
        search = decoder.start()
        search.feed(row[:count])
        best = search.finish(HYPOTHESES).alternatives
        scores = np.array([alternative.score for alternative in best])
        beliefs = scores - np.logaddexp.reduce(scores)
        tree = n_best([vocabulary.encode(alternative.text) for alternative in best], beliefs.tolist())
        lattices.append(ctc_graph(compose(tree, model), vocabulary.blank))
    return lattices
