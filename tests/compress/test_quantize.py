"""Eight bits: rounding is as exact as it can be, models say the same, and what hurts is left out."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import artifacts
import numpy as np
import onnx
import oracle
import pytest
import soundfile
import torch
from families import FAMILIES, speechlike
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from littlefoot import artifact as artifact_files
from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import quantized_layers
from littlefoot.compress import acceptance, calibration, rounding
from littlefoot.compress.acceptance import Comparison, compare
from littlefoot.compress.calibration import LayerInput, collect, load_clips, recordings
from littlefoot.compress.quantize import (
    QuantizeConfig,
    quantize,
    quantize_dynamic,
    quantize_static,
)
from littlefoot.compress.rounding import InputScale, fit, input_scale, round_input, round_weight
from littlefoot.errors import AudioError, ConfigError, ManifestError
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import WAVEFORM_LAYER
from littlefoot.network.weights import packable
from littlefoot.runtime import graph, registry
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.openvino import observe

CLIPS = [speechlike(0.8, seed) for seed in range(3)]
STATIC = QuantizeConfig()
DYNAMIC = QuantizeConfig(mode="dynamic")
ONE_OF_EACH = {architecture: variant for variant, (architecture, _) in FAMILIES.items()}.values()
"""A variant of every architecture, for what changes only linear layers, which are alike in all."""
SENSITIVE = "feature_extractor.conv_layers.1.conv"


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny layers are fitted on fewer samples."""
    monkeypatch.setattr(calibration, "MAX_ROWS", 128)
    monkeypatch.setattr(calibration, "SINGLE_VALUES", 4096)


@dataclass(frozen=True)
class Calibrated:
    """A tiny model that talks, and all that quantization needs to know of it."""

    artifact: Artifact
    inputs: list[LayerInput]
    scales: dict[tuple[str, ...], InputScale]
    logits: list[np.ndarray]

    def quantized(self, config: QuantizeConfig = STATIC) -> Artifact:
        return quantize_static(self.artifact, self.inputs, self.scales, config)


@cache
def calibrated(family: str) -> Calibrated:
    artifact = artifacts.talkative(oracle.tiny(family).artifact, CLIPS[0])
    inputs = collect(artifact, CLIPS)
    scales = {each.layers: fit(each, artifact.weights) for each in inputs}
    return Calibrated(artifact, inputs, scales, acceptance.run(artifact, CLIPS, "f32"))


@pytest.fixture
def base() -> Calibrated:
    return calibrated("wav2vec2-base")


@pytest.fixture(scope="module")
def fragile() -> Artifact:
    """A model in which one channel is a thousand times as loud as the others before one convolution."""
    artifact = oracle.build("wav2vec2-base", num_hidden_layers=2).artifact
    weights = dict(artifact.weights)
    for name, factor in (("0.layer_norm.weight", 1000), ("0.layer_norm.bias", 1000), ("1.conv.weight", 1e-3)):
        name = f"feature_extractor.conv_layers.{name}"
        weights[name] = weights[name].copy()
        channel = weights[name][:, 0] if weights[name].ndim == 3 else weights[name][:1]
        channel *= factor
    return artifacts.talkative(replace(artifact, weights=weights), CLIPS[0])


# Rounding

FLOATS = st.floats(-1e4, 1e4, width=32)
MATRICES = arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=FLOATS)


@given(MATRICES)
def test_a_weight_is_rounded_to_the_nearest_step_of_its_channel(weight: np.ndarray) -> None:
    stored, scale = round_weight(weight)
    assert stored.dtype == np.int8
    assert stored.shape == weight.shape
    assert scale.shape == (len(weight),)
    assert (scale > 0).all()
    assert stored.min() >= -127
    steps = scale.reshape(-1, *[1] * (weight.ndim - 1))
    error = np.abs(stored * steps.astype(np.float64) - weight)
    assert (error <= steps * 0.5001).all()
    largest = np.abs(stored.reshape(len(weight), -1)).max(axis=1)
    assert ((largest == 127) | (np.abs(weight).reshape(len(weight), -1).max(axis=1) < 1e-30)).all()
    assert (stored[weight == 0] == 0).all()


