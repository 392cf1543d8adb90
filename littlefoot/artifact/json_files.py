"""Read JSON files that contain an object."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from littlefoot.artifact import side_files
from littlefoot.errors import ArtifactError

_DEEPEST = 100
"""Most levels of nested lists and objects; much deeper ones can be read but not written again."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file of a model's directory. Raises ArtifactError that names the file."""
    try:
        content = json.loads(side_files.read(path.parent, path.name).decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path.name} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path.name} must hold an object, not {type(content).__name__}")
    level: list[Any] = [content]
    for _ in range(_DEEPEST):
        inner = (each.values() if isinstance(each, dict) else each for each in level)
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return content
    raise ArtifactError(f"{path.name} is nested deeper than {_DEEPEST} levels: it is damaged")


def read_optional(path: Path) -> dict[str, Any]:
    """Read a JSON object, empty if the file is missing. Raises ArtifactError that names the file."""
    return read_json(path) if path.exists() else {}
