"""Word errors of a recogniser on a manifest."""

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
    """Sets whose references were made by other recognisers: their error rates are agreement, not truth."""
    slot_recall: dict[str, SlotRecall]
    """Of the sets whose utterances have slots."""
    failed: list[str]
    """What could not be recognised, and why."""
    outside: Counter[str]
    """References in which each character stands that the alphabet lacks: words that cannot come out right."""

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``littlefoot eval --json``."""
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
    """The text of each utterance, None where it cannot be recognised, and why those could not be.

    Raises LittlefootError if none could be recognised.
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

    With a beam search, where a decoder is given, and greedily otherwise.

    Raises LittlefootError if none could be recognised, or slots cannot be read.
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