@given(st.lists(FLOATS, min_size=1, max_size=20))
def test_an_input_is_rounded_to_the_nearest_step_of_its_range(values: list[float]) -> None:
    rows = np.array(values, np.float32)
    scale, zero_point = input_scale(float(rows.min()), float(rows.max()))
    assert zero_point.dtype == np.uint8
    error = np.abs(round_input(rows, scale, zero_point).astype(np.float64) - rows)
    assert (error <= scale * 0.5001).all()
    assert round_input(np.zeros(1, np.float32), scale, zero_point) == 0


@given(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4))
def test_zero_is_in_every_range(a: float, b: float) -> None:
    scale, zero_point = input_scale(min(a, b), max(a, b))
    low, high = -int(zero_point) * float(scale), (255 - int(zero_point)) * float(scale)
    assert low <= 0 <= high
    assert low <= min(a, b, 0) + scale * 0.51
    assert high >= max(a, b, 0) - scale * 0.51


def test_values_beyond_the_range_are_cut_to_it() -> None:
    scale, zero_point = input_scale(-1.0, 3.0)
    rounded = round_input(np.array([-100, 100], np.float32), scale, zero_point)
    np.testing.assert_allclose(rounded, [-1, 3], atol=float(scale))


def seen(rows: np.ndarray) -> LayerInput:
    """The input of a layer of which all frames (N, C) or windows (N, C, K) are known."""
    frames = rows if rows.ndim == 2 else rows.transpose(0, 2, 1).reshape(-1, rows.shape[1])
    return LayerInput(("layer",), frames.min(axis=0), frames.max(axis=0), rows)


