"""Measure the word errors of a recogniser on a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from littlefoot.audio.manifest import Utterance
from littlefoot.decode.beam import BeamDecoder
from littlefoot.errors import LittlefootError
from littlefoot.evaluate.details import (
    Confusions,
    SpeakerErrors,
    UtteranceErrors,
    by_speaker,
    compare,
    confusions,
)
from littlefoot.evaluate.metrics import (
    Score,
    SlotRecall,
    evaluate,
    jiwer_package,
    normalize_text,
    slot_word_recall,
    slot_words,
)
from littlefoot.evaluate.normalizers import OWN, normalizer
from littlefoot.evaluate.spellings import chosen
from littlefoot.evaluate.statistics import clusters_of
from littlefoot.runtime.recognizer import Recognizer


@dataclass(frozen=True)
class Evaluation:
    """Scores over all utterances and for each set."""

    score: Score
    """The score of all sets together, without pseudo-labelled ones where there are others."""
    per_set: dict[str, Score]
    pseudo_labelled: frozenset[str]
    """Sets whose references are by other recognisers: error rates on them measure agreement, not truth."""
    slot_recall: dict[str, SlotRecall]
    """Recall of slot words, by set, for sets whose utterances have slots."""
    failed: list[str]
    """Recordings that could not be recognised, with the reason."""
    outside: Counter[str]
    """Number of references with each character outside the alphabet; such words cannot be recognised."""
    normalizer: str
    """Name of the form in which texts were compared (``littlefoot.evaluate.normalizers``)."""
    per_utterance: list[UtteranceErrors]
    per_speaker: dict[str, SpeakerErrors]
    confusions: Confusions

    def to_dict(self) -> dict[str, Any]:
        """Return the keys of ``littlefoot eval --json``."""
        per_set = {
            name: {**asdict(score), "pseudo_labelled": name in self.pseudo_labelled}
            for name, score in self.per_set.items()
        }
        for name, recall in self.slot_recall.items():
            per_set[name] |= {"slot_word_recall": recall.rate, "slot_word_recall_interval": recall.interval}
        return {
            **asdict(self.score),
            "failed": len(self.failed),
            "failures": self.failed,
            "per_set": per_set,
            "outside_alphabet": dict(self.outside.most_common()),
            "normalizer": self.normalizer,
            "per_speaker": {speaker: asdict(errors) for speaker, errors in self.per_speaker.items()},
            "confusions": asdict(self.confusions),
            "per_utterance": [{**asdict(each), "wer": each.wer} for each in self.per_utterance],
        }


def transcribe_all(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    progress: Callable[[int], None] = lambda done: None,
    decoder: BeamDecoder | None = None,
) -> tuple[list[str | None], list[str]]:
    """Transcribe utterances. Returns the text of each, None if it failed, and the reasons of failures.

    Raises LittlefootError if all of them fail.
    """
    texts: list[str | None] = []
    failed = []
    for done, utterance in enumerate(utterances, start=1):
        try:
            texts.append(recognizer.transcribe(utterance.path, decoder).text)
        except LittlefootError as error:
            texts.append(None)
            failed.append(f"{utterance.id}: {error}")
        progress(done)
    if failed and len(failed) == len(texts):
        raise LittlefootError(
            f"none of {len(utterances)} recordings could be recognised; the first: {failed[0]}"
        )
    return texts, failed


def evaluate_recognizer(
    recognizer: Recognizer,
    utterances: Sequence[Utterance],
    progress: Callable[[int], None] = lambda done: None,
    decoder: BeamDecoder | None = None,
    normalize: str = OWN,
) -> Evaluation:
    """Transcribe every utterance and score the texts. Unreadable recordings are left out and listed.

    ``decoder`` is a beam search; without one, decoding is greedy. ``normalize`` names the form in which texts
    are compared (``littlefoot.evaluate.normalizers``). References may have several spellings
    (``littlefoot.evaluate.spellings``).

    Raises LittlefootError if no recording can be recognised, or if slots cannot be read; ConfigError or
    MissingExtraError for the normalizer, or without jiwer.
    """
    form = normalizer(normalize)
    jiwer_package()  # missing, it should be so before hours of recognition
    slots = [slot_words(utterance.slots) if utterance.slots else None for utterance in utterances]
    said, failed = transcribe_all(recognizer, utterances, progress, decoder)
    compared: list[UtteranceErrors] = []
    heard: dict[str, list[tuple[Utterance, str, str]]] = {}  # by set: with reference and hypothesis
    meant: dict[str, tuple[list[Counter[str]], list[str]]] = {}  # set -> words of slots, hypotheses
    for utterance, words, text in zip(utterances, slots, said, strict=True):
        if text is None:
            continue
        reference = chosen(utterance.text, text, form)
        heard.setdefault(utterance.set_name, []).append((utterance, reference, text))
        compared.append(compare(utterance.id, utterance.speaker, utterance.set_name, reference, text, form))
        if words:
            meant.setdefault(utterance.set_name, ([], []))[0].append(words)
            meant[utterance.set_name][1].append(text)
    pseudo_labelled = frozenset(u.set_name for u in utterances if u.pseudo_labelled)
    true = [name for name in heard if name not in pseudo_labelled] or list(heard)
    return Evaluation(
        score=_scored([row for name in true for row in heard[name]], form),
        per_set={name: _scored(rows, form) for name, rows in heard.items()},
        pseudo_labelled=pseudo_labelled,
        slot_recall={name: slot_word_recall(*pair) for name, pair in meant.items()},
        failed=failed,
        outside=Counter(
            character
            for rows in heard.values()
            for _, reference, _ in rows
            for character in recognizer.vocabulary.unknown(normalize_text(reference)) - {" "}
        ),
        normalizer=normalize,
        per_utterance=compared,
        per_speaker=by_speaker(compared),
        confusions=confusions(compared),
    )


def _scored(rows: Sequence[tuple[Utterance, str, str]], form: Callable[[str], str]) -> Score:
    """Compute the error rates of hypotheses, with intervals over speakers if there are several."""
    clusters = clusters_of([(utterance.set_name, utterance.speaker) for utterance, _, _ in rows])
    references, hypotheses = [row[1] for row in rows], [row[2] for row in rows]
    return evaluate(references, hypotheses, normalize=form, clusters=clusters)
