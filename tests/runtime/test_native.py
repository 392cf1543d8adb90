"""The native kernels give the reference's integers, and models that run on them say what others say."""

from __future__ import annotations

import logging
import math
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import nodes
import numpy as np
import pytest
from artifacts import SPECTROGRAMS, difference, few_bits, noise, tiny
from conftest import Run
from families import RELATIVE_TYPE
from hypothesis import given, settings
from hypothesis import strategies as st

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact, checkpoint
from littlefoot.artifact.packing import TERNARY, Table, levels_of, pack, symmetric
from littlefoot.audio import reading
from littlefoot.errors import EngineError, MissingExtraError
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.native.layers import Scales
from littlefoot.runtime.native.program import Program
from littlefoot.runtime.recognizer import load
from littlefoot.runtime.registry import create

SOURCES = Path(__file__).parents[2] / "native"
ACTIVATION_BITS = (1, 2, 3, 4, 8)

installed = pytest.mark.skipif(
    not native.available(), reason="the native kernels are not installed: pip install ./native"
)


def stored(bits: int, table: Table = ()) -> list[int]:
    """Levels of the codes in their order."""
    half = 1 << (bits - 1)
    if table or bits == 1:
        return list(levels_of(bits, table))
    return [] if bits == 8 else [*range(half), *range(-half, 0)]


def product(
    levels: np.ndarray, bits: int, activation_bits: int, kernels: str, method: str = "auto", table: Table = ()
) -> Any:
    import littlefoot_native

    packed = levels.view(np.uint8) if bits == 8 else pack(levels, bits, table)
    return littlefoot_native.Product(
        packed, levels.shape[1], bits, stored(bits, table), activation_bits, kernels, method
    )


# integers


