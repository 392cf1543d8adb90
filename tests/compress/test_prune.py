"""What pruning removes is what its gates closed, and the model gets as small as was asked for."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from families import NEAREST, RELATIVE_LARGE, STACKED, speechlike
from tones import QUIET

from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest
from littlefoot.compress.methods import StepContext
from littlefoot.compress.prune import GatedOps, Gates, PruneConfig, draw, expected, prune, remove, size
from littlefoot.errors import ConfigError
from littlefoot.runtime.registry import create
from littlefoot.training.module import CTCModel
from littlefoot.training.train_config import TrainConfig

ALL = ("heads", "ffn", "conv")
WAVEFORMS = torch.from_numpy(np.stack([speechlike(0.5), np.pad(speechlike(0.3), (0, 3200))]))
LENGTHS = torch.tensor([8000, 4800])


def model_of(family: str) -> CTCModel:
    config = oracle.tiny("wav2vec2-base" if family == "affine" else family).artifact.config
    if family == "affine":  # as it is made for streaming
        config = config.replace(feat_extract_norm="affine", chunk_frames=5, left_context_frames=9)
    vocabulary = Vocabulary(tuple(f"t{i}" for i in range(config.vocab_size)), config.pad_token_id)
    return CTCModel.from_config(config, vocabulary, seed=3).eval()


GOAL = 0.2


def with_random_gates(model: CTCModel, parts: tuple[str, ...], measure: str = "parameters") -> Gates:
    """Some closed, some open, some between."""
    gates = Gates(model, parts, measure)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in gates.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.15)
    return gates


@pytest.mark.parametrize(
    ("family", "parts"),
    [
        ("wav2vec2-base", ALL),
        ("wav2vec2-large", ALL),
        ("mms", ALL),
        (NEAREST, ALL),
        (STACKED, ALL),
        (RELATIVE_LARGE, ("ffn", "conv")),
        ("wav2vec2-large", ("heads",)),
        ("wav2vec2-base", ("conv",)),
        ("log-mel", ALL),
        ("pruned", ("heads", "ffn")),
        ("affine", ALL),
    ],
)
def test_a_gated_model_computes_what_it_does_without_the_closed_parts(
    family: str, parts: tuple[str, ...]
) -> None:
    model = model_of(family)
    gates = with_random_gates(model, parts)
    goal = GOAL if "ffn" in parts else 0.05
    made = remove(model, gates, goal).eval()
    assert size(made.config, {}, "parameters") < size(model.config, {}, "parameters")
    with torch.no_grad():
        gated, frames = model(WAVEFORMS, LENGTHS, make_ops=partial(GatedOps, gates, goal, model.config))
        alone, _ = made(WAVEFORMS, LENGTHS)
    for row, count in enumerate(frames.tolist()):
        torch.testing.assert_close(alone[row, :count], gated[row, :count], atol=2e-5, rtol=1e-4)
    artifact = made.to_artifact()
    found = create(artifact, precision="f32").run(WAVEFORMS[0].numpy())
    np.testing.assert_allclose(found, alone[0].numpy(), atol=1e-3)


def test_gates_are_open_as_often_as_expected() -> None:
    gates = with_random_gates(model_of("wav2vec2-base"), ALL)
    torch.manual_seed(0)
    log_odds = {axis: value.detach() for axis, value in gates.log_odds(GOAL).items()}
    for axis, wanted in expected(log_odds).items():
        drawn = torch.stack([draw(log_odds[axis]) for _ in range(2000)])
        counts = (drawn > 0).float().sum(dim=1)
        assert abs(float(counts.mean()) - float(wanted)) < 4 * float(counts.std()) / 2000**0.5 + 1e-3
        assert drawn.min() >= 0
        assert drawn.max() <= 1
    assert gates.drawn(GOAL).keys() == log_odds.keys()


@pytest.mark.parametrize("measure", ["parameters", "operations", "bytes"])
@pytest.mark.parametrize("goal", [0.02, 0.3, 0.5])
def test_the_expected_size_is_the_goal_and_stays_there(measure: str, goal: float) -> None:
    model = model_of("wav2vec2-base")
    gates = with_random_gates(model, ALL, measure)
    whole = size(model.config, {}, measure)
    found = size(model.config, expected(gates.log_odds(goal)), measure)
    assert float(found.detach()) == pytest.approx((1 - goal) * whole)
    # The gradient of anything knows that the other gates make room.
    size(model.config, expected(gates.log_odds(goal)), measure).backward()
    for parameter in gates.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() < 1e-4 * whole
    gates.zero_grad()
    opened = gates.log_odds(goal)["ffn0"][3]
    opened.backward()
    axis = next(value for name, value in gates.named_parameters() if name.endswith(".ffn0"))
    analytic = float(axis.grad[3])
    with torch.no_grad():
        axis[3] += 1e-4
        above = float(gates.log_odds(goal)["ffn0"][3])
        axis[3] -= 2e-4
        below = float(gates.log_odds(goal)["ffn0"][3])
    assert analytic == pytest.approx((above - below) / 2e-4, rel=0.02)


@pytest.mark.parametrize("family", ["wav2vec2-base", "mms", STACKED])
def test_size_counts_the_large_matrices(family: str) -> None:
    model = model_of(family)
    counted = sum(p.numel() for n, p in model.named_parameters() if p.ndim > 1)
    assert size(model.config, {}, "parameters") == counted
    config = model.config
    frames = 16_000 / config.stride
    base = size(config, {}, "operations")
    without = config.replace(num_hidden_layers=config.num_hidden_layers - 1)
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    layer += 2 * config.hidden_size * (config.adapter_attn_dim or 0)
    assert base - size(without, {}, "operations") == pytest.approx(frames * layer)


def test_bytes_count_the_layers_with_their_bits() -> None:
    config = model_of("wav2vec2-large").config
    eight, one = (size(config, {}, "bytes", bits) for bits in (8, 1))
    linear = (
        config.num_hidden_layers
        * config.hidden_size
        * (4 * config.hidden_size + 2 * config.intermediate_size)
    )
    assert eight == size(config, {}, "parameters")
    assert eight - one == linear * 7 / 8


@pytest.mark.parametrize("measure", ["parameters", "operations"])
def test_pruning_makes_the_model_as_small_as_asked(
    teacher: Artifact, tones: Path, tmp_path: Path, measure: str
) -> None:
    told: list[str] = []
    train = TrainConfig(**{**QUIET, "steps": 200, "ema_decay": 0.9})
    config = PruneConfig(sparsity=0.4, measure=measure, train=train)
    step = StepContext(teacher, manifest.index(tones), tmp_path, False, told.append)
    made = prune(teacher, config, step)
    left = size(made.config, {}, measure) / size(teacher.config, {}, measure)
    assert left == pytest.approx(0.6, abs=0.1)
    assert told[-1] == f"{100 * (1 - left):.1f} % of the {measure} went"
    assert sum(w.nbytes for w in made.weights.values()) < sum(w.nbytes for w in teacher.weights.values())
    lines = (tmp_path / "model-training" / "metrics.jsonl").read_text().splitlines()
    sparsity = [row["sparsity"] for row in map(json.loads, lines) if "sparsity" in row]
    assert sparsity[0] < 0.1
    assert sparsity[-1] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.5}, "sparsity must be less than 1, not 1.5"),
        ({"ramp": -1}, "ramp must be at least 0, not -1"),
        ({"measure": "weight"}, "measure must be parameters, operations or bytes, not 'weight'"),
        ({"bits": 16}, "bits must be at most 8, not 16"),
        ({"parts": ("heads", "layers")}, r"parts\[1\] must be heads, ffn or conv, not 'layers'"),
        ({"parts": ()}, r"parts must have at least 1 item, not \(\)"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PruneConfig(**settings)


def test_what_cannot_be_pruned_is_refused(teacher: Artifact, tmp_path: Path) -> None:
    step = StepContext(teacher, None, tmp_path, False, print)
    with pytest.raises(ConfigError, match=r"sparsity 0.9 cannot be reached: heads are \d+ % of the model's"):
        prune(teacher, PruneConfig(sparsity=0.9, parts=("heads",)), step)
    with pytest.raises(ConfigError, match=r"heads of this .* model cannot be pruned"):
        Gates(model_of(RELATIVE_LARGE), ALL, "parameters")
