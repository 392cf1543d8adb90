"""Give damaged model files to the C library with libFuzzer, under sanitizers: ``make fuzz``.

Builds the target ``native/tests/fuzz.cpp`` with Clang, and starts from small models of both kinds: for whole
recordings and for streams. Inputs that reach new code stay in ``FOLDER/corpus`` for the next time. Exits with
libFuzzer's code: a fault ends it, and the file that shows it is kept beside the corpus.

    PYTHONPATH=tests/support python tests/attack/fuzz.py build/fuzz --seconds 600
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import clib
import numpy as np
from artifacts import few_bits, tiny

from littlefoot.artifact import Artifact
from littlefoot.runtime.native import model_file

FLOATING: dict[str, Any] = {
    **{"feat_extract_norm": "layer", "do_stable_layer_norm": True},
    **{"conv_kernel": [25, 17], "conv_stride": [20, 16]},  # few frames: most tries take milliseconds
}
SETTINGS: dict[str, Any] = {"positions": 8, "front_end": 8, **FLOATING}
STREAMING: dict[str, Any] = {"chunk_frames": 5, "left_context_frames": 20, "right_context_frames": 2}


def halved(artifact: Artifact) -> Artifact:
    """With weights of half precision but for the positional convolution's."""
    kept = [name for name in artifact.weights if "pos_conv" in name]
    weights = {n: w if n in kept else w.astype(np.float16) for n, w in artifact.weights.items()}
    return replace(artifact, weights=weights)


MODELS = {
    "whole": few_bits(2, **SETTINGS),
    "live": few_bits(1, 4, **SETTINGS, **STREAMING),
    "floating": halved(tiny(**FLOATING)),
    "floating-live": halved(tiny(**FLOATING, **STREAMING)),
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=int, default=600)
    given = parser.parse_args()
    if missing := clib.missing_tools("cmake", "clang++"):
        sys.exit(f"not installed: {', '.join(missing)}: apt-get install cmake clang")
    compiler = f"-DCMAKE_CXX_COMPILER={shutil.which('clang++')}"
    folder = clib.build(
        given.folder / "program", compiler, "-DSANITIZE=ON", "-DFUZZ=ON", "-DBUILD_SHARED_LIBS=OFF"
    )
    corpus = given.folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for name, artifact in MODELS.items():
        model_file.save(artifact, name, corpus / f"{name}.lf")
    options = (f"-max_total_time={given.seconds}", "-max_len=65536", "-timeout=120", "-print_final_stats=1")
    return subprocess.call([folder / "fuzz", corpus, *options, f"-artifact_prefix={given.folder}/"])


if __name__ == "__main__":
    sys.exit(main())
