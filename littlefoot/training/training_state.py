"""Store the checkpoints of a training run: they are written whole or not at all, and checked when read."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from littlefoot.errors import TrainingError

_NAME = re.compile(r"step-(\d{8})\.pt")


class CheckpointStore:
    """The newest few checkpoints of one run in a directory: ``step-00000600.pt`` and its SHA-256."""

    def __init__(self, directory: Path, keep: int) -> None:
        self.directory, self.keep = directory, keep

    def steps(self) -> list[int]:
        """Return the steps of the checkpoints on the disk, ascending."""
        found = (_NAME.fullmatch(path.name) for path in self.directory.glob("step-*.pt"))
        return sorted(int(match[1]) for match in found if match)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write a checkpoint and delete those older than the ``keep`` newest.

        The file gets its name last, when it and its checksum are on the disk: after a kill at any moment
        there is either the whole checkpoint or none.
        """
        path = self._path(step)
        temporary = path.with_suffix(".partial")
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                torch.save(state, file)
                file.flush()
                os.fsync(file.fileno())
            path.with_suffix(".sha256").write_text(f"{_checksum(temporary)}  {path.name}\n", encoding="ascii")
            os.replace(temporary, path)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise unwritable(path, error) from error
        for old in self.steps()[: -self.keep]:
            self._path(old).unlink()
            self._path(old).with_suffix(".sha256").unlink(missing_ok=True)

    def load(self, warn: Callable[[str], None]) -> dict[str, Any] | None:
        """Load the newest undamaged checkpoint, or return None if there is none at all.

        Damaged ones are reported to ``warn`` and deleted. Raises TrainingError if all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            path = self._path(step)
            problem = _damage(path)
            if problem is None:
                state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
                return state
            warn(f"{path} {problem}: falling back to the checkpoint before it")
            path.unlink(missing_ok=True)  # another process may have been quicker
        if steps:
            raise TrainingError(
                f"all checkpoints in {self.directory} are damaged: start again without --resume"
            )
        return None

    def _path(self, step: int) -> Path:
        return self.directory / f"step-{step:08d}.pt"


def unwritable(path: Path, error: OSError) -> TrainingError:
    """Make the error of a run that cannot write."""
    return TrainingError(
        f"{path} cannot be written ({error.strerror or error}): free some space or correct the permissions, "
        "then run "
        "the same command with --resume"
    )


def _damage(path: Path) -> str | None:
    """Describe the damage of a checkpoint, or return None."""
    try:
        expected = path.with_suffix(".sha256").read_text(encoding="ascii").split()[0]
    except (OSError, UnicodeDecodeError, IndexError):
        return "has lost its checksum"
    return None if _checksum(path) == expected else "is damaged"


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
