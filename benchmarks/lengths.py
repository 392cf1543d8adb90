"""Measure the cost of recordings of always new lengths: padded to few lengths, as in our engine, or unpadded.

    python benchmarks/lengths.py littlefoot-en littlefoot-en-bigfoot

OpenVINO prepares code for each length that it meets. Processor time on one thread, which other work on the
machine hardly changes: of random lengths between 0.5 and 10 s, for the first recordings and later ones, and
of one length again and again, where padding and masks are overhead (the median of ratios round by round).
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import numpy as np

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.audio import SAMPLE_RATE
from littlefoot.runtime import graph
from littlefoot.runtime.openvino import openvino_core, openvino_model
from littlefoot.runtime.registry import create


class Unpadded:
    """OpenVINO with every recording as it is."""

    def __init__(self, artifact: Artifact, precision: str) -> None:
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": 1}
        compiled = openvino_core().compile_model(openvino_model(graph.build(artifact)), "CPU", options)
        self._request = compiled.create_infer_request()

    def run(self, waveform: np.ndarray) -> None:
        self._request.infer([waveform[None]], share_inputs=True)


def seconds(engine: Any, waveform: np.ndarray) -> float:
    """Processor time of a run."""
    before = time.process_time()
    engine.run(waveform)
    return time.process_time() - before


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+")
    parser.add_argument("--recordings", type=int, default=200)
    arguments = parser.parse_args()
    print("| model | engine | first 50, ms per s | later, ms per s | 10 s again and again, ratio |")
    print("|---|---|---|---|---|")
    for name in arguments.models:
        artifact = checkpoint.load(name)
        padded: Any = create(artifact, "openvino", threads=1, cached=False)
        engines = {"as they are": Unpadded(artifact, padded.precision), "padded": padded}
        rng = np.random.default_rng(0)
        noise = rng.standard_normal(10 * SAMPLE_RATE).astype(np.float32)
        rounds = [{kind: seconds(engine, noise) for kind, engine in engines.items()} for _ in range(9)][1:]
        lengths = rng.integers(SAMPLE_RATE // 2, len(noise), arguments.recordings)
        for kind, engine in engines.items():
            spent = [seconds(engine, noise[:length]) for length in lengths]
            costs = [
                1000 * SAMPLE_RATE * sum(spent[part]) / lengths[part].sum()
                for part in (slice(0, 50), slice(50, None))
            ]
            again = statistics.median(each[kind] / each["as they are"] for each in rounds)
            print(f"| {name} | {kind} | {costs[0]:.1f} | {costs[1]:.1f} | {again:.2f} |", flush=True)


if __name__ == "__main__":
    main()
