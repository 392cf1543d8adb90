"""Run a recipe: each method works on the result of the one before, and every result is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact, fingerprint
from littlefoot.audio.manifest import Corpus
from littlefoot.compress.methods import StepContext, is_main_process, method
from littlefoot.compress.recipe import TRAIN, Recipe
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.system.outputs import refuse_begun


def run(
    model: Artifact,
    recipe: Recipe,
    corpus: Corpus | None,
    directory: Path,
    teacher: str,
    resume: bool = False,
    progress: Callable[[str], None] = lambda message: None,
    untrained: bool = False,
) -> Artifact:
    """Carry out a recipe.

    Args:
        corpus: speech, for methods that train or calibrate.
        directory: keeps the result of each step, as an artifact ``NUMBER-METHOD/model``.
        teacher: name of the model in the artifacts made from it.
        resume: continue an interrupted run: finished steps are not repeated.
        progress: callback for messages.
        untrained: train nothing. The result has the size and the speed of a trained one, but not its
            accuracy.

    Raises:
        ConfigError: steps that cannot follow each other, before the first of them begins; a directory that is
            not empty (without ``resume``), or that belongs to another model; a dev set or a folder of noise
            that a step names and that is not there.
        LittlefootError: an error of a method.
    """
    main = is_main_process()
    infer_shape(model.config, recipe)
    if corpus is not None and not untrained:
        check_trainings(recipe, corpus)
    if main:
        refuse_begun(directory, resume)
    first = model
    known: dict[str, Any] = {"name": teacher, "parameters": model.parameters, "sha256": fingerprint(model)}
    if (origin := model.config.littlefoot.origin) is not None:
        known["origin"] = origin.to_dict()
    before = model.config.littlefoot.recipe
    model = replace(first, card=recipe.card.rstrip() + "\n" if recipe.card else _introduction(teacher, first))
    for number, step in enumerate(recipe.steps, 1):
        folder = directory / f"{number}-{step.method}"
        history = {"recipe": [*before, *(s.written() for s in recipe.steps[:number])], "teacher": known}
        if (done := _finished(folder / "model", history)) is not None:
            progress(f"step {number}, {step.method}: done before")
            model = done
            continue
        progress(f"step {number} of {len(recipe.steps)}: {step.method}")
        made = method(step.method).run(
            model, step.config, StepContext(first, corpus, folder, resume, progress, untrained)
        )
        model = replace(made, config=made.config.noting(**history))
        if main:
            artifacts.save(model, folder / "model", overwrite=True)
    heading = "\n# The model that it was made from\n\n"
    return replace(model, card=model.card.rstrip() + "\n" + heading + first.card) if first.card else model


def infer_shape(config: ModelConfig, recipe: Recipe) -> ModelConfig:
    """Infer the configuration of a recipe's result, as far as it is known beforehand
    (``Method.infer_shape``).

    Raises ConfigError, which names the step that cannot work with the result of those before it.
    """
    rounded_by = "the model was quantized before"
    for number, step in enumerate(recipe.steps, 1):
        name = f"step {number}, {step.method}"
        if config.littlefoot.quantization is not None:
            raise ConfigError(
                f"{name}: {rounded_by}, and rounded weights can be neither trained nor rounded again: "
                "start with the full-precision model, and let only the last step quantize"
            )
        try:
            config = method(step.method).infer_shape(config, step.config)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
        rounded_by = f"{name}, quantizes the model"
    return config


def check_trainings(recipe: Recipe, corpus: Corpus) -> None:
    """Check what the trainings of all steps name, before the first of them begins.

    Raises ConfigError, which names the step, or MissingExtraError.
    """
    for number, step in enumerate(recipe.steps, 1):
        train = step.config if step.method == TRAIN else getattr(step.config, "train", None)
        if train is not None:
            from littlefoot.training import early

            try:
                early.check(train, corpus)
            except ConfigError as error:
                raise ConfigError(f"step {number}, {step.method}: {error}") from error


def _introduction(teacher: str, first: Artifact) -> str:
    """Return the beginning of a model card, if the recipe has no text of its own."""
    millions = first.parameters / 1e6
    origin = first.config.littlefoot.origin
    commit = f" It was commit `{origin.commit}` of {origin.repository}." if origin else ""
    return (
        f"# Made of {teacher}\n\nA smaller {teacher}, which has {millions:.1f} million parameters.{commit}\n"
    )


def _finished(path: Path, history: dict[str, Any]) -> Artifact | None:
    """Load the result of a step from an earlier run. Raises ConfigError if it was made differently."""
    if not artifacts.is_artifact(path):
        return None
    there = artifacts.load(path)
    noted = there.config.littlefoot
    if noted.teacher is None:  # interrupted after training, before its history was written
        return None
    for key, found in (("recipe", noted.recipe), ("teacher", noted.teacher.to_dict())):
        if found != history[key]:
            what = "of another model" if key == "teacher" else "with other settings"
            raise ConfigError(f"{path} was made {what}: remove it, or choose another output")
    return there
