"""Bits of each layer: the choice is the best, and sizes are the real ones."""

from __future__ import annotations

import itertools
from pathlib import Path

import artifacts
import numpy as np
import pytest
import soundfile
from conftest import Run
from families import speechlike
from hypothesis import given, settings
from hypothesis import strategies as st

from littlefoot import artifact as artifact_files
from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import PackedWeight
from littlefoot.artifact.packing import TERNARY, WeightCode, layer_bytes, symmetric
from littlefoot.compress import calibration, mixed, quantize
from littlefoot.compress.calibration import collect
from littlefoot.compress.gptq import Factor
from littlefoot.compress.mixed import Option, choose_bits, front, kl_divergence, rounded, sensitivity
from littlefoot.compress.quantize import QuantizeConfig, quantize_static
from littlefoot.compress.rounding import fit
from littlefoot.errors import ConfigError

CLIPS = [speechlike(0.8, seed) for seed in range(2)]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny layers are fitted on fewer samples."""
    monkeypatch.setattr(calibration, "MAX_ROWS", 128)
    monkeypatch.setattr(calibration, "SINGLE_VALUES", 4096)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    soundfile.write(path, 0.1 * CLIPS[0], 16_000)
    return path


def tiny() -> Artifact:
    """One layer, so that there are few to measure."""
    return artifacts.talkative(artifacts.tiny(num_hidden_layers=1), CLIPS[0])


OPTIONS = st.lists(
    st.lists(st.tuples(st.integers(1, 20), st.floats(0, 10)), min_size=1, max_size=4), min_size=1, max_size=5
)


@settings(max_examples=150, deadline=None)
@given(OPTIONS, st.integers(1, 110), st.floats(0, 40))
def test_no_choice_is_better(sizes: list[list[tuple[int, float]]], budget: int, limit: float) -> None:
    options = {
        f"layer{number}": [
            Option(bits, size, sensitivity) for bits, (size, sensitivity) in enumerate(choices)
        ]
        for number, choices in enumerate(sizes)
    }
    every = [
        (sum(o.bytes for o in chosen), sum(o.sensitivity for o in chosen))
        for chosen in itertools.product(*options.values())
    ]

    def cost(bits: dict[str, int]) -> tuple[int, float]:
        chosen = [options[name][width] for name, width in bits.items()]
        return sum(o.bytes for o in chosen), sum(o.sensitivity for o in chosen)

    small = [sensitivity for size, sensitivity in every if size <= budget]
    if small:
        size, sensitivity = cost(choose_bits(options, budget))
        assert size <= budget
        assert sensitivity == pytest.approx(min(small))
    else:
        with pytest.raises(ConfigError, match="with the fewest bits"):
            choose_bits(options, budget)
    if small_enough := [size for size, sensitivity in every if sensitivity <= limit * (1 - 1e-9)]:
        size, sensitivity = cost(choose_bits(options, max_sensitivity=limit))
        assert sensitivity <= limit * (1 + 1e-9)
        assert size <= min(small_enough)
    for size, sensitivity, bits in front(options):
        assert cost(bits) == (size, pytest.approx(sensitivity))


def test_a_limit_that_no_bits_meet_is_refused() -> None:
    options = {"layer": [Option(2, 10, 3.0), Option(8, 40, 0.5)]}
    assert choose_bits(options, max_sensitivity=1.0) == {"layer": 8}
    with pytest.raises(ConfigError, match=r"max_sensitivity of 0\.1 nats per frame is less than the 0\.5"):
        choose_bits(options, max_sensitivity=0.1)
    with pytest.raises(ConfigError, match="less than the 3 of the most bits that are small enough"):
        choose_bits(options, budget_bytes=20, max_sensitivity=1.0)


@pytest.mark.parametrize(
    "code",
    [
        WeightCode(1),
        WeightCode(2),
        WeightCode(3),
        WeightCode(4),
        WeightCode(2, symmetric(2)),
        WeightCode(2, TERNARY),
        WeightCode(2, TERNARY, group=8),
        WeightCode(4, group=8),
    ],
    ids=str,
)
def test_a_layer_has_the_bytes_that_were_counted(code: WeightCode) -> None:
    rows, columns = 6, 24
    levels = np.random.default_rng(1).choice(np.array(code.levels, np.int8), (rows, columns))
    multipliers = np.ones((rows, code.groups(columns)), np.uint8) if code.group else None
    scale = np.ones(rows, np.float32)
    tensors = PackedWeight.pack(levels, scale, code.bits, code.table, multipliers).tensors("layer")
    assert layer_bytes((rows, columns), code) == sum(array.nbytes for array in tensors.values())


def test_sensitivity_is_the_divergence_of_one_layer_alone() -> None:
    model = tiny()
    inputs = collect(model, CLIPS, moments=True)
    found = sensitivity(model, CLIPS, inputs, (1, 4, 8))
    assert list(found) == [
        name
        for group in inputs
        for name in group.layers
        if "encoder.layers" in name and ".scores." not in name
    ]
    for options in found.values():
        assert [option.bits for option in options] == [1, 4, 8]
        assert options[0].sensitivity > options[1].sensitivity > options[2].sensitivity >= 0
        assert options[0].bytes < options[1].bytes < options[2].bytes
    with pytest.raises(ConfigError, match="empty or silent"):
        sensitivity(model, [np.zeros(16_000, np.float32)], inputs, (1,))


def test_the_moments_of_an_input_are_inverted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny()
    inputs = collect(model, CLIPS, moments=True)
    invert, inverted = np.linalg.inv, 0

    def counted(matrix: np.ndarray) -> np.ndarray:
        nonlocal inverted
        inverted += 1
        return invert(matrix)

    monkeypatch.setattr(np.linalg, "inv", counted)
    sensitivity(model, CLIPS, inputs, (1, 4, 8))
    wanted = sum(each.moments is not None for each in inputs)
    assert inverted == wanted
    scales = {each.layers: fit(each, model.weights) for each in inputs}
    quantize_static(model, inputs, scales, QuantizeConfig(bits=4))
    assert inverted == 2 * wanted


def test_the_divergence_is_that_of_its_definition() -> None:
    first, second = np.random.default_rng(2).standard_normal((2, 7, 5)).astype(np.float32)
    p, q = (np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in (first.astype(float), second.astype(float)))
    assert kl_divergence([first[:3], first[3:]], [second[:3], second[3:]]) == pytest.approx(
        float((p * np.log(p / q)).sum() / 7)
    )
    assert kl_divergence([first], [first]) == 0


def test_fewer_bits_leave_less_of_a_weight() -> None:
    rng = np.random.default_rng(3)
    weight, rows = rng.standard_normal((8, 16)).astype(np.float32), rng.standard_normal((99, 16))
    factor = Factor.of((rows.T @ rows / len(rows)).astype(np.float32))
    errors = [
        float(np.square(rounded(weight, factor, WeightCode(bits)) - weight).sum()) for bits in (1, 2, 3, 4, 8)
    ]
    assert errors == sorted(errors, reverse=True)


def test_the_command_keeps_to_a_budget(
    recording: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "POST_TRAINING_WIDTHS", (2, 8))  # every width of every layer is a model
    original = tiny()
    model = artifact_files.save(original, tmp_path / "model")
    inputs = collect(original, CLIPS, moments=True)
    scales = {each.layers: fit(each, original.weights) for each in inputs}
    few, many = (
        sum(array.nbytes for array in quantize_static(original, inputs, scales, config).weights.values())
        for config in (QuantizeConfig(bits=2), QuantizeConfig(bits=8))
    )
    budget = (few + many) // 2
    options = [
        "--calibrate",
        recording,
        "--max-disagreement",
        "1",
        "--budget-mb",
        str(budget / 1e6),
    ]
    done = run("quantize", model, "-o", tmp_path / "mixed", *options)
    assert done.code == 0, done.err
    made = artifact_files.load(tmp_path / "mixed")
    assert few < sum(array.nbytes for array in made.weights.values()) <= budget
    assert 2 < made.config.littlefoot.quantization.bits < 8
    monkeypatch.setattr(quantize, "sensitivity", None)  # no budget is this small, whatever the sensitivities
    small = run("quantize", model, "-o", tmp_path / "none", *options, "--budget-mb", "0.001")
    assert (small.code, "with the fewest bits: raise it" in small.err) == (2, True)
    none = run("quantize", model, "-o", tmp_path / "none", *options, "--mode", "dynamic")
    assert (none.code, "need mode static" in none.err) == (2, True)


def test_the_command_shows_sensitivities(
    recording: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed, "WIDTHS", (1, 8))
    model = artifact_files.save(tiny(), tmp_path / "model")
    done = run("analyze", model, "--sensitivity", "--data", recording)
    assert done.code == 0, done.err
    rows = [line.split() for line in done.out.splitlines() if line.startswith("encoder.layers.0.")]
    assert len(rows) == 6
    for row in rows:
        _, one, eight = row
        assert float(one) > float(eight) >= 0
