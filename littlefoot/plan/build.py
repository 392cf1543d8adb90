"""Build candidates without training them, and measure their sizes and speeds.

Neither bytes nor seconds depend on the values of trained weights.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from littlefoot.artifact import Artifact
from littlefoot.audio import SAMPLE_RATE
from littlefoot.audio.manifest import Corpus
from littlefoot.compress.chain import run
from littlefoot.compress.recipe import Recipe, make_step
from littlefoot.errors import ConfigError
from littlefoot.plan.candidates import PRECISIONS, Candidate
from littlefoot.plan.sizes import ROUNDING, MethodCall
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.protocols import Engine
from littlefoot.runtime.recognizer import Recognizer
from littlefoot.runtime.registry import create, create_stream

CLIP_SECONDS = 10.0
ROUNDS = 5
SAMPLE_ROWS = 4
"""Recordings for the calibration of a built model. Its ranges do not matter, because it is not trained."""


class Builder:
    """Builds candidates of one model, and keeps the shapes that several of them share."""

    def __init__(self, model: Artifact, corpus: Corpus | None) -> None:
        self.model = model
        self._corpus = None if corpus is None else _sample(corpus)
        self._shapes: dict[str, Artifact] = {}

    def shape(self, candidate: Candidate) -> Artifact:
        """Build the candidate before its precision is lowered."""
        key = repr(candidate.shaping)
        if key not in self._shapes:
            self._shapes[key] = self._untrained(self.model, candidate.shaping)
        return self._shapes[key]

    def build(self, candidate: Candidate) -> Artifact:
        """Build an untrained artifact with the candidate's size and speed."""
        shape = self.shape(candidate)
        last = tuple(step for step in candidate.steps if step[0] in ROUNDING)
        return self._untrained(shape, last)

    def in_8_bits(self, candidate: Candidate) -> Artifact:
        """Build the candidate's shape in 8 bits, which is nearly as fast as fewer bits."""
        return self._untrained(self.shape(candidate), PRECISIONS["int8"])

    def _untrained(self, model: Artifact, steps: Sequence[MethodCall]) -> Artifact:
        if not steps:
            return model
        recipe = Recipe(tuple(make_step(method, values) for method, values in steps))
        with tempfile.TemporaryDirectory() as directory:
            return run(model, recipe, self._corpus, Path(directory), "", untrained=True)


def _sample(corpus: Corpus) -> Corpus:
    rows = corpus.of_split("train")
    if not len(rows):
        raise ConfigError("the manifests have no rows of the split 'train': add training speech to --data")
    return rows[:SAMPLE_ROWS]


class Stopwatch:
    """Times each model in alternation with a reference model, so that other load slows both of them.

    A speed is the ratio to the reference model's speed in the same rounds, multiplied by the median of all
    speeds of the reference model.
    """

    def __init__(self, model: Artifact, threads: int, live: bool) -> None:
        """
        Args:
            threads: number of processor threads.
            live: True feeds streaming models chunk by chunk; otherwise all models get whole recordings of
                CLIP_SECONDS.
        """
        self.threads, self._live = threads, live
        self._run = _runner(model, threads, live)
        self._own: list[float] = []

    def speed(self, artifact: Artifact) -> float:
        """Measure the speed of a model, in times real time."""
        own, others = speeds_in_turn([self._run, _runner(artifact, self.threads, self._live)])
        self._own.append(own)
        return others / own * statistics.median(self._own)


def speeds(artifacts: Sequence[Artifact], threads: int, live: bool) -> list[float]:
    """Measure the speed of each model, in times real time. The arguments are those of ``Stopwatch``."""
    return speeds_in_turn([_runner(artifact, threads, live) for artifact in artifacts])


def speeds_in_turn(runs: Sequence[Callable[[], object]]) -> list[float]:
    """Return the median speed over the rounds of each run of CLIP_SECONDS, in times real time."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(ROUNDS + 1):
        for run_, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run_()
            if turn:  # the first one warms up
                taken.append(time.perf_counter() - start)
    return [CLIP_SECONDS / statistics.median(taken) for taken in times]


def silent_engine(artifact: Artifact, threads: int | None) -> Engine:
    """Create an engine for one of many models: without the cache, and without a hint about kernels."""
    return create(artifact, threads=threads, cached=False, kernels=None if native.available() else "off")


def _runner(artifact: Artifact, threads: int, live: bool) -> Callable[[], object]:
    clip = 0.1 * np.random.default_rng(0).standard_normal(int(CLIP_SECONDS * SAMPLE_RATE)).astype(np.float32)
    engine = silent_engine(artifact, threads)
    if not (live and artifact.config.chunk_frames):
        return lambda: engine.run(clip)
    recognizer = Recognizer(artifact, engine, lambda: create_stream(artifact, threads=threads, cached=False))

    def stream() -> None:
        running = recognizer.stream()
        running.feed(clip)
        running.finish()

    return stream
