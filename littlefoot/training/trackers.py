"""Send the metrics of a training to TensorBoard and Weights & Biases, by accelerate's trackers."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from littlefoot.errors import MissingExtraError
from littlefoot.system.machine import package_version
from littlefoot.training.train_config import TrainConfig

PROJECT = "littlefoot"
"""Name of the project in Weights & Biases, and of the folder of TensorBoard's files."""


def check(config: TrainConfig) -> None:
    """Raise MissingExtraError if the package of a tracker is not installed; accelerate would ignore it."""
    for name in config.trackers:
        if package_version(name) is None:
            raise MissingExtraError(f"train.trackers={name}", name, name)


@contextmanager
def tracked(accelerator: Accelerator, config: TrainConfig, work: Path, step: int) -> Iterator[None]:
    """Open the trackers of a run, with its settings, and close them at the end, also after an error.

    Args:
        work: the run's directory. TensorBoard's files are in the folder ``littlefoot`` there.
        step: the last step of a run that is resumed, else 0. The rows after it are replaced.
    """
    if not config.trackers:
        yield
        return
    options: dict[str, dict[str, Any]] = {"tensorboard": {"purge_step": step + 1}}
    if "wandb" in config.trackers and accelerator.is_main_process:
        options["wandb"] = {
            "name": work.name.removesuffix("-training"),
            "dir": str(work),
            "id": _run_id(work / "wandb-id", new=not step),
            "resume": "allow",
        }
    settings = dataclasses.asdict(config).items()
    plain = {
        key: value if isinstance(value, bool | int | float | str) else str(value) for key, value in settings
    }
    accelerator.init_trackers(PROJECT, plain, options)
    try:
        yield
    finally:
        for tracker in accelerator.trackers:
            tracker.finish()


def _run_id(path: Path, new: bool) -> str:
    """Return the run's id in Weights & Biases, which a resumed run reads from a file."""
    if new or not path.exists():
        path.write_text(uuid.uuid4().hex, encoding="utf-8")
    return path.read_text(encoding="utf-8")
