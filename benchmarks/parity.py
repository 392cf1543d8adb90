"""Compare our logits with those of transformers, for every family: the parity table of RESULTS.md.

    python benchmarks/parity.py          # tiny and full-size random weights

Float32, lengths of 0.1, 1 and 10 s, largest absolute difference.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from families import FAMILIES, FULL_SIZE, speechlike
from oracle import build

from littlefoot.artifact import Artifact
from littlefoot.runtime.registry import create
from littlefoot.training import CTCModel

SECONDS = (0.1, 1.0, 10.0)


def differences(family: str, **changes: object) -> dict[str, float]:
    """Return the largest absolute difference for each way of running the model."""
    oracle = build(family, **changes)
    model = CTCModel.from_artifact(oracle.artifact).eval()

    def ours(waveform: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model.encode(torch.from_numpy(waveform)[None]).logits[0].numpy()

    artifact: Artifact = oracle.artifact
    ways = {"torch": ours}
    for name in ("openvino", "onnxruntime"):
        ways[name] = create(artifact, name, precision="f32").run
    clips = [speechlike(seconds) for seconds in SECONDS]
    expected = [oracle.logits(clip) for clip in clips]
    return {
        name: max(float(np.abs(run(clip) - e).max()) for clip, e in zip(clips, expected, strict=True))
        for name, run in ways.items()
    }


def main() -> None:
    torch.set_num_threads(2)
    print("| family | size | torch | OpenVINO | ONNX Runtime |\n|---|---|---|---|---|")
    for size, families in (("tiny", {name: {} for name in FAMILIES}), ("full", FULL_SIZE)):
        for family, changes in families.items():
            found = differences(family, **changes)
            row = " | ".join(f"{found[name]:.1e}" for name in ("torch", "openvino", "onnxruntime"))
            print(f"| {family} | {size} | {row} |", flush=True)


if __name__ == "__main__":
    main()
