"""What candidates would be like: built without training, and measured.

Neither bytes nor seconds depend on what a model knows.
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
"""Recordings that a model is built with: for the ranges of its layers, which do not matter."""


class Builder:
    """Builds candidates of one model, and remembers shapes that several of them have."""

    def __init__(self, model: Artifact, corpus: Corpus | None) -> None:
        self.model = model
        self._corpus = None if corpus is None else _sample(corpus)
        self._shapes: dict[str, Artifact] = {}

    def shape(self, candidate: Candidate) -> Artifact:
        """The candidate before its precision is lowered."""
        key = repr(candidate.shaping)
        if key not in self._shapes:
            self._shapes[key] = self._untrained(self.model, candidate.shaping)
        return self._shapes[key]

    def build(self, candidate: Candidate) -> Artifact:
        """An artifact of the candidate's size and speed, that knows nothing."""
        shape = self.shape(candidate)
        last = tuple(step for step in candidate.steps if step[0] in ROUNDING)
        return self._untrained(shape, last)

    def in_8_bits(self, candidate: Candidate) -> Artifact:
        """The candidate's shape in 8 bits, nearly as fast as with fewer."""
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
        raise ConfigError("the manifests have no rows of the split 'train': name speech to learn from")
    return rows[:SAMPLE_ROWS]


class Stopwatch:
    """Times models in turns with one of them, so that what else the machine does slows both.

    Speeds are relative to that one's, times the median of what that one had whenever it was timed.
    """

    def __init__(self, model: Artifact, threads: int, live: bool) -> None:
        """
        Args:
            threads: of the processor.
            live: streaming models are fed as speech comes; else all get recordings of CLIP_SECONDS.
        """
        self.threads, self._live = threads, live
        self._run = _runner(model, threads, live)
        self._own: list[float] = []

    def speed(self, artifact: Artifact) -> float:
        """Times real time of a model."""
        own, others = _taking_turns([self._run, _runner(artifact, self.threads, self._live)])
        self._own.append(own)
        return others / own * statistics.median(self._own)


def speeds(artifacts: Sequence[Artifact], threads: int, live: bool) -> list[float]:
    """Times real time of each model, as they are now; arguments as those of ``Stopwatch``."""
    return _taking_turns([_runner(artifact, threads, live) for artifact in artifacts])


def _taking_turns(runs: Sequence[Callable[[], object]]) -> list[float]:
    """Times real time: medians over rounds."""
    times: list[list[float]] = [[] for _ in runs]
    for turn in range(ROUNDS + 1):
        for run_, taken in zip(runs, times, strict=True):
            start = time.perf_counter()
            run_()
            if turn:  # the first one warms up
                taken.append(time.perf_counter() - start)
    return [CLIP_SECONDS / statistics.median(taken) for taken in times]


def silent_engine(artifact: Artifact, threads: int | None) -> Engine:
    """For a model that is one of many: its compiled form is not kept, and nothing is said of kernels."""
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
