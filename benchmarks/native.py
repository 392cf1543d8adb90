"""The native kernels: products against their limits, whole models, memory.

    python benchmarks/native.py kernels
    python benchmarks/native.py model --rounds 15
    python benchmarks/native.py memory

Random weights of wav2vec 2.0 geometry, on which speed and memory do not depend; the models need torch and
transformers. ``kernels``: one thread, processor seconds; every round runs every product once. ``model``: the
base geometry, 10 s of audio; every round runs every model once, and the ratios are those of the rounds.
Beside the wall time stands the processor time of all threads, which other processes change less. ``memory``:
what loading and runs of 10 s add to a process that has the engine but no model, LARGE geometry, and with one
block for all layers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import littlefoot_native
import numpy as np
from sharing import shared
from speed import BASE, LARGE, measure, noise, random_checkpoint, ratio

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact, checkpoint
from littlefoot.artifact.linear import EightBitWeight, PackedWeight, Rounding, StoredLayer, put, read
from littlefoot.bench import quiet
from littlefoot.compress.rounding import round_weight
from littlefoot.network.layers import WAVEFORM_LAYER
from littlefoot.network.weights import packable
from littlefoot.runtime import graph
from littlefoot.runtime.openvino import openvino_core
from littlefoot.runtime.registry import create

SHAPES = ((500, 768, 768), (500, 768, 3072), (500, 3072, 768))
PRODUCTS = (  # bits of weights and of activations
    (8, 8, "dot"),
    (4, 8, "dot"),
    (2, 8, "dot"),
    (1, 8, "dot"),
    (1, 8, "tables"),
    (2, 4, "tables"),
    (2, 2, "tables"),
    (1, 4, "tables"),
    (1, 3, "tables"),
    (1, 2, "tables"),
    (1, 1, "tables"),
)
REDUCED: dict[str, Any] = {
    **BASE,
    "conv_dim": [64, 128, 256, 256, 256],
    "conv_kernel": [20, 8, 4, 4, 4],
    "conv_stride": [10, 4, 2, 2, 2],
}
"""The base geometry behind a front end that strides early, as that of littlefoot-en."""
MODELS = ((1, 4), (1, 2), (1, 8), (2, 8), (2, 4), (4, 8))


def levels(bits: int) -> list[int]:
    """List the levels of the codes in their order."""
    half = 1 << (bits - 1)
    return [] if bits == 8 else [-1, 1] if bits == 1 else [*range(half), *range(-half, 0)]


def in_8_bits(full: Artifact) -> Artifact:
    """Convert a full-precision artifact to 8 bits, without calibration."""
    layers: dict[str, StoredLayer] = {}
    factors: dict[str, Any] = {}
    scale = np.array(0.04, np.float32)
    for name in (name for names in graph.build(full).observed.values() for name in names):
        if name == WAVEFORM_LAYER:
            continue
        if f"{name}.weight" in full.weights:
            weight = EightBitWeight(*round_weight(full.weights[f"{name}.weight"].astype(np.float32)))
            layers[name] = StoredLayer(weight, Rounding(scale, np.array(128, np.uint8)))
        else:  # a factor of a product
            factors |= Rounding(scale, np.array(0, np.int8)).tensors(name)
    quantization = {"bits": 8, "mode": "static", "kept": []}
    weights = put(full.weights, layers) | factors
    return replace(full, weights=weights, config=full.config.noting(quantization=quantization))


def few_bits(quantized: Artifact, weight_bits: int, activation_bits: int) -> Artifact:
    """Return an int8 artifact with fewer bits in its Transformer's linear layers. Not for accuracy."""
    layers: dict[str, StoredLayer] = {}
    for name in packable(quantized.config):
        layer = read(name, quantized.weights)
        stored, rounding = layer.weight, layer.inputs
        assert isinstance(stored, EightBitWeight)
        assert rounding is not None
        if activation_bits < 8:
            factor = 255 / ((1 << activation_bits) - 1)
            zero_point = np.array(round(float(rounding.act_zero_point) / factor), np.uint8)
            rounding = Rounding(np.float32(rounding.act_scale * factor), zero_point, activation_bits)
        weight = stored.qdata.astype(np.float32)
        spread = 1.5 * np.abs(weight).mean(axis=1, keepdims=True) / max(1, (1 << (weight_bits - 1)) - 1)
        if weight_bits == 1:
            rounded = np.where(weight < 0, -1, 1)
        else:
            half = 1 << (weight_bits - 1)
            rounded = np.clip(np.rint(weight / spread), -half, half - 1)
        scale = (stored.scale * spread[:, 0]).astype(np.float32)
        layers[name] = StoredLayer(PackedWeight.pack(rounded.astype(np.int8), scale, weight_bits), rounding)
    return replace(quantized, weights=put(quantized.weights, layers))