@installed
@pytest.mark.parametrize("kernels", native.available())
@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from((1, 2, 3, 4, 8)),
    activation_bits=st.sampled_from(ACTIVATION_BITS),
    method=st.sampled_from(("auto", "tables", "dot")),
    rows=st.integers(0, 80),
    eights=st.integers(1, 60),
    outputs=st.integers(1, 150),
    extreme=st.booleans(),
    seed=st.integers(0, 999),
)
def test_products_are_the_reference(
    kernels: str,
    bits: int,
    activation_bits: int,
    method: str,
    rows: int,
    eights: int,
    outputs: int,
    extreme: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    levels = np.arange(-128, 128) if bits == 8 else levels_of(bits)
    weights = rng.choice(np.array(levels, np.int8), (outputs, 8 * eights))
    largest = (1 << activation_bits) - 1
    a = rng.integers(largest if extreme else 0, largest + 1, (rows, 8 * eights)).astype(np.uint8)
    found = product(weights, bits, activation_bits, kernels, "dot" if bits == 8 else method).multiply(a)
    np.testing.assert_array_equal(found, a.astype(np.int32) @ weights.T.astype(np.int32))


@installed
@pytest.mark.parametrize("kernels", native.available())
@pytest.mark.parametrize("activation_bits", ACTIVATION_BITS)
def test_long_rows_do_not_overflow(kernels: str, activation_bits: int) -> None:
    a = np.full((9, 9000), (1 << activation_bits) - 1, np.uint8)
    for bits in (1, 2, 4):
        weights = np.full((70, 9000), levels_of(bits)[-1], np.int8)
        weights[::2] = levels_of(bits)[0]
        found = product(weights, bits, activation_bits, kernels).multiply(a)
        np.testing.assert_array_equal(found, a.astype(np.int32) @ weights.T.astype(np.int32))


@installed
@pytest.mark.parametrize("kernels", native.available())
@pytest.mark.parametrize("table", [(2, TERNARY), (1, symmetric(1)), (2, symmetric(2)), (3, symmetric(3))])
def test_levels_of_a_table(kernels: str, table: tuple[int, Table]) -> None:
    bits, levels = table
    rng = np.random.default_rng(0)
    weights = rng.choice(np.array(levels, np.int8), (33, 96))
    for activation_bits in (2, 4, 8):
        a = rng.integers(0, 1 << activation_bits, (7, 96)).astype(np.uint8)
        found = product(weights, bits, activation_bits, kernels, table=levels).multiply(a)
        np.testing.assert_array_equal(found, a.astype(np.int32) @ weights.T.astype(np.int32))


@installed
def test_memory_is_that_of_the_bits() -> None:
    for bits in (1, 2, 4):
        weights = np.full((768, 3072), levels_of(bits)[0], np.int8)
        for activation_bits in (4, 8):
            assert product(weights, bits, activation_bits, "auto").bytes == 768 * 3072 * bits // 8


# floating point


def floats(weights: np.ndarray, kernels: str) -> Any:
    import littlefoot_native

    rows = np.ascontiguousarray(weights).view(np.uint8)
    return littlefoot_native.Product(rows, weights.shape[1], 8 * weights.itemsize, [], 0, kernels)


def halves(rng: np.random.Generator, shape: tuple[int, ...], extreme: bool) -> np.ndarray:
    """Numbers of half precision: usual ones, or of any exponent, also those without a leading one."""
    if not extreme:
        return rng.standard_normal(shape).astype(np.float16)
    bits = rng.integers(0, 1 << 16, shape).astype(np.uint16)
    bits[(bits & 0x7C00) == 0x7C00] &= 0x83FF  # neither infinite nor not a number
    return bits.view(np.float16)


@installed
@pytest.mark.parametrize("kernels", native.available())
@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from((np.float16, np.float32)),
    rows=st.integers(0, 70),
    columns=st.integers(1, 700),
    outputs=st.integers(1, 150),
    extreme=st.booleans(),
    seed=st.integers(0, 999),
)
def test_products_of_floats_are_those_of_float64(
    kernels: str, kind: Any, rows: int, columns: int, outputs: int, extreme: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    weights = halves(rng, (outputs, columns), extreme).astype(kind)
    x = rng.standard_normal((rows, columns)).astype(np.float32)
    found = floats(weights, kernels).multiply(x)
    exact, sizes = x.astype(np.float64), weights.astype(np.float64).T
    error = columns * np.finfo(np.float32).eps * (np.abs(exact) @ np.abs(sizes))  # of any order of sums
    assert found.dtype == np.float32
    assert (np.abs(found - exact @ sizes) <= error).all()


@installed
@pytest.mark.parametrize("kernels", native.available())
def test_every_half_is_expanded_exactly(kernels: str) -> None:
    bits = np.arange(1 << 16).astype(np.uint16)
    finite = bits[(bits & 0x7C00) != 0x7C00].view(np.float16)
    found = floats(finite[:, None], kernels).multiply(np.ones((1, 1), np.float32))
    np.testing.assert_array_equal(found[0], finite.astype(np.float32))


@installed
@pytest.mark.parametrize("kernels", native.available())
def test_a_row_of_floats_does_not_depend_on_the_others(kernels: str) -> None:
    rng = np.random.default_rng(0)
    matrix = floats(rng.standard_normal((70, 900)).astype(np.float16), kernels)
    x = rng.standard_normal((67, 900)).astype(np.float32)
    whole = matrix.multiply(x)
    for first, end in ((0, 1), (5, 8), (60, 67), (1, 66)):
        np.testing.assert_array_equal(matrix.multiply(x[first:end].copy()), whole[first:end])


@installed
def test_halves_stay_halves_in_memory() -> None:
    for kind, size in ((np.float16, 2), (np.float32, 4)):
        assert floats(np.ones((768, 512), kind), "auto").bytes == 768 * 512 * size


@installed
@pytest.mark.parametrize("kernels", native.available())
@pytest.mark.parametrize("activation", ["none", "gelu", "relu"])
def test_a_linear_layer_of_floats_is_its_formula(kernels: str, activation: str) -> None:
    import littlefoot_native

    rng = np.random.default_rng(0)
    x = rng.standard_normal((130, 33)).astype(np.float32)
    weights = (rng.standard_normal((33, 33)) / 6).astype(np.float16)
    bias = rng.standard_normal(33).astype(np.float32)
    program = littlefoot_native.Program(33, 2, kernels)
    program.linear(0, floats(weights, kernels), None, bias, activation, 0)
    expected = x.astype(np.float64) @ weights.T.astype(np.float64) + bias
    if activation == "relu":
        expected = expected.clip(0)
    if activation == "gelu":
        expected = expected * 0.5 * (1 + np.vectorize(math.erf)(expected / math.sqrt(2)))
    np.testing.assert_allclose(program.run(x), expected + x, rtol=1e-5, atol=1e-5)


@installed
@pytest.mark.parametrize("kernels", native.available())
@pytest.mark.parametrize(
    ("groups", "taps", "behind"), [(2, 19, 9), (1, 4, 2), (4, 8, 7), (3, 128, 64), (6, 1, 0)]
)
def test_a_convolution_of_floats_is_its_formula(kernels: str, groups: int, taps: int, behind: int) -> None:
    import littlefoot_native

    width, each = 48, 48 // groups
    rng = np.random.default_rng(taps)
    weights = (rng.standard_normal((width, taps, each)) / np.sqrt(taps * each)).astype(np.float32)
    bias = rng.standard_normal(width).astype(np.float32)
    matrices = [floats(part, kernels) for part in np.split(weights.reshape(width, -1), groups)]
    program = littlefoot_native.Program(width, 3, kernels)
    program.convolution(0, matrices, taps, behind, None, bias, "relu", 0)
    for frames in (1, 2, 63, 64, 150, 5):  # the last one finds what longer ones left in the buffers
        x = np.random.default_rng(frames).standard_normal((frames, width)).astype(np.float32)
        padded = np.pad(x.astype(np.float64), ((behind, taps - 1 - behind), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=0).reshape(
            frames, groups, each, taps
        )
        convolved = np.einsum("fgck,gokc->fgo", windows, weights.reshape(groups, each, taps, each))
        expected = (convolved.reshape(frames, width) + bias).clip(0) + x
        np.testing.assert_allclose(program.run(x), expected, atol=1e-5)


@installed
def test_wrong_products_of_floats_are_refused() -> None:
    import littlefoot_native

    rows, ones = np.zeros((4, 32), np.uint8), np.ones(4, np.float32)
    matrix = littlefoot_native.Product(rows, 16, 16, [], 0)
    for columns, bits in ((15, 16), (16, 32), (0, 16), (-1, 32), (1 << 60, 16)):
        with pytest.raises(ValueError, match=f"numbers of {bits} bits"):
            littlefoot_native.Product(rows, columns, bits, [], 0)
    with pytest.raises(ValueError, match="rows and columns"):
        littlefoot_native.Product(rows[:0], 16, 16, [], 0)
    with pytest.raises(ValueError, match="the inputs have 8 columns, not 16"):
        matrix.multiply(np.zeros((3, 8), np.float32))
    with pytest.raises(ValueError, match="is in floating point"):
        matrix.multiply(np.zeros((3, 16), np.uint8))
    packed = littlefoot_native.Product(np.zeros((4, 16), np.uint8), 16, 8, [], 8)
    with pytest.raises(ValueError, match="its inputs are bytes"):
        packed.multiply(np.zeros((3, 16), np.float32))
    program = littlefoot_native.Program(16, 1)
    with pytest.raises(ValueError, match="and floating point does not"):
        program.linear(0, matrix, Scales(ones, 1.0, 0, None, None), None)
    with pytest.raises(ValueError, match="matrices of a layer's groups differ"):
        program.convolution(0, [matrix, packed], 2, 0, None, None)
    with pytest.raises(ValueError, match="the bias must have 4 numbers, not 5"):
        program.linear(0, matrix, None, np.ones(5, np.float32))


# bad input


def wrong(**changes: Any) -> Any:
    import littlefoot_native

    settings: dict[str, Any] = {
        "rows": np.zeros((4, 2), np.uint8),
        "columns": 16,
        "bits": 1,
        "levels": [-1, 1],
        "activation_bits": 4,
    }
    return littlefoot_native.Product(**{**settings, **changes})


@installed
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"columns": 17, "bits": 1}, "17 columns of 1 bits do not fill whole bytes"),
        ({"columns": 24}, "have 3 bytes, not 2"),  # truncated
        ({"columns": 0}, "1 to 65536 columns, not 0"),
        ({"bits": 5}, "must have 1, 2, 3, 4 or 8 bits, not 5"),
        ({"activation_bits": 5}, "activations must have"),
        ({"levels": [-1, 0, 1, 2]}, "4 levels do not fit 1 bits"),
        ({"bits": 2, "columns": 8, "levels": [-2, -1, 1, 2]}, "not evenly spaced"),
        ({"method": "fast"}, "method must be"),
        ({"kernels": "avx1024"}, "are unknown"),
        ({"kernels": "neon" if platform.machine() == "x86_64" else "avx2"}, "does not have the instructions"),
    ],
)
def test_wrong_products_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        wrong(**changes)


