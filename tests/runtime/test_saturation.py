"""Products of 8 bits: no sum is cut off, whatever the processor adds them up in."""

from __future__ import annotations

import platform
from dataclasses import replace

import artifacts
import numpy as np
import pytest
from artifacts import difference
from families import speechlike
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import EightBitWeight, PackedWeight, Rounding, StoredLayer
from littlefoot.compress import calibration, rounding
from littlefoot.compress.quantize import QuantizeConfig, quantize_dynamic, quantize_static
from littlefoot.runtime import graph, openvino, registry
from littlefoot.runtime.saturation import SAFE, may_saturate, narrowed
from littlefoot.runtime.stream_state import WAVEFORM
from littlefoot.system import machine

CLIP = speechlike(0.8)


@pytest.fixture(scope="module")
def whole() -> Artifact:
    return artifacts.talkative(artifacts.tiny(hidden_size=32, intermediate_size=64), CLIP)


@pytest.fixture(scope="module")
def loud(whole: Artifact) -> Artifact:
    """A model in 8 bits whose weights are all as large as they can be."""
    inputs = calibration.collect(whole, [CLIP])
    scales = {each.layers: rounding.fit(each, whole.weights) for each in inputs}
    made = quantize_static(whole, inputs, scales, QuantizeConfig())
    weights = dict(made.weights)
    for name, weight in made.weights.items():
        if weight.dtype == np.int8 and f"{name}_scale" in weights:
            weights[name] = np.where(weight < 0, -127, 127).astype(np.int8)
            weights[f"{name}_scale"] = weights[f"{name}_scale"] / 2  # about as loud as before
    return replace(made, weights=weights)


def in_floating_point(artifact: Artifact) -> np.ndarray:
    """What the model says where each product is computed in float32, of rounded factors."""
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(graph.build(artifact).proto().SerializeToString(), options)
    (logits,) = session.run(None, {WAVEFORM: CLIP[None]})
    return np.asarray(logits[0])


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_engines_cut_nothing_off(name: str, loud: Artifact) -> None:
    logits = registry.create(loud, name, precision="f32", cached=False).run(CLIP)
    computed = artifacts.as_computed(loud) if name == "openvino" else loud
    assert difference(logits, in_floating_point(computed)) < 0.02


def test_seven_bits_are_taken_where_the_processor_needs_them(
    loud: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for saturates in (True, False):
        monkeypatch.setattr(openvino, "may_saturate", lambda answer=saturates: answer)
        found[saturates] = registry.create(loud, "openvino", precision="f32").run(CLIP)  # cached apart
    assert difference(found[True], in_floating_point(replace(loud, weights=narrowed(loud.weights)))) < 0.02
    assert not np.array_equal(found[True], found[False])
    if not may_saturate():
        assert difference(found[False], in_floating_point(loud)) < 0.02


@given(
    levels=arrays.arrays(
        np.int8,
        st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 3)),
        elements=st.integers(-127, 127),
    )
)
def test_weights_are_halved_to_the_nearest_step(levels: np.ndarray) -> None:
    scale = np.linspace(1, 2, len(levels)).astype(np.float32)
    rounding = Rounding(np.array(1, np.float32), np.array(0, np.uint8))
    given_weights = StoredLayer(EightBitWeight(levels, scale), rounding).tensors("a")
    made = narrowed(given_weights)
    assert made["a.weight"].dtype == np.int8
    assert np.abs(made["a.weight"]).max() <= SAFE
    for before, now, step, new_step in zip(
        levels, made["a.weight"], scale, made["a.weight_scale"], strict=True
    ):
        errors = now * (new_step / step) - before
        if np.abs(before).max() <= SAFE:
            assert not errors.any()
        else:
            assert new_step == 2 * step
            assert np.abs(errors).max() <= 1
            assert np.abs(np.cumsum(errors)).max() <= 1  # they cancel out over neighbours


def test_few_bits_are_as_they_are_unless_groups_make_them_large() -> None:
    levels = np.array([[-1, 1, -1, -1, 1, 1, 1, -1]] * 2, np.int8)
    rounding = Rounding(np.array(1, np.float32), np.array(0, np.uint8))
    multiplier, scale = np.array([[3, 127], [1, 2]], np.uint8), np.ones(2, np.float32)
    groups = PackedWeight.pack(levels, scale, 1, multiplier=multiplier)
    plain = StoredLayer(PackedWeight.pack(levels, scale, 1), rounding).tensors("a")
    grouped = StoredLayer(groups, rounding).tensors("a")
    assert narrowed(plain).keys() == plain.keys()
    made = narrowed(grouped)
    exact = groups.levels
    np.testing.assert_array_equal(made["a.weight"][1], exact[1])
    assert np.abs(made["a.weight"][0] * 2.0 - exact[0]).max() <= 1
    assert "a.weight_bits" not in made


def test_what_is_computed_in_floating_point_is_left_alone(whole: Artifact) -> None:
    for artifact in (whole, quantize_dynamic(whole, QuantizeConfig(mode="dynamic"))):
        made = narrowed(artifact.weights)
        assert all(made[name] is weight for name, weight in artifact.weights.items())


@pytest.mark.parametrize("mode", ["dynamic", "static"])
def test_shared_weights_are_computed_as_those_of_one_layer(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = artifacts.tiny(layer_blocks=[0, 0])
    made = quantize_dynamic(shared, QuantizeConfig(mode="dynamic"))
    if mode == "static":
        inputs = calibration.collect(shared, [CLIP])
        scales = {each.layers: rounding.fit(each, shared.weights) for each in inputs}
        made = quantize_static(shared, inputs, scales, QuantizeConfig())
    second = {
        name.replace("encoder.layers.0.", "encoder.layers.1."): weight
        for name, weight in made.weights.items()
    }
    unshared = replace(made, config=made.config.replace(layer_blocks=()), weights={**second, **made.weights})
    monkeypatch.setattr("littlefoot.runtime.onnxruntime.may_saturate", lambda: True)
    found, expected = (registry.create(model, "onnxruntime").run(CLIP) for model in (made, unshared))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("kind", "flags", "expected"),
    [
        ("x86_64", {"avx2"}, True),
        ("x86_64", {"avx2", "avx512f"}, True),
        ("AMD64", set(), True),  # Windows says nothing
        ("x86_64", {"avx2", "avx_vnni"}, False),
        ("x86_64", {"avx512f", "avx512_vnni"}, False),
        ("aarch64", {"asimddp"}, False),
        ("arm64", set(), False),
    ],
)
def test_processors(kind: str, flags: set[str], expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: kind)
    monkeypatch.setattr(machine, "flags", lambda: flags)
    assert may_saturate() is expected
