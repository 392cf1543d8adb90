"""Measure time, bytes and memory of shared blocks and reused attention maps on the LARGE architecture.

    python benchmarks/sharing.py speed --rounds 7
    python benchmarks/sharing.py speed --int8 --engine native --maps 1 24
    python benchmarks/sharing.py memory
    python benchmarks/sharing.py depth --model littlefoot-en

Random weights, which speed and memory do not depend on. ``speed``: the model with its layers to itself
against one block for all layers, with maps for groups of layers of several sizes; every round runs every
model once, and the ratios are round by round. ``memory``: what loading adds to a process that has the
engine but no model, each model in a process of its own; and what has been added after 10 s of audio.
``depth``: a model that stops after fewer of its layers, in the same way.
"""

from __future__ import annotations

import argparse
import gc
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from speed import LARGE, int8, measure, noise, ratio

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact, checkpoint, sizes
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.bench import quiet
from littlefoot.network.config import ModelConfig
from littlefoot.network.weights import expected_weights
from littlefoot.runtime.openvino import openvino_core
from littlefoot.runtime.registry import create

DEPTH = 24
MAP_GROUPS = (1, 2, 4, 12, 24)


def random_model(**sharing: Any) -> Artifact:
    """LARGE with random weights."""
    config = ModelConfig.from_dict({"model_type": "wav2vec2", **LARGE, **sharing})
    rng = np.random.default_rng(0)
    weights = {
        name: (0.02 * rng.standard_normal(shape)).astype(np.float32)
        for name, shape in expected_weights(config).items()
    }
    vocabulary = Vocabulary(tuple(f"t{number}" for number in range(config.vocab_size)), config.pad_token_id)
    return Artifact(config, weights, vocabulary)


def shared(map_group: int) -> Artifact:
    """Make a model with one block for all layers, and one attention map for each ``map_group`` of them."""
    maps = [layer - layer % map_group for layer in range(DEPTH)]
    return random_model(layer_blocks=[0] * DEPTH, layer_maps=maps if map_group > 1 else [])


def speed(
    lengths: list[float], rounds: int, threads: int, quantized: bool, engine: str, groups: Sequence[int]
) -> None:
    """Prints a table for each length."""
    models = {"unshared": random_model()}
    models |= {f"one block, a map for {group}": shared(group) for group in groups}
    if quantized:
        models = {name: int8(model) for name, model in models.items()}
    compare(models, lengths, rounds, threads, f"{'int8' if quantized else 'f32'}, {engine}", engine)


def depth(model: str, lengths: list[float], rounds: int, threads: int) -> None:
    """Prints a table for each length."""
    whole = checkpoint.load(model)
    depths = range(whole.config.num_hidden_layers, 0, -2)
    models = {f"{layers} layers": artifacts.first_layers(whole, layers) for layers in depths}
    compare(models, lengths, rounds, threads, model)


def compare(
    models: dict[str, Artifact],
    lengths: list[float],
    rounds: int,
    threads: int,
    title: str,
    engine: str = "openvino",
) -> None:
    """Prints a table for each length, of the times of models and their ratios to the first one's."""
    engines = {name: create(model, engine, threads, cached=False) for name, model in models.items()}
    first = next(iter(models))
    for seconds in lengths:
        waveform = noise(seconds)
        times = measure({name: partial(engine.run, waveform) for name, engine in engines.items()}, rounds)
        print(f"\n{seconds:g} s of audio, {title}, {threads} threads\n")
        print(
            "| model | million parameters | seconds, median (min - max) | times as fast |\n|---|---|---|---|"
        )
        for name, (values, _) in times.items():
            print(
                f"| {name} | {models[name].parameters / 1e6:.2f} | {statistics.median(values):.3f} "
                f"({min(values):.3f} - {max(values):.3f}) | {ratio(times[first].wall, values):.2f} |"
            )


def resident() -> float:
    """Resident memory of this process in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def measured_memory(path: str) -> None:
    """Print the memory that loading a model, and a run of 10 s, add to a new process."""
    openvino_core().available_devices  # noqa: B018  loads the plugins
    before = resident()
    recognizer = create(checkpoint.load(path), "openvino", 2)
    loaded = resident() - before
    recognizer.run(noise(10))
    print(loaded, resident() - before)


def memory() -> None:
    """Prints a table."""
    print("| model | MB on the disk | added by loading, MB | and after 10 s of audio |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as directory:
        os.environ["LITTLEFOOT_CACHE"] = str(Path(directory) / "cache")
        for name, make in (("unshared", random_model), ("one block, one map", lambda: shared(DEPTH))):
            for kind in ("f32", "int8"):
                path = Path(directory) / f"{name}, {kind}"
                model = make()
                artifacts.save(int8(model) if kind == "int8" else model, path)
                del model
                size = sizes.megabytes(path)
                command = [sys.executable, __file__, "memory", "--model", str(path)]
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # fills the cache
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                loaded, after = map(float, done.stdout.split())
                print(f"| {path.name} | {size:.0f} | {loaded:.0f} | {after:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("speed", "memory", "depth"))
    parser.add_argument("--seconds", type=float, nargs="+", default=[10.0, 20.0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--int8", action="store_true")
    parser.add_argument("--engine", default="openvino", help="or native, in speed")
    parser.add_argument("--maps", type=int, nargs="+", default=MAP_GROUPS, help="layers for a map, in speed")
    parser.add_argument("--model", help="of depth; memory has its own processes measure one")
    parser.add_argument("--busy", action="store_true", help="measure beside other programs too")
    arguments = parser.parse_args()
    if not arguments.busy and arguments.what != "memory" and not arguments.model:
        quiet.wait()
    if arguments.what == "depth":
        depth(arguments.model or "littlefoot-en", arguments.seconds, arguments.rounds, arguments.threads)
    elif arguments.model:
        measured_memory(arguments.model)
    elif arguments.what == "memory":
        memory()
    else:
        speed(
            arguments.seconds,
            arguments.rounds,
            arguments.threads,
            arguments.int8,
            arguments.engine,
            arguments.maps,
        )


if __name__ == "__main__":
    main()
