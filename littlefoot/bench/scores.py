"""Score the texts of benchmarked models against the references."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.audio.manifest import Utterance
from littlefoot.bench import report
from littlefoot.bench.runner import Row
from littlefoot.evaluate.metrics import Score, evaluate, word_errors
from littlefoot.evaluate.statistics import cluster_sums, clusters_of, paired_difference


class Scored:
    """A model's texts, scored against the references."""

    def __init__(self, row: Row, references: Sequence[str], utterances: Sequence[Utterance]) -> None:
        self.row, self.references = row, references
        self.texts = [text["text"] if text else "" for text in row.texts]
        self.utterances = utterances
        true = [not utterance.pseudo_labelled for utterance in utterances]
        self.scored = [place for place, one in enumerate(true) if one or not any(true)]
        """Indices of the utterances that are scored: those with true transcripts, or all if there are
        none."""
        counts = [word_errors(self.references[place], self.texts[place]) for place in self.scored]
        sums = cluster_sums(np.array(counts, np.int64), self.clusters(self.scored))
        self.errors, self.words = sums.T
        """Word errors and words of each speaker, or of each utterance."""

    def clusters(self, places: Sequence[int]) -> npt.NDArray[np.int64]:
        """Number the speakers, or utterances, of these indices."""
        rows = [self.utterances[place] for place in places]
        return clusters_of([(row.set_name, row.speaker) for row in rows])

    def score(self, places: Sequence[int]) -> Score:
        """Score the utterances of these indices."""
        references, texts = ([rows[place] for place in places] for rows in (self.references, self.texts))
        return evaluate(references, texts, clusters=self.clusters(places))

    def fields(self, baseline: Scored) -> dict[str, Any]:
        """Return the fields of ``report.Model`` that compare texts with references."""
        score = self.score(self.scored)
        names = [utterance.set_name for utterance in self.utterances]
        per_set = {
            name: _rates(self.score([place for place, other in enumerate(names) if other == name]))
            for name in dict.fromkeys(names)
        }
        found: dict[str, Any] = {
            **{key: getattr(score, key) for key in ("wer", "wer_interval", "cer", "cer_interval")},
            "per_set": per_set,
        }
        if baseline is not self:
            wer, low, high, p_value = paired_difference(baseline.errors, self.errors, self.words)
            found["wer_difference"] = report.Difference(wer=wer, interval=(low, high), p_value=p_value)
        return found


def _rates(score: Score) -> report.Rates:
    return report.Rates(**{name: getattr(score, name) for name in report.Rates.model_fields})
