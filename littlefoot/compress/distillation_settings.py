"""Distillation settings, which all methods with a teacher share: losses, training, and the teacher."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from littlefoot.errors import ConfigError
from littlefoot.system.checks import Checked, Count, NonNegativeFloat, PositiveFloat
from littlefoot.training.train_config import TrainConfig

LayerPairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LossConfig(Checked):
    """Weight of each loss; 0 leaves it out."""

    section = "loss."

    kl: NonNegativeFloat = 1.0
    """KL divergence of the frames' posteriors from the teacher's."""
    temperature: PositiveFloat = 1.0
    """The logits of both posteriors of ``kl`` are divided by this."""
    logit_mse: NonNegativeFloat = 0.0
    logit_cosine: NonNegativeFloat = 0.0
    sequence_kl: NonNegativeFloat = 0.0
    """KL divergence of the paths through an n-gram model of the texts, per frame (DistillW2V2).
    ``train.lfmmi_order`` and the settings beside it define the n-gram model."""
    lattice_mmi: NonNegativeFloat = 0.0
    """Lattice-free MMI per frame, with the teacher's best texts instead of transcripts: the other reading of
    DistillW2V2. The n-gram model is that of ``sequence_kl``."""
    feature_penalty: NonNegativeFloat = 0.0
    """Mean square of the student's convolutional features."""
    hidden_mse: NonNegativeFloat = 0.0
    """Mean squared difference of hidden states, through a learned projection."""
    hidden_l1: NonNegativeFloat = 0.0
    hidden_cosine: NonNegativeFloat = 0.0
    temporal_relation: NonNegativeFloat = 0.0
    """Difference of the hidden states' Gram matrices over time (STaR); needs no projection."""
    hidden_sum: bool = False
    """Add up hidden losses over the pairs, as in DistillW2V2, instead of averaging them: with n pairs this is
    n times the weight."""
    layers: LayerPairs = ()
    """Pairs [student's, teacher's] of hidden states to compare; 0 is the input of the first layer. Empty
    spreads the student's layers evenly, and the last ones are always a pair."""
    ctc: NonNegativeFloat = 0.0
    """CTC of the transcripts, per character."""
    adaptive: bool = False
    """Weight ``kl``, ``logit_mse`` and ``logit_cosine`` by utterance (AdaKD): less where the teacher's own
    CTC loss per character is low, or, without texts, its entropy per frame."""
    frames: Literal["peaks", "interpolate"] = "peaks"
    """Target logits where the front ends' frames differ: ``peaks``, those of the nearby teacher frame with
    the least blank, or ``interpolate``. Hidden states are always interpolated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(getattr(self, name) for name in (*LOGIT_LOSSES, *HIDDEN_LOSSES, *PATH_LOSSES, "ctc")):
            raise ConfigError("loss has no term to minimise: give one of them a weight, such as loss.kl=1")

    def hidden(self) -> bool:
        """Return True if hidden states are compared."""
        return any(getattr(self, name) for name in HIDDEN_LOSSES)


LOGIT_LOSSES = ("kl", "logit_mse", "logit_cosine")
PATH_LOSSES = ("sequence_kl", "lattice_mmi")
PROJECTED_LOSSES = ("hidden_mse", "hidden_l1", "hidden_cosine")
HIDDEN_LOSSES = (*PROJECTED_LOSSES, "temporal_relation")


@dataclass(frozen=True, kw_only=True)
class DistillationSettings(Checked):
    """Distillation settings of all methods with a teacher."""

    teacher: Literal["previous", "first"] = "previous"
    """The teacher: ``previous``, the model that the step begins with, or ``first``, the one that the recipe
    began with."""
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    cache_top_k: Count | None = None
    """Keep the teacher's outputs on the disk: this many of the likeliest tokens of each frame in 16 bits, or
    all of them for 0. None: the teacher runs beside the student, on the augmented speech. With
    ``train.freeze_front_end`` the features that a student would compute again each time are kept too."""
    collapse_steps: int = 2000
    """Number of steps in which the student predicts only blanks after which training stops."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cache_top_k is None:
            return
        if self.loss.hidden():
            raise ConfigError(
                "a cache contains no hidden states: leave out cache_top_k, or the hidden losses"
            )
        if self.cache_top_k and (self.loss.logit_mse or self.loss.logit_cosine):
            raise ConfigError(
                "logit_mse and logit_cosine need all logits: set cache_top_k to 0 or leave it out"
            )
        if self.train.speeds != [1.0]:
            raise ConfigError("a cache contains outputs at speed 1: set train.speeds to [1.0]")
