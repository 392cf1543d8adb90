"""Give damaged model files and hostile samples to the C library with libFuzzer: ``make fuzz``.

Builds the targets ``native/tests/fuzz_model.cpp`` and ``fuzz_audio.cpp`` with Clang and its sanitizers. They
start from small models of all kinds: of 8 and of fewer bits, in floating point, of the older version of the
format, for whole recordings and for streams. Inputs that reach new code stay in ``FOLDER/TARGET`` for the
next time. A fault ends the target, and the file that shows it is kept beside. Exits with libFuzzer's code.

    PYTHONPATH=tests/support python tests/attack/fuzz.py build/fuzz --seconds 600
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import struct
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import clib
import numpy as np
import psutil
from artifacts import few_bits, noise, tiny

from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import EightBitWeight, Rounding, StoredLayer, put
from littlefoot.network.weights import packable
from littlefoot.runtime.native import model_file

NORMS: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
STREAMING: dict[str, Any] = {"chunk_frames": 5, "left_context_frames": 20, "right_context_frames": 2}
# Few frames, so that most tries take milliseconds: of models that are changed, and of those for samples.
SHORT: dict[str, Any] = {**NORMS, "conv_kernel": [25, 17], "conv_stride": [20, 16]}
LONG: dict[str, Any] = {**NORMS, "conv_kernel": [50, 41], "conv_stride": [40, 40]}
VERSION_1 = clib.ROOT / "tests" / "runtime" / "version1" / "model.lf"
TARGETS = ("fuzz_model", "fuzz_audio")


def halved(artifact: Artifact) -> Artifact:
    """With weights of half precision but for the positional convolution's."""
    kept = [name for name in artifact.weights if "pos_conv" in name]
    weights = {n: w if n in kept else w.astype(np.float16) for n, w in artifact.weights.items()}
    return replace(artifact, weights=weights)


def eight_bits(**changes: Any) -> Artifact:
    """With 8 bits where others have fewer."""
    model, generator = few_bits(2, positions=8, front_end=8, **changes), np.random.default_rng(0)
    layers = {}
    for name, shape in packable(model.config).items():
        codes = generator.integers(-127, 128, shape).astype(np.int8)
        rounding = Rounding(np.array(6 / 255, np.float32), np.array(127, np.uint8))
        layers[name] = StoredLayer(EightBitWeight(codes, np.full(shape[0], 0.003, np.float32)), rounding)
    plain = {name: weight for name, weight in model.weights.items() if not name.startswith(tuple(layers))}
    return replace(model, weights=put({**tiny(**changes).weights, **plain}, layers))


def seed_models(folder: Path, **changes: Any) -> list[Path]:
    """Write models of every kind, and return their files."""
    few: dict[str, Any] = {"positions": 8, "front_end": 8, **changes}
    models = {
        "whole": few_bits(2, **few),
        "live": few_bits(1, 4, **few, **STREAMING),
        "eight": eight_bits(**changes),
        "floating": halved(tiny(**changes)),
        "floating-live": halved(tiny(**changes, **STREAMING)),
    }
    folder.mkdir(exist_ok=True)
    for name, artifact in models.items():
        model_file.save(artifact, name, folder / f"{name}.lf")
    return [folder / f"{name}.lf" for name in models]


def seed_audio(corpus: Path, models: int) -> None:
    """Write calls of each kind for each model (see ``fuzz_audio.cpp``)."""
    floats, pcm = noise(960).tobytes(), (noise(960) * 3000).astype("<i2").tobytes()
    feeds = bytes([0, 60]) + floats + bytes([10, 60]) + pcm + bytes([2])
    form = struct.pack("<HHIIHH", 1, 1, 16_000, 32_000, 2, 16)
    wav = b"RIFF" + struct.pack("<I", 36 + len(pcm)) + b"WAVEfmt " + struct.pack("<I", 16) + form
    wav += b"data" + struct.pack("<I", len(pcm)) + pcm
    for model in range(models):
        for name, calls in {
            "stream": feeds,
            "whole": bytes([13, 60]) + pcm + bytes([3, 60]) + floats,
            "wav": bytes([4]) + wav,
        }.items():
            for chunk in (0, 3):
                (corpus / f"{model}-{name}-{chunk}").write_bytes(bytes([model, chunk]) + calls)


def run(program: Path, corpus: Path, models: list[Path], seconds: int) -> int:
    """Run a target until it has had so many seconds of processor time, and print them."""
    # The limits are of time by the clock, in which other programs may run.
    options = ("-max_len=65536", "-timeout=1200", "-print_final_stats=1", "-rss_limit_mb=2048")
    began = time.monotonic()
    process = psutil.Popen(
        [program, corpus, *options, f"-artifact_prefix={corpus.parent}/{program.name}-"],
        env={**os.environ, "LITTLEFOOT_MODELS": ":".join(map(str, models))},
    )
    used = 0.0
    while process.poll() is None:
        try:
            times = process.cpu_times()
        except psutil.Error:
            break
        used = times.user + times.system
        if used >= seconds:
            process.send_signal(signal.SIGUSR1)  # it ends with its figures
            break
        time.sleep(0.2)
    code = process.wait()
    print(f"{program.name}: {used:.0f} s of processor time in {time.monotonic() - began:.0f} s, code {code}")
    return int(code)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=int, default=600, help="processor time of each target")
    parser.add_argument("--only", choices=TARGETS, help="a single target")
    given = parser.parse_args()
    if missing := clib.missing_tools("cmake", "clang++"):
        sys.exit(f"not installed: {', '.join(missing)}: apt-get install cmake clang")
    compiler = f"-DCMAKE_CXX_COMPILER={shutil.which('clang++')}"
    folder = clib.build(
        given.folder / "program", compiler, "-DSANITIZE=ON", "-DFUZZ=ON", "-DBUILD_SHARED_LIBS=OFF"
    )
    for target in TARGETS:
        (given.folder / target).mkdir(exist_ok=True)
    seed_models(given.folder / "fuzz_model", **SHORT)
    shutil.copy(VERSION_1, given.folder / "fuzz_model")
    models = seed_models(given.folder / "models", **LONG)
    seed_audio(given.folder / "fuzz_audio", len(models))
    for target in TARGETS if given.only is None else (given.only,):
        if code := run(folder / target, given.folder / target, models, given.seconds):
            return code
    return 0


if __name__ == "__main__":
    sys.exit(main())
