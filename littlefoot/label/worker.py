"""Transcribe the recordings of an archive, one after the other."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Sequence

from littlefoot.errors import LittlefootError
from littlefoot.label.job import Job, Label, find_model
from littlefoot.transcript.results import Word


class Worker:
    """A loaded model. Raises LittlefootError if this machine has another model than the job."""

    def __init__(self, job: Job) -> None:
        specification = job.transcriber.specification
        self._recognise = job.transcriber.load()
        if find_model(specification).sha256 != job.model_sha256:
            raise LittlefootError(
                f"{specification.model} on {platform.node()} is not the model that the job was begun with:"
                " install the same model on all machines, and do not change it while the job runs"
            )
        self._corpus = job.corpus

    def label(self, row: int) -> Label:
        """Transcribe one recording. An error becomes part of its label, so that the others are done."""
        utterance = self._corpus[row]
        try:
            result = self._recognise(os.path.abspath(utterance.path), None)
        except LittlefootError as error:
            return Label(row, utterance.id, error=str(error))
        except Exception as error:  # a fault of littlefoot, which is reported but must not end the job
            return Label(row, utterance.id, error=f"{utterance.path}: {type(error).__name__}: {error}")
        return Label(row, utterance.id, result.text, round(result.duration, 3), confidence(result.words))


def confidence(words: Sequence[Word]) -> float:
    """Compute the confidence of a text, 0..1: the geometric mean of its characters' posteriors; 0 without
    words.

    This is the mean of the logarithms of the words' confidences (``littlefoot.transcript.results.Word``),
    weighted by their characters: the confidence does not grow with the length of a text, and one wrong word
    lowers it.
    """
    characters = sum(len(word.word) for word in words)
    if not characters or any(word.confidence <= 0 for word in words):
        return 0.0
    total = sum(len(word.word) * math.log(word.confidence) for word in words)
    return round(min(1.0, math.exp(total / characters)), 4)