def plain(layer_input: LayerInput, weights: dict[str, np.ndarray]) -> float:
    """The error of the range that was seen, without cutting or smoothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rounding, "CLIP_RATIOS", (1.0,))
        return rounding.fit(layer_input, weights, smooth=False).error


@given(seed=st.integers(0, 1000), outlier=st.sampled_from([1.0, 30.0, 1000.0]), linear=st.booleans())
def test_fitting_is_never_worse_than_the_range_that_was_seen(seed: int, outlier: float, linear: bool) -> None:
    generator = np.random.default_rng(seed)
    rows = generator.standard_normal((40, 8) if linear else (40, 8, 3)).astype(np.float32)
    rows[:, 0] *= outlier
    rows.flat[0] *= outlier
    weight = generator.standard_normal((6, 8) if linear else (6, 8, 3)).astype(np.float32)
    given_input = seen(rows)
    weights = {"layer.weight": weight}
    assert fit(given_input, weights).error <= plain(given_input, weights) + 1e-12


def test_rare_peaks_are_cut_off() -> None:
    rows = np.random.default_rng(0).standard_normal((500, 8)).astype(np.float32)
    rows[0, 0] = 40.0
    weight = np.eye(8, dtype=np.float32)
    given_input = seen(rows)
    found = fit(given_input, {"layer.weight": weight})
    assert found.error < plain(given_input, {"layer.weight": weight})
    assert found.scale < input_scale(float(rows.min()), float(rows.max()))[0]


def with_a_loud_channel() -> tuple[np.ndarray, np.ndarray]:
    """Rows of inputs whose channel 3 is loud, and a weight that makes up for it."""
    generator = np.random.default_rng(0)
    rows = generator.standard_normal((200, 16)).astype(np.float32)
    rows[:, 3] *= 200
    weight = generator.standard_normal((8, 16)).astype(np.float32)
    weight[:, 3] /= 200
    return rows, weight


def test_a_loud_channel_is_smoothed() -> None:
    rows, weight = with_a_loud_channel()
    given_input = seen(rows)
    found = fit(given_input, {"layer.weight": weight})
    assert found.smoothing is not None
    assert found.smoothing[3] < found.smoothing[0]
    assert found.error < 0.01 * plain(given_input, {"layer.weight": weight})


def test_smoothing_leaves_room_for_peaks_that_were_not_sampled() -> None:
    rows, weight = with_a_loud_channel()
    given_input = seen(rows)
    given_input.high[5] = 50 * np.abs(rows[:, 5]).max()  # channel 5 is loud in rare frames only
    found = fit(given_input, {"layer.weight": weight})
    assert found.smoothing is not None
    highest = (255 - float(found.zero_point)) * found.scale / found.smoothing[5]
    assert highest > min(rounding.CLIP_RATIOS) * given_input.high[5]


def test_smoothing_leaves_room_for_channels_that_were_silent() -> None:
    """A channel that calibration audio does not excite can be as loud as the others in other audio."""
    rows, weight = with_a_loud_channel()
    rows[:, 7] = 0.0
    given_input = seen(rows)
    found = fit(given_input, {"layer.weight": weight})
    assert found.smoothing is not None
    highest = (255 - float(found.zero_point)) * found.scale / found.smoothing[7]
    assert highest > np.median(given_input.high)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_product_that_is_fitted_is_that_of_the_convolution(groups: int) -> None:
    generator = np.random.default_rng(0)
    windows = generator.standard_normal((5, 8, 3)).astype(np.float32)
    weight = generator.standard_normal((12, 8 // groups, 3)).astype(np.float32)
    expected = torch.nn.functional.conv1d(
        torch.from_numpy(windows), torch.from_numpy(weight), groups=groups
    )  # (5, 12, 1)
    found = rounding.product(windows, weight)  # (groups, 5, 12 / groups)
    np.testing.assert_allclose(
        found.transpose(1, 0, 2).reshape(5, 12) if groups > 1 else found.reshape(5, 12),
        expected[:, :, 0].numpy(),
        atol=1e-5,
    )


# Calibration


def test_calibration_sees_the_inputs_of_all_layers(base: Calibrated) -> None:
    for each in base.inputs:
        weight = base.artifact.weights.get(f"{each.layers[0]}.weight")
        frames = each.rows if each.rows.ndim == 2 else each.rows.transpose(0, 2, 1)  # (..., C)
        assert each.low.shape == each.high.shape == frames.shape[-1:]
        assert (each.low <= frames).all()
        assert (frames <= each.high).all()
        assert (each.low < each.high).any()
        if weight is None:  # a factor of a product
            assert each.rows.shape[1] == 1
        elif weight.ndim == 2:
            assert each.rows.shape[1:] == weight.shape[1:]
        else:
            groups = 4 if "pos_conv" in each.layers[0] else 1
            assert each.rows.shape[1:] == (weight.shape[1] * groups, weight.shape[2])


def test_windows_of_a_convolution_are_what_it_reads(base: Calibrated) -> None:
    (first,) = (each for each in base.inputs if WAVEFORM_LAYER in each.layers)
    windows = {
        tuple(row) for clip in CLIPS for row in np.lib.stride_tricks.sliding_window_view(clip, 10)[::5]
    }
    assert all(tuple(row[0]) in windows for row in first.rows)


def test_second_moments_are_those_of_all_frames(base: Calibrated, monkeypatch: pytest.MonkeyPatch) -> None:
    network = graph.build(base.artifact, observe=True)
    read = {layer: value for value, layers in network.observed.items() for layer in layers}
    states = list(observe(network, CLIPS))
    for each in collect(base.artifact, CLIPS, moments=True):
        if not packable(base.artifact.config).keys() & each.layers:
            assert each.moments is None
            continue
        frames = np.concatenate([found[read[each.layers[0]]][0] for found in states]).astype(np.float64)
        np.testing.assert_allclose(each.second_moments(), frames.T @ frames / len(frames), atol=1e-5)
    with pytest.raises(ValueError, match="few bits need"):
        base.inputs[-1].second_moments()
    monkeypatch.setattr(calibration, "MOMENT_ROWS", 30)  # a few of the frames of each clip
    sampled = [
        each.moments for each in collect(base.artifact, CLIPS, moments=True) if each.moments is not None
    ]
    assert sampled
    assert all(np.linalg.matrix_rank(found) <= 30 for found in sampled)


@pytest.mark.parametrize(
    "clips", [[], [np.zeros(16_000, np.float32)], [np.full(16_000, 0.3, np.float32)], [CLIPS[0][:20]]]
)
def test_silence_calibrates_nothing(clips: list[np.ndarray], base: Calibrated) -> None:
    with pytest.raises(ConfigError, match="empty or silent"):
        collect(base.artifact, clips)
    with pytest.raises(ConfigError, match="empty or silent"):
        quantize(base.artifact, clips, STATIC)


def test_calibration_audio_comes_from_training_splits_and_recordings(
    tmp_path: Path, base: Calibrated
) -> None:
    rows = ["id\tpath\tseconds\tspeaker\tsplit\ttext"]
    for index, split in enumerate(("train", "test", "train")):
        soundfile.write(tmp_path / f"{index}.wav", 0.1 * CLIPS[index], 16_000, "FLOAT")
        rows.append(f"{index}\t{index}.wav\t0.8\tnobody\t{split}\tE")
    (tmp_path / "manifest.tsv").write_text("\n".join(rows) + "\n")
    found = load_clips(recordings([tmp_path, tmp_path / "1.wav"]), base.artifact)
    assert len(found) == 3
    for clip, index in zip(found, (0, 2, 1), strict=True):
        normalized = (CLIPS[index] - CLIPS[index].mean()) / CLIPS[index].std()
        np.testing.assert_allclose(clip, normalized, atol=1e-3)
    with pytest.raises(AudioError):
        load_clips([tmp_path / "missing.wav"], base.artifact)
    with pytest.raises(ManifestError):
        recordings([tmp_path / "missing.tsv"])


def test_calibration_takes_a_part_of_many_and_long_recordings(
    tmp_path: Path, base: Calibrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibration, "MAX_CLIPS", 4)
    monkeypatch.setattr(calibration, "MAX_CLIP_SECONDS", 0.5)
    paths = [tmp_path / f"{index}.wav" for index in range(8)]
    for index, path in enumerate(paths):
        soundfile.write(path, 0.1 * speechlike(0.7, index), 16_000)
    found = load_clips(paths, base.artifact)
    assert [len(clip) for clip in found] == [8000] * 4
    assert len({clip[0] for clip in found}) == 4


# Models


def run(artifact: Artifact, name: str) -> list[np.ndarray]:
    """The logits of all clips by one engine."""
    loaded = registry.create(artifact, name, threads=1, precision="f32", cached=False)
    return [loaded.run(clip) for clip in CLIPS]


@pytest.mark.parametrize("family", oracle.VARIANTS)
def test_a_static_model_says_nearly_the_same_in_both_engines(family: str) -> None:
    model = calibrated(family)
    made = model.quantized()
    fast, exact = (run(made, name) for name in ("openvino", "onnxruntime"))
    assert compare(model.logits, exact, made.vocabulary).logit_error < 0.1
    limit = 0.1
    if (
        computed := artifacts.as_computed(made)
    ) is not made:  # in 7 bits: half as many levels, twice the error
        exact, limit = run(computed, "onnxruntime"), 0.2
    assert compare(model.logits, fast, made.vocabulary).logit_error < limit
    # They round at other places: as far from each other as a few roundings, not as from the original.
    assert compare(fast, exact, made.vocabulary).logit_error < 0.05


@pytest.mark.parametrize("family", ONE_OF_EACH)
def test_a_dynamic_model_says_nearly_the_same_in_both_engines(family: str) -> None:
    model = calibrated(family)
    made = quantize_dynamic(model.artifact, DYNAMIC)
    for name in ("openvino", "onnxruntime"):
        assert compare(model.logits, run(made, name), made.vocabulary).logit_error < 0.06, name


def layers(artifact: Artifact) -> set[str]:
    """The names of convolutions and linear layers."""
    return {
        name.removesuffix(".weight")
        for name, weight in artifact.weights.items()
        if name.endswith(".weight") and weight.ndim > 1 and inventory(artifact.config).owner(name).multiplies
    }


@pytest.mark.parametrize("family", oracle.VARIANTS)
def test_static_covers_all_layers_but_the_first(family: str) -> None:
    model = calibrated(family)
    made = model.quantized()
    stored = {name for name in layers(made) if made.weights[f"{name}.weight"].dtype == np.int8}
    assert stored == layers(model.artifact) - {WAVEFORM_LAYER}
    for name in stored:
        assert made.weights[f"{name}.weight_scale"].shape == made.weights[f"{name}.weight"].shape[:1]
        assert made.weights[f"{name}.input_scale"].dtype == np.float32
        assert made.weights[f"{name}.input_zero_point"].dtype == np.uint8
    factors = set(quantized_layers(made.weights)) - stored
    assert factors == {
        f"encoder.layers.{layer}.attention.scores.{side}" for layer in range(3) for side in ("left", "right")
    }
    for name in factors:
        assert made.weights[f"{name}.input_zero_point"] == np.int8(0)
    first = [WAVEFORM_LAYER] if WAVEFORM_LAYER in layers(made) else []  # a spectrogram has no weights
    assert made.config.littlefoot.quantization.to_dict() == {"bits": 8, "mode": "static", "kept": first}
    for name, weight in model.artifact.weights.items():
        if name.removesuffix(".weight") not in stored:
            np.testing.assert_array_equal(made.weights[name], weight)


@pytest.mark.parametrize("family", oracle.VARIANTS)
def test_dynamic_covers_the_linear_layers_only(family: str) -> None:
    original = calibrated(family).artifact
    made = quantize_dynamic(original, DYNAMIC)
    stored = {name for name in layers(made) if made.weights[f"{name}.weight"].dtype == np.int8}
    assert stored == {name for name in layers(original) if original.weights[f"{name}.weight"].ndim == 2}
    assert stored == set(quantized_layers(made.weights))
    assert not any("input_" in name for name in made.weights)
    assert made.config.littlefoot.quantization.to_dict() == {"bits": 8, "mode": "dynamic", "kept": []}


def test_the_stored_weight_is_the_original_after_rounding(base: Calibrated) -> None:
    made = base.quantized()
    for name in layers(made) - {WAVEFORM_LAYER}:
        weight = made.weights[f"{name}.weight"].astype(np.float32)
        scale = made.weights[f"{name}.weight_scale"].reshape(-1, *[1] * (weight.ndim - 1))
        smoothing = made.weights.get(f"{name}.input_smoothing", np.float32(1))
        error = np.abs(weight * scale * smoothing - base.artifact.weights[f"{name}.weight"])
        assert (error <= 0.501 * scale * smoothing).all(), name


def test_smoothing_changes_nothing_but_the_rounding() -> None:
    """The factor on the input and its inverse in the weight cancel out."""
    model = calibrated("wav2vec2-base")
    name = "encoder.layers.1.feed_forward.output_dense"
    (layer_input,) = (each for each in model.inputs if name in each.layers)
    smoothing = np.linspace(0.5, 2.0, layer_input.rows.shape[1]).astype(np.float32)
    low, high = (float(f(layer_input.rows * smoothing)) for f in (np.min, np.max))
    forced = InputScale(*input_scale(low, high), smoothing, 0.0)
    made = quantize_static(
        model.artifact,
        model.inputs,
        {**model.scales, (name,): forced},
        QuantizeConfig(
            keep=tuple(each for each in quantized_layers(model.quantized().weights) if each != name)
        ),
    )
    logits = acceptance.run(made, CLIPS, "f32")
    assert compare(model.logits, logits, made.vocabulary).logit_error < 0.02


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_saved_model_comes_back_whole(mode: str, base: Calibrated, tmp_path: Path) -> None:
    made = base.quantized() if mode == "static" else quantize_dynamic(base.artifact, DYNAMIC)
    artifact_files.save(made, tmp_path / "model")
    found = artifact_files.load(tmp_path / "model")
    assert set(found.weights) == set(made.weights)
    for name, weight in made.weights.items():
        assert found.weights[name].dtype == weight.dtype, name
        np.testing.assert_array_equal(found.weights[name], weight, err_msg=name)
    assert found.config.littlefoot.quantization == made.config.littlefoot.quantization
    for a, b in zip(acceptance.run(found, CLIPS, "f32"), acceptance.run(made, CLIPS, "f32"), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_quantized_model_cannot_be_trained(base: Calibrated) -> None:
    from littlefoot.training.module import CTCModel

    with pytest.raises(ConfigError, match="quantized and cannot be trained"):
        CTCModel.from_artifact(base.quantized())


# The network


@pytest.mark.parametrize("family", oracle.VARIANTS)
def test_a_shared_input_is_rounded_once(family: str) -> None:
    made = calibrated(family).quantized()
    network = graph.build(made)
    onnx.checker.check_model(network.proto(), full_check=True)
    rounded = Counter(node.input[0] for node in network.nodes if node.op_type == "QuantizeLinear")
    restored = [node for node in network.nodes if node.op_type == "DequantizeLinear"]
    inputs = {
        value
        for value, names in network.observed.items()
        if any(f"{n}.input_scale" in made.weights for n in names)
    }
    assert max(rounded.values()) == 1
    assert len(rounded) == len(inputs)
    stored = len(layers(made) - {WAVEFORM_LAYER})
    if made.config.family.disentangled:  # queries and keys of three blocks project a table too
        stored += 2 * 3
    assert len(restored) == len(rounded) + stored
    multiplied = [node for node in network.nodes if node.op_type in ("MatMul", "Conv")]
    names = {node.output[0] for node in restored}
    fed = [node for node in multiplied if set(node.input[:2]) <= names]
    assert len(fed) == stored + 3  # and the attention scores of three blocks


def test_a_dynamic_network_rounds_a_shared_input_once(base: Calibrated) -> None:
    network = graph.build(quantize_dynamic(base.artifact, DYNAMIC))
    onnx.checker.check_model(network.proto(), full_check=True)
    kinds = Counter(node.op_type for node in network.nodes)
    linear = [n for n in layers(base.artifact) if base.artifact.weights[f"{n}.weight"].ndim == 2]
    assert kinds["MatMulInteger"] == len(linear)
    assert kinds["DynamicQuantizeLinear"] == len(linear) - 2 * 3  # query, key and value share theirs
    assert kinds["QuantizeLinear"] == 0


# Settings


def test_patterns_keep_layers_in_higher_precision(base: Calibrated) -> None:
    keep = ("feature_extractor.*", "*.q_proj", "lm_head")
    made = base.quantized(QuantizeConfig(keep=keep))
    kept = made.config.littlefoot.quantization.kept
    assert kept == sorted(
        name
        for name in layers(base.artifact)
        if name.startswith(("feature_", "lm_head")) or "q_proj" in name
        if name != "feature_projection.projection"
    )
    for name in kept:
        np.testing.assert_array_equal(made.weights[f"{name}.weight"], base.artifact.weights[f"{name}.weight"])
        assert f"{name}.input_scale" not in made.weights
    assert made.weights["encoder.layers.0.attention.k_proj.weight"].dtype == np.int8


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_pattern_that_matches_nothing_is_refused(mode: str, base: Calibrated) -> None:
    with pytest.raises(ConfigError, match=r"no layer is called 'decoder\.\*'"):
        quantize(base.artifact, CLIPS, QuantizeConfig(mode=mode, keep=("lm_head", "decoder.*")))


def test_an_unknown_layer_is_refused_before_the_ranges_are_fitted(
    base: Calibrated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("littlefoot.compress.quantize.fitted", None)
    with pytest.raises(ConfigError, match="no layer is called 'head'"):
        quantize(base.artifact, CLIPS, QuantizeConfig(keep=("head",)))


@pytest.mark.parametrize("share", [-1, 1.5, math.nan])
def test_the_text_that_may_change_is_a_share(share: float) -> None:
    with pytest.raises(ConfigError, match=r"max_disagreement must be at (least 0|most 1)"):
        QuantizeConfig(max_disagreement=share)


def test_bits_and_a_budget_exclude_each_other() -> None:
    with pytest.raises(ConfigError, match="leave out bits and layer_bits"):
        QuantizeConfig(bits=4, budget_mb=1.0)


def test_a_quantized_model_is_not_quantized_again(base: Calibrated) -> None:
    with pytest.raises(ConfigError, match="quantized already"):
        quantize(base.quantized(), CLIPS, STATIC)


def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(ConfigError, match="static or dynamic, not 'weights'"):
        QuantizeConfig(mode="weights")


# The acceptance check


def test_models_are_compared_by_logits_and_text(base: Calibrated) -> None:
    vocabulary = base.artifact.vocabulary
    same = compare(base.logits, base.logits, vocabulary)
    assert (same.logit_error, same.disagreement) == (0, 0)
    assert same.characters > 100
    noise = [0.1 * np.random.default_rng(0).standard_normal(each.shape) for each in base.logits]
    noisy = compare(base.logits, [a + b for a, b in zip(base.logits, noise, strict=True)], vocabulary)
    assert noisy.logit_error == pytest.approx(0.1 / np.std(np.concatenate(base.logits)), rel=0.1)
    mute = [np.eye(12, dtype=np.float32)[[0] * len(each)] for each in base.logits]
    assert compare(base.logits, mute, vocabulary).disagreement == 1


def test_few_changed_letters_are_no_evidence_and_many_are() -> None:
    assert not Comparison(0.01, 5 / 200, 200).exceeds(0.02)
    assert not Comparison(0.01, 50 / 3000, 3000).exceeds(0.02)
    assert Comparison(0.01, 80 / 3000, 3000).exceeds(0.02)
    assert not Comparison(0.0, 0.0, 0).exceeds(0.0)


def test_a_model_that_passes_the_check_is_quantized_throughout(base: Calibrated) -> None:
    messages: list[str] = []
    made, report = quantize(base.artifact, CLIPS, QuantizeConfig(max_disagreement=0.5), messages.append)
    assert report.kept == (WAVEFORM_LAYER,)
    assert report.part_errors == {}
    assert 0 < report.comparison.logit_error < 0.1
    assert report.speedup > 0
    section = made.config.littlefoot.quantization.to_dict()
    assert section["logit_error"] == pytest.approx(report.comparison.logit_error, abs=1e-5)
    assert section["disagreement"] == pytest.approx(report.comparison.disagreement, abs=1e-5)
    assert section["speedup"] == pytest.approx(report.speedup, abs=0.01)
    assert "8 bits" in made.card
    assert messages == ["running the original model", "fitting the ranges of all layers"]


def test_the_check_finds_the_part_that_hurts_and_restores_it_alone(
    fragile: Artifact, cache_directory: Path
) -> None:
    messages: list[str] = []
    made, report = quantize(fragile, CLIPS, QuantizeConfig(max_disagreement=0.1), messages.append)
    # The progress of a slow machine may follow it.
    assert any("looking for the parts that hurt" in message for message in messages)
    assert report.kept == (WAVEFORM_LAYER, SENSITIVE)
    assert next(iter(report.part_errors)) == SENSITIVE
    assert report.part_errors[SENSITIVE] > 10 * sorted(report.part_errors.values())[-2]
    assert not report.comparison.exceeds(0.1)
    assert made.weights[f"{SENSITIVE}.weight"].dtype == np.float32
    assert made.weights["lm_head.weight"].dtype == np.int8
    assert SENSITIVE in made.card
    # Of all that were tried, the original and the result, which are timed. The kernels keep nothing.
    on_kernels = native.preferred(made)
    assert len(list(cache_directory.glob("*.blob"))) == (1 if on_kernels else 2)


def test_the_check_measures_parts_of_a_block_and_none_that_are_kept(fragile: Artifact) -> None:
    config = QuantizeConfig(keep=("encoder.layers.0.*",), max_disagreement=0.1)
    _, report = quantize(fragile, CLIPS, config)
    assert set(report.part_errors) == {
        SENSITIVE,
        "feature_extractor.conv_layers.2.conv",
        "feature_projection.projection",
        "encoder.pos_conv_embed.conv",
        "encoder.layers.1.attention",
        "encoder.layers.1.feed_forward",
        "lm_head",
    }
    assert SENSITIVE in report.kept
    assert "encoder.layers.0.attention.q_proj" in report.kept


def test_a_strict_check_restores_as_much_as_it_takes(base: Calibrated) -> None:
    made, report = quantize(base.artifact, CLIPS, QuantizeConfig(mode="dynamic", max_disagreement=0.002))
    assert not report.comparison.exceeds(0.002)
    assert 0 < len(report.kept) < len(report.part_errors) * 3
    assert list(report.part_errors.values()) == sorted(report.part_errors.values(), reverse=True)
    assert quantized_layers(made.weights)


def test_clips_without_a_frame_are_passed_over(base: Calibrated) -> None:
    made, _ = quantize(base.artifact, [CLIPS[0], CLIPS[1][:5]], QuantizeConfig(max_disagreement=1))
    assert quantized_layers(made.weights)
