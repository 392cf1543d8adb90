"""Measure the word errors of a recogniser on a manifest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from littlefoot.audio.manifest import Utterance
from littlefoot.decode.beam import BeamDecoder
from littlefoot.errors import LittlefootError
from littlefoot.evaluate.metrics import (
    Score,
    SlotRecall,
    evaluate,
    normalize_text,
    slot_word_recall,
    slot_words,
)
from littlefoot.runtime.recognizer import Recognizer


@dataclass(frozen=True)
class Evaluation:
    """Scores over all utterances and for each set."""

    score: Score
    per_set: dict[str, Score]
    pseudo_labelled: frozenset[str]
    """Sets whose references are by other recognisers: error rates on them measure agreement, not truth."""
    slot_recall: dict[str, SlotRecall]
    """Recall of slot words, by set, for sets whose utterances have slots."""
    failed: list[str]
    """Recordings that could not be recognised, with the reason."""
    outside: Counter[str]
    """Number of references with each character outside the alphabet; such words cannot be recognised."""

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
        }


def hear(
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
) -> Evaluation:
    """Transcribe every utterance and score the texts. Unreadable recordings are left out and listed.

    ``decoder`` is a beam search; without one, decoding is greedy.

    Raises LittlefootError if no recording can be recognised, or if slots cannot be read.
    """
    slots = [slot_words(utterance.slots) if utterance.slots else None for utterance in utterances]
    said, failed = hear(recognizer, utterances, progress, decoder)
    texts: dict[str, tuple[list[str], list[str]]] = {}  # set -> references, hypotheses
    meant: dict[str, tuple[list[Counter[str]], list[str]]] = {}  # set -> words of slots, hypotheses
    for utterance, words, text in zip(utterances, slots, said, strict=True):
        if text is None:
            continue
        references, hypotheses = texts.setdefault(utterance.set_name, ([], []))
        references.append(utterance.text)
        hypotheses.append(text)
        if words:
            meant.setdefault(utterance.set_name, ([], []))[0].append(words)
            meant[utterance.set_name][1].append(text)
    references = [text for pair in texts.values() for text in pair[0]]
    hypotheses = [text for pair in texts.values() for text in pair[1]]
    return Evaluation(
        score=evaluate(references, hypotheses),
        per_set={name: evaluate(*pair) for name, pair in texts.items()},
        pseudo_labelled=frozenset(u.set_name for u in utterances if u.pseudo_labelled),
        slot_recall={name: slot_word_recall(*pair) for name, pair in meant.items()},
        failed=failed,
        outside=Counter(
            character
            for text in references
            for character in recognizer.vocabulary.unknown(normalize_text(text)) - {" "}
        ),
    )