def kernels(names: list[str], rounds: int) -> None:
    """Products of integers, one thread, in 10^9 multiplications and additions per second."""
    random = np.random.default_rng(0)
    print(
        "| kernels | weights | inputs | method | "
        + " | ".join(f"{r} x {c} x {o}" for r, c, o in SHAPES)
        + " |"
    )
    print("|---|---|---|---|" + "---|" * len(SHAPES))
    speeds: dict[tuple[Any, ...], list[str]] = {}
    for rows, columns, outputs in SHAPES:
        entries = {}
        out = np.zeros((rows, outputs), np.int32)
        for name in names:
            for bits, activation_bits, method in PRODUCTS:
                packed = random.integers(0, 256, (outputs, columns * bits // 8), np.uint8)
                product = littlefoot_native.Product(
                    packed, columns, bits, levels(bits), activation_bits, name, method
                )
                a = random.integers(0, 1 << activation_bits, (rows, columns)).astype(np.uint8)
                entries[name, bits, activation_bits, method] = (product, a)
        times: dict[tuple[Any, ...], list[float]] = {key: [] for key in entries}
        for _ in range(rounds):
            for key, (product, a) in entries.items():
                start = time.thread_time()
                product.multiply(a, out)
                times[key].append(time.thread_time() - start)
        work = 2e-9 * rows * columns * outputs
        for key, values in times.items():
            base = times[key[0], 8, 8, "dot"]
            ratio = statistics.median(b / v for v, b in zip(values, base, strict=True))
            speed = work / statistics.median(values)
            speeds.setdefault(key, []).append(f"{speed:.0f} ({work / min(values):.0f}), {ratio:.2f}x")
    for key, texts in speeds.items():
        print(f"| {' | '.join(map(str, key))} | {' | '.join(texts)} |")


def prepared(settings: dict[str, Any], folder: Path) -> tuple[Artifact, Artifact]:
    """Random weights in full precision and in 8 bits, kept in the folder."""
    if not (folder / "int8").exists():
        random_checkpoint(settings, folder / "f32")
        artifacts.save(in_8_bits(checkpoint.load(folder / "f32")), folder / "int8")
    return checkpoint.load(folder / "f32"), checkpoint.load(folder / "int8")


def model(folder: Path, rounds: int, seconds: float, threads: int, busy: bool) -> None:
    """Whole models, wall and processor seconds."""
    waveform = noise(seconds)
    full, quantized = prepared(BASE, folder / "base")
    eight = create(quantized, "openvino", threads, cached=False)
    base = f"int8, rest {eight.precision}"  # type: ignore[attr-defined]
    engines = {base: eight, "f32": create(full, "openvino", threads, "f32", cached=False)}
    for weight_bits, activation_bits in MODELS:
        made = create(few_bits(quantized, weight_bits, activation_bits), "openvino", threads, cached=False)
        engines[f"W{weight_bits}A{activation_bits}, {made.kernels}"] = made
    engines["of these, the front end"] = made.features  # type: ignore[attr-defined]
    _, quantized = prepared(REDUCED, folder / "reduced")
    for weight_bits, activation_bits in MODELS[:2]:
        made = create(few_bits(quantized, weight_bits, activation_bits), "openvino", threads, cached=False)
        engines[f"W{weight_bits}A{activation_bits}, reduced front end"] = made
    if not busy:
        quiet.wait()
    times = measure({name: partial(engine.run, waveform) for name, engine in engines.items()}, rounds)
    print("| model | wall s, median (min) | processor s | of int8 | of f32 | processor: of int8 | of f32 |")
    print("|---|---|---|---|---|---|---|")
    for name, (wall, processor) in times.items():
        ratios = [ratio(wall, times[other].wall) for other in (base, "f32")]
        ratios += [ratio(processor, times[other].processor) for other in (base, "f32")]
        print(
            f"| {name} | {statistics.median(wall):.3f} ({min(wall):.3f}) "
            f"| {statistics.median(processor):.3f} | {' | '.join(f'{r:.2f}' for r in ratios)} |"
        )


def resident() -> float:
    """MB of this process that are in memory now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def load_and_measure(path: Path, threads: int) -> None:
    """Print the memory that loading, and a first and a second run of 10 s, add to a new process."""
    import openvino

    opset = openvino.opset13
    parameter = opset.parameter([1, 8], np.float32)
    empty = openvino.Model([opset.result(opset.tanh(parameter))], [parameter], "empty")
    openvino_core().compile_model(empty, "CPU", {"INFERENCE_NUM_THREADS": threads})(
        [np.zeros((1, 8), np.float32)]
    )
    waveform = noise(10)
    before = resident()
    engine = create(checkpoint.load(path), "openvino", threads)
    loaded = resident()
    for _ in range(3):
        engine.run(waveform)
    print(json.dumps({"loaded": loaded - before, "run": resident() - before, "kernels": engine.kernels}))


def memory(folder: Path, threads: int) -> None:
    """Measure the memory that loading adds to a process that has the engine but no model."""
    print("| LARGE | weights on disk, MB | loaded, MB | after 10 s, MB | kernels |\n|---|---|---|---|---|")
    os.environ["LITTLEFOOT_CACHE"] = str(folder / "cache")
    _, quantized = prepared(LARGE, folder / "large")
    made = {"int8": quantized} | {f"W{w}A8": few_bits(quantized, w, 8) for w in (4, 2, 1)}
    made["W1A4"] = few_bits(quantized, 1, 4)
    made["W1A8, one block for all layers"] = few_bits(in_8_bits(shared(map_group=1)), 1, 8)
    for label, model in made.items():
        artifacts.save(model, folder / label, overwrite=True)
        command = [sys.executable, __file__, "load", str(folder / label), "--threads", str(threads)]
        figures: dict[str, Any] = {}
        for _ in range(2):  # the first fills the cache
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            figures = json.loads(done.stdout)
        size = sum(w.nbytes for w in model.weights.values()) / 1e6
        print(
            f"| {label} | {size:.0f} | {figures['loaded']:.0f} | {figures['run']:.0f} "
            f"| {figures['kernels']} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("kernels", "model", "memory", "load"))
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--folder", type=Path, help="Keep the models there for the next time.")
    parser.add_argument("--kernels", nargs="+", default=littlefoot_native.available()[:1])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--busy", action="store_true", help="measure beside other programs too")
    arguments = parser.parse_args()
    if arguments.what == "kernels":
        if not arguments.busy:
            quiet.wait()
        kernels(arguments.kernels, arguments.rounds)
        return
    if arguments.what == "load":
        load_and_measure(arguments.path, arguments.threads)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        if arguments.what == "model":
            model(folder, arguments.rounds, arguments.seconds, arguments.threads, arguments.busy)
        else:
            memory(folder, arguments.threads)


if __name__ == "__main__":
    main()
