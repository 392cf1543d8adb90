"""Refuse outputs that are there already, and name those that cannot be written."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from littlefoot.errors import ConfigError, LittlefootError

_BLOCK = 4096
"""Bytes that file systems store in one piece."""


def check_new(path: Path) -> None:
    """Refuse an output that exists, or that ``check_writable`` refuses. Raises LittlefootError."""
    if path.exists():
        raise LittlefootError(f"{path} exists: choose another output, or remove it")
    check_writable(path)


def check_file(path: Path) -> None:
    """Refuse a folder, and a file that ``check_writable`` refuses. Raises ConfigError or LittlefootError."""
    if path.is_dir():
        raise ConfigError(f"{path} is a folder: name a file")
    check_writable(path)


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
        _write_some(path.parent)


def check_folder(folder: Path, remedy: str = "choose another output") -> None:
    """Refuse a folder that files cannot be written to, or that cannot be created. Nothing is created.

    Raises LittlefootError.
    """
    with writing(folder, remedy):
        _write_some(next(place for place in (folder, *folder.absolute().parents) if place.exists()))


def _write_some(folder: Path) -> None:
    """Write a temporary file, with content: on a full disk an empty one can still be made."""
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(bytes(_BLOCK))
