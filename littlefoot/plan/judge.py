"""Count the word errors of candidates on speech that they were not trained on, and compare them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.audio import SAMPLE_RATE, reading
from littlefoot.audio.manifest import Corpus, Utterance
from littlefoot.compress.mixed import kl_divergence
from littlefoot.decode.greedy import greedy
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.evaluate.evaluation import transcribe_all
from littlefoot.evaluate.metrics import word_errors
from littlefoot.evaluate.statistics import Compare, clusters_of, paired_statistic
from littlefoot.plan.build import silent_engine
from littlefoot.runtime.recognizer import Recognizer

MOST_SECONDS = 30.0
"""Seconds of the longest recording that a judge uses."""

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Errors:
    """Word errors of one model on a judge's utterances."""

    errors: Counts
    """(N,) word errors; -1 for a recording that cannot be read."""
    words: Counts
    """(N,) words of the references."""
    speakers: Counts
    """(N,) index of the speaker, whose utterances are drawn together (``littlefoot.evaluate.statistics``)."""

    @property
    def wer(self) -> float:
        """Return all errors divided by all words."""
        heard = self.errors >= 0
        return float(self.errors[heard].sum() / max(1, self.words[heard].sum()))

    def more_than(self, other: Errors) -> tuple[float, float, float]:
        """Compute the difference to another model's word error rate: (difference, low, high), 95 %."""
        return self.compared_with(other, lambda wer, reference: wer - reference)

    def compared_with(self, other: Errors, compare: Compare) -> tuple[float, float, float]:
        """Compute a function of this model's and another's word error rate, with its 95 % interval.

        Both models are scored on the same draws of speakers, or of utterances.
        """
        heard = (self.errors >= 0) & (other.errors >= 0)
        mine, theirs, words, speakers = (
            row[heard] for row in (self.errors, other.errors, self.words, self.speakers)
        )
        return paired_statistic(mine, theirs, words, speakers, compare)


def count_errors(artifact: Artifact, utterances: Sequence[Utterance], threads: int | None = None) -> Errors:
    """Count the errors of a model as ``littlefoot eval`` does.

    Raises LittlefootError if none of the utterances can be read.
    """
    texts, _ = transcribe_all(Recognizer(artifact, silent_engine(artifact, threads)), utterances)
    counts = np.array(
        [
            (-1, -1) if text is None else word_errors(utterance.text, text)
            for utterance, text in zip(utterances, texts, strict=True)
        ]
    )
    speakers = clusters_of([(utterance.set_name, utterance.speaker) for utterance in utterances])
    return Errors(counts[:, 0], counts[:, 1], speakers)


@dataclass(frozen=True)
class Score:
    """Measures of a model's errors."""

    wer: float
    """Word error rate, a fraction. It does not distinguish models that are hardly trained."""
    divergence: float
    """KL divergence of the posteriors from the first model's, in nats per frame. It distinguishes models from
    the start of training."""


class Judge:
    """Compares models with the first one on the same utterances."""

    def __init__(self, first: Artifact, utterances: Sequence[Utterance], threads: int) -> None:
        """Raises ConfigError if no readable recording has a transcript."""
        self._threads = threads
        self._clips: list[npt.NDArray[np.float32]] = []
        self._texts: list[str] = []
        shortest = first.config.shortest
        for utterance in utterances:
            if not utterance.text.strip():
                continue
            try:
                clip = next(reading.blocks(utterance.path, MOST_SECONDS))
            except LittlefootError:
                continue  # training reports what it cannot read
            if shortest <= len(clip) < MOST_SECONDS * SAMPLE_RATE:
                self._clips.append(clip)
                self._texts.append(utterance.text)
        if not self._clips:
            raise ConfigError(
                "the dev split has no recordings with transcripts: add a manifest that has them to --data"
            )
        self._expected: list[npt.NDArray[np.float32]] = []
        self.first = self.score(first)

    def __len__(self) -> int:
        return len(self._clips)

    def score(self, artifact: Artifact) -> Score:
        """Score a model whose frames are those of the first model."""
        recognizer = Recognizer(artifact, silent_engine(artifact, self._threads))
        logits = [recognizer.logits(clip) for clip in self._clips]
        self._expected = self._expected or logits
        counts = np.array(
            [
                word_errors(text, greedy(said, artifact.vocabulary, 1.0).text)
                for text, said in zip(self._texts, logits, strict=True)
            ]
        )
        wer = counts[:, 0].sum() / max(1, counts[:, 1].sum())
        return Score(float(wer), kl_divergence(self._expected, logits))


def some(corpus: Corpus, split: str, count: int) -> list[Utterance]:
    """Draw utterances of a split for a judge, from all sets in equal numbers if they are large enough.

    Pseudo-labelled utterances are used only if there are no others.
    """
    sets: dict[str, list[Utterance]] = {}
    rows = corpus.of_split(split)
    drawn = [rows[place] for place in np.random.default_rng(0).permutation(len(rows)).tolist()]
    written = [utterance for utterance in drawn if utterance.text.strip()]
    for utterance in [each for each in written if not each.pseudo_labelled] or written:
        sets.setdefault(utterance.set_name, []).append(utterance)
    chosen: list[Utterance] = []
    for left, name in zip(range(len(sets), 0, -1), sorted(sets, key=lambda n: len(sets[n])), strict=True):
        chosen += sets[name][: (count - len(chosen)) // left]
    return chosen
