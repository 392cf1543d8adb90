"""Errors of single utterances, of speakers, and of words: where a model fails."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from littlefoot.evaluate.metrics import character_errors, jiwer_package
from littlefoot.evaluate.normalizers import Normalize

Key = TypeVar("Key", str, tuple[str, str])


@dataclass(frozen=True)
class UtteranceErrors:
    """The errors of one utterance, whose texts are normalised."""

    id: str
    speaker: str
    set_name: str
    reference: str
    hypothesis: str
    errors: int
    """Substituted, deleted and inserted words."""
    words: int
    """Number of words in the reference."""
    character_errors: int
    characters: int
    """Number of characters in the reference, with spaces."""

    @property
    def wer(self) -> float:
        """Errors per word of the reference, or their number if it is empty."""
        return self.errors / max(self.words, 1)


@dataclass(frozen=True)
class SpeakerErrors:
    """The error rates of one speaker, as fractions."""

    wer: float
    cer: float
    utterances: int
    words: int


@dataclass(frozen=True)
class Confusions:
    """Words that were recognised wrongly, with the number of times, most frequent first."""

    substitutions: list[tuple[str, str, int]]
    """Word of the reference, word of the hypothesis, count."""
    deletions: list[tuple[str, int]]
    insertions: list[tuple[str, int]]


def compare(
    id: str, speaker: str, set_name: str, reference: str, hypothesis: str, normalize: Normalize
) -> UtteranceErrors:
    """Count the errors of one utterance."""
    jiwer = jiwer_package()

    reference, hypothesis = normalize(reference), normalize(hypothesis)
    counts = jiwer.process_words(reference, hypothesis)
    return UtteranceErrors(
        *(id, speaker, set_name, reference, hypothesis),
        counts.substitutions + counts.deletions + counts.insertions,
        len(reference.split()),
        *character_errors(reference, hypothesis, str),
    )


def by_speaker(utterances: Iterable[UtteranceErrors]) -> dict[str, SpeakerErrors]:
    """Return the error rates of each speaker, the highest word error rate first."""
    groups: dict[str, list[UtteranceErrors]] = {}
    for utterance in utterances:
        groups.setdefault(utterance.speaker, []).append(utterance)
    found = {
        speaker: SpeakerErrors(
            sum(each.errors for each in group) / max(sum(each.words for each in group), 1),
            sum(each.character_errors for each in group) / max(sum(each.characters for each in group), 1),
            len(group),
            sum(each.words for each in group),
        )
        for speaker, group in groups.items()
    }
    return dict(sorted(found.items(), key=lambda item: (-item[1].wer, item[0])))


def worst(utterances: Sequence[UtteranceErrors], count: int) -> list[UtteranceErrors]:
    """Return the utterances with the highest word error rates; of equal ones those with more errors first."""
    return sorted(utterances, key=lambda each: (-each.wer, -each.errors, each.id))[:count]


def confusions(utterances: Iterable[UtteranceErrors]) -> Confusions:
    """Count the substituted, deleted and inserted words, by the cheapest alignment of each utterance."""
    jiwer = jiwer_package()

    substituted: Counter[tuple[str, str]] = Counter()
    deleted: Counter[str] = Counter()
    inserted: Counter[str] = Counter()
    for utterance in utterances:
        if not utterance.errors:
            continue
        found = jiwer.process_words(utterance.reference, utterance.hypothesis)
        (reference,), (hypothesis,) = found.references, found.hypotheses
        for chunk in found.alignments[0]:
            meant = reference[chunk.ref_start_idx : chunk.ref_end_idx]
            said = hypothesis[chunk.hyp_start_idx : chunk.hyp_end_idx]
            if chunk.type == "substitute":
                substituted.update(zip(meant, said, strict=True))
            elif chunk.type == "delete":
                deleted.update(meant)
            elif chunk.type == "insert":
                inserted.update(said)
    return Confusions(
        [(*pair, count) for pair, count in _sorted(substituted)], _sorted(deleted), _sorted(inserted)
    )


def _sorted(counts: Counter[Key]) -> list[tuple[Key, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
