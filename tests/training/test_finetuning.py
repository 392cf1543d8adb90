"""Fine-tuning: what stays, how fast the rest changes, and processes that train on their own for a while."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from test_train import QUIET, losses, rows, run_two_processes
from tones import MODEL, VOCABULARY, write_recipe

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest
from littlefoot.errors import ConfigError, TrainingError
from littlefoot.network.config import ModelConfig
from littlefoot.training.data import TrainingSet
from littlefoot.training.module import CTCModel
from littlefoot.training.objective import CTC
from littlefoot.training.optimizer import freeze, learning_rate, lr_scale, make_optimizer
from littlefoot.training.train import Run
from littlefoot.training.train_config import TrainConfig


def test_frozen_weights_stay_and_each_block_has_its_rate() -> None:
    model = CTCModel.from_config(ModelConfig.from_dict(MODEL), Vocabulary(tuple(VOCABULARY), 0))
    freeze(model, ["feature_extractor.*", "encoder.layers.0.*"])
    config = TrainConfig(layer_lr_decay=0.5, lr_scales={"lm_head.*": 3.0})
    scales = {}
    for group in make_optimizer(CTC(model), config).param_groups:
        assert group["weight_decay"] == (config.weight_decay if group["params"][0].ndim > 1 else 0.0)
        for name, parameter in model.named_parameters():
            if any(parameter is member for member in group["params"]):
                scales[name] = group["lr_scale"]
    assert not any(name.startswith(("feature_extractor.", "encoder.layers.0.")) for name in scales)
    assert scales["lm_head.weight"] == 3.0
    assert scales["encoder.layer_norm.bias"] == 1.0
    assert scales["encoder.layers.1.attention.q_proj.weight"] == 1.0
    assert scales["feature_projection.projection.weight"] == 0.25
    assert lr_scale("encoder.layers.0.attention.q_proj.weight", 2, config) == 0.5


def test_a_held_rate_decays_late() -> None:
    config = TrainConfig(lr=1.0, steps=100, warmup_steps=10, hold_steps=60, schedule="linear")
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[10:71] == [1.0] * 61
    assert rates[85] == pytest.approx(0.5)


def test_a_pattern_that_fits_nothing_is_refused() -> None:
    model = CTCModel.from_config(ModelConfig.from_dict(MODEL), Vocabulary(tuple(VOCABULARY), 0))
    with pytest.raises(ConfigError, match=r"no weight's name fits 'encoder\.block\.\*'"):
        freeze(model, ["encoder.block.*"])


@pytest.mark.slow
def test_processes_that_average_their_weights_end_alike_and_resume(tones: Path, tmp_path: Path) -> None:
    settings = {**QUIET, "average_every": 4, "log_every": 4, "ema_decay": 0.0}
    recipe = write_recipe(tmp_path, tones, steps=12, **settings)
    stopped = ("--set", "train.schedule=constant", "--set", "train.steps=8")
    run_two_processes(recipe, tmp_path / "parts", *stopped)
    shutil.rmtree(tmp_path / "parts")
    run_two_processes(recipe, tmp_path / "parts", "--resume", "--set", "train.schedule=constant")
    run_two_processes(recipe, tmp_path / "constant", "--set", "train.schedule=constant")
    np.testing.assert_allclose(losses(tmp_path / "parts"), losses(tmp_path / "constant"), rtol=1e-5)
    assert [row["step"] for row in rows(tmp_path / "constant") if "loss" in row] == [4, 8, 12]


@pytest.mark.parametrize(
    ("stride", "every", "expected"),
    [(1, 4, [4, 8, 12]), (4, 4, [4, 8, 12]), (4, 6, [8, 12]), (5, 3, [5, 10, 15]), (4, 12, [12])],
)
def test_what_is_due_is_not_missed_between_averages(stride: int, every: int, expected: list[int]) -> None:
    settings = TrainConfig(average_every=0 if stride == 1 else stride)
    found = []
    for step in range(stride, 16, stride):
        run = SimpleNamespace(config=settings, alone=stride > 1, at=SimpleNamespace(step=step))
        if Run.due(run, every):  # type: ignore[arg-type]
            found.append(step)
    assert found == expected


def test_a_set_may_have_a_limit_of_its_own(tones: Path) -> None:
    corpus = [replace(row, disagreement=0.3) for row in manifest.read(tones, "train")]
    vocabulary, config = Vocabulary(tuple(VOCABULARY), 0), ModelConfig.from_dict(MODEL)
    kept = TrainConfig(**{**QUIET, "set_max_disagreement": {corpus[0].set_name: 0.5}})
    assert len(TrainingSet(corpus, vocabulary, config, kept, True)) == len(corpus)
    with pytest.raises(TrainingError, match=r"disagreement above 0\.15"):
        TrainingSet(corpus, vocabulary, config, TrainConfig(**QUIET), True)
