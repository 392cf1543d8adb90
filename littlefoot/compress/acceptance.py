"""Check that a compressed model still gives the same text, and that it is really faster."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.compress.calibration import Array
from littlefoot.decode.greedy import greedy
from littlefoot.evaluate.metrics import character_errors
from littlefoot.runtime.registry import create
from littlefoot.system.progress import tracked


@dataclass(frozen=True)
class Comparison:
    """Distance of a model's output from the original's, on the same audio."""

    logit_error: float
    """Root mean square of the difference, as a share of the original's spread."""
    disagreement: float
    """Character error rate of the model's text against the original's, as a fraction."""
    characters: int
    """Number of characters in the original's text."""

    def exceeds(self, disagreement: float) -> bool:
        """Return True if clearly more than this share of the text changed.

        The lower end of a one-sided 95 % interval must lie above it, where changes count as Poisson events:
        five characters of two hundred are no evidence, eighty of three thousand are.
        """
        changed = self.disagreement * self.characters
        return changed - 1.645 * math.sqrt(changed) > disagreement * self.characters


def run(
    artifact: Artifact,
    clips: Sequence[Array],
    precision: str = "auto",
    progress: Callable[[str], None] = lambda message: None,
) -> list[Array]:
    """Compute the logits (F, V) of each prepared clip (T,). Long work reports its progress."""
    engine = create(
        artifact, precision=precision, cached=False
    )  # not cached: dozens of candidates would fill the cache
    return [engine.run(clip) for clip in tracked(clips, len(clips), "running the model", progress)]


def compare(reference: Sequence[Array], candidate: Sequence[Array], vocabulary: Vocabulary) -> Comparison:
    """Compare two models' logits on the same clips."""
    exact, found = np.concatenate(reference), np.concatenate(candidate)
    spread = float(np.std(exact - exact.mean(axis=1, keepdims=True))) or 1.0
    error = float(np.sqrt(np.square(found - exact, dtype=np.float64).mean())) / spread
    texts = (
        (greedy(a, vocabulary, 1.0).text, greedy(b, vocabulary, 1.0).text)
        for a, b in zip(reference, candidate, strict=True)
    )
    errors, characters = np.sum([character_errors(original, text) for original, text in texts], axis=0)
    return Comparison(error, float(errors / max(characters, 1)), int(characters))


def speedup(original: Artifact, candidate: Artifact, clip: Array) -> float:
    """Measure the time of the original over that of the candidate on this processor: median of interleaved
    pairs.
    """
    engines = [create(artifact) for artifact in (original, candidate)]
    for engine in engines:
        engine.run(clip)
    ratios = []
    for _ in range(5):
        seconds = []
        for engine in engines:
            start = time.perf_counter()
            engine.run(clip)
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)
