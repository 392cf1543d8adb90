"""What a worker does, wherever it runs: hear recordings, one after the other."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from littlefoot.errors import LittlefootError
from littlefoot.label.job import Job, Label, find_model
from littlefoot.transcript.results import Word


class Worker:
    """A loaded model. Raises LittlefootError if there is another model here than where the job was begun."""

    def __init__(self, job: Job) -> None:
        specification = job.transcriber.specification
        self._recognise = job.transcriber.load()
        if find_model(specification).sha256 != job.model_sha256:
            raise LittlefootError(
                f"{specification.model} is another model here ({os.uname().nodename}) than where the job was"
                " begun: put the same one in place on all machines, and leave it alone"
            )
        self._corpus = job.corpus

    def label(self, row: int) -> Label:
        """Hear one recording; what it fails with is part of its label, so that the others are done."""
        utterance = self._corpus[row]
        try:
            result = self._recognise(os.path.abspath(utterance.path), None)
        except LittlefootError as error:
            return Label(row, utterance.id, error=str(error))
        except (
            Exception
        ) as error:  # a fault of ours, of which the user is told; an archive must not end by it
            return Label(row, utterance.id, error=f"{utterance.path}: {type(error).__name__}: {error}")
        return Label(row, utterance.id, result.text, round(result.duration, 3), confidence(result.words))


def confidence(words: Sequence[Word]) -> float:
    """Of a text, 0..1: the geometric mean of its characters' posteriors; 0 without words.

    That is the mean of the words' confidences (``littlefoot.transcript.results.Word``), in logarithms, each
    counted as often as it has characters: long texts are not surer than short ones, one word that is wrong
    shows.
    """
    characters = sum(len(word.word) for word in words)
    if not characters or any(word.confidence <= 0 for word in words):
        return 0.0
    total = sum(len(word.word) * math.log(word.confidence) for word in words)
    return round(min(1.0, math.exp(total / characters)), 4)
