"""Refuse outputs that are there already, and name those that cannot be written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from littlefoot.errors import ConfigError, LittlefootError


def refuse_existing(path: Path) -> None:
    """Raise LittlefootError if something has this path."""
    if path.exists():
        raise LittlefootError(f"{path} exists: choose another output, or remove it")


def refuse_begun(directory: Path, resume: bool) -> None:
    """Raise ConfigError if a directory has the files of an earlier run, which ``resume`` would continue."""
    if not resume and directory.exists() and any(directory.iterdir()):
        raise ConfigError(f"{directory} exists already: continue with --resume, or choose another output")


@contextmanager
def writing(
    target: str | Path,
    remedy: str = "choose another output",
    kind: type[LittlefootError] = LittlefootError,
) -> Iterator[None]:
    """Raise an OSError of the block as an error of this kind, which names the output and the remedy."""
    try:
        yield
    except OSError as error:
        raise kind(f"{target} cannot be written ({_reason(error, Path(target))}): {remedy}") from error


def _reason(error: OSError, target: Path) -> str:
    """Describe what went wrong, with the folder above the target that it went wrong with, if any."""
    if error.strerror is None:
        return str(error)
    above = isinstance(error.filename, str) and Path(error.filename) in target.parents
    return f"{error.strerror}: '{error.filename}'" if above else error.strerror


def check_writable(path: Path, kind: type[LittlefootError] = LittlefootError) -> None:
    """Refuse an output whose folder cannot be written to, before long work begins; create the folder.

    Raises an error of this kind.
    """
    with writing(path, kind=kind):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
