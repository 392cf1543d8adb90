"""Convolutions of the graph in OpenVINO, against their formula: whatever the processor computes them with."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from littlefoot.runtime.onnx_nodes import IR_VERSION, OPSET, Value
from littlefoot.runtime.onnx_ops import OnnxOps
from littlefoot.runtime.openvino import openvino_core
from littlefoot.runtime.saturation import may_saturate

FRAMES, GROUPS, OUTPUTS = 90, 2, 8

SHAPES = [
    (channels, taps, stride)
    for channels in (4, 8, 16, 24, 30, 32, 48, 64)
    for taps, stride in ((4, 4), (8, 1), (8, 4), (8, 8), (12, 1), (16, 1), (19, 1), (32, 1), (64, 1))
]
"""Channels of a group, taps, stride: small students have convolutions like these."""


def convolution(channels: int, taps: int, stride: int, eight_bits: bool) -> tuple[np.ndarray, np.ndarray]:
    """What OpenVINO makes of it, and what the formula does: (C', F)."""
    rng = np.random.default_rng(taps)
    padding = (taps // 2, taps - 1 - taps // 2) if stride == 1 else (0, 0)
    levels = rng.integers(-60, 61, (GROUPS * OUTPUTS, channels, taps)).astype(np.int8)
    scale, step = np.float32(0.01), np.float32(1 / 32)
    x = rng.standard_normal((GROUPS * channels, FRAMES)).astype(np.float32)
    weights: dict[str, np.ndarray] = {"conv.bias": rng.standard_normal(len(levels)).astype(np.float32)}
    weight = levels * scale
    if eight_bits:
        weights["conv.weight"] = levels
        weights["conv.weight_scale"] = np.full(len(levels), scale)
        weights["conv.input_scale"], weights["conv.input_zero_point"] = (
            np.array(step),
            np.array(128, np.uint8),
        )
        rounded = (np.clip(np.rint(x / step) + 128, 0, 255) - 128) * step
    else:
        weights["conv.weight"], rounded = weight, x

    ops = OnnxOps(weights)
    y = ops.conv1d(Value(ops, "x", np.dtype(np.float32)), "conv", stride, padding, GROUPS)
    names = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", y.name)]
    names[0].type.tensor_type.shape.CopyFrom(
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, len(x), "T"]).type.tensor_type.shape
    )
    tensors = [onnx.numpy_helper.from_array(array, name) for name, array in ops.initializers.items()]
    model = helper.make_model(
        helper.make_graph(ops.nodes, "convolution", names[:1], names[1:], tensors),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    core = openvino_core()
    bf16 = not eight_bits and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    read = core.read_model(model.SerializeToString())
    compiled = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32"})
    found = compiled([x[None]])[0][0, :, 0]

    windows = np.lib.stride_tricks.sliding_window_view(np.pad(rounded, ((0, 0), padding)), taps, axis=1)
    windows = windows[:, ::stride].reshape(GROUPS, channels, -1, taps)
    by_group = weight.reshape(GROUPS, OUTPUTS, channels, taps)
    expected = np.einsum("gcft,goct->gof", windows, by_group, optimize=True).reshape(len(levels), -1)
    return found, expected + weights["conv.bias"][:, None]


@pytest.mark.skipif(may_saturate(), reason="this processor cuts sums of 8 bits off: see test_saturation.py")
@pytest.mark.parametrize(("channels", "taps", "stride"), SHAPES, ids=str)
def test_8_bits_are_their_formula(channels: int, taps: int, stride: int) -> None:
    """With AMX, OpenVINO 2026.4 computes some of these wrong if it is given their own taps alone."""
    found, expected = convolution(channels, taps, stride, eight_bits=True)
    np.testing.assert_allclose(found, expected, atol=0.01 * expected.std())


@pytest.mark.parametrize(("channels", "taps", "stride"), SHAPES, ids=str)
def test_floating_point_is_its_formula(channels: int, taps: int, stride: int) -> None:
    found, expected = convolution(channels, taps, stride, eight_bits=False)
    np.testing.assert_allclose(found, expected, atol=0.05 * expected.std())
