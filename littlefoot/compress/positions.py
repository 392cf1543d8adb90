"""Teach a model to do without the sinusoids of the frame's number.

A Whisper's blocks know where they are from sinusoids, which end after 30 s and tie every frame to the
beginning: such a model cannot stream. Here they fade out while the model learns from the one that still has
them, and the positional convolution of wav2vec 2.0 takes their place.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from littlefoot.artifact import Artifact
from littlefoot.compress.distill import Distillation, denominator_of, learn, training_set
from littlefoot.compress.lesson import Lesson
from littlefoot.compress.methods import StepContext
from littlefoot.compress.teacher import Teacher, make_teacher
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.training.data import Batch
from littlefoot.training.forward_backward import Denominator
from littlefoot.training.module import CTCModel

_CONVOLUTION = "encoder.pos_conv_embed.conv.weight"


@dataclass(frozen=True)
class PositionsConfig(Lesson):
    """Settings of the change of positions."""

    kernel: int = 128
    """Frames that the positional convolution looks at."""
    groups: int = 16
    """Its groups of channels."""
    fade_steps: int = 1000
    """Steps in which the sinusoids fade out, evenly."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kernel", "groups", "fade_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")


def outline(model: ModelConfig, config: PositionsConfig) -> ModelConfig:
    """The configuration without sinusoids. Raises ConfigError for a model that has none."""
    if not model.sinusoidal_positions:
        raise ConfigError("positions: the model has no sinusoids that it could learn to do without")
    return model.replace(
        sinusoidal_positions=0.0,
        num_conv_pos_embeddings=config.kernel,
        num_conv_pos_embedding_groups=config.groups,
    )


def change_positions(model: Artifact, config: PositionsConfig, step: StepContext) -> Artifact:
    """Fade the sinusoids out, and train the result on what its teacher says of the speech.

    Raises:
        ConfigError: a model without sinusoids.
        TrainingError: as ``littlefoot.compress.distill.distill``.
    """
    student = convert(CTCModel.from_artifact(model), config)
    data = training_set(student, config, step)
    says = make_teacher(model, config, step, data, student)
    return learn(Fading(student, says, config, denominator_of(step, student, config)), step)


def convert(model: CTCModel, config: PositionsConfig) -> CTCModel:
    """The model with a configuration without sinusoids; a convolution of another geometry begins at zero."""
    mine = outline(model.config, config)
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    shape = (mine.hidden_size, mine.hidden_size // config.groups, config.kernel)
    if weights[_CONVOLUTION].shape != shape:
        weights[_CONVOLUTION] = torch.zeros(shape)
    return CTCModel(mine, model.vocabulary, model.preprocessor, weights, model.card)


class Fading(Distillation):
    """Distillation of a student whose sinusoids grow weaker from step to step."""

    method = "distillation without sinusoids"

    def __init__(
        self,
        student: CTCModel,
        teacher: Teacher,
        config: PositionsConfig,
        denominator: Denominator | None = None,
    ) -> None:
        super().__init__(student, teacher, config, denominator)
        self._steps = config.fade_steps
        self._from = teacher.config.sinusoidal_positions

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """As of a distillation, and how much is left of the sinusoids."""
        left = self._from * max(0.0, 1 - self.step / self._steps)
        self.model.sinusoids = left
        terms = super().forward(batch)
        return {**terms, "sinusoids": torch.tensor(left)}