@installed
@pytest.mark.parametrize("weights", [np.zeros((4, 2), np.int32), np.zeros(8, np.uint8), [[1, 2]]])
def test_wrong_types_are_refused(weights: Any) -> None:
    with pytest.raises(TypeError):
        wrong(rows=weights)


@installed
def test_misaligned_tensors_are_read_right() -> None:
    rng = np.random.default_rng(0)
    levels = rng.choice(np.array([-1, 1], np.int8), (65, 96))
    packed = pack(levels, 1)
    shifted = np.empty(packed.size + 1, np.uint8)[1:].reshape(packed.shape)
    shifted[:] = packed
    a = rng.integers(0, 16, (5, 96)).astype(np.uint8)
    found = wrong(rows=shifted, columns=96).multiply(a)
    np.testing.assert_array_equal(found, a.astype(np.int32) @ levels.T.astype(np.int32))


@installed
def test_inputs_beyond_their_bits_are_refused() -> None:
    made = wrong()
    with pytest.raises(ValueError, match="an input is above 15"):
        made.multiply(np.full((1, 16), 16, np.uint8))
    with pytest.raises(ValueError, match="the inputs have 8 columns, not 16"):
        made.multiply(np.zeros((1, 8), np.uint8))
    with pytest.raises(ValueError, match="must be of shape"):
        made.multiply(np.zeros((1, 16), np.uint8), np.zeros((2, 4), np.int32))


