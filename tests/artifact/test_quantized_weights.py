"""What stands beside quantized weights is whole and possible, or the model is refused before it computes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from artifacts import few_bits, noise

from littlefoot.artifact import Artifact
from littlefoot.artifact.packing import TERNARY
from littlefoot.errors import ArtifactError, LittlefootError
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.registry import create

Damage = Callable[[np.ndarray], np.ndarray | None]

DAMAGES: dict[str, Damage] = {
    "missing": lambda tensor: None,
    "a number": lambda tensor: np.array(tensor.reshape(-1)[0]),
    "one more axis": lambda tensor: tensor[None],
    "too short": lambda tensor: tensor[:-1] if tensor.ndim else np.zeros(0, tensor.dtype),
    "integers": lambda tensor: tensor.astype(np.int64),
    "floats": lambda tensor: tensor.astype(np.float32),
    "truths": lambda tensor: tensor.astype(bool),
    "huge": lambda tensor: np.full_like(tensor, 127 if tensor.dtype.kind in "iu" else 3e38),
    "negative": lambda tensor: (-tensor.astype(np.float64) - 1).astype(tensor.dtype),
    "not finite": lambda tensor: np.full_like(tensor, np.nan) if tensor.dtype.kind == "f" else tensor * 0,
}


def damaged(model: Artifact, name: str, damage: Damage) -> Artifact:
    weights = {**model.weights}
    changed = damage(weights.pop(name))
    if changed is not None:
        weights[name] = changed
    return replace(model, weights=weights)


def models() -> Iterator[Artifact]:
    yield few_bits(2, 4, TERNARY, positions=8, front_end=4, groups=2, num_hidden_layers=1)
    static = few_bits(4, positions=8, front_end=8, num_hidden_layers=1)
    scores = "encoder.layers.0.attention.scores"
    factors: dict[str, Any] = {
        f"{scores}.{side}.input_scale": np.array(0.1, np.float32) for side in ("left", "right")
    }
    factors |= {f"{scores}.{side}.input_zero_point": np.array(0, np.int8) for side in ("left", "right")}
    yield replace(static, weights={**static.weights, **factors})


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_quantization_is_refused_or_computed(damage: str) -> None:
    """With an error of ours, whichever part of the program finds it."""
    refused = computed = 0
    kernels = ["off", *native.available()[:1]]
    for model in models():
        parts = [name for name in model.weights if "_" in name.rpartition(".")[2]]
        assert len(parts) > 30
        for name in parts:
            try:
                broken = damaged(model, name, DAMAGES[damage])
            except ArtifactError:
                refused += 1
                continue
            if computed < 6:  # the others are alike
                for kind in kernels:
                    try:
                        create(broken, "onnxruntime", 1, "f32", cached=False, kernels=kind).run(noise(900))
                    except LittlefootError:
                        continue
            computed += 1
    assert refused > 10
    if damage in ("one more axis", "too short", "truths"):
        assert refused > 50


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("weight_scale", None, r"weight_scale is missing"),
        (
            "weight_scale",
            np.ones(15, np.float32),
            r"weight_scale is float32 \(15,\), not numbers of shape \(16,\)",
        ),
        ("input_scale", np.array(0, np.float32), "input_scale is 0.0, not above 0"),
        ("input_scale", np.array(np.inf, np.float32), "input_scale is not finite"),
        ("input_zero_point", None, "input_zero_point is missing"),
        ("input_zero_point", np.array(1.0), r"input_zero_point is float64 \(\), not a number of 8 bits"),
        ("input_bits", np.array(9, np.uint8), "input_bits is not a number from 1 to 8, or 32"),
        (
            "input_shift",
            np.ones(15, np.float32),
            r"input_shift is float32 \(15,\), not numbers of shape \(16,\)",
        ),
        ("weight_bits", np.array(2.0), "claims to be packed, but is not"),
        ("weight_shape", np.array(5, np.int32), "claims to be packed, but is not"),
        ("weight_levels", np.array([-3, -1, 1, 2], np.int8), "claims to be packed, but is not"),
        ("weight_multiplier", np.ones((16, 0), np.uint8), "claims to be packed, but is not"),
    ],
)
def test_the_tensor_is_named(part: str, value: np.ndarray | None, message: str) -> None:
    model, layer = few_bits(2, 4), "encoder.layers.1.attention.q_proj"
    weights = {**model.weights}
    weights.pop(f"{layer}.{part}", None)
    if value is not None:
        weights[f"{layer}.{part}"] = value
    with pytest.raises(ArtifactError, match=rf"{layer}.*{message}"):
        replace(model, weights=weights)


@pytest.mark.parametrize("name", ["lm_head.weight", "lm_head.bias", "encoder.layers.0.layer_norm.weight"])
def test_weights_that_are_no_numbers_are_refused(name: str) -> None:
    model = few_bits(2)
    with pytest.raises(ArtifactError, match=f"{name} is of type int32"):
        replace(model, weights={**model.weights, name: model.weights[name].astype(np.int32)})
