"""What every method can be told that learns from a teacher: the losses, the training, the teacher itself."""

from __future__ import annotations

from dataclasses import dataclass, field

from littlefoot.errors import ConfigError
from littlefoot.training.train_config import TrainConfig

LayerPairs = tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class LossConfig:
    """How much each loss counts; 0 leaves it out."""

    kl: float = 1.0
    """KL divergence of the frames' posteriors from the teacher's."""
    temperature: float = 1.0
    """Both posteriors of ``kl`` are those of logits divided by this."""
    logit_mse: float = 0.0
    logit_cosine: float = 0.0
    sequence_kl: float = 0.0
    """KL divergence of the paths through an n-gram of the texts, per frame (DistillW2V2); which n-gram say
    ``train.lfmmi_order`` and the settings beside it."""
    lattice_mmi: float = 0.0
    """Lattice-free MMI, per frame, with the teacher's best texts where transcripts would be: the other
    reading of DistillW2V2. The n-gram is that of ``sequence_kl``."""
    feature_penalty: float = 0.0
    """Mean square of the student's convolutional features."""
    hidden_mse: float = 0.0
    """Mean squared difference of hidden states, through a learned projection."""
    hidden_l1: float = 0.0
    hidden_cosine: float = 0.0
    temporal_relation: float = 0.0
    """Difference of the hidden states' Gram matrices over time (STaR); needs no projection."""
    layers: LayerPairs = ()
    """Which hidden states are compared: [student's, teacher's] pairs, 0 being what enters the first layer.
    Empty spreads the student's layers evenly: the last ones are always a pair."""
    ctc: float = 0.0
    """CTC of the transcripts, per character."""
    adaptive: bool = False
    """Weigh ``kl``, ``logit_mse`` and ``logit_cosine`` by utterance (AdaKD): less where the teacher's own CTC
    loss per character is low, or, without texts, its entropy per frame."""
    frames: str = "peaks"
    """Where the front ends' frames differ, the logits that a student's frame learns: ``peaks``, those of the
    teacher's frame nearby that is least blank, or ``interpolate``. Hidden states are interpolated."""

    def __post_init__(self) -> None:
        for name in (*LOGIT_LOSSES, *HIDDEN_LOSSES, *PATH_LOSSES, "feature_penalty", "ctc"):
            if getattr(self, name) < 0:
                raise ConfigError(f"loss.{name} must not be negative, but is {getattr(self, name)}")
        if self.temperature <= 0:
            raise ConfigError(f"loss.temperature must be greater than 0, not {self.temperature}")
        if self.frames not in ("peaks", "interpolate"):
            raise ConfigError(f"loss.frames must be peaks or interpolate, not '{self.frames}'")
        if not any(getattr(self, name) for name in (*LOGIT_LOSSES, *HIDDEN_LOSSES, *PATH_LOSSES, "ctc")):
            raise ConfigError("loss has no term to learn from: give one of them a weight, such as loss.kl=1")

    def hidden(self) -> bool:
        """Whether hidden states are compared."""
        return any(getattr(self, name) for name in HIDDEN_LOSSES)


LOGIT_LOSSES = ("kl", "logit_mse", "logit_cosine")
PATH_LOSSES = ("sequence_kl", "lattice_mmi")
PROJECTED_LOSSES = ("hidden_mse", "hidden_l1", "hidden_cosine")
HIDDEN_LOSSES = (*PROJECTED_LOSSES, "temporal_relation")


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """Settings of all methods that learn from a teacher."""

    teacher: str = "previous"
    """Who teaches: ``previous``, the model that the step begins with, or ``first``, the one that the recipe
    began with."""
    loss: LossConfig = field(default_factory=LossConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    cache_top_k: int | None = None
    """Keep the teacher's outputs on the disk: the likeliest so many tokens of each frame in 16 bits, 0 for
    all of them. None: the teacher listens along, to what augmentation made of the speech. With
    ``train.freeze_front_end`` the features that a student would hear anew each time are kept as well."""
    collapse_steps: int = 2000
    """Training stops when the student said nothing but blank for so many steps."""

    def __post_init__(self) -> None:
        if self.teacher not in ("previous", "first"):
            raise ConfigError(f"teacher must be previous or first, not '{self.teacher}'")
        if self.cache_top_k is None:
            return
        if self.cache_top_k < 0:
            raise ConfigError(f"cache_top_k must be 0 or more, not {self.cache_top_k}")
        if self.loss.hidden():
            raise ConfigError("a cache holds no hidden states: leave out cache_top_k, or the hidden losses")
        if self.cache_top_k and (self.loss.logit_mse or self.loss.logit_cosine):
            raise ConfigError(
                "logit_mse and logit_cosine need all logits: set cache_top_k to 0 or leave it out"
            )
        if self.train.speeds != [1.0]:
            raise ConfigError("what a cache holds was said at speed 1: set train.speeds to [1.0]")
