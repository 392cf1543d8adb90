"""Read recipes, which list the methods that make a model, in order, with their settings.

A recipe is a YAML file with ``steps``, a list of ``method: settings``; ``train: settings`` is short for one
step of this method. Further sections are optional: ``model``, what the steps begin with, as a name or as the
keys of a ``config.json`` for random weights; ``vocabulary``, the tokens of such a model; ``data``, manifests;
``card``, the beginning of the model card. Recipes that come with the package are known by their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from littlefoot.compress.methods import method
from littlefoot.errors import ConfigError
from littlefoot.system import settings
from littlefoot.system.suggestions import suggestion

_PACKAGE = Path(__file__).parents[1]
FOLDERS = (_PACKAGE / "recipes", _PACKAGE.parent / "recipes")
"""Folders of named recipes: in an installed package, and beside it in a checkout."""
TRAIN = "train"
"""The method that trains on texts; of other methods that train, the section with its settings."""


@dataclass(frozen=True)
class RecipeStep:
    """One method of a recipe."""

    method: str
    values: dict[str, Any]
    """Settings as written."""
    config: Any
    """Settings as an instance of the config class."""

    def written(self) -> dict[str, Any]:
        """Return the step as written in the file."""
        return {self.method: self.values}


@dataclass(frozen=True)
class Recipe:
    """A chain of methods, and what it begins with."""

    steps: tuple[RecipeStep, ...]
    card: str = ""
    model: str | dict[str, Any] | None = None
    """A checkpoint to start from, or the keys of a ``config.json`` for random weights; None: any model."""
    vocabulary: tuple[str, ...] = ()
    """Tokens in the order of their ids, for a model with random weights."""
    data: tuple[Path, ...] = ()
    """Manifests; in the file, relative to it."""

    @property
    def train(self) -> Any:
        """Return the settings (``TrainConfig``) of a recipe that is a single training; None for others."""
        return self.steps[0].config if [step.method for step in self.steps] == [TRAIN] else None


def load(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or one that comes with the package.

    Args:
        overrides: ``step.key=value`` with the value in YAML. A step is meant by its method's name, which
            changes all steps of it, or by its number, from 1; ``model`` means that section. Keys of sections
            are joined by dots.

    Raises:
        ConfigError: no such recipe, a method or setting that does not exist, or an impossible value.
    """
    path = _locate(name)
    try:
        values = settings.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as a recipe: {error}") from error
    if isinstance(values, dict) and TRAIN in values and "steps" not in values:
        values = {"steps": [{TRAIN: values[TRAIN]}]} | {k: v for k, v in values.items() if k != TRAIN}
    if not isinstance(values, dict) or not isinstance(values.get("steps"), list) or not values["steps"]:
        raise ConfigError(f"{path} is not a recipe: it needs 'steps', a list of methods, or 'train'")
    settings.refuse_unknown(values, [field.name for field in fields(Recipe)], "")
    pairs = [_pair(step, f"{path}, step {number}") for number, step in enumerate(values["steps"], 1)]
    model = values.get("model")
    for override in overrides:
        if override.startswith("model."):
            if not isinstance(model, dict):
                raise ConfigError(f"--set {override}: the geometry of an existing model cannot be changed")
            _, keys, value = _parsed(override)
            model = _with(model, keys, value)
        else:
            _override(pairs, override)
    vocabulary, data = values.get("vocabulary") or [], values.get("data") or []
    if not isinstance(model, str | dict | None):
        raise ConfigError(f"{path}: 'model' must be a model's name or a section of its settings")
    if isinstance(model, dict) and not vocabulary:
        raise ConfigError(f"{path}: a model with random weights needs 'vocabulary', a list of its tokens")
    if not isinstance(vocabulary, list) or not isinstance(data, list):
        raise ConfigError(f"{path}: 'vocabulary' and 'data' must be lists")
    return Recipe(
        steps=tuple(make_step(*pair) for pair in pairs),
        card=str(values.get("card", "")),
        model=model,
        vocabulary=tuple(map(str, vocabulary)),
        data=tuple(path.parent / str(manifest) for manifest in data),
    )


