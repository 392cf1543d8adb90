"""The rows of metrics reach TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import accelerate.tracking
import pytest
from accelerate import Accelerator
from accelerate.utils import LoggerType

from littlefoot.errors import ConfigError, MissingExtraError
from littlefoot.training import trackers
from littlefoot.training.progress import Reporter
from littlefoot.training.train_config import TrainConfig


def train(work: Path, config: TrainConfig, steps: range) -> None:
    """The rows that training reports, without a model."""
    work.mkdir(exist_ok=True)
    accelerator = Accelerator(cpu=True, log_with=config.trackers or None, project_dir=work)
    with (
        trackers.tracked(accelerator, config, work, steps.start - 1),
        Reporter(work / "metrics.jsonl", 100, 0, accelerator.log) as reporter,
    ):
        for step in steps:
            reporter.row({"step": step, "loss": float(step), "lr": 0.5})


def test_tensorboard_has_the_rows_and_a_resumed_run_replaces_those_it_repeats(tmp_path: Path) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    config = TrainConfig(trackers=["tensorboard"], freeze=["encoder.*"])
    train(tmp_path, config, range(1, 5))
    train(tmp_path, config, range(3, 5))
    found = events.EventAccumulator(str(tmp_path / trackers.PROJECT))
    found.Reload()
    assert [(event.step, event.value) for event in found.Scalars("loss")] == [
        (step, float(step)) for step in range(1, 5)
    ]
    assert [event.value for event in found.Scalars("lr")] == [0.5] * 4


def test_weights_and_biases_get_settings_rows_and_the_same_run_when_it_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package is a stand-in that records the calls: the real one needs an account."""
    calls: list[tuple[str, Any]] = []

    class Recorded:
        def log(self, values: dict[str, Any], step: int, **more: Any) -> None:
            calls.append(("log", (values, step)))

        def finish(self) -> None:
            calls.append(("finish", None))

    class Settings:
        def update(self, values: dict[str, Any], **more: Any) -> None:
            calls.append(("config", values))

    wandb: Any = ModuleType("wandb")
    wandb.config = Settings()
    wandb.init = lambda **options: calls.append(("init", options)) or Recorded()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    available = accelerate.tracking._available_trackers
    monkeypatch.setattr(accelerate.tracking, "_available_trackers", [*available, LoggerType.WANDB])
    monkeypatch.setattr(trackers, "package_version", lambda name: "1")

    config = TrainConfig(trackers=["wandb"], lr=0.25)
    trackers.check(config)
    train(tmp_path / "mine-training", config, range(1, 3))
    train(tmp_path / "mine-training", config, range(3, 4))
    assert [name for name, _ in calls] == [
        *("init", "config", "log", "log", "finish"),
        *("init", "config", "log", "finish"),
    ]
    first, second = (options for name, options in calls if name == "init")
    assert first == second
    assert (first["project"], first["name"], first["resume"]) == ("littlefoot", "mine", "allow")
    assert calls[1][1]["lr"] == 0.25
    assert calls[2][1] == ({"loss": 1.0, "lr": 0.5}, 1)


def test_a_missing_package_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(trackers, "package_version", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"wandb.*pip install 'littlefoot\[wandb\]'"):
        trackers.check(TrainConfig(trackers=["wandb"]))
    trackers.check(TrainConfig())


def test_an_unknown_tracker_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"train.trackers\[0\].*tensorboard or wandb"):
        TrainConfig(trackers=["mlflow"])  # type: ignore[list-item]


def test_training_without_trackers_writes_the_metrics_only(tmp_path: Path) -> None:
    train(tmp_path, TrainConfig(), range(1, 3))
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.jsonl"]
    assert [json.loads(row)["step"] for row in (tmp_path / "metrics.jsonl").open()] == [1, 2]
