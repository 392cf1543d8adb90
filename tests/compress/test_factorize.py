"""Factorized layers lose what the theory says, less than other factors of the same ranks, and no more."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from artifacts import tiny
from families import speechlike

from littlefoot.artifact import Artifact
from littlefoot.audio import manifest, reading
from littlefoot.compress import factorize as module
from littlefoot.compress.factorize import (
    FactorizeConfig,
    Moments,
    choose_ranks,
    factorable,
    factorize,
    factors,
    infer_shape,
    measure,
    multiplications,
)
from littlefoot.compress.inner_rotation import rotated, rotated_factors
from littlefoot.compress.methods import StepContext
from littlefoot.errors import ConfigError
from littlefoot.network.inventory import inventory
from littlefoot.training.module import CTCModel


@pytest.fixture(autouse=True)
def small_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NARROW_MULTIPLE", 2)


def step(teacher: Artifact, tones: Path, folder: Path, told: list[str] | None = None) -> StepContext:
    told = [] if told is None else told
    return StepContext(teacher, manifest.index(tones), folder, False, told.append)


def moments_of(seed: int, outputs: int, inputs: int) -> tuple[torch.Tensor, torch.Tensor, Moments, Any]:
    """A layer, its moments over random frames whose channels depend on each other, and what they are of."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    weight, bias = random(outputs, inputs), random(outputs)
    x = random(400, inputs) @ random(inputs, inputs) + random(inputs)
    gradient = random(400, outputs) @ random(outputs, outputs)
    y = x @ weight.T + bias
    of_inputs = inputs <= outputs
    channels, rows = (x, gradient @ weight) if of_inputs else (y, gradient)
    made = Moments(of_inputs, len(x), channels.sum(0), channels.T @ channels, rows.T @ rows)
    return weight, bias, made, (x, y, gradient)


@pytest.mark.parametrize(("outputs", "inputs"), [(6, 6), (9, 5), (5, 9)])
def test_factors_lose_half_the_sum_of_the_other_eigenvalues(outputs: int, inputs: int) -> None:
    weight, bias, moments, (x, y, gradient) = moments_of(3, outputs, inputs)
    components = moments.components()
    for rank in range(1, min(outputs, inputs) + 1):
        made = factors(weight, bias, moments, components, rank)
        found = x @ made["down.weight"].T @ made["up.weight"].T + made["up.bias"]
        error = found - y
        fisher, covariance = gradient.T @ gradient / len(x), error.T @ error / len(x)
        lost = float((fisher * covariance).sum() / 2)  # of frames that do not depend on their gradients
        expected = float(components[0][rank:].sum() / 2)
        assert lost == pytest.approx(expected, rel=2e-3, abs=1e-5 * float(components[0].sum()))
        np.testing.assert_allclose(found.mean(0), y.mean(0), atol=1e-6 * float(y.abs().max()))
        norms = made["up.weight"].norm(dim=0), made["down.weight"].norm(dim=1)
        torch.testing.assert_close(*norms)


def test_no_other_directions_lose_less() -> None:
    weight, bias, moments, (x, y, gradient) = moments_of(4, 8, 6)
    fisher = gradient.T @ gradient / len(x)

    def lost(found: torch.Tensor) -> float:
        error = found - y
        return float((fisher * (error.T @ error / len(x))).sum() / 2)

    made = factors(weight, bias, moments, moments.components(), 3)
    best = lost(x @ made["down.weight"].T @ made["up.weight"].T + made["up.bias"])
    centred = y - y.mean(0)
    _, _, principal = torch.linalg.svd(centred, full_matrices=False)
    left, values, right = torch.linalg.svd(weight, full_matrices=False)
    truncated = (left[:, :3] * values[:3]) @ right[:3]
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(8, 3, generator=generator, dtype=torch.float64) for _ in range(20)]
    others = [
        centred @ principal[:3].T @ principal[:3] + y.mean(0),  # LiteASR's
        (x - x.mean(0)) @ truncated.T + y.mean(0),  # of the weights alone
        *(centred @ basis @ basis.T + y.mean(0) for basis in (torch.linalg.qr(each)[0] for each in drawn)),
    ]
    assert all(best < lost(other) for other in others)


def test_ranks_are_the_best_for_theirmultiplications() -> None:
    """Against all combinations of ranks of three layers."""
    layers = dict(itertools.islice(factorable(tiny().config).items(), 3, 6))
    generator = torch.Generator().manual_seed(5)
    values = {
        name: torch.rand(min(layer.shape), generator=generator, dtype=torch.float64).sort().values.flip(0)
        ** 3
        for name, layer in layers.items()
    }
    whole = sum(multiplications(layer) for layer in layers.values())
    found = choose_ranks(layers, values, 0.5)

    def figures(ranks: dict[str, int]) -> tuple[float, float]:
        operations = sum(multiplications(layer, ranks.get(name)) for name, layer in layers.items())
        return operations / whole, float(sum(values[name][rank:].sum() for name, rank in ranks.items()))

    share, lost = figures(found)
    assert share <= 0.5
    choices = [[None, *range(2, min(layer.shape), 2)] for layer in layers.values()]
    for combination in itertools.product(*choices):
        ranks = {name: rank for name, rank in zip(layers, combination, strict=True) if rank}
        if figures(ranks)[0] <= share:
            assert figures(ranks)[1] >= lost - 0.15, ranks  # what rounding ranks may cost


