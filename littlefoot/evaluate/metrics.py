"""Compute word and character error rates, with the uncertainty of a finite test set.

Errors are the substitutions, deletions and insertions of the cheapest alignment (Levenshtein distance, by
jiwer). A rate is the number of errors in a set over the number of words (characters) in its references.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from littlefoot.errors import LittlefootError
from littlefoot.evaluate.statistics import cluster_sums
from littlefoot.system.extras import imported


@dataclass(frozen=True)
class Score:
    """Error rates of a test set as fractions; 1.0 means as many errors as the references have words."""

    wer: float
    cer: float
    wer_interval: tuple[float, float]
    """95 % bootstrap interval."""
    cer_interval: tuple[float, float]
    utterances: int
    words: int
    """Number of words in all references."""
    interval_over: str = "utterances"
    """The unit that the bootstrap draws, ``utterances`` or ``speakers``."""


def normalize_text(text: str) -> str:
    """Bring a text into the form in which references and hypotheses are compared.

    Letters become upper case and typographic apostrophes plain ones. Dashes, slashes and underscores become
    spaces. All other punctuation and symbols except apostrophes are removed, and white space becomes single
    spaces.

    >>> normalize_text("Don't  stop - it's twenty-one!")
    "DON'T STOP IT'S TWENTY ONE"
    """
    text = unicodedata.normalize("NFC", text).upper().replace("\u2019", "'")
    return " ".join("".join(map(_normalize_character, text)).split())


def _normalize_character(character: str) -> str:
    if character == "'":
        return character
    category = unicodedata.category(character)
    if category == "Pd" or character in "/_":
        return " "
    return "" if category[0] in "PSC" and not character.isspace() else character


def jiwer_package() -> Any:
    """Return the package that aligns texts. Raises MissingExtraError if it is not installed."""
    return imported("jiwer", "counting word errors", "eval")


def word_errors(
    reference: str, hypothesis: str, normalize: Callable[[str], str] = normalize_text
) -> tuple[int, int]:
    """Return (errors, words of the reference) of one utterance, after normalization."""
    jiwer = jiwer_package()

    reference, hypothesis = normalize(reference), normalize(hypothesis)
    counts = jiwer.process_words(reference, hypothesis)
    return counts.substitutions + counts.deletions + counts.insertions, len(reference.split())


def character_errors(
    reference: str, hypothesis: str, normalize: Callable[[str], str] = normalize_text
) -> tuple[int, int]:
    """Return (errors, characters of the reference), with spaces, after normalization."""
    jiwer = imported("jiwer", "error rates: counting errors", "eval")

    reference, hypothesis = normalize(reference), normalize(hypothesis)
    counts = jiwer.process_characters(reference, hypothesis)
    return counts.substitutions + counts.deletions + counts.insertions, len(reference)


def evaluate(
    references: Sequence[str],
    hypotheses: Sequence[str],
    resamples: int = 1000,
    seed: int = 0,
    normalize: Callable[[str], str] = normalize_text,
    clusters: NDArray[np.int64] | None = None,
) -> Score:
    """Compute the error rates of a test set with 95 % intervals.

    The intervals are percentiles of the rates over sets of as many utterances drawn with replacement
    (bootstrap; Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation",
    ICASSP 2004). Utterances of one speaker are alike, so with ``clusters`` whole speakers are drawn; without,
    utterances count as independent, and the true intervals are wider.

    An empty reference adds no words, and every word recognised for it is an error. References that are all
    empty count as one word, so that the rate is the number of insertions.

    Args:
        references: transcripts, one text per utterance.
        hypotheses: recognised texts, in the same order.
        resamples: number of bootstrap draws.
        seed: of the draws; the same seed gives the same intervals.
        normalize: brings texts into the form in which they are compared.
        clusters: (N,) which utterances are drawn together (``littlefoot.evaluate.statistics.clusters_of``).

    Raises:
        LittlefootError: there are no utterances, or not as many hypotheses as references.
    """
    if len(references) != len(hypotheses):
        raise LittlefootError(
            f"{len(references)} references cannot be compared with {len(hypotheses)} hypotheses:"
            " give one for each"
        )
    if not references:
        raise LittlefootError("an error rate of no utterances is undefined: give at least one")
    pairs = list(zip(references, hypotheses, strict=True))
    # (N, 2, 2): utterance; words, characters; errors, length
    counts = np.array(
        [(word_errors(*pair, normalize), character_errors(*pair, normalize)) for pair in pairs],
        dtype=np.int64,
    )
    wer, cer = _rates(counts.sum(axis=0))
    drawn = counts if clusters is None else cluster_sums(counts, clusters)
    generator = np.random.default_rng(seed)
    draws = (generator.integers(len(drawn), size=len(drawn)) for _ in range(resamples))
    rates = np.array([_rates(drawn[draw].sum(axis=0)) for draw in draws])  # (resamples, 2)
    low, high = np.percentile(rates, [2.5, 97.5], axis=0)  # (2,) each
    return Score(
        wer=float(wer),
        cer=float(cer),
        wer_interval=(float(low[0]), float(high[0])),
        cer_interval=(float(low[1]), float(high[1])),
        utterances=len(pairs),
        words=int(counts[:, 0, 1].sum()),
        interval_over="utterances" if len(drawn) == len(pairs) else "speakers",
    )


@dataclass(frozen=True)
class SlotRecall:
    """Recall of slot words, for sets of spoken commands."""

    rate: float
    """Share of the words of the slots' values that were recognised."""
    interval: tuple[float, float]
    """95 % bootstrap interval over utterances."""
    words: int
    """Number of words in all slots."""


def slot_words(slots: str) -> Counter[str]:
    """Count the words in the slots of an utterance, a JSON object of text values.

    Raises LittlefootError if the slots are something else.
    """
    try:
        return Counter(normalize_text(" ".join(json.loads(slots).values())).split())
    except (ValueError, AttributeError, TypeError) as error:
        raise LittlefootError(f"the slots {slots!r:.80} are no JSON object of texts") from error


def slot_word_recall(
    meant: Sequence[Counter[str]], hypotheses: Sequence[str], resamples: int = 1000, seed: int = 0
) -> SlotRecall:
    """Compute the share of the words of all slots that occur in the hypotheses, as often as in the slots.

    Args:
        meant: ``slot_words`` of each utterance, at least one of them not empty.
        hypotheses: recognised texts, in the same order.
        resamples, seed: of the bootstrap, as in ``evaluate``.
    """
    found = [
        (words & Counter(normalize_text(said).split())).total()
        for words, said in zip(meant, hypotheses, strict=True)
    ]
    counts = np.array([found, [words.total() for words in meant]])  # (2, N)
    draws = np.random.default_rng(seed).integers(len(meant), size=(resamples, len(meant)))
    rates = counts[0][draws].sum(axis=1) / np.maximum(counts[1][draws].sum(axis=1), 1)
    low, high = np.percentile(rates, [2.5, 97.5])
    total = counts.sum(axis=1)
    return SlotRecall(float(total[0] / total[1]), (float(low), float(high)), int(total[1]))


def _rates(totals: NDArray[np.int64]) -> NDArray[np.float64]:
    """Turn (2, 2) totals of words and characters, as errors and lengths, into (2,) rates."""
    rates: NDArray[np.float64] = totals[:, 0] / np.maximum(totals[:, 1], 1)
    return rates