@installed
def test_wrong_programs_are_refused() -> None:
    import littlefoot_native

    program = littlefoot_native.Program(16, 1)
    ones = np.ones(16, np.float32)
    with pytest.raises(ValueError, match="there is no such value"):
        program.layer_norm(3, ones, ones, 1e-5)
    with pytest.raises(ValueError, match="must have 16 numbers, not 8"):
        program.layer_norm(0, ones[:8], ones, 1e-5)
    with pytest.raises(ValueError, match="the heads reach beyond"):
        program.attention((0, 0), (0, 8), (0, 0), heads=2, head_dim=8, scale=1.0)
    program.attention((0, 0), (0, 0), (0, 0), heads=2, head_dim=8, scale=1.0, bias=0)
    with pytest.raises(ValueError, match="the input has 8 columns"):
        program.run(np.zeros((3, 8), np.float32))
    with pytest.raises(ValueError, match="bias is missing"):
        program.run(np.zeros((3, 16), np.float32))
    with pytest.raises(ValueError, match="not of 3 frames"):
        program.run(np.zeros((3, 16), np.float32), [np.zeros((1, 2, 3), np.float32)])


@installed
@pytest.mark.skipif(len(native.available()) < 2, reason="this processor has one set of kernels")
def test_a_matrix_that_is_packed_for_others_is_refused() -> None:
    import littlefoot_native

    ones = np.ones(4, np.float32)
    matrix = littlefoot_native.Product(np.zeros((4, 16), np.uint8), 16, 8, [], 8, native.available()[0])
    for kernels, width, message in (
        (native.available()[1], 16, f"packed for the kernels {native.available()[0]}, not"),
        (native.available()[0], 32, "the input has 32 columns, not 16"),
    ):
        program = littlefoot_native.Program(width, 1, kernels)
        with pytest.raises(ValueError, match=message):
            program.linear(0, matrix, Scales(ones, 1.0, 0, None, None), None)


# steps


@installed
@pytest.mark.parametrize("kernels", native.available())
def test_an_activation_is_its_formula(kernels: str) -> None:
    import littlefoot_native

    x = np.random.default_rng(0).standard_normal((70, 21)).astype(np.float32)
    erf = np.vectorize(math.erf)
    for kind, expected in (("relu", x.clip(0)), ("gelu", x * 0.5 * (1 + erf(x / math.sqrt(2))))):
        program = littlefoot_native.Program(21, 1, kernels)
        program.activate(0, kind)
        np.testing.assert_allclose(program.run(x), expected, rtol=1e-5, atol=1e-6)


@installed
@pytest.mark.parametrize("kernels", native.available())
@pytest.mark.parametrize("activation", ["none", "gelu", "relu"])
def test_a_linear_layer_is_its_formula(kernels: str, activation: str) -> None:
    import littlefoot_native

    rng = np.random.default_rng(0)
    x = rng.standard_normal((70, 96)).astype(np.float32)
    x[3, 5], x[4, 6], x[5, 7] = 1e9, -1e9, 0.0
    smoothing, shift = rng.random(96).astype(np.float32) + 0.5, rng.standard_normal(96).astype(np.float32)
    levels = rng.choice(np.array(levels_of(2), np.int8), (96, 96))
    weight_scale, bias = rng.random(96).astype(np.float32), rng.standard_normal(96).astype(np.float32)
    scale = np.float32(2**-4)  # a power of two, so that no rounding differs
    program = littlefoot_native.Program(96, 1, kernels)
    matrix = littlefoot_native.Product(pack(levels, 2), 96, 2, stored(2), 4, kernels)
    rounding = Scales(weight_scale, float(scale), 7, smoothing, shift)
    program.linear(0, matrix, rounding, bias, activation, 0)
    rounded = np.clip(np.rint((x * smoothing - shift) / scale) + 7, 0, 15) - 7
    expected = (rounded @ levels.T.astype(np.float64)) * scale * weight_scale + bias
    if activation == "relu":
        expected = expected.clip(0)
    if activation == "gelu":
        erf = np.vectorize(math.erf)
        expected = expected * 0.5 * (1 + erf(expected / math.sqrt(2)))
    np.testing.assert_allclose(program.run(x), expected + x, rtol=1e-5, atol=1e-4)


