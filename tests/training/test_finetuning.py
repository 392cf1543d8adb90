"""Fine-tuning: what stays, how fast the rest changes, and processes that train on their own for a while."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_train import QUIET, losses, rows, run_two_processes
from tones import MODEL, VOCABULARY, write_recipe

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest
from littlefoot.compress import load_recipe
from littlefoot.compress.finetune import begin
from littlefoot.errors import ConfigError, TrainingError
from littlefoot.network.config import ModelConfig
from littlefoot.training import train as trainer
from littlefoot.training.data import TrainingSet
from littlefoot.training.lfmmi import objective_for
from littlefoot.training.module import CTCModel
from littlefoot.training.objective import CTC, consistency_loss
from littlefoot.training.optimizer import freeze, learning_rate, lr_scale, make_optimizer
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


def test_consistency_is_the_divergence_of_two_views_towards_fixed_targets() -> None:
    logits = torch.randn(4, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([6, 3, 6, 3])
    p = np.exp(logits.numpy()) / np.exp(logits.numpy()).sum(-1, keepdims=True)
    expected = 0.0
    for row in range(4):
        other = (row + 2) % 4
        for frame in range(frames[row]):
            expected += float((p[other, frame] * np.log(p[other, frame] / p[row, frame])).sum())
    trained = logits.float().requires_grad_()
    loss = consistency_loss(trained, frames)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)
    loss.backward()
    # The gradient of KL(other || softmax) with a fixed other is their difference.
    gradient = torch.from_numpy(p - p[[2, 3, 0, 1]]).float()
    gradient[[1, 3], 3:] = 0.0
    assert trained.grad is not None
    torch.testing.assert_close(trained.grad, gradient, rtol=1e-4, atol=1e-6)


def test_training_with_consistency_reports_both_parts(tones: Path, tmp_path: Path) -> None:
    path = write_recipe(tmp_path, tones, steps=4, consistency=0.5, log_every=2, time_mask_fraction=0.3)
    recipe = load_recipe(path)
    corpus, out = manifest.index(recipe.data), tmp_path / "out"
    trainer.train(objective_for(begin(recipe), corpus, recipe.train), corpus, recipe.train, out, False)
    for row in (row for row in rows(out) if "loss" in row):
        assert row["loss"] == pytest.approx(row["ctc"] + 0.5 * row["divergence"], rel=1e-4)
        assert row["divergence"] > 0
    recipe = load_recipe(path, ("train.loss=lfmmi",))
    objective = objective_for(begin(recipe), corpus, recipe.train)
    with pytest.raises(ConfigError, match=r"train\.consistency: .* set it to 0"):
        trainer.train(objective, corpus, recipe.train, tmp_path / "refused", False)


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


def test_a_set_may_have_a_limit_of_its_own(tones: Path) -> None:
    corpus = [replace(row, disagreement=0.3) for row in manifest.read(tones, "train")]
    vocabulary, config = Vocabulary(tuple(VOCABULARY), 0), ModelConfig.from_dict(MODEL)
    kept = TrainConfig(**{**QUIET, "set_max_disagreement": {corpus[0].set_name: 0.5}})
    assert len(TrainingSet(corpus, vocabulary, config, kept, True)) == len(corpus)
    with pytest.raises(TrainingError, match=r"disagreement above 0\.15"):
        TrainingSet(corpus, vocabulary, config, TrainConfig(**QUIET), True)
