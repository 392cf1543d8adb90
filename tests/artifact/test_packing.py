"""Few bits come back exactly, and are rounded so that a layer's output changes least."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from conftest import Run
from families import speechlike
from hypothesis import given, settings
from hypothesis import strategies as st

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact
from littlefoot.artifact.packing import TERNARY, Table, level_range, pack, packed_columns, symmetric, unpack
from littlefoot.compress.calibration import collect
from littlefoot.compress.gptq import Factor, best_scale, round_to_bits
from littlefoot.compress.quantize import QuantizeConfig, quantize_static
from littlefoot.compress.rounding import fit
from littlefoot.errors import ArtifactError, ConfigError
from littlefoot.runtime.registry import create


def random_levels(rows: int, columns: int, bits: int, seed: int) -> np.ndarray:
    low, high = level_range(bits)
    rng = np.random.default_rng(seed)
    if bits == 1:
        return rng.choice(np.array([-1, 1], np.int8), (rows, columns))
    return rng.integers(low, high + 1, (rows, columns)).astype(np.int8)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 5),
    bytes_of_8=st.integers(0, 6),
    bits=st.sampled_from((1, 2, 3, 4)),
    seed=st.integers(0, 99),
)
def test_what_is_packed_comes_back(rows: int, bytes_of_8: int, bits: int, seed: int) -> None:
    levels = random_levels(rows, 8 * bytes_of_8, bits, seed)
    packed = pack(levels, bits)
    assert packed.shape == (rows, bytes_of_8 * bits)
    np.testing.assert_array_equal(unpack(packed, bits), levels)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(0, 5),
    columns=st.integers(0, 12),
    table=st.sampled_from((TERNARY, symmetric(1), symmetric(2))),
    seed=st.integers(0, 99),
)
def test_levels_of_a_table_come_back(rows: int, columns: int, table: Table, seed: int) -> None:
    bits = 1 if len(table) == 2 else 2
    columns = columns if table == TERNARY else 8 * columns
    levels = np.random.default_rng(seed).choice(np.array(table, np.int8), (rows, columns))
    packed = pack(levels, bits, table)
    assert packed.shape == (rows, -(-columns // 5) if table == TERNARY else columns * bits // 8)
    np.testing.assert_array_equal(unpack(packed, bits, table, columns), levels)


def test_the_layout_of_tables() -> None:
    assert pack(np.array([[-3, -1, 1, 3]], np.int8), 2, symmetric(2)).tolist() == [[0b11_10_01_00]]
    six = np.array([[0, 1, -1, 0, 1, 1]], np.int8)
    assert pack(six, 2, TERNARY).tolist() == [[1 + 2 * 3 + 0 * 9 + 1 * 27 + 2 * 81, 2]]
    with pytest.raises(ConfigError, match="but 2 bits have -3, -1, 1, 3"):
        pack(np.zeros((1, 4), np.int8), 2, symmetric(2))


def test_the_layout_is_the_documented_one() -> None:
    assert pack(np.array([[1, -1, -1, 1, 1, 1, -1, -1]], np.int8), 1).tolist() == [[0b00111001]]
    assert pack(np.array([[0, 1, -2, -1]], np.int8), 2).tolist() == [[0b11_10_01_00]]
    assert pack(np.array([[7, -8]], np.int8), 4).tolist() == [[0x87]]
    assert pack(np.array([[3, -4, 0, 0, 0, 0, 0, 1]], np.int8), 3).tolist() == [
        [0b00_100_011, 0, 0b001_00000]
    ]


@pytest.mark.parametrize(
    ("levels", "bits", "message"),
    [
        ([[0, 1, 0]], 4, "3 columns of 4 bits do not fill whole bytes"),
        ([[0, 1, 2, 1]], 2, r"the levels go from 0 to 2, but 2 bits have -2 ... 1"),
        ([[0, 1, 1, 1, 1, 1, 1, 1]], 1, "the levels go from 0 to 1, but 1 bits have -1 ... 1"),
    ],
)
def test_what_cannot_be_packed_is_refused(levels: Any, bits: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pack(np.array(levels, np.int8), bits)
    assert packed_columns(16, 3) == 6


# Rounding


def correlated(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A matrix, and inputs whose channels go together, as those of real layers do."""
    rng = np.random.default_rng(seed)
    mixing = rng.standard_normal((64, 64)) * np.exp(-np.arange(64) / 12)[:, None]
    rows = (rng.standard_normal((900, 64)) @ mixing).astype(np.float32)
    return rng.standard_normal((32, 64)).astype(np.float32), rows


def factor(rows: np.ndarray) -> Factor:
    return Factor.of((rows.T @ rows / len(rows)).astype(np.float32))


def output_error(weight: np.ndarray, rounded: np.ndarray, rows: np.ndarray) -> float:
    exact = rows @ weight.T
    return float(np.square(rows @ rounded.T - exact).sum() / np.square(exact).sum())


