"""The registry of compression methods, and the context of a step.

A method is a config class and a function ``(artifact, config, step) -> artifact``. It does not depend on
other methods: a recipe chains them. Its module also has a function ``infer_shape`` for shape inference, which
derives the configuration of the result from the configuration of a model alone, or raises an error. A chain
that cannot work is therefore refused before its first step.
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
from littlefoot.system.suggestions import suggestion

METHODS = {
    "distill": ("littlefoot.compress.distill", "DistillConfig", "distill"),
    "prune": ("littlefoot.compress.prune", "PruneConfig", "prune"),
    "factorize": ("littlefoot.compress.factorize", "FactorizeConfig", "factorize"),
    "share": ("littlefoot.compress.share", "ShareConfig", "share"),
    "stream": ("littlefoot.compress.streaming", "StreamingConfig", "stream"),
    "lowbit": ("littlefoot.compress.lowbit", "LowbitConfig", "lowbit"),
    "quantize": ("littlefoot.compress.quantize", "QuantizeConfig", "quantize_step"),
    "front_end": ("littlefoot.compress.graft", "FrontEndConfig", "graft_front_end"),
    "head": ("littlefoot.compress.head", "HeadConfig", "make_head"),
    "train": ("littlefoot.compress.finetune", "TrainConfig", "finetune"),
    "positions": ("littlefoot.compress.positions", "PositionsConfig", "change_positions"),
}
"""Module, config class and function of each method; imported when used, because some need PyTorch."""


@dataclass(frozen=True)
class StepContext:
    """The context in which a method works, besides the model."""

    first: Artifact
    """The model that the recipe began with."""
    corpus: Corpus | None
    """The speech, or None."""
    directory: Path
    """Folder for checkpoints and caches."""
    resume: bool
    """True to continue an interrupted run of this step."""
    progress: Callable[[str], None]
    """Callback for messages about the progress."""
    untrained: bool = False
    """True if only the shape of the result counts: nothing is trained, and weights stay as initialised."""

    def speech(self) -> Corpus:
        """Return the speech, for methods that need it. Raises ConfigError if there is none."""
        if self.corpus is None:
            raise ConfigError("this recipe trains a model: name speech to train on with --data")
        return self.corpus

    def teacher(self, choice: str, model: Artifact) -> Artifact:
        """Return the teacher: the model at the beginning of the step (``previous``) or the recipe's
        ``first``.
        """
        return self.first if choice == "first" else model


def is_main_process() -> bool:
    """Return True in the one of several training processes that writes."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Method:
    """A compression method."""

    config: type[Any]
    run: Callable[[Artifact, Any, StepContext], Artifact]
    infer_shape: Callable[[ModelConfig, Any], ModelConfig]
    """Derive the configuration of the result from that of a model, as far as it is known without weights and
    speech. Raises ConfigError for a model that the method does not support."""


def method(name: str) -> Method:
    """Look a method up. Raises ConfigError if it is unknown, MissingExtraError if it needs PyTorch and there
    is none.
    """
    if name not in METHODS:
        close = suggestion(name, METHODS)
        raise ConfigError(f"there is no method '{name}'{close}: use one of {', '.join(METHODS)}")
    module_name, config, function = METHODS[name]
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise MissingExtraError(f"the method {name}", str(error.name), "train") from error
    return Method(getattr(module, config), getattr(module, function), module.infer_shape)