def test_a_trained_model_keeps_its_posteriors(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    told: list[str] = []
    made = factorize(teacher, FactorizeConfig(0.6), step(teacher, tones, tmp_path, told))
    assert made.config.linear_ranks
    assert set(made.weights) == set(inventory(made.config).tensors) | {"masked_spec_embed"}
    before, after = (
        sum(layer.macs(16000) for layer in inventory(each.config) if layer.packable)
        for each in (teacher, made)
    )
    assert 0.5 < after / before <= 0.6
    network, smaller, simple = (CTCModel.from_artifact(each).eval() for each in (teacher, made, teacher))
    with torch.no_grad():
        for name, rank in made.config.linear_ranks.items():
            weight = simple.get_parameter(f"{name}.weight")
            left, values, right = torch.linalg.svd(weight, full_matrices=False)
            weight.copy_((left[:, :rank] * values[:rank]) @ right[:rank])
    divergences, truncated = [], []
    for utterance in manifest.index(tones).of_split("dev"):
        waveform = torch.from_numpy(reading.normalize(reading.read(utterance.path)))[None]
        with torch.no_grad():
            expected, found, other = (
                torch.log_softmax(model.encode(waveform).logits[0], -1)
                for model in (network, smaller, simple)
            )
        divergences.append(float((expected.exp() * (expected - found)).sum(-1).mean()))
        truncated.append(float((expected.exp() * (expected - other)).sum(-1).mean()))
    stated = float(told[-1].split("about ")[1].split()[0])
    assert np.mean(divergences) < 0.5 * np.mean(truncated)
    assert np.mean(divergences) == pytest.approx(stated, rel=0.7, abs=0.01)


def test_a_small_share_of_what_goes_loses_little(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    made = factorize(teacher, FactorizeConfig(1.0), step(teacher, tones, tmp_path))
    waveform = torch.from_numpy(speechlike(0.6))[None]
    with torch.no_grad():
        expected, found = (
            CTCModel.from_artifact(each).eval().encode(waveform).logits for each in (teacher, made)
        )
    torch.testing.assert_close(found, expected, atol=0.3, rtol=0)


def test_rotated_factors_compute_the_same_and_lose_less_in_few_bits(
    teacher: Artifact, tones: Path, tmp_path: Path
) -> None:
    assert rotated(teacher) is teacher
    made = factorize(teacher, FactorizeConfig(0.6), step(teacher, tones, tmp_path))
    spread = rotated(made)
    waveform = torch.from_numpy(speechlike(0.6))[None]
    with torch.no_grad():
        expected, found = (
            CTCModel.from_artifact(each).eval().encode(waveform).logits for each in (made, spread)
        )
    torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-3)
    generator = np.random.default_rng(3)
    lost = np.zeros(2)
    for rank in (16, 32, 48):  # components whose importance falls as that of real layers does
        scale = np.geomspace(1, 0.01, rank)
        up = (generator.standard_normal((64, rank)) * scale).astype(np.float32)
        down = (scale[:, None] * generator.standard_normal((rank, 64))).astype(np.float32)
        inputs = generator.standard_normal((64, 500))
        for place, (left, right) in enumerate(((up, down), rotated_factors(up, down))):
            np.testing.assert_allclose(left @ right, up @ down, atol=1e-4)
            four_bits = [np.abs(factor).max(1, keepdims=True) / 7 for factor in (left, right)]
            left, right = (
                np.round(factor / size) * size for factor, size in zip((left, right), four_bits, strict=True)
            )
            lost[place] += np.square((left @ right - up @ down) @ inputs).mean()
    assert lost[1] < 0.8 * lost[0]


def test_what_cannot_be_factorized_is_refused(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"operations 0\.001 cannot be reached: with the lowest ranks"):
        infer_shape(teacher.config, FactorizeConfig(0.001))
    with pytest.raises(ConfigError, match=r"factorize\.operations must be at most 1"):
        FactorizeConfig(1.5)
    shape = infer_shape(teacher.config, FactorizeConfig(0.6))
    with pytest.raises(ConfigError, match="factorized already"):
        infer_shape(shape, FactorizeConfig(0.6))
    with pytest.raises(ConfigError, match="no linear layer 'lm_head' in its blocks"):
        inventory(teacher.config.replace(linear_ranks={"lm_head": 4}))
    with pytest.raises(ConfigError, match=r"linear_ranks\.lm_head must be greater than 0"):
        teacher.config.replace(linear_ranks={"lm_head": 0})
    with pytest.raises(ConfigError, match="none of the recordings can be used"):
        measure(CTCModel.from_artifact(teacher), [np.zeros(10, np.float32)], {})


def test_fewer_layers_have_fewer_ranks(teacher: Artifact) -> None:
    shape = infer_shape(teacher.config, FactorizeConfig(0.5))
    first = shape.first_layers(1)
    assert {name.split(".")[2] for name in shape.linear_ranks} == {"0", "1"}
    assert {name.split(".")[2] for name in first.linear_ranks} == {"0"}
    assert type(shape).from_dict(shape.to_dict()) == shape