@pytest.mark.parametrize("bits", [1, 2, 3, 4])
def test_errors_are_made_up_for_by_later_columns(bits: int) -> None:
    weight, rows = correlated()
    levels, scale = round_to_bits(weight, factor(rows), bits)
    low, high = level_range(bits)
    assert low <= levels.min() <= levels.max() <= high
    plain_scale = best_scale(weight, np.square(rows).mean(axis=0).astype(np.float64), bits)
    plain = np.clip(np.rint(weight / plain_scale[:, None]), low, high)
    plain = np.where(weight >= 0, 1, -1) if bits == 1 else plain
    found = output_error(weight, levels * scale[:, None], rows)
    assert found < 0.6 * output_error(weight, plain * plain_scale[:, None], rows)


def test_independent_inputs_are_rounded_to_the_nearest() -> None:
    weight = correlated()[0]
    rows = np.sqrt(64.0) * np.eye(64, dtype=np.float32)
    levels, scale = round_to_bits(weight, factor(rows), 4)
    np.testing.assert_array_equal(levels, np.clip(np.rint(weight / scale[:, None]), -8, 7))


# Artifacts and engines


def quantized(bits: int, **settings: Any) -> tuple[Artifact, Artifact]:
    original = oracle.tiny("wav2vec2-large").artifact
    inputs = collect(original, [speechlike(2.0, seed) for seed in range(3)], moments=True)
    scales = {found.layers: fit(found, original.weights) for found in inputs}
    return original, quantize_static(original, inputs, scales, QuantizeConfig(bits=bits, **settings))


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_four_bits_say_nearly_the_same(engine: str) -> None:
    original, made = quantized(4)
    waveform = speechlike(1.0, 7)
    exact = create(original, engine, precision="f32").run(waveform)
    found = create(made, engine, precision="f32", kernels="off").run(waveform)
    assert np.sqrt(np.square(found - exact).mean()) < 0.25 * exact.std()


def test_engines_compute_what_the_unpacked_levels_say() -> None:
    _, made = quantized(3)
    weights = {k: v for k, v in made.weights.items() if not k.endswith(".weight_bits")}
    for name, value in made.weights.items():
        if name.endswith(".weight_bits"):
            weight = name.removesuffix("_bits")
            weights[weight] = unpack(made.weights[weight], int(value))
    written_out = dataclasses.replace(made, weights=weights)
    waveform = speechlike(1.0, 7)
    for engine in ("openvino", "onnxruntime"):
        found, expected = (
            create(a, engine, precision="f32", kernels="off").run(waveform) for a in (made, written_out)
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_a_packed_artifact_is_as_small_as_its_bits(bits: int, tmp_path: Path) -> None:
    original, made = quantized(bits)
    path = artifacts.save(made, tmp_path / "packed")
    loaded = artifacts.load(path)
    packed = [name.removesuffix("_bits") for name in loaded.weights if name.endswith(".weight_bits")]
    assert len(packed) == 6 * original.config.num_hidden_layers
    for name in packed:
        assert loaded.weights[name].nbytes == original.weights[name].size * bits / 8
        np.testing.assert_array_equal(loaded.weights[name], made.weights[name])
    assert loaded.config.littlefoot.quantization.bits == bits


@pytest.mark.parametrize(
    "damage",
    [
        {"weight_bits": np.array(5, np.uint8)},
        {"weight_bits": np.array(4, np.uint8)},
        {"weight_bits": np.array([3], np.uint8)},
        {"weight": np.zeros((4, 4), np.int8)},
    ],
)
def test_damaged_packing_is_refused(damage: dict[str, np.ndarray]) -> None:
    _, made = quantized(3)
    layer = "encoder.layers.0.attention.q_proj"
    changed = {f"{layer}.{key}": value for key, value in damage.items()}
    with pytest.raises(ArtifactError, match=rf"the weight {layer}.weight (claims to be packed|has shape)"):
        dataclasses.replace(made, weights={**made.weights, **changed})


def test_layers_that_are_kept_are_not_packed() -> None:
    _, made = quantized(4, keep=("encoder.layers.1.*",))
    packed = [name for name in made.weights if name.endswith(".weight_bits")]
    assert packed
    assert not any(name.startswith("encoder.layers.1.") for name in packed)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"bits": 5}, "bits must be 2, 3, 4 or 8, not 5"), ({"bits": 4, "mode": "dynamic"}, "need mode static")],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        QuantizeConfig(**settings)


def test_the_command_packs(tmp_path: Path, run: Run) -> None:
    original = artifacts.save(oracle.tiny("wav2vec2-large").artifact, tmp_path / "model")
    options = ["--bits", "4", "--max-disagreement", "1"]
    done = run("quantize", original, "-o", tmp_path / "small", *options)
    assert done.code == 0, done.err
    loaded = artifacts.load(tmp_path / "small")
    assert loaded.weights["encoder.layers.0.attention.q_proj.weight"].dtype == np.uint8
    assert run("quantize", original, "-o", tmp_path / "other", "--bits", "7").code == 2
