"""Peak memory of a model beside what its weights and activations need on paper.

    python benchmarks/memory.py littlefoot-en littlefoot-en-2bit INT8 --seconds 10 30
    python benchmarks/memory.py littlefoot-en --engine openvino

Each figure is that of a new process (Linux): its peak, less what it has in memory when Python, the packages
and the engine's library are loaded but no model. A first run, which may fill the cache of compiled models,
does not count. On paper are:

- the weights as the artifact stores them;
- the waveform and, for each frame, in float32: features, the hidden values between two layers, queries, keys
  and values as they are computed, keys and values of two layers as attention reads them, and logits;
- for each thread, 64 frames with the inner values of a layer, and, in the type in which they are multiplied,
  the inputs of the front end's second and third layer for 32 frames of its output.

A recording of 30 s is one window here; ``Recognizer.transcribe`` makes windows of 20 s.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.audio import SAMPLE_RATE
from littlefoot.runtime import recognizer  # noqa: F401  its modules belong to the base
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.openvino import openvino_core
from littlefoot.runtime.registry import create

BLOCK = 64
"""Frames that a thread of the native kernels takes through the layers at once."""
SLICE = 32
"""Frames of the front end's output that a thread takes through it at once."""


def on_paper(artifact: Artifact, seconds: float, threads: int) -> dict[str, float]:
    """Return the MB of the weights, and of the activations."""
    config, samples = artifact.config, round(seconds * SAMPLE_RATE)
    each = config.feature_channels + 8 * config.hidden_size + config.vocab_size
    numbers = samples + config.feature_frames(samples) * each
    numbers += threads * BLOCK * (config.intermediate_size + 3 * config.hidden_size)
    channels, strides = config.conv_dim, config.conv_stride
    second = SLICE * config.feature_stride // strides[0] * channels[0]
    third = SLICE * config.feature_stride // (strides[0] * strides[1]) * channels[1]
    width = 4 if config.littlefoot.quantization is None else 1
    weights = sum(value.nbytes for value in artifact.weights.values())
    return {"weights": weights / 1e6, "activations": (4 * numbers + threads * width * (second + third)) / 1e6}


def megabytes(what: str) -> float:
    """Return ``VmRSS`` or ``VmHWM``, the memory of this process now and at most so far."""
    (found,) = re.findall(rf"{what}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found) * 1024 / 1e6


def load_library(engine: str) -> None:
    """Load the library of an engine, with a model of one operation."""
    if engine == "native":
        native.available()
        return
    import openvino

    opset = openvino.opset13
    parameter = opset.parameter([1, 8], np.float32)
    empty = openvino.Model([opset.result(opset.tanh(parameter))], [parameter], "empty")
    openvino_core().compile_model(empty, "CPU", {"INFERENCE_NUM_THREADS": 1})([np.zeros((1, 8), np.float32)])


def measure(model: str, engine: str, seconds: float, threads: int) -> dict[str, Any]:
    """Load and run a model in this process."""
    load_library(engine)
    waveform = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE)).astype(np.float32)
    base = megabytes("VmRSS")
    made = create(checkpoint.load(model), engine, threads)
    loaded = megabytes("VmRSS") - base
    made.run(waveform)
    return {"engine": made.name, "base": base, "loaded": loaded, "peak": megabytes("VmHWM") - base}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+", help="bundled names, artifacts or checkpoints")
    parser.add_argument("--engine", choices=("native", "openvino"), default="native")
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 30.0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(measure(given.models[0], given.engine, given.seconds[0], given.threads)))
        return
    print("| model | engine | s | weights | activations | measured | of paper | loaded | base |")
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "LITTLEFOOT_CACHE": cache}
        for model in given.models:
            artifact = checkpoint.load(model)
            for seconds in given.seconds:
                command = [sys.executable, __file__, model, "--child", "--engine", given.engine]
                command += ["--seconds", str(seconds), "--threads", str(given.threads)]
                for _ in range(2):
                    done = subprocess.run(command, env=environment, capture_output=True, check=True)
                found, paper = json.loads(done.stdout), on_paper(artifact, seconds, given.threads)
                cells = [paper["weights"], paper["activations"], found["peak"]]
                print(
                    f"| {Path(model).name} | {found['engine']} | {seconds:g} | "
                    + " | ".join(f"{cell:.1f}" for cell in cells)
                    + f" | {found['peak'] / sum(paper.values()):.2f} | {found['loaded']:.1f} "
                    f"| {found['base']:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
