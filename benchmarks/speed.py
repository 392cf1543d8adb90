"""Compare our engines with other libraries, on the same random weights and audio, side by side in one run.

    python benchmarks/speed.py base
    python benchmarks/speed.py large --rounds 7
    python benchmarks/speed.py front-end
    python benchmarks/speed.py bigfoot s3 s5 s5-small --rounds 7

The last are LARGE against students of it: Shrinking Bigfoot's four layers, and DistillW2V2's S3 and S5
(``littlefoot.compress.student.SIZES``), S5 also with a front end of 128 channels.

Every round runs every model once; a row shows the median time and the median of the ratios round by round
against the first row, and how many times as fast as the last row it is. Other libraries take part if they are
installed: pip install torch transformers nncf.
Random weights suffice for speed, which does not depend on them, but not for accuracy.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.audio import SAMPLE_RATE
from littlefoot.bench import quiet
from littlefoot.compress.calibration import collect
from littlefoot.compress.distill import DistillConfig, infer_shape
from littlefoot.compress.quantize import QuantizeConfig, quantize_static
from littlefoot.compress.rounding import fit
from littlefoot.compress.student import StudentConfig
from littlefoot.network.config import ModelConfig
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.openvino import openvino_core
from littlefoot.runtime.registry import create

BASE: dict[str, Any] = {}
LARGE: dict[str, Any] = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
STUDENTS = {
    "bigfoot": StudentConfig(layers=4),
    "s3": StudentConfig(size="S3"),
    "s5": StudentConfig(size="S5"),
    "s5-small": StudentConfig(size="S5", conv_dim=(128,) * 7),
}
# What is left around the front end is too small to matter.
STUB = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
GROUP_FRONT = {**STUB, "num_conv_pos_embeddings": 4}
LAYER_FRONT = {**GROUP_FRONT, "feat_extract_norm": "layer", "conv_bias": True}

Entry = Callable[[], object]


def geometry(student: StudentConfig) -> ModelConfig:
    """Return the geometry of a student of LARGE."""
    return infer_shape(
        ModelConfig.from_dict({"model_type": "wav2vec2", **LARGE}), DistillConfig(student=student)
    )


def settings_of(student: StudentConfig) -> dict[str, Any]:
    """Return the same geometry as a configuration of transformers."""
    made = geometry(student)
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size", "conv_dim")
    return {**LARGE, **{name: getattr(made, name) for name in names}}


def random_checkpoint(settings: dict[str, Any], directory: Path) -> Any:
    """Make a random wav2vec 2.0 model in transformers, and save it for littlefoot."""
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.Wav2Vec2ForCTC(transformers.Wav2Vec2Config(**settings)).eval()
    model.save_pretrained(directory)
    tokens = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'"]
    (directory / "vocab.json").write_text(json.dumps({token: i for i, token in enumerate(tokens)}))
    return model


def noise(seconds: float, seed: int = 0) -> np.ndarray:
    """(T,) float32 of unit variance at 16 kHz."""
    return np.random.default_rng(seed).standard_normal(int(seconds * SAMPLE_RATE)).astype(np.float32)


def int8(artifact: Artifact) -> Artifact:
    """Quantize to static int8, without the acceptance check, which is meaningless for random weights."""
    inputs = collect(artifact, [noise(4, seed) for seed in (1, 2)])
    scales = {i.layers: fit(i, artifact.weights) for i in inputs}
    return quantize_static(artifact, inputs, scales, QuantizeConfig())


def ours(artifact: Artifact, quantized: Artifact, waveform: np.ndarray, threads: int) -> dict[str, Entry]:
    """Our engines in the precisions that the processor has."""
    entries: dict[str, Entry] = {}
    for name, model, engine, precision in (
        ("littlefoot int8, rest bf16", quantized, "openvino", "bf16"),
        ("littlefoot int8, rest f32", quantized, "openvino", "f32"),
        ("littlefoot int8, native kernels", quantized, "native", "auto"),
        ("littlefoot bf16", artifact, "openvino", "bf16"),
        ("littlefoot f32", artifact, "openvino", "f32"),
    ):
        if has(precision) and (engine != "native" or native.available()):
            made = create(model, engine, threads, precision)
            entries[name] = partial(made.run, waveform)
    return entries


def has(precision: str) -> bool:
    """Return False for bfloat16 on a processor without it."""
    return precision != "bf16" or "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def baselines(model: Any, waveform: np.ndarray, threads: int) -> dict[str, Entry]:
    """transformers on torch, OpenVINO with a traced export, and that quantized by NNCF."""
    import openvino
    import torch

    torch.set_num_threads(threads)
    batch = torch.from_numpy(waveform)[None]

    def run_torch() -> object:
        with torch.inference_mode():
            return model(batch).logits

    entries: dict[str, Entry] = {"transformers, torch f32": run_torch}
    core = openvino_core()
    traced = openvino.convert_model(model, example_input=batch)
    traced.reshape({traced.input(0): list(batch.shape)})  # fixed shapes are its fastest form
    networks = [("OpenVINO traced f32", traced, "f32"), ("OpenVINO traced bf16", traced, "bf16")]
    if find_spec("nncf"):
        import nncf

        data = nncf.Dataset([noise(len(waveform) / SAMPLE_RATE, seed)[None] for seed in (1, 2)])
        quantized = nncf.quantize(
            traced, data, model_type=nncf.ModelType.TRANSFORMER, preset=nncf.QuantizationPreset.MIXED
        )
        networks += [("NNCF int8, rest bf16", quantized, "bf16"), ("NNCF int8, rest f32", quantized, "f32")]
    for name, network, precision in networks:
        if not has(precision):
            continue
        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
        }
        request = core.compile_model(network, "CPU", settings).create_infer_request()
        entries[name] = lambda request=request: request.infer([waveform[None]], share_inputs=True)
    return entries


def prepare(what: str, seconds: float, threads: int) -> dict[str, Entry]:
    """Prepare all models of a comparison, by name."""
    waveform = noise(seconds)
    entries: dict[str, Entry] = {}
    with tempfile.TemporaryDirectory() as directory:
        if what == "front-end":
            for name, settings in (("group norm", GROUP_FRONT), ("layer norm", LAYER_FRONT)):
                random_checkpoint(settings, Path(directory) / name)
                artifact = checkpoint.load(Path(directory) / name)
                for kind, run in ours(artifact, int8(artifact), waveform, threads).items():
                    entries[f"{name}: {kind}"] = run
            return entries
        model = random_checkpoint(LARGE if what == "large" else BASE, Path(directory) / what)
        artifact = checkpoint.load(Path(directory) / what)
        quantized = int8(artifact)
        before, after = (sum(w.nbytes for w in a.weights.values()) / 1e6 for a in (artifact, quantized))
        print(f"weights: {before:.1f} MB in float32, {after:.1f} MB in int8, {before / after:.2f}x smaller\n")
        return {**ours(artifact, quantized, waveform, threads), **baselines(model, waveform, threads)}


def prepare_students(names: Sequence[str], seconds: float, threads: int) -> dict[str, Entry]:
    """Prepare students of the LARGE architecture, and behind them LARGE itself."""
    import torch

    torch.set_num_threads(threads)
    waveform = noise(seconds)
    with tempfile.TemporaryDirectory() as directory:
        settings = {name: settings_of(STUDENTS[name]) for name in names} | {"LARGE": LARGE}
        entries: dict[str, Entry] = {}
        sizes = {}
        for name in settings:
            model = random_checkpoint(settings[name], Path(directory) / name)
            artifact = checkpoint.load(Path(directory) / name)
            print(f"{name}: {artifact.parameters:,} parameters")
            quantized = int8(artifact)
            found = ours(artifact, quantized, waveform, threads)
            entries |= {f"{name}: {kind}": run for kind, run in found.items()}
            sizes[name] = sum(w.nbytes for w in artifact.weights.values())
            sizes[f"{name}, int8"] = sum(w.nbytes for w in quantized.weights.values())
        for name, size in sizes.items():
            print(f"{name}: {size / 1e6:.1f} MB, {sizes['LARGE'] / size:.2f}x smaller than LARGE")
        print()
        batch = torch.from_numpy(waveform)[None]

        def run_torch() -> object:
            with torch.inference_mode():
                return model(batch).logits

        return {**entries, "LARGE: transformers, torch f32": run_torch}


class Times(NamedTuple):
    """Seconds of each round."""

    wall: list[float]
    processor: list[float]
    """Processor time of all threads, which other programs change less."""


def measure(entries: Mapping[str, Entry], rounds: int) -> dict[str, Times]:
    """Time each model in each round, after one round that does not count."""
    times = {name: Times([], []) for name in entries}
    for number in range(rounds + 1):
        for name, run in entries.items():
            start, used = time.perf_counter(), time.process_time()
            run()
            if number:
                times[name].wall.append(time.perf_counter() - start)
                times[name].processor.append(time.process_time() - used)
    return times


def ratio(times: Sequence[float], others: Sequence[float]) -> float:
    """Return the median of the ratios round by round."""
    return statistics.median(value / other for value, other in zip(times, others, strict=True))


def report(times: dict[str, Times], seconds: float) -> str:
    """Return a table. A ratio is the time divided by the first row's time; above 1 is slower."""
    first, *_, last = times.values()
    lines = [
        "| model | seconds, median (min - max) | ratio to the first | x real time | processor s | ratio "
        "| as fast as the last, times |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (wall, processor) in times.items():
        middle = statistics.median(wall)
        lines.append(
            f"| {name} | {middle:.3f} ({min(wall):.3f} - {max(wall):.3f}) | {ratio(wall, first.wall):.2f} "
            f"| {seconds / middle:.0f} | {statistics.median(processor):.3f} "
            f"| {ratio(processor, first.processor):.2f} | {ratio(last.wall, wall):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="+", help=f"base, large, front-end, or any of {', '.join(STUDENTS)}")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--busy", action="store_true", help="measure beside other programs too")
    arguments = parser.parse_args()
    if set(arguments.what) <= set(STUDENTS):
        entries = prepare_students(arguments.what, arguments.seconds, arguments.threads)
    elif len(arguments.what) == 1 and arguments.what[0] in ("base", "large", "front-end"):
        entries = prepare(arguments.what[0], arguments.seconds, arguments.threads)
    else:
        parser.error(f"name base, large, front-end, or students ({', '.join(STUDENTS)})")
    if not arguments.busy:
        quiet.wait()
    print(report(measure(entries, arguments.rounds), arguments.seconds))


if __name__ == "__main__":
    main()