def training(model: str, overrides: Sequence[str]) -> Recipe:
    """Make the recipe of one training of a model. Raises ConfigError for impossible settings."""
    return Recipe((make_step(TRAIN, train_settings(overrides)),), model=model)


def train_settings(overrides: Sequence[str]) -> dict[str, Any]:
    """Return the settings of ``train.key=value``. Raises ConfigError for overrides of anything else."""
    pairs: list[tuple[str, dict[str, Any]]] = [(TRAIN, {})]
    for override in overrides:
        _override(pairs, override)
    return pairs[0][1]


def make_step(name: str, values: Mapping[str, Any]) -> RecipeStep:
    """Make a step from the name of its method and its settings. Raises ConfigError.

    A step ``train`` may have its settings in a section ``train``, as the other methods that train have them.
    """
    given = values[TRAIN] if name == TRAIN and set(values) == {TRAIN} else values
    return RecipeStep(name, dict(values), settings.read(method(name).config, given, f"{name}."))


def named() -> list[str]:
    """List the recipes that come with the package."""
    paths = [path for folder in FOLDERS for path in folder.glob("*.yaml")]
    return sorted(
        {path.stem for path in paths if "steps" in settings.parse(path.read_text(encoding="utf-8"))}
    )


def _locate(name: str | Path) -> Path:
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return path
    for folder in FOLDERS:
        if (found := folder / f"{name}.yaml").is_file():
            return found
    close = suggestion(str(name), named())
    raise ConfigError(f"there is no recipe '{name}'{close}: name a YAML file or one of {', '.join(named())}")


def _pair(step: object, where: str) -> tuple[str, dict[str, Any]]:
    """Return method and settings of one entry of ``steps``."""
    if isinstance(step, str):
        return step, {}
    if not isinstance(step, dict) or len(step) != 1:
        raise ConfigError(f"{where}: a step is one method with its settings, not {step!r:.80}")
    ((name, values),) = step.items()
    if not isinstance(values, dict | None):
        raise ConfigError(f"{where}: the settings of {name} must be a section, not {values!r:.80}")
    return str(name), dict(values or {})


def _parsed(override: str) -> tuple[str, list[str], Any]:
    """Return the step, the keys and the value of ``step.key=value``. Raises ConfigError."""
    name, equals, text = override.partition("=")
    step, *keys = name.split(".")
    if not equals or not keys:
        raise ConfigError(f"--set {override}: write step.key=value, for example distill.train.lr=1e-3")
    try:
        return step, keys, settings.parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: '{text}' is not a YAML value") from error


def _override(pairs: list[tuple[str, dict[str, Any]]], override: str) -> None:
    """Apply one ``step.key=value``."""
    step, keys, value = _parsed(override)
    chosen = [i for i, (found, _) in enumerate(pairs) if step in (found, str(i + 1))]
    if not chosen:
        there = ", ".join(f"{number} ({found})" for number, (found, _) in enumerate(pairs, 1))
        raise ConfigError(f"--set {override}: the recipe has no step '{step}', but {there}")
    for index in chosen:
        found, values = pairs[index]
        if found == TRAIN:  # with the section ``train`` or without, as the step has it
            keys = keys[1:] if keys[0] == TRAIN and len(keys) > 1 else keys
            keys = [TRAIN, *keys] if TRAIN in values else keys
        pairs[index] = found, _with(values, keys, value)


def _with(values: Mapping[str, Any], keys: Sequence[str], value: object) -> dict[str, Any]:
    """Copy nested sections and change the value of one key."""
    if len(keys) == 1:
        return {**values, keys[0]: value}
    inner = values.get(keys[0]) or {}
    return {**values, keys[0]: _with(inner if isinstance(inner, dict) else {}, keys[1:], value)}
