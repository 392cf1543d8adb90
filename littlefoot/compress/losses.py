"""Losses between student and teacher on padded batches, each a mean over the frames that are not padding.

Shapes: B batch, F frames of the student, V vocabulary, D hidden size. ``valid`` (B, F) is 1 for frames of the
recording and 0 for padding; ``weights`` (B,) is the weight of each utterance. All of them compute in float32,
also under autocast.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def frame_mean(values: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Average (B, F) over the valid frames; weights scale utterances, not the count."""
    valid = valid.to(values.dtype)
    total = values * valid if weights is None else values * valid * weights[:, None]
    return total.sum() / valid.sum().clamp(min=1)


def kl_divergence(
    student: Tensor, teacher: Tensor, valid: Tensor, temperature: float = 1.0, weights: Tensor | None = None
) -> Tensor:
    """KL(teacher || student) of the frames' posteriors in nats, times the temperature's square.

    The square keeps the gradient's size at every temperature (Hinton et al. 2015).

    Args: student, teacher (B, F, V): logits.
    """
    mine = torch.log_softmax(student.float() / temperature, -1)
    theirs = torch.log_softmax(teacher.float() / temperature, -1)
    per_frame = (theirs.exp() * (theirs - mine)).sum(-1)
    return temperature**2 * frame_mean(per_frame, valid, weights)


def logit_mse(student: Tensor, teacher: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute the mean squared difference of logits (B, F, V)."""
    return frame_mean((student.float() - teacher.float()).square().mean(-1), valid, weights)


def logit_cosine(student: Tensor, teacher: Tensor, valid: Tensor, weights: Tensor | None = None) -> Tensor:
    """Compute one minus the cosine of the frames' logits (B, F, V)."""
    return frame_mean(1 - F.cosine_similarity(student.float(), teacher.float(), dim=-1), valid, weights)


def feature_penalty(features: Tensor, valid: Tensor) -> Tensor:
    """Compute the mean square of the front end's features (B, F, C), which keeps them from growing."""
    return frame_mean(features.float().square().mean(-1), valid)


def hidden_mse(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Compute the mean squared difference of hidden states (B, F, D)."""
    return frame_mean((student.float() - teacher.float()).square().mean(-1), valid)


def hidden_l1(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Compute the mean absolute difference of hidden states (B, F, D)."""
    return frame_mean((student.float() - teacher.float()).abs().mean(-1), valid)


def hidden_cosine(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Minus the log sigmoid of the cosine of hidden states (B, F, D) (DistilHuBERT, Chang et al. 2022)."""
    return frame_mean(-F.logsigmoid(F.cosine_similarity(student.float(), teacher.float(), dim=-1)), valid)


def temporal_relation(student: Tensor, teacher: Tensor, valid: Tensor) -> Tensor:
    """Mean squared difference of the frames' Gram matrices, (B, F, D) and (B, F, D').

    As STaR (Jang et al. 2024), which compares how the frames of an utterance relate to each other, so that
    widths may differ without a projection. Frames have length one here, so that scales may differ too.
    """
    pairs = valid[:, :, None] * valid[:, None, :]
    mine, theirs = (F.normalize(x.float(), dim=-1) for x in (student, teacher))
    difference = mine @ mine.transpose(1, 2) - theirs @ theirs.transpose(1, 2)  # (B, F, F)
    return (difference.square() * pairs).sum() / pairs.sum().clamp(min=1)


def utterance_weights(difficulty: Tensor) -> Tensor:
    """Compute exp(-1 / sqrt(difficulty)), the weight of the teacher's losses for each utterance, (B,) ->
    (B,).

    This is the weighting of AdaKD (Ganguly et al. 2024): easy utterances count less.
    """
    return torch.exp(-torch.rsqrt(difficulty.clamp(min=1e-6)))
