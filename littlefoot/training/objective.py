"""The objectives that training minimises."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from littlefoot.training.data import Batch
from littlefoot.training.module import CTCModel
from littlefoot.training.torch_ops import TorchOps


class Objective(nn.Module):
    """A model, and a loss on batches of speech. Parameters of its own are trained with the model's.

    Calling it with a ``Batch`` gives a dict of scalars: ``loss``, which is minimised, and any others that are
    worth a column in the metrics.
    """

    needs_text = True
    """True if utterances without a text are of no use."""
    needs_audio = True
    """True if the objective reads audio. One that does not identifies utterances by their keys,
    ``Batch.keys``."""
    method = "CTC"
    """Name of the objective in the model card."""
    keeps_newest = False
    """True to keep the last model of a run instead of the best, because the goal moves during training."""
    step = 0
    """Optimizer steps taken so far; the training loop counts."""

    def __init__(self, model: CTCModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        raise NotImplementedError

    def make_ops(self, *arguments: Any) -> TorchOps:
        """Make the operations that compute the model in this step, also when it is evaluated."""
        return TorchOps(*arguments)

    def inspect(self, row: dict[str, Any]) -> None:
        """Check a row of metrics, the same in every process; a TrainingError ends the run."""


class CTC(Objective):
    """Connectionist temporal classification (Graves et al. 2006) of the texts."""

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        logits, frames = self.model(batch.waveforms, batch.lengths, batch.time_mask, batch.feature_mask)
        blank = self.model.vocabulary.blank
        return {"loss": ctc_loss(logits, frames, batch.targets, batch.target_lengths, blank)}


def ctc_loss(logits: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor, blank: int) -> Tensor:
    """Compute the CTC loss in nats per character: the batch's sum over its number of characters.

    Every character of a batch counts the same, in short utterances as in long ones. The loss is computed in
    float32, also under autocast. A text that does not fit its frames counts as zero.

    Args: logits (B, F, V), frames (B,), targets (sum of target_lengths,), target_lengths (B,).
    """
    losses = ctc_losses(logits, frames, targets, target_lengths, blank)
    return losses.sum() / target_lengths.sum().clamp(min=1)


def ctc_losses(logits: Tensor, frames: Tensor, targets: Tensor, target_lengths: Tensor, blank: int) -> Tensor:
    """Compute the CTC loss of each utterance in nats, (B,); arguments and rules as in ``ctc_loss``."""
    log_probs = torch.log_softmax(logits.float(), dim=-1).transpose(0, 1)  # (F, B, V)
    return F.ctc_loss(
        log_probs, targets, frames, target_lengths, blank=blank, reduction="none", zero_infinity=True
    )
