"""Compute lattice-free MMI, which compares a text with all other token sequences.

Povey et al., "Purely sequence-trained neural networks for ASR based on lattice-free MMI", Interspeech 2016;
with CTC's topology and all alignments of the text instead of one, as in Hadian et al., "End-to-end speech
recognition using lattice-free MMI", Interspeech 2018. The denominator holds all token sequences, weighted by
an n-gram model, and all their alignments.

With ``log_score`` as in ``forward_backward``, the posterior probability of the token sequences Y is

    log P(Y | logits) = log_score(alignments of Y, weighted by the n-gram) - log_score(denominator)

The numerator carries the n-gram's weights too, so this is a probability. Adding a constant to the logits of a
frame changes nothing, which is why all of this works on the logits' log softmax.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio.manifest import Corpus, Utterance
from littlefoot.decode import ngram
from littlefoot.decode.align import frames_needed
from littlefoot.decode.graph import FrameGraph, compose, ctc_graph, token_model
from littlefoot.errors import LittlefootError, TrainingError
from littlefoot.training.data import Batch
from littlefoot.training.forward_backward import (
    Denominator,
    denominator_posteriors,
    denominator_score,
    numerator_score,
)
from littlefoot.training.module import CTCModel
from littlefoot.training.objective import CTC, Objective
from littlefoot.training.pronunciations import read_pronunciations, spelling
from littlefoot.training.train_config import TrainConfig


def objective_for(model: CTCModel, corpus: Corpus, config: TrainConfig) -> Objective:
    """Return the objective that ``train.loss`` names; LF-MMI takes its n-gram from the training texts."""
    if config.loss == "ctc":
        return CTC(model)
    return LFMMI(model, make_denominator(corpus.of_split("train"), model.vocabulary, config), config)


class LFMMI(Objective):
    """Lattice-free MMI of the texts."""

    def __init__(self, model: CTCModel, denominator: Denominator, config: TrainConfig) -> None:
        super().__init__(model)
        self.denominator, self.config = denominator, config
        self._spoken = config.lexicon and read_pronunciations(config.lexicon, model.vocabulary)

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits, frames = self.model(batch.waveforms, batch.lengths, batch.time_mask, batch.feature_mask)
        rest = self.denominator, self.config.lfmmi_acoustic_scale, self.config.lfmmi_l2
        if not self._spoken:
            return {"loss": lfmmi(logits, frames, batch.targets, batch.target_lengths, *rest)}
        # Any pronunciation of a word may be the right one.
        graphs = [compose(self._spoken.graph(text), self.denominator.model) for text in batch.texts]
        lattices = [ctc_graph(graph, self.denominator.blank) for graph in graphs]
        loss = lattice_mmi(logits, frames, lattices, *rest)
        return {"loss": loss * frames.sum() / batch.target_lengths.sum().clamp(min=1)}


def make_denominator(
    utterances: Iterable[Utterance], vocabulary: Vocabulary, config: TrainConfig
) -> Denominator:
    """Make the denominator from the training texts, which are read once.

    Raises TrainingError if there are none.
    """
    spelled = spelling(vocabulary, config.lexicon)
    texts = (
        [str(token) for token in spelled.encode(utterance.text)]
        for utterance in utterances
        if not spelled.unknown(utterance.text) and (utterance.disagreement or 0.0) <= config.max_disagreement
    )
    try:
        model = ngram.estimate(texts, config.lfmmi_order, max_histories=config.lfmmi_histories)
    except LittlefootError as error:
        raise TrainingError(
            f"LF-MMI's denominator cannot be made of the texts ({error}): check the manifests"
        ) from error
    tokens = token_model(model, len(vocabulary.tokens), vocabulary.blank)
    return Denominator(tokens, vocabulary.blank, config.lfmmi_leak)


def lfmmi(
    logits: Tensor,
    frames: Tensor,
    targets: Tensor,
    target_lengths: Tensor,
    denominator: Denominator,
    acoustic_scale: float = 1.0,
    l2: float = 0.0,
) -> Tensor:
    """-log P(texts | logits) in nats per character: the batch's sum over its number of characters.

    As with ``ctc_loss``, a text that does not fit its frames counts as zero.

    Args:
        logits: (B, F, V)
        frames: (B,)
        targets: (sum of target_lengths,)
        target_lengths: (B,)
        denominator: the model of all token sequences.
        acoustic_scale: factor of the logits, against the weights of the n-gram model.
        l2: half of it times the sum of the logits' squares is added to each utterance's loss.
    """
    log_probs = scaled_log_softmax(logits, acoustic_scale)
    alignments = -F.ctc_loss(
        log_probs.transpose(0, 1),
        targets,
        frames,
        target_lengths,
        blank=denominator.blank,
        reduction="none",
        zero_infinity=True,
    )  # (B,) the sum over a text's alignments, without the n-gram's weight
    texts = [tokens.tolist() for tokens in torch.split(targets.cpu(), target_lengths.tolist())]
    fits = torch.tensor([frames_needed(text) for text in texts], device=frames.device) <= frames
    prior = log_probs.new_tensor([denominator.model.score(text) for text in texts])
    scores = alignments + prior - denominator_score(log_probs, frames, denominator)
    total = -torch.where(fits, scores, 0.0).sum() + l2_penalty(logits, frames, l2)
    return total / target_lengths.sum().clamp(min=1)


def sequence_kl(
    logits: Tensor,
    teacher_logits: Tensor,
    frames: Tensor,
    denominator: Denominator,
    acoustic_scale: float = 1.0,
    l2: float = 0.0,
) -> Tensor:
    """Compute the divergence of a student's distribution over the denominator's paths from its teacher's.

    The Kullback-Leibler divergence KL(T || S) in nats per frame: the batch's sum over its number of frames.
    It is log_score(S) - log_score(T) + sum gamma (T - S), with gamma the posteriors of the teacher's labels,
    because the n-gram's weight of a path is the same on both sides. The gradient is the student's posteriors
    less the teacher's.

    Args as ``lfmmi``; teacher_logits (B, F, V) get no gradient.
    """
    student = scaled_log_softmax(logits, acoustic_scale)
    teacher = scaled_log_softmax(teacher_logits.detach(), acoustic_scale)
    teacher_score, posteriors = denominator_posteriors(teacher, frames, denominator)
    difference = (posteriors * (teacher - student)).sum((1, 2))
    divergence = denominator_score(student, frames, denominator) - teacher_score + difference
    return (divergence.sum().to(student.dtype) + l2_penalty(logits, frames, l2)) / frames.sum()


def lattice_mmi(
    logits: Tensor,
    frames: Tensor,
    lattices: Sequence[FrameGraph],
    denominator: Denominator,
    acoustic_scale: float = 1.0,
    l2: float = 0.0,
) -> Tensor:
    """-log P(lattice | logits) in nats per frame: the batch's sum over its number of frames.

    Any of a lattice's sequences may be the right one. The weights of each should be its probability by the
    denominator's model times how far it is believed, at most 1: ``graph.compose`` of an ``n_best``, then
    ``ctc_graph``. A lattice without a path of as many frames counts as zero.

    Args as ``lfmmi``; lattices: one for each utterance.
    """
    log_probs = scaled_log_softmax(logits, acoustic_scale)
    numerator = numerator_score(log_probs, frames, lattices)
    scores = numerator - denominator_score(log_probs, frames, denominator)
    total = -torch.where(numerator.isfinite(), scores, 0.0).sum() + l2_penalty(logits, frames, l2)
    return total / frames.sum()


def scaled_log_softmax(logits: Tensor, acoustic_scale: float) -> Tensor:
    """(B, F, V), in float32 also under autocast."""
    return torch.log_softmax(acoustic_scale * in_single(logits), dim=-1)


def l2_penalty(logits: Tensor, frames: Tensor, l2: float) -> Tensor:
    """Half the sum of squares of the logits (B, F, V) of all utterances, times ``l2``."""
    within = torch.arange(logits.shape[1], device=frames.device) < frames[:, None]  # (B, F)
    return 0.5 * l2 * (in_single(logits).square().sum(-1) * within).sum()


def in_single(values: Tensor) -> Tensor:
    """Convert values to float32, unless they have a higher precision."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
