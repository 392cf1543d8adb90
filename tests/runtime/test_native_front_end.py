"""Convolutions on the native kernels: their formula in float64, and what they cannot do."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from artifacts import SPECTROGRAMS, few_bits, noise, tiny
from families import RELATIVE_TYPE

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import EightBitWeight, FloatWeight, packed_layers, put, read, read_weight
from littlefoot.errors import EngineError
from littlefoot.runtime import choices, measuring, registry
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.native.front_end import FrontEnd
from littlefoot.runtime.native.layers import Scales
from littlefoot.runtime.native.program import Program
from littlefoot.runtime.native.unsupported import UnsupportedError
from littlefoot.runtime.protocols import EngineSettings
from littlefoot.runtime.registry import create
from littlefoot.system import machine

pytestmark = pytest.mark.skipif(
    not native.available(), reason="the native kernels are not installed: pip install ./native"
)

Array = npt.NDArray[np.float64]

THREE = {"conv_dim": [12, 33, 20], "conv_kernel": [10, 3, 2], "conv_stride": [5, 2, 2]}
GEOMETRIES: dict[str, dict[str, Any]] = {
    "norm over time": {**THREE, "conv_dim": [12, 34, 20]},
    "norm over channels": {**THREE, "feat_extract_norm": "layer", "conv_bias": True},
    "affine, with a gain": {
        **THREE,
        "conv_dim": [12, 34, 20],
        "feat_extract_norm": "affine",
        "conv_bias": True,
        "waveform_gain": 0.3,
        "chunk_frames": 8,
        "left_context_frames": 16,
        "num_conv_pos_embeddings": 5,
    },
    "relu": {"feat_extract_norm": "layer", "feat_extract_activation": "relu"},
    "gaps": {"conv_dim": [8, 6, 8], "conv_kernel": [10, 3, 2], "conv_stride": [5, 4, 3]},
    "wide": {"conv_dim": [72, 200], "conv_kernel": [10, 8], "conv_stride": [5, 4]},
}


def front_end_of(model: Artifact, kernels: str, threads: int) -> FrontEnd:
    """The front end of a model, in the threads of its program."""
    return FrontEnd(model, Program(model, kernels, threads))


def reference(model: Artifact, waveform: npt.NDArray[np.float32]) -> Array:
    """Features (F, C) by the formula."""
    config, weights = model.config, model.weights
    x = waveform.astype(np.float64)[:, None] * config.waveform_gain  # (T, C)
    for number, (taps, stride) in enumerate(zip(config.conv_kernel, config.conv_stride, strict=True)):
        name = f"feature_extractor.conv_layers.{number}"
        conv = f"{name}.conv"
        if number and f"{conv}.input_scale" in weights:
            scale, zero = float(weights[f"{conv}.input_scale"]), float(weights[f"{conv}.input_zero_point"])
            x = (np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale
            stored = read_weight(conv, weights)
            assert not isinstance(stored, FloatWeight)
            weight = stored.levels * stored.scale.astype(np.float64)[:, None, None]
        else:
            weight = weights[f"{conv}.weight"].astype(np.float64)
        windows = np.lib.stride_tricks.sliding_window_view(x, taps, axis=0)[::stride]  # (T', C, K)
        y = np.einsum("tck,ock->to", windows, weight)
        y = y + weights.get(f"{conv}.bias", np.zeros(1))
        if config.feat_extract_norm == "layer" or number == 0:
            if config.feat_extract_norm != "affine":
                axis = 0 if config.feat_extract_norm == "group" else 1
                y = (y - y.mean(axis, keepdims=True)) / np.sqrt(y.var(axis, keepdims=True) + 1e-5)
            y = y * weights[f"{name}.layer_norm.weight"] + weights[f"{name}.layer_norm.bias"]
        if config.feat_extract_activation == "relu":
            x = np.maximum(y, 0)
        else:
            x = y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))
    return x


def assert_close(found: npt.NDArray[np.float32], expected: Array) -> None:
    """A number on the border between two levels may fall on either side, and moves what follows a little."""
    assert found.shape == expected.shape
    off = np.abs(found - expected)
    assert np.median(off) < 1e-5 * expected.std()
    assert (off > 1e-4 * expected.std()).mean() < 0.05
    assert off.max() < 0.1 * np.abs(expected).max()


@pytest.mark.parametrize("kernels", native.available())
@pytest.mark.parametrize("width", [32, 8, 4])
@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_features_are_their_formula(geometry: str, width: int, kernels: str) -> None:
    model = few_bits(2, front_end=width, **GEOMETRIES[geometry])
    waveform = noise(2500)
    assert_close(front_end_of(model, kernels, 2).run(waveform), reference(model, waveform))


@pytest.mark.parametrize("width", [32, 8])
@pytest.mark.parametrize("geometry", ["norm over time", "norm over channels"])
def test_lengths_and_threads_do_not_matter(geometry: str, width: int) -> None:
    model = few_bits(1, front_end=width, **GEOMETRIES[geometry])
    kernels = native.available()[0]
    one, three = front_end_of(model, kernels, 1), front_end_of(model, kernels, 3)
    field, stride = model.config.receptive_field, model.config.stride
    for samples in (20_000, field, field + stride - 1, field + stride, 4321, 16_000, 1700):
        waveform = noise(samples)
        found = one.run(waveform)
        assert len(found) == model.config.frames(samples)
        np.testing.assert_array_equal(three.run(waveform), found)
        if samples < 5000:
            assert_close(found, reference(model, waveform))
    assert one.run(noise(field - 1)).shape == (0, model.config.conv_dim[-1])


def test_a_norm_over_time_is_right_far_from_zero() -> None:
    model = few_bits(2, front_end=8, **GEOMETRIES["norm over time"])
    waveform = (100 + noise(3000)).astype(np.float32)
    kernels = native.available()[0]
    found, expected = front_end_of(model, kernels, 1).run(waveform), reference(model, waveform)
    assert np.abs(found - expected).mean() < 1e-2 * expected.std()
    assert np.isfinite(front_end_of(model, kernels, 1).run(np.zeros(3000, np.float32))).all()


def test_a_slice_of_a_view_is_read_right() -> None:
    model = few_bits(2, front_end=8)
    front_end = front_end_of(model, native.available()[0], 1)
    every_other = noise(8000)[::2]
    np.testing.assert_array_equal(front_end.run(every_other), front_end.run(every_other.copy()))


# without an engine


def test_no_engine_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model = few_bits(2, 8, positions=8, front_end=8)
    expected = create(model, "onnxruntime", kernels="off").run(noise(4000))
    for backend in registry.BACKENDS.values():
        monkeypatch.setattr(type(backend), "create", lambda *arguments: pytest.fail("an engine was made"))
    made = create(model, "openvino")
    assert made.name == "native"
    spread = expected.std()
    assert np.median(np.abs(made.run(noise(4000)) - expected)) < 0.02 * spread


def test_none_is_imported(tmp_path: Path) -> None:
    artifacts.save(few_bits(2, 8, positions=8, front_end=8), tmp_path / "model")
    program = (
        "import sys, numpy, littlefoot\n"
        f"model = littlefoot.load({str(tmp_path / 'model')!r})\n"
        "model.transcribe(numpy.sin(numpy.arange(16000) / 9).astype('float32'))\n"
        "print([name for name in ('openvino', 'onnxruntime', 'onnx', 'torch') if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_spectrograms_stay_in_an_engine() -> None:
    model = few_bits(2, front_end=8, positions=8, **SPECTROGRAMS)
    made = create(model, "onnxruntime")
    assert (made.name, made.kernels) == ("onnxruntime", native.available()[0])
    assert isinstance(made, native.NativeEngine)
    assert isinstance(made.features, native.SlicedFrontEnd)


def test_scales_found_at_run_time_are_refused() -> None:
    model = few_bits(2, front_end=8)
    name = "feature_extractor.conv_layers.1.conv.input_scale"
    dynamic = replace(model, weights={n: v for n, v in model.weights.items() if n != name})
    with pytest.raises(UnsupportedError, match="no fixed scale"):
        front_end_of(dynamic, native.available()[0], 1)


# 8 bits


def eight_bits(**changes: Any) -> Artifact:
    """A static int8 artifact."""
    model = few_bits(4, **{"positions": 8, "front_end": 8, **changes})
    made = {}
    for name in packed_layers(model.weights):
        layer = read(name, model.weights)
        assert not isinstance(layer.weight, FloatWeight)
        made[name] = replace(layer, weight=EightBitWeight(layer.weight.levels, layer.weight.scale))
    weights = put(model.weights, made)
    return replace(model, weights=weights)


@pytest.mark.parametrize("kernels", [name for name in native.available() if name != "scalar"])
def test_8_bits_are_exact_where_an_engine_would_cut_sums_off(
    kernels: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import littlefoot_native

    model, waveform = eight_bits(), noise(6000)
    monkeypatch.setattr(native, "available", lambda: [kernels])  # the best that a processor has
    exact = create(model, "onnxruntime").run(waveform)
    monkeypatch.setattr(native, "may_saturate", lambda: True)
    made = create(model)
    assert (made.name, made.kernels) == ("native", kernels)
    off = np.abs(made.run(waveform) - exact) / exact.std()
    if littlefoot_native.has_bfloat16(kernels):  # all products but those of attention are exact
        assert np.median(off) < 2e-3
        assert off.max() < 0.1
    else:
        assert (off.max(axis=1) < 1e-4).mean() > 0.9
    assert create(model, kernels="off").name != "native"
    assert create(model, "onnxruntime").name == "onnxruntime"  # which was asked for
    monkeypatch.setattr(native, "may_saturate", lambda: False)
    assert (create(model).name == "native") is (kernels in native.AHEAD)
    choices.store(model, measured(model, "native"))  # where an engine is exact too
    assert create(model).name == "native"
    choices.store(model, measured(model, "onnxruntime"))
    assert create(model).name == "onnxruntime"


def measured(model: Artifact, engine: str) -> choices.Choice:
    context = choices.context(EngineSettings(machine.threads()), "recordings")
    return choices.Choice(engine, "openvino", {engine: 1.0}, "tiny", "recordings", "2026-11-29", context)


def test_8_bits_are_measured_on_the_kernels_where_engines_are_exact_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(native, "may_saturate", lambda: False)
    monkeypatch.setattr(choices, "SECONDS", 0.0)
    choice = measuring.measure(eight_bits(), EngineSettings(1), "tiny")
    assert choice is not None
    assert set(choice.milliseconds) == {"native", "openvino", "onnxruntime"}
    assert choice.rule == ("native" if native.available()[0] in native.AHEAD else "openvino")


@pytest.mark.parametrize("change", [SPECTROGRAMS, {"model_type": RELATIVE_TYPE}], ids=str)
def test_8_bits_that_the_kernels_do_not_have_stay_in_an_engine(
    change: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "may_saturate", lambda: True)
    made = create(eight_bits(**change))
    assert (made.kernels, caplog.text) == ("none", "")


# bad input


def test_a_damaged_layer_is_named() -> None:
    model = few_bits(2, front_end=8, **GEOMETRIES["norm over channels"])
    name = "feature_extractor.conv_layers.1.conv"
    broken = object.__new__(Artifact)  # an artifact's own checks would refuse it before
    cut = {f"{name}.weight": model.weights[f"{name}.weight"][:, :-1].copy()}
    broken.__dict__.update({**model.__dict__, "weights": {**model.weights, **cut}})
    with pytest.raises(EngineError, match=f"{name}: the input has 12 columns in each of 3 taps, not 33"):
        front_end_of(broken, native.available()[0], 1)


def first_layer(**changes: Any) -> dict[str, Any]:
    settings = {
        "weight": np.ones((4, 3), np.float32),
        "stride": 2,
        "bias": None,
        "norm": "none",
        "norm_weight": None,
        "norm_bias": None,
        "eps": 1e-5,
        "activation": "gelu",
    }
    return {**settings, **changes}


def second_layer(**changes: Any) -> dict[str, Any]:
    """The arguments of a layer; some changes go to its matrix or its rounding."""
    import littlefoot_native

    scales = {"weight_scale": np.ones(5, np.float32), "input_scale": 0.1, "zero_point": 3}
    scales |= {name: changes.pop(name) for name in (*scales, "smoothing") if name in changes}
    settings = {
        "matrix": littlefoot_native.Product(np.ones((5, 8), np.uint8), 8, 8, [], 8),
        "taps": 2,
        "stride": 2,
        "rounding": Scales(**{"smoothing": None, "shift": None, **scales}),
        "bias": None,
        "norm": "none",
        "norm_weight": None,
        "norm_bias": None,
        "eps": 0.0,
        "activation": "none",
    }
    return {**settings, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 1 << 17}, "a stride of 1 to 65536"),
        ({"stride": 0}, "a stride of 1 to 65536"),
        ({"weight": np.ones((0, 3), np.float32)}, "needs outputs"),
        ({"bias": np.ones(3, np.float32)}, "the bias must have 4 numbers, not 3"),
        ({"norm": "sideways"}, "a norm over 'sideways' is unknown"),
        ({"norm": "time", "norm_weight": np.ones(3, np.float32)}, "the norm's weight must have 4 numbers"),
        ({"activation": "tanh"}, "activation 'tanh' is unknown"),
    ],
)
def test_wrong_first_layers_are_refused(changes: dict[str, Any], message: str) -> None:
    import littlefoot_native

    with pytest.raises(ValueError, match=message):
        littlefoot_native.FrontEnd(1).waveform_layer(**first_layer(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"taps": 3}, "4 columns in each of 3 taps, not 8"),
        ({"taps": 0}, "1 to 65536 taps"),
        ({"stride": -1}, "a stride of 1 to 65536"),
        ({"norm": "time"}, "only the first layer may have a norm over time"),
        ({"zero_point": 256}, "zero point 0 to 255"),
        ({"input_scale": 0.0}, "scale must be above 0"),
        ({"smoothing": np.ones(8, np.float32)}, "smoothing must have 4 numbers, not 8"),
    ],
)
def test_wrong_layers_are_refused(changes: dict[str, Any], message: str) -> None:
    import littlefoot_native

    front_end = littlefoot_native.FrontEnd(1)
    with pytest.raises(ValueError, match="the first layer hears the waveform"):
        front_end.window_layer(**second_layer())
    front_end.waveform_layer(**first_layer())
    with pytest.raises(ValueError, match="only the first layer hears the waveform"):
        front_end.waveform_layer(**first_layer())
    with pytest.raises(ValueError, match=message):
        front_end.window_layer(**second_layer(**changes))
    front_end.window_layer(**second_layer())
    assert front_end.run(noise(100)).shape == (24, 5)


def test_a_front_end_needs_layers_and_threads() -> None:
    import littlefoot_native

    with pytest.raises(ValueError, match="1 to 1024 threads"):
        littlefoot_native.FrontEnd(0)
    with pytest.raises(ValueError, match="without layers"):
        littlefoot_native.FrontEnd(1).run(noise(100))
    with pytest.raises(TypeError):
        littlefoot_native.FrontEnd(1).run(noise(100).astype(np.float64))


def test_a_model_that_is_not_packed_has_no_program() -> None:
    assert native.packed_program(tiny(), "auto", 1) is None
