"""The activations of transformers, in PyTorch and in the engines' graph."""

from __future__ import annotations

import artifacts
import numpy as np
import pytest
import torch
from transformers.activations import ACT2FN

from littlefoot.errors import ConfigError
from littlefoot.network.activations import ACTIVATIONS, activate
from littlefoot.network.encoder import encode
from littlefoot.runtime import registry
from littlefoot.runtime.native.program import Program
from littlefoot.runtime.native.unsupported import UnsupportedError
from littlefoot.training.torch_ops import TorchOps

VALUES = torch.linspace(-15, 15, 4001, dtype=torch.float64)


def test_names_are_those_of_transformers() -> None:
    without = {"prelu", "xielu"}  # with parameters of their own
    routers = {"sqrtsoftplus"}  # of mixtures of experts
    assert set(ACTIVATIONS) == set(ACT2FN) - without - routers


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_are_those_of_transformers(name: str) -> None:
    found = activate(TorchOps({}), VALUES, name)
    assert torch.allclose(found, ACT2FN[name](VALUES), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("kind", ["openvino", "onnxruntime"])
def test_engines_compute_them_as_pytorch_does(name: str, kind: str) -> None:
    made = artifacts.tiny(hidden_act=name, feat_extract_activation=name, feat_extract_norm="layer")
    waveform = np.random.default_rng(0).standard_normal(2000).astype(np.float32)
    weights = {key: torch.from_numpy(value) for key, value in made.weights.items()}

    expected = encode(TorchOps(weights), made.config, torch.from_numpy(waveform)[None]).logits[0].numpy()
    found = registry.create(made, kind, threads=1, precision="f32", cached=False).run(waveform)
    assert np.abs(found - expected).max() <= 1e-3 * max(1.0, np.abs(expected).max())


def test_activations_with_parameters_are_refused() -> None:
    for name in ("prelu", "xielu", "nonsense"):
        with pytest.raises(ConfigError, match=f"hidden_act '{name}' is not supported: use one of gelu,"):
            artifacts.tiny(hidden_act=name)


@pytest.mark.parametrize("name", sorted(set(ACTIVATIONS) - {"gelu", "gelu_python", "relu"}))
def test_the_kernels_refuse_all_but_two_kinds(name: str) -> None:
    """And an engine takes over."""
    pytest.importorskip("littlefoot_native")
    if name == "linear":
        pytest.skip("which is nothing to compute")
    with pytest.raises(UnsupportedError):
        Program(artifacts.few_bits(2, hidden_act=name), "scalar", 1)
