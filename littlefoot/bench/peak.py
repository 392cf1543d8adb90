"""Measure how fast this machine multiplies matrices, for comparison with a network's speed."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from littlefoot.runtime.openvino import openvino_core

SIZE = 1536
"""Rows and columns: 7 GFLOP per product, with every number used 1536 times."""
RUNS = 4


def measure_peaks(threads: int) -> dict[str, float]:
    """Measure operations per second (two for a multiply-accumulate) by precision: f32, bf16 and int8.

    The figures are the best of ``RUNS`` products in OpenVINO, without bf16 if the processor lacks it.
    """
    core = openvino_core()
    capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    peaks = {}
    for precision in ("f32", "bf16", "int8"):
        if precision == "bf16" and "BF16" not in capabilities:
            continue
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = core.compile_model(_product(precision == "int8"), "CPU", settings).create_infer_request()
        left = np.random.default_rng(0).standard_normal((SIZE, SIZE)).astype(np.float32)
        times = []
        for _ in range(RUNS + 1):
            start = time.perf_counter()
            request.infer([left], share_inputs=True)
            times.append(time.perf_counter() - start)
        peaks[precision] = 2 * SIZE**3 / min(times[1:])
    return peaks


def _product(quantized: bool) -> Any:
    """Make an OpenVINO model that multiplies by a constant matrix, both rounded to 8 bits if ``quantized``.

    The result is reduced to one number per row, so that writing it takes little time.
    """
    import openvino
    from openvino import opset13 as ops

    weights = np.random.default_rng(1).standard_normal((SIZE, SIZE)).astype(np.float32)
    left = ops.parameter([SIZE, SIZE], np.float32)
    limits = [ops.constant(np.array(limit, np.float32)) for limit in (-4, 4, -4, 4)]
    a: Any = left
    b: Any
    if quantized:
        a = ops.fake_quantize(left, *limits, levels=256)
        stored = np.clip(np.round(weights * 31), -127, 127).astype(np.int8)
        scale = ops.constant(np.array(1 / 31, np.float32))
        b = ops.multiply(ops.convert(ops.constant(stored), np.float32), scale)
    else:
        b = ops.constant(weights)
    total = ops.reduce_max(ops.matmul(a, b, False, False), ops.constant(np.array([1])), keep_dims=False)
    return openvino.Model([total], [left], "product")