@installed
@pytest.mark.parametrize("kernels", native.available())
@pytest.mark.parametrize(
    ("groups", "taps", "behind", "bits", "activation_bits"),
    [
        (2, 19, 9, 8, 8),
        (1, 4, 2, 4, 8),
        (4, 8, 7, 1, 4),
        (3, 128, 64, 2, 8),
        (6, 1, 0, 1, 8),
        (2, 3, 0, 3, 2),
    ],
)
def test_a_convolution_is_its_formula(
    kernels: str, groups: int, taps: int, behind: int, bits: int, activation_bits: int
) -> None:
    import littlefoot_native

    width, each = 48, 48 // groups
    scale, zero_point, largest = np.float32(2**-4), 1 << (activation_bits - 1), (1 << activation_bits) - 1
    rng = np.random.default_rng(taps)
    known = np.arange(-128, 128) if bits == 8 else np.array(levels_of(bits))
    levels = rng.choice(known, (width, taps, each)).astype(np.int8)
    weight_scale, bias = (
        rng.random(width).astype(np.float32) / taps,
        rng.standard_normal(width).astype(np.float32),
    )
    rows = levels.reshape(width, -1)
    program = littlefoot_native.Program(width, 3, kernels)
    packed = rows.view(np.uint8) if bits == 8 else pack(rows, bits)
    matrices = [
        littlefoot_native.Product(part, taps * each, bits, stored(bits), activation_bits, kernels)
        for part in np.split(packed, groups)
    ]
    rounding = Scales(weight_scale, float(scale), zero_point, None, None)
    first = program.convolution(0, matrices, taps, behind, rounding, bias, "relu", 0)
    program.convolution(first, matrices, taps, behind, rounding, None)  # one right after the other

    def convolve(x: np.ndarray) -> np.ndarray:
        rounded = np.clip(np.rint(x / scale) + zero_point, 0, largest) - zero_point
        padded = np.pad(rounded, ((behind, taps - 1 - behind), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, taps, axis=0)  # (F, D, K)
        split = windows.reshape(len(x), groups, each, taps)
        by_group = levels.reshape(groups, each, taps, each).astype(np.float64)
        return np.einsum("fgck,gokc->fgo", split, by_group).reshape(len(x), width) * scale * weight_scale

    for frames in (1, 2, 63, 64, 150, 5):  # the last one finds what longer ones left in the buffers
        x = np.random.default_rng(frames).standard_normal((frames, width)).astype(np.float32)
        middle = (convolve(x) + bias).clip(0).astype(np.float32) + x
        found = program.run(x)  # which may round a few of the middle's otherwise
        assert difference(found, convolve(middle)) < 0.02, frames
        assert np.median(np.abs(found - convolve(middle))) < 1e-4


@installed
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": 5}, "16 channels do not make 5 groups"),
        ({"groups": 0}, "a layer needs a matrix"),
        ({"groups": 2}, "8 columns in each of 3 taps, not 12"),
        ({"taps": 0}, "1 to 65536 taps"),
        ({"behind": 3}, "its own frame among its taps"),
        ({"bytes": 11}, "have 12 bytes, not 11"),
        ({"weight_scale": np.ones(15, np.float32)}, "must have 16 numbers, not 15"),
        ({"weight_scale": np.ones(16)}, "weight_scale must be a vector of float32"),
        ({"zero_point": 256}, "zero point 0 to 255"),
        ({"rounding": None}, "packed weights need rounded inputs"),
    ],
)
def test_wrong_convolutions_are_refused(changes: dict[str, Any], message: str) -> None:
    import littlefoot_native

    def add(
        groups: int = 4,
        taps: int = 3,
        behind: int = 1,
        bytes: int = 12,
        weight_scale: np.ndarray = np.ones(16, np.float32),  # noqa: B008
        zero_point: int = 128,
        **others: None,
    ) -> None:
        matrix = littlefoot_native.Product(np.zeros((4, bytes), np.uint8), 12, 8, [], 8)
        rounding = Scales(weight_scale, 0.1, zero_point, None, None)
        program.convolution(0, [matrix] * groups, taps, behind, others.get("rounding", rounding), None)

    program = littlefoot_native.Program(16, 1)
    add()
    with pytest.raises(ValueError, match=message):
        add(**changes)


@installed
@pytest.mark.parametrize("kernels", native.available())
@pytest.mark.parametrize(("heads", "head_dim"), [(2, 64), (3, 80), (1, 8), (5, 18)])
@pytest.mark.parametrize("eight_bits", [False, True])
def test_attention_is_its_formula(kernels: str, heads: int, head_dim: int, eight_bits: bool) -> None:
    import littlefoot_native

    width = heads * head_dim
    for frames in (1, 16, 77, 140):
        rng = np.random.default_rng(frames)
        x = rng.standard_normal((frames, width)).astype(np.float32)
        bias = rng.standard_normal((1, frames, frames)).astype(np.float32)
        program = littlefoot_native.Program(width, 2, kernels)
        scales = (4.5 * head_dim**-0.5 / 127, 4.5 / 127) if eight_bits else (0.0, 0.0)
        program.attention((0, 0), (0, 0), (0, 0), heads, head_dim, head_dim**-0.5, *scales, bias=0)
        split = x.astype(np.float64).reshape(frames, heads, head_dim).transpose(1, 0, 2)
        scores = split @ split.transpose(0, 2, 1) * head_dim**-0.5 + bias
        attention = np.exp(scores - scores.max(axis=-1, keepdims=True))
        attention /= attention.sum(axis=-1, keepdims=True)
        expected = (attention @ split).transpose(1, 0, 2).reshape(frames, width)
        exact = not littlefoot_native.has_bfloat16(kernels)
        np.testing.assert_allclose(program.run(x, [bias]), expected, atol=1e-4 if exact else 0.05)


