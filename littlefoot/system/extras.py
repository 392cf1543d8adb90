"""Import packages that only some installations have."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from littlefoot.errors import MissingExtraError


def imported(module: str, feature: str, extra: str) -> Any:
    """Import a module of an optional package.

    Args:
        module: its full name, such as ``huggingface_hub.errors``.
        feature: what needs it, as the beginning of a sentence.
        extra: the extra of littlefoot that installs the package.

    Raises MissingExtraError if the package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package:
            raise  # the package is there, and lacks one of its own
        raise MissingExtraError(feature, package.replace("_", "-"), extra) from error
