"""Replace the sinusoids of the frame's number by a positional convolution.

A Whisper's blocks get the position of a frame from sinusoids, which end after 30 s and count from the
beginning. Such a model can neither stream nor be loaded by transformers. ``grouped`` fades them out while the
model is trained on the outputs of the original, and the usual convolution of wav2vec 2.0 replaces them.
``scaffold`` needs no training: a depthwise convolution of 2,048 taps computes the sinusoids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from littlefoot.artifact import Artifact
from littlefoot.compress.distill import Distillation, denominator_of, learn, training_set
from littlefoot.compress.distillation_settings import DistillationSettings
from littlefoot.compress.methods import StepContext
from littlefoot.compress.teacher import make_teacher
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import sinusoids
from littlefoot.system.checks import PositiveInt
from littlefoot.training.data import Batch
from littlefoot.training.module import CTCModel

SCAFFOLD_TAPS = 2048
"""Taps of the scaffold. Half of them read earlier frames: 20.5 s at 20 ms a frame."""
_CONSTANT = 8.0
_CONVOLUTION = "encoder.pos_conv_embed.conv.weight"


@dataclass(frozen=True)
class PositionsConfig(DistillationSettings):
    """Settings of the change of positions."""

    kind: Literal["grouped", "scaffold"] = "grouped"
    """``grouped``, which is trained; or ``scaffold``, which is computed, slower to run, and cannot stream."""
    kernel: PositiveInt = 128
    """Kernel of the positional convolution in frames."""
    groups: PositiveInt = 16
    """Groups of channels of this convolution."""
    fade_steps: PositiveInt = 1000
    """Steps in which the sinusoids fade out linearly."""


def infer_shape(model: ModelConfig, config: PositionsConfig) -> ModelConfig:
    """Return the configuration without sinusoids. Raises ConfigError for a model that has none."""
    if not model.sinusoidal_positions:
        raise ConfigError("positions: the model has no sinusoids that it could learn to do without")
    scaffold = config.kind == "scaffold"
    return model.replace(
        sinusoidal_positions=0.0,
        num_conv_pos_embeddings=SCAFFOLD_TAPS if scaffold else config.kernel,
        num_conv_pos_embedding_groups=model.hidden_size if scaffold else config.groups,
    )


def change_positions(model: Artifact, config: PositionsConfig, step: StepContext) -> Artifact:
    """Fade the sinusoids out, and train the result on its teacher's outputs.

    Raises:
        ConfigError: a model without sinusoids.
        TrainingError: as ``littlefoot.compress.distill.distill``.
    """
    student = convert(CTCModel.from_artifact(model), config)
    if config.kind == "scaffold":
        return student.to_artifact()
    data = training_set(student, config, step)
    teacher = make_teacher(model, config, step, data, student)
    return learn(Fading(student, teacher, config, denominator_of(step, student, config)), data, step)


def convert(model: CTCModel, config: PositionsConfig) -> CTCModel:
    """Return the model without sinusoids; a positional convolution of another geometry is initialised to
    zero.
    """
    mine = infer_shape(model.config, config)
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    if config.kind == "scaffold":
        _add_up(weights, model.config.sinusoidal_positions)
    else:
        shape = (mine.hidden_size, mine.hidden_size // config.groups, config.kernel)
        if weights[_CONVOLUTION].shape != shape:
            weights[_CONVOLUTION] = torch.zeros(shape)
    return CTCModel(mine, model.vocabulary, model.preprocessor, weights, model.card)


def _add_up(weights: dict[str, Tensor], amplitude: float) -> None:
    """Initialise a depthwise convolution that computes the sinusoids, as the sum of their steps.

    The projection's bias adds a constant to all of its outputs, and the taps are the sinusoids' steps divided
    by it. The convolution's bias subtracts the constant; it is so large that GELU is linear there.
    """
    table = torch.from_numpy(sinusoids(len(weights["encoder.pos_conv_embed.conv.bias"]))) * amplitude
    behind = SCAFFOLD_TAPS // 2
    steps = torch.diff(table[: behind + 1], dim=0, prepend=torch.zeros_like(table[:1]))  # (behind + 1, D)
    kernel = torch.zeros(table.shape[1], 1, SCAFFOLD_TAPS)
    kernel[:, 0, : behind + 1] = steps.flip(0).T / -_CONSTANT
    weights[_CONVOLUTION] = kernel
    before, after = "feature_projection.projection.bias", "encoder.pos_conv_embed.conv.bias"
    weights[after] = torch.full_like(weights[after], _CONSTANT)
    weights[before] = weights[before] - _CONSTANT


class Fading(Distillation[PositionsConfig]):
    """Distillation of a student whose sinusoids are scaled down from step to step."""

    method = "distillation without sinusoids"

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Compute the losses of a distillation, and the remaining scale of the sinusoids."""
        return {**super().forward(batch), "sinusoids": torch.tensor(self._left())}

    def geometry(self, batch: Batch) -> ModelConfig:
        """Return the student's configuration with the remaining scale of the sinusoids."""
        return self.model.config.replace(sinusoidal_positions=self._left())

    def _left(self) -> float:
        return self._theirs.sinusoidal_positions * max(0.0, 1 - self.step / self.settings.fade_steps)