@installed
@pytest.mark.parametrize("kernels", native.available())
@pytest.mark.parametrize(("heads", "head_dim"), [(2, 64), (3, 80), (5, 18)])
@pytest.mark.parametrize("eight_bits", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_a_shared_map_is_that_of_its_first_layer(
    kernels: str, heads: int, head_dim: int, eight_bits: bool, masked: bool
) -> None:
    """Two maps in turns that later layers use again, against a program that has to compute all of them."""
    import littlefoot_native

    width = heads * head_dim
    scales = (4.5 * head_dim**-0.5 / 127, 4.5 / 127) if eight_bits else (0.0, 0.0)

    def program(share: bool) -> Any:
        made = littlefoot_native.Program(width, 2, kernels)
        zeros = np.zeros(width, np.float32)
        value = 0
        keys = [0, made.add_vector(0, np.linspace(-1, 1, width).astype(np.float32))]
        for layer in range(6):
            key = keys[layer // 2 % 2]
            key = key if share else made.add_vector(key, zeros)  # the same numbers, but another value
            inputs = (0, 0), (key, 0), (value, 0)
            bias = 0 if masked else -1
            mixed = made.attention(*inputs, heads, head_dim, head_dim**-0.5, *scales, bias=bias)
            value = made.add(mixed, 0)
        return made

    shared, computed = program(True), program(False)
    for frames in (140, 1, 16, 77):
        rng = np.random.default_rng(frames)
        x = rng.standard_normal((frames, width)).astype(np.float32)
        biases = [rng.standard_normal((heads, frames, frames)).astype(np.float32)] if masked else []
        np.testing.assert_array_equal(shared.run(x, biases), computed.run(x, biases))


# models

GEOMETRIES: Sequence[dict[str, Any]] = (
    {},
    {"do_stable_layer_norm": True, "feat_extract_norm": "layer", "conv_bias": True},
    {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 136},
    {
        "feat_extract_norm": "affine",
        "chunk_frames": 8,
        "left_context_frames": 16,
        "num_conv_pos_embeddings": 5,
    },
    {"num_hidden_layers": 4, "layer_blocks": [0, 1, 0, 1], "layer_depth_embedding": True},
    {"num_hidden_layers": 3, "layer_maps": [0, 0, 2]},
    {"num_hidden_layers": 4, "layer_maps": [0, 0, 0, 0]},
    {"num_hidden_layers": 3, "layer_blocks": [0, 0, 0], "layer_delta_rank": 4, "layer_norms": True},
    {"layer_blocks": [0, 0], "layer_delta_rank": 5, "do_stable_layer_norm": True},
)


@installed
@pytest.mark.parametrize("settings", GEOMETRIES, ids=lambda settings: "-".join(settings) or "base")
def test_models_give_the_logits_of_their_expansion(settings: dict[str, Any]) -> None:
    """Both compute products of the same integers, and attention in float32 changes none. In bfloat16 it moves
    inputs over the border between two of few levels, so it is compared where there are many."""
    import littlefoot_native

    for bits, activation_bits, table, positions, front_end in (
        (1, 4, (), 32, 8),
        (2, 8, TERNARY, 8, 8),
        (4, 2, (), 4, 4),
        (2, 4, symmetric(2), 32, 32),
    ):
        model = few_bits(bits, activation_bits, table, positions=positions, front_end=front_end, **settings)
        waveform = noise(9000)
        expected = create(model, "openvino", 1, "f32", cached=False, kernels="off").run(waveform)
        for kernels in native.available():
            half = littlefoot_native.has_bfloat16(kernels)
            if half and activation_bits < 8:
                continue
            engine = create(model, "openvino", 2, "f32", cached=False, kernels=kernels)
            assert isinstance(engine, native.NativeEngine)
            assert (engine.name, engine.kernels, engine.embedding) == ("native", kernels, None)
            assert difference(engine.run(waveform), expected) < (0.02 if half else 0.001)


FLOATING: Sequence[dict[str, Any]] = (*GEOMETRIES, {"feat_extract_norm": "group"}, {"hidden_act": "relu"})


@installed
@pytest.mark.parametrize("settings", FLOATING, ids=lambda settings: "-".join(settings) or "base")
@pytest.mark.parametrize("half", [False, True])
def test_models_in_floating_point_give_the_logits_of_an_engine(settings: dict[str, Any], half: bool) -> None:
    model = tiny(**settings)
    if half:
        model = replace(model, weights={name: w.astype(np.float16) for name, w in model.weights.items()})
    for samples in (9000, 400):
        waveform = noise(samples)
        expected = create(model, "openvino", 1, "f32", cached=False).run(waveform)
        for threads in (1, 2):
            engine = create(model, "native", threads)
            assert isinstance(engine, native.NativeEngine)
            np.testing.assert_allclose(engine.run(waveform), expected, atol=1e-3 * expected.std())


@installed
def test_models_in_floating_point_keep_float32_in_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    import littlefoot_native

    (best, *_) = exact = [name for name in native.available() if not littlefoot_native.has_bfloat16(name)]
    monkeypatch.setattr(littlefoot_native, "has_bfloat16", lambda name: name not in exact)
    monkeypatch.setattr(native, "available", lambda: ["avx512bf16", *exact])
    assert native.fastest(tiny()) == best
    assert native.fastest(few_bits(2)) == "avx512bf16"


@installed
def test_littlefoot_en_gives_the_logits_of_openvino() -> None:
    artifact = checkpoint.load("littlefoot-en")
    clip = reading.read(sorted((checkpoint.BUNDLED / "samples").glob("*.ogg"))[0])
    expected = create(artifact, "openvino", 1, "f32", cached=False).run(clip)
    assert np.abs(create(artifact, "native", 1).run(clip) - expected).max() <= 1e-3


@installed
def test_the_difference_is_small_where_nothing_is_on_a_border() -> None:
    model = few_bits(4, 8)
    expected = create(model, "openvino", 1, "f32", cached=False, kernels="off").run(noise(3000))
    found = create(model, "openvino", 1, "f32", cached=False, kernels="scalar").run(noise(3000))
    close = np.abs(found - expected).max(axis=1) < 1e-4 * expected.std()
    assert close.mean() > 0.9


@installed
def test_what_layers_share_is_in_memory_once() -> None:
    def size(**settings: Any) -> int:
        return Program(few_bits(2, num_hidden_layers=4, **settings), "scalar", 1).bytes

    alone, shared, one = size(), size(layer_blocks=[0] * 4), size(layer_blocks=[0, 1, 1, 1])
    assert 3 * (one - shared) == alone - shared
    assert alone > shared


@installed
def test_groups_of_columns_with_scales() -> None:
    model = few_bits(2, 8, groups=2)
    expected = create(model, "openvino", 1, "f32", cached=False, kernels="off").run(noise(5000))
    found = create(model, "openvino", 1, "f32", cached=False, kernels="scalar").run(noise(5000))
    assert difference(found, expected) < 0.02


@installed
def test_lengths_and_threads_do_not_matter() -> None:
    model = few_bits(1, 4)
    one = create(model, "openvino", 1, "f32", cached=False)
    three = create(model, "openvino", 3, "f32", cached=False)
    for samples in (60, 9000, 300, 4000, 30):
        assert difference(three.run(noise(samples)), one.run(noise(samples))) < 0.05


@installed
def test_onnx_runtime_runs_what_is_before() -> None:
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = few_bits(2, 8, **SPECTROGRAMS)
    expected = create(model, "openvino", 1, "f32", cached=False).run(noise(4000))
    engine = create(model, "onnxruntime", 1, "f32")
    assert engine.kernels != "none"
    assert difference(engine.run(noise(4000)), expected) < 0.02


@installed
def test_a_second_start_uses_the_cache(cache_directory: Path) -> None:
    model = few_bits(1, 8, **SPECTROGRAMS)
    first = create(model, "openvino", 1, "f32").run(noise(3000))
    assert list(cache_directory.iterdir())
    np.testing.assert_array_equal(create(model, "openvino", 1, "f32").run(noise(3000)), first)
    whole = create(model, "openvino", 1, "f32", kernels="off")
    assert whole.kernels == "none"
    assert difference(whole.run(noise(3000)), first) < 0.1


# choice of kernels


def test_without_the_package_weights_are_expanded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    model = few_bits(2)
    expected = create(model, "openvino", 1, "f32", cached=False, kernels="off").run(noise(3000))
    monkeypatch.setattr(native, "available", lambda: [])
    with caplog.at_level(logging.WARNING, "littlefoot"):
        engine = create(model, "openvino", 1, "f32", cached=False)
    assert engine.kernels == "none"
    assert [record.getMessage() for record in caplog.records] == [
        "packed weights are expanded to 8 bits: the native kernels are not installed: "
        "pip install 'littlefoot[native]'"
    ]
    np.testing.assert_array_equal(engine.run(noise(3000)), expected)


def test_a_processor_without_support_expands(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(native, "available", lambda: ["scalar"])
    with caplog.at_level(logging.WARNING, "littlefoot"):
        engine = create(few_bits(2), "openvino", 1, "f32", cached=False)
    assert engine.kernels == "none"
    assert "this processor lacks the instructions" in caplog.text
    with pytest.raises(EngineError, match="does not have the instructions of the kernels 'avx512'"):
        create(few_bits(2), "openvino", 1, "f32", cached=False, kernels="avx512")


def test_models_that_are_not_packed_say_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "littlefoot"):
        assert create(tiny(), "openvino", 1, "f32", cached=False).kernels == "none"
    assert not caplog.records


@installed
def test_what_the_program_does_not_have_is_expanded(caplog: pytest.LogCaptureFixture) -> None:
    model = few_bits(2, model_type=RELATIVE_TYPE)
    with caplog.at_level(logging.WARNING, "littlefoot"):
        engine = create(model, "openvino", 1, "f32", cached=False)
    assert engine.kernels == "none"
    assert "the native kernels do not support" in caplog.text


def test_the_setting_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITTLEFOOT_KERNELS", "off")
    assert create(few_bits(2), "openvino", 1, "f32", cached=False).kernels == "none"
    monkeypatch.setenv("LITTLEFOOT_KERNELS", "quick")
    with pytest.raises(EngineError, match="kernels 'quick' are unknown: use one of auto, off"):
        create(tiny(), "openvino", 1, "f32", cached=False)


@installed
def test_a_damaged_layer_is_named() -> None:
    model = few_bits(2)
    name = "encoder.layers.1.feed_forward.output_dense"
    cut = {f"{name}.weight": model.weights[f"{name}.weight"][:, :-1].copy()}
    broken = object.__new__(Artifact)  # an artifact's own checks would refuse it before
    broken.__dict__.update({**model.__dict__, "weights": {**model.weights, **cut}})
    with pytest.raises(EngineError, match=f"{name}: rows of 24 columns of 2 bits have 6 bytes, not 5"):
        Program(broken, native.available()[0], 1)


@installed
def test_the_command_line(run: Run, tmp_path: Path) -> None:
    import json

    import soundfile

    artifacts.save(few_bits(2, 4), tmp_path / "model")
    soundfile.write(tmp_path / "clip.wav", noise(16_000) * 0.1, 16_000)
    result = run("transcribe", tmp_path / "model", tmp_path / "clip.wav")
    assert (result.code, result.err) == (0, "")
    report = json.loads(run("doctor", "--json").out)
    assert report["kernels"] == native.available()
    assert f"kernels      {native.available()[0]}" in run("doctor").out


@installed
@pytest.mark.parametrize("name", ["littlefoot-en-live", "littlefoot-en-bigfoot"])
def test_models_of_8_bits_or_fewer_run_without_an_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("openvino", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not installed
    recognizer = load(name)
    assert recognizer.engine.name == "native"
    sample = checkpoint.BUNDLED / "samples" / "digits.ogg"
    text = recognizer.transcribe(sample).text
    assert re.fullmatch("ONE TWO THREE FOU?R FIVE SIX SEVEN", text)  # the live one is of a weak teacher
    with pytest.raises(MissingExtraError, match="openvino"):
        load("littlefoot-en", engine="openvino")


# other processors


def build_compare(folder: Path, *settings: str) -> Path:
    configured = [
        "cmake",
        "-S",
        str(SOURCES),
        "-B",
        str(folder),
        "-DCOMPARE=ON",
        "-DCMAKE_BUILD_TYPE=Release",
    ]
    for command in ([*configured, *settings], ["cmake", "--build", str(folder), "-j", "2"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder / "compare"


@pytest.mark.slow
def test_neon_under_emulation(tmp_path: Path) -> None:
    compiler = "aarch64-linux-gnu-g++"
    for tool, package in (
        ("cmake", "cmake"),
        (compiler, "g++-aarch64-linux-gnu"),
        ("qemu-aarch64", "qemu-user"),
    ):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install {package}")
    program = build_compare(
        tmp_path,
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={compiler}",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
    )
    done = subprocess.run(["qemu-aarch64", program, "neon"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "neon: 0 wrong\n")


@pytest.mark.slow
@pytest.mark.parametrize(
    "flags",
    [
        pytest.param("", id="vectors"),
        pytest.param("-mrelaxed-simd", id="relaxed-vectors"),
        # as on processors that this one is not
        pytest.param("-mrelaxed-simd -DLITTLEFOOT_BYTES_SIGNED", id="bytes-with-sign"),
        pytest.param("-mrelaxed-simd -DLITTLEFOOT_BYTES_UNSIGNED", id="bytes-without-sign"),
    ],
)
def test_wasm_under_node(flags: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for tool, package in (
        ("cmake", "cmake"),
        ("clang++-19", "clang-19"),
        ("wasm-ld-19", "lld-19"),
        ("em-config", "emscripten"),
    ):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed: apt-get install {package}")
    if (node := nodes.relaxed()) is None:
        pytest.skip("there is no Node with relaxed vectors: install Node 20 or later")
    monkeypatch.setenv("CXXFLAGS", flags)
    program = build_compare(tmp_path, f"-DCMAKE_TOOLCHAIN_FILE={SOURCES / 'wasm.cmake'}").with_suffix(".wasm")
    command = [*node, "--no-warnings", SOURCES.parent / "tests" / "support" / "wasi.mjs", program, "wasm"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "wasm: 0 wrong\n"), done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sanitizers are tried on Linux")
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    if shutil.which("cmake") is None or shutil.which("g++") is None:
        pytest.skip("cmake or g++ is not installed")
    program = build_compare(tmp_path, "-DSANITIZE=ON")
    for kernels in ("scalar", "avx2", "avx512", "avx512bf16", "amx"):
        done = subprocess.run([program, kernels], capture_output=True, text=True, check=False)
        if done.returncode != 77:  # the processor has the instructions
            assert (done.returncode, done.stdout) == (0, f"{kernels}: 0 wrong\n"), done.stderr
