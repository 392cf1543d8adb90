"""Train on the texts of the speech, with CTC or LF-MMI, as a step of a recipe."""

from __future__ import annotations

from dataclasses import dataclass, field

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact
from littlefoot.compress.methods import StepContext
from littlefoot.network.config import ModelConfig
from littlefoot.training import train as trainer
from littlefoot.training.lfmmi import objective_for
from littlefoot.training.module import CTCModel
from littlefoot.training.train_config import TrainConfig


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of one training."""

    train: TrainConfig = field(default_factory=TrainConfig)


def outline(model: ModelConfig, config: FineTuneConfig) -> ModelConfig:
    """Return the configuration unchanged: training changes no geometry."""
    return model


def finetune(model: Artifact, config: FineTuneConfig, step: StepContext) -> Artifact:
    """Train a model on the texts of the speech. Raises what ``littlefoot.training.train.train`` raises."""
    started = CTCModel.from_artifact(model)
    if step.untrained:
        return started.to_artifact()
    corpus = step.speech()
    objective = objective_for(started, corpus, config.train)
    out = step.directory / "model"
    trainer.train(objective, corpus, config.train, out, step.resume)
    return artifacts.load(out)
