"""Word errors of candidates on speech that they were not trained on, and how far apart they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.bench.statistics import paired_difference
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.manifest import Corpus, Utterance
from littlefoot.metrics import word_errors
from littlefoot.plan.build import silent_engine
from littlefoot.runtime.recognizer import Recognizer

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Errors:
    """Word errors of one model on a judge's utterances."""

    errors: Counts
    """(N,); those of an unreadable recording are -1."""
    words: Counts
    """(N,) of the references."""

    @property
    def wer(self) -> float:
        """All errors over all words."""
        heard = self.errors >= 0
        return float(self.errors[heard].sum() / max(1, self.words[heard].sum()))

    def more_than(self, other: Errors) -> tuple[float, float, float]:
        """How much more of the words are wrong than with another model: (difference, low, high), 95 %."""
        heard = (self.errors >= 0) & (other.errors >= 0)
        return paired_difference(other.errors[heard], self.errors[heard], self.words[heard])[:3]


class Judge:
    """Listens to models on the same utterances."""

    def __init__(self, utterances: Sequence[Utterance]) -> None:
        """Raises ConfigError where there is nothing to compare with."""
        self.utterances = [utterance for utterance in utterances if utterance.text.strip()]
        if not self.utterances:
            raise ConfigError(
                "there are no transcripts to count errors against: name a manifest that has texts"
            )

    def listen(
        self,
        artifact: Artifact,
        threads: int | None = None,
        progress: Callable[[int], None] = lambda done: None,
    ) -> Errors:
        """Errors of a model. Raises LittlefootError if it can hear none of the utterances."""
        recognizer = Recognizer(artifact, silent_engine(artifact, threads))
        counts = np.full((len(self.utterances), 2), -1, np.int64)
        failed = ""
        for number, utterance in enumerate(self.utterances):
            try:
                said = recognizer.transcribe(utterance.path).text
            except LittlefootError as error:
                failed = failed or str(error)
            else:
                counts[number] = word_errors(utterance.text, said)
            progress(number + 1)
        if (counts < 0).all():
            raise LittlefootError(
                f"none of {len(counts)} recordings could be recognised; the first: {failed}"
            )
        return Errors(counts[:, 0], counts[:, 1])


def some(corpus: Corpus, split: str, count: int) -> list[Utterance]:
    """Utterances of a split for a judge: those of all sets in equal numbers, as far as they go."""
    sets: dict[str, list[Utterance]] = {}
    rows = corpus.of_split(split)
    for place in np.random.default_rng(0).permutation(len(rows)).tolist():
        utterance = rows[place]
        if utterance.text.strip():
            sets.setdefault(utterance.set_name, []).append(utterance)
    chosen: list[Utterance] = []
    for left, name in zip(range(len(sets), 0, -1), sorted(sets, key=lambda n: len(sets[n])), strict=True):
        chosen += sets[name][: (count - len(chosen)) // left]
    return chosen
