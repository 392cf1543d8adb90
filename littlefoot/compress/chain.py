"""Running a recipe: each method on the model that the one before it made, every one of which is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact, fingerprint
from littlefoot.audio.manifest import Corpus
from littlefoot.compress.methods import StepContext, is_main_process, method
from littlefoot.compress.recipe import Recipe
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig


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
    """Make a model smaller.

    Args:
        corpus: speech, for methods that train or calibrate.
        directory: what each step made stays here, as an artifact ``NUMBER-METHOD/model``.
        teacher: what the model is called in the artifacts made of it.
        resume: continue an interrupted run: finished steps are not done again.
        progress: told what is going on.
        untrained: train nothing. The result has the size and the speed of what the recipe makes, not its
            knowledge.

    Raises:
        ConfigError: steps that cannot follow each other, before the first of them is begun; something stands
            in the directory (without ``resume``), or was made of another model.
        LittlefootError: what the methods raise.
    """
    main = is_main_process()
    outline(model.config, recipe)
    if main and directory.exists() and any(directory.iterdir()) and not resume:
        raise ConfigError(f"{directory} is there already: continue with --resume, or choose another output")
    first = model
    known: dict[str, Any] = {"name": teacher, "parameters": model.parameters, "sha256": fingerprint(model)}
    if (origin := model.config.littlefoot.get("origin")) is not None:
        known["origin"] = origin
    before = list(model.config.littlefoot.get("recipe", []))
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
        config = made.config.replace(littlefoot={**made.config.littlefoot, **history})
        model = replace(made, config=config)
        if main:
            artifacts.save(model, folder / "model", overwrite=True)
    heading = "\n# The model that it was made of\n\n"
    return replace(model, card=model.card.rstrip() + "\n" + heading + first.card) if first.card else model


def outline(config: ModelConfig, recipe: Recipe) -> ModelConfig:
    """What a recipe makes of a model, as far as it is known before it is done (``Method.outline``).

    Raises ConfigError naming the step that cannot work with what those before it leave.
    """
    rounded_by = "the model was quantized before"
    for number, step in enumerate(recipe.steps, 1):
        name = f"step {number}, {step.method}"
        if "quantization" in config.littlefoot:
            raise ConfigError(
                f"{name}: {rounded_by}, and rounded weights can be neither trained nor rounded again: "
                "start with the full-precision model, and let only the last step quantize"
            )
        try:
            config = method(step.method).outline(config, step.config)
        except ConfigError as error:
            raise ConfigError(f"{name}: {error}") from error
        rounded_by = f"{name}, quantizes the model"
    return config


def _introduction(teacher: str, first: Artifact) -> str:
    """What a model card says first, where the recipe has no words of its own."""
    millions = first.parameters / 1e6
    origin = first.config.littlefoot.get("origin")
    commit = f" It was commit `{origin['commit']}` of {origin['repository']}." if origin else ""
    return (
        f"# Made of {teacher}\n\nA smaller {teacher}, which has {millions:.1f} million parameters.{commit}\n"
    )


def _finished(path: Path, history: dict[str, Any]) -> Artifact | None:
    """What an earlier run left as a step's result. Raises ConfigError if it was made otherwise."""
    if not artifacts.is_artifact(path):
        return None
    there = artifacts.load(path)
    if "teacher" not in there.config.littlefoot:  # trained, but interrupted before it got its history
        return None
    for key, wanted in history.items():
        if there.config.littlefoot[key] != wanted:
            what = "of another model" if key == "teacher" else "with other settings"
            raise ConfigError(f"{path} was made {what}: remove it, or choose another output")
    return there
