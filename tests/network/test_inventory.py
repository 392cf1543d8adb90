"""What the inventory lists is what the encoder computes, and families differ by their rows of data alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import artifacts
import oracle
import pytest

from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import WAVEFORM_LAYER, Kind
from littlefoot.runtime import graph

PACKAGE = Path(__file__).parents[2] / "littlefoot"

SHARED: dict[str, Any] = {
    "layer_blocks": [0, 0, 2, 2],
    "layer_maps": [0, 0, 0, 3],
    "num_hidden_layers": 4,
    "layer_norms": True,
    "layer_delta_rank": 2,
}


def made(variant: str) -> Any:
    return artifacts.tiny(**SHARED) if variant == "shared" else oracle.tiny(variant).artifact


@pytest.mark.parametrize("variant", [*oracle.VARIANTS, "shared"])
def test_what_can_be_quantized_is_what_the_graph_multiplies(variant: str) -> None:
    artifact = made(variant)
    computed = {name for names in graph.build(artifact).observed.values() for name in names}
    layers = inventory(artifact.config)
    listed = {layer.name for layer in layers if layer.multiplies}
    assert computed == listed | {factor for layer in layers for factor in layer.factors}


@pytest.mark.parametrize("variant", [*oracle.VARIANTS, "shared"])
def test_every_tensor_belongs_to_the_layer_that_it_is_named_after(variant: str) -> None:
    artifact = made(variant)
    layers = inventory(artifact.config)
    for name in artifact.weights:
        owner = layers.owner(name)
        assert name in owner.tensors
        assert layers.owner(f"{owner.name}.weight_scale") is owner
    with pytest.raises(KeyError):
        layers.owner("encoder.layers.99.attention.q_proj.weight")


@pytest.mark.parametrize("samples", [0, 9, 399, 400, 719, 720, 16_000])
def test_layers_have_as_many_frames_as_their_convolutions_make(samples: int) -> None:
    config = ModelConfig()
    for number in range(len(config.conv_dim)):
        shorter = config.replace(
            **{key: getattr(config, key)[: number + 1] for key in ("conv_dim", "conv_kernel", "conv_stride")}
        )
        layer = inventory(config).layers[f"feature_extractor.conv_layers.{number}.conv"]
        assert layer.frames.count(samples) == shorter.frames(samples)
    head = inventory(config).layers["lm_head"]
    assert head.frames.count(samples) == config.frames(samples)
    assert head.frames.per_second == 50


def test_a_spectrogram_has_no_weights_and_no_axis_to_prune() -> None:
    layers = inventory(oracle.tiny("log-mel").artifact.config)
    assert [layer.kind for layer in layers][:2] == [Kind.FILTERS, Kind.FILTERS]
    assert WAVEFORM_LAYER not in layers
    assert "conv0" not in layers.axes


def test_no_module_asks_for_a_family_by_its_name() -> None:
    asks = re.compile(r"\.model_type (==|!=|in|not in) [\"'({\[]")
    assert asks.search('if config.model_type == "wav2vec2":')
    found = [path.name for path in PACKAGE.rglob("*.py") if asks.search(path.read_text(encoding="utf-8"))]
    assert not found
