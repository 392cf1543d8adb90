"""The registry of compression methods, and what a method is given.

A method is a config class and a function ``(artifact, config, step) -> artifact``. It knows nothing of the
others: a recipe chains them. Its module has an ``outline`` too, which says from a model's configuration alone
what the method would make of it, or why it cannot: so a chain is refused before its first step.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from littlefoot.artifact import Artifact
from littlefoot.audio.manifest import Corpus
from littlefoot.errors import ConfigError, MissingExtraError
from littlefoot.network.config import ModelConfig

METHODS = {
    "front_end": ("littlefoot.compress.graft", "FrontEndConfig", "graft_front_end"),
    "head": ("littlefoot.compress.head", "HeadConfig", "make_head"),
    "train": ("littlefoot.compress.finetune", "FineTuneConfig", "finetune"),
    "positions": ("littlefoot.compress.positions", "PositionsConfig", "change_positions"),
    "distill": ("littlefoot.compress.distill", "DistillConfig", "distill"),
    "prune": ("littlefoot.compress.prune", "PruneConfig", "prune"),
    "share": ("littlefoot.compress.share", "ShareConfig", "share"),
    "stream": ("littlefoot.compress.streaming", "StreamingConfig", "stream"),
    "lowbit": ("littlefoot.compress.lowbit", "LowbitConfig", "lowbit"),
    "quantize": ("littlefoot.compress.quantize", "QuantizeConfig", "quantize_step"),
}
"""Module, config class and function of each method; imported when used, as some need PyTorch."""


@dataclass(frozen=True)
class StepContext:
    """What a method works with besides the model."""

    first: Artifact
    """The model that the recipe began with."""
    corpus: Corpus | None
    """Speech; None where none was given."""
    directory: Path
    """For what it keeps on the disk: checkpoints, caches."""
    resume: bool
    """Whether to continue what an interrupted run left there."""
    progress: Callable[[str], None]
    """To be told what is going on."""
    untrained: bool = False
    """Whether only the shape of the result counts: whatever would be trained stays as it begins."""

    def speech(self) -> Corpus:
        """The speech, for methods that cannot do without. Raises ConfigError where there is none."""
        if self.corpus is None:
            raise ConfigError("this recipe trains a model: name speech to train on with --data")
        return self.corpus

    def teacher(self, choice: str, model: Artifact) -> Artifact:
        """Who teaches: the model that the step begins with (``previous``), or the recipe's ``first``."""
        return self.first if choice == "first" else model


def is_main_process() -> bool:
    """Of several processes that train together, whether this is the one that writes."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Method:
    """A compression method."""

    config: type[Any]
    run: Callable[[Artifact, Any, StepContext], Artifact]
    outline: Callable[[ModelConfig, Any], ModelConfig]
    """A model's configuration to that of what will be made of it, as far as that is known without weights and
    speech. Raises ConfigError for a model that the method cannot work with."""


def method(name: str) -> Method:
    """Raises ConfigError for an unknown one, MissingExtraError where PyTorch is needed and missing."""
    if name not in METHODS:
        raise ConfigError(f"there is no method '{name}': use one of {', '.join(METHODS)}")
    module_name, config, function = METHODS[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the method {name}", str(error.name), "train") from error
    return Method(getattr(module, config), getattr(module, function), module.outline)
