"""Read recipes, which say which methods make a model smaller, in which order, with which settings.

A recipe is a YAML file with ``steps``, a list of ``method: settings``, and optionally a ``card``, the
beginning of the model card. Recipes that come with the package are known by their names.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


@dataclass(frozen=True)
class RecipeStep:
    """One method of a recipe."""

    method: str
    values: dict[str, Any]
    """Settings as written."""
    config: Any
    """Settings as an instance of the config class."""

    def written(self) -> dict[str, Any]:
        """As in the file."""
        return {self.method: self.values}


@dataclass(frozen=True)
class Recipe:
    """A chain of methods."""

    steps: tuple[RecipeStep, ...]
    card: str = ""


def load(name: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe file, or one that comes with the package.

    Args:
        overrides: ``step.key=value`` with the value in YAML. A step is meant by its method's name, which
            changes all steps of it, or by its number, from 1; keys of sections are joined by dots.

    Raises:
        ConfigError: no such recipe, a method or setting that does not exist, or an impossible value.
    """
    path = _locate(name)
    try:
        values = settings.parse(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as a recipe: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("steps"), list) or not values["steps"]:
        raise ConfigError(f"{path} is not a recipe: it needs 'steps', a list of methods")
    settings.refuse_unknown(values, ["steps", "card"], "")
    pairs = [_pair(step, f"{path}, step {number}") for number, step in enumerate(values["steps"], 1)]
    for override in overrides:
        _override(pairs, override)
    return Recipe(tuple(make_step(*pair) for pair in pairs), str(values.get("card", "")))


def make_step(name: str, values: Mapping[str, Any]) -> RecipeStep:
    """Make a step from the name of its method and its settings. Raises ConfigError."""
    return RecipeStep(name, dict(values), settings.read(method(name).config, values, f"{name}."))


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


def _override(pairs: list[tuple[str, dict[str, Any]]], override: str) -> None:
    """Apply one ``step.key=value``."""
    name, equals, text = override.partition("=")
    step, *keys = name.split(".")
    if not equals or not keys:
        raise ConfigError(f"--set {override}: write step.key=value, for example distill.train.lr=1e-3")
    chosen = [i for i, (found, _) in enumerate(pairs) if step in (found, str(i + 1))]
    if not chosen:
        there = ", ".join(f"{number} ({found})" for number, (found, _) in enumerate(pairs, 1))
        raise ConfigError(f"--set {override}: the recipe has no step '{step}', but {there}")
    try:
        value = settings.parse(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override}: '{text}' is not a YAML value") from error
    for index in chosen:
        found, values = pairs[index]
        pairs[index] = found, _with(values, keys, value)


def _with(values: Mapping[str, Any], keys: Sequence[str], value: object) -> dict[str, Any]:
    """Copy nested sections and change the value of one key."""
    if len(keys) == 1:
        return {**values, keys[0]: value}
    inner = values.get(keys[0]) or {}
    return {**values, keys[0]: _with(inner if isinstance(inner, dict) else {}, keys[1:], value)}
