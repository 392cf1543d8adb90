"""Measure size and time of few bits in the geometry of HuBERT BASE, beside the paper's formulas.

    python benchmarks/lowbit.py [--seconds 10] [--rounds 9] [--threads 1] [--sizes-only]

Weights are random, which is sufficient for sizes and speed, but not for accuracy. Files are those of a
whole artifact with its front end in 8 bits and its positional convolution in 4. Every round runs every
model once; ratios are medians round by round. Needs the extra train.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import accounting
import numpy as np
from speed import Times, int8, measure, noise, ratio

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact, sizes
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.compress.calibration import LayerInput, collect
from littlefoot.compress.lowbit import LowbitConfig, convert, make_plan, prepare
from littlefoot.network.config import ModelConfig
from littlefoot.network.weights import expected_weights
from littlefoot.runtime.registry import create

TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'")


def base() -> Artifact:
    """HuBERT BASE with random weights."""
    config = ModelConfig.from_dict({"model_type": "hubert", "vocab_size": len(TOKENS), "pad_token_id": 0})
    rng = np.random.default_rng(0)
    weights = {
        name: (np.ones(shape) if "norm" in name else 0.03 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in expected_weights(config).items()
    }
    return Artifact(config, weights, Vocabulary(TOKENS))


def lowbit(model: Artifact, inputs: list[LayerInput], bits: int) -> Artifact:
    """Convert a model as after training."""
    config = LowbitConfig(bits=bits, positions=4, initialisation="nearest")
    plan = make_plan(model, inputs, config)
    return convert(prepare(model, inputs, plan, config).to_artifact(), plan, config)


def on_disk(model: Artifact) -> float:
    """MB of all files of an artifact."""
    with tempfile.TemporaryDirectory() as directory:
        path = artifacts.save(model, Path(directory) / "model")
        return sizes.megabytes(path)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sizes-only", action="store_true")
    options = parser.parse_args()
    model = base()
    inputs = collect(model, [noise(4, 1)])
    models = {2: lowbit(model, inputs, 2), 1: lowbit(model, inputs, 1)}
    halved = {name: weight.astype(np.float16) for name, weight in model.weights.items()}
    times: dict[str, Times] = {}
    if not options.sizes_only:
        waveform = noise(options.seconds)
        threads = options.threads
        engines = {"32": create(model, "openvino", threads), "8": create(int8(model), "openvino", threads)}
        for bits, made in models.items():
            engines[f"{bits}, expanded"] = create(made, "openvino", threads, kernels="off")
            engines[str(bits)] = create(made, "openvino", threads)
        named = {name: lambda engine=engine: engine.run(waveform) for name, engine in engines.items()}
        times = measure(named, options.rounds)

    def ratios(name: str) -> str:
        """Write the ratios of the time to those in float32 and in 8 bits."""
        if name not in times:
            return "-"
        return " / ".join(f"{ratio(times[name].wall, times[other].wall):.2f}" for other in ("32", "8"))

    print("| bits | law, MB | our files, MB | law, run time | expanded, of float32 / of our int8 | packed |")
    print("|---|---|---|---|---|---|")
    for bits, made in {16: replace(model, weights=halved), **models}.items():
        law = accounting.model_storage_mb(model.config, bits)
        estimate = accounting.estimated_runtime(32 if bits == 16 else bits)
        print(
            f"| {bits} | {law:.2f} | {on_disk(made):.2f} | {estimate:.2f} "
            f"| {ratios(f'{bits}, expanded')} | {ratios(str(bits))} |"
        )


if __name__ == "__main__":
    main()
