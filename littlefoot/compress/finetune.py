"""Train on the texts of the speech, with CTC or LF-MMI, as a step of a recipe."""

from __future__ import annotations

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.compress.methods import StepContext
from littlefoot.compress.recipe import Recipe
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.training import train as trainer
from littlefoot.training.lfmmi import objective_for
from littlefoot.training.module import CTCModel, from_pretrained
from littlefoot.training.train_config import TrainConfig


def infer_shape(model: ModelConfig, config: TrainConfig) -> ModelConfig:
    """Return the configuration unchanged: training changes no geometry."""
    return model


def finetune(model: Artifact, config: TrainConfig, step: StepContext) -> Artifact:
    """Train a model on the texts of the speech. Raises what ``littlefoot.training.train.train`` raises."""
    started = CTCModel.from_artifact(model)
    if step.untrained:
        return started.to_artifact()
    corpus = step.speech()
    objective = objective_for(started, corpus, config)
    out = step.directory / "model"
    trainer.train(objective, corpus, config, out, step.resume)
    return artifacts.load(out)


def begin(recipe: Recipe) -> CTCModel:
    """Return the model that a recipe begins with: a checkpoint, or random weights by its training's seed.

    Raises ConfigError for a recipe that names none, or an impossible geometry.
    """
    if recipe.model is None:
        raise ConfigError(
            "the recipe does not name the model that it begins with: add 'model', or use shrink MODEL "
            "--recipe"
        )
    if isinstance(recipe.model, str):
        model = from_pretrained(recipe.model)
    else:
        config = ModelConfig.from_dict(recipe.model)
        vocabulary = Vocabulary(recipe.vocabulary, config.pad_token_id)
        seeds = [step.config.seed for step in recipe.steps if isinstance(step.config, TrainConfig)]
        model = CTCModel.from_config(config, vocabulary, seed=seeds[0] if seeds else 0)
    model.card = recipe.card
    return model
