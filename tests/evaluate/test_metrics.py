"""Error rates: text normalization, counts against hand-counted ones, and honest intervals."""

import numpy as np
import pytest

from littlefoot.errors import LittlefootError
from littlefoot.evaluate.metrics import (
    character_errors,
    evaluate,
    normalize_text,
    slot_word_recall,
    slot_words,
    word_errors,
)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("", ""),
        (" ...!? ", ""),
        ("Hello,  World.\n", "HELLO WORLD"),
        ("don't", "DON'T"),
        ("don\u2019t", "DON'T"),
        ("twenty-one", "TWENTY ONE"),
        ("either/or\u2014yes", "EITHER OR YES"),
        ("the U.S.A.: 3,000 $", "THE USA 3000"),
        ("\u201cquoted\u201d", "QUOTED"),
        ("Cafe\u0301", "CAF\u00c9"),
        ("zero\u200bwidth", "ZEROWIDTH"),
        ("你好、世界。", "你好世界"),
    ],
)
def test_normalization(text: str, normal: str) -> None:
    assert normalize_text(text) == normal
    assert normalize_text(normal) == normal


@pytest.mark.parametrize(
    ("reference", "hypothesis", "words", "characters"),
    [
        ("one two three", "One, two: three!", (0, 3), (0, 13)),
        ("one two three", "one tow three four", (2, 3), (7, 13)),
        ("one two three", "two", (2, 3), (10, 13)),
        ("one", "", (1, 1), (3, 3)),
        ("", "one two", (2, 0), (7, 0)),
        ("", "", (0, 0), (0, 0)),
    ],
)
def test_errors_of_one_utterance(
    reference: str, hypothesis: str, words: tuple[int, int], characters: tuple[int, int]
) -> None:
    assert word_errors(reference, hypothesis) == words
    assert character_errors(reference, hypothesis) == characters


def test_a_set_is_scored_over_all_its_words() -> None:
    score = evaluate(["a b c d e f", "g h", ""], ["a b c d e f", "x y", "z"])
    assert score.wer == pytest.approx(3 / 8)
    assert score.cer == pytest.approx(3 / 14)
    assert (score.utterances, score.words) == (3, 8)


def test_perfection_has_no_uncertainty_and_errors_may_exceed_the_words() -> None:
    perfect = evaluate(["a b", "c"], ["A b.", "c"])
    assert (perfect.wer, perfect.wer_interval, perfect.cer_interval) == (0.0, (0.0, 0.0), (0.0, 0.0))
    assert evaluate(["a"], ["b c d"]).wer == 3.0


def test_references_that_are_all_empty_count_as_one_word() -> None:
    assert evaluate(["", ""], ["", ""]).wer == 0.0
    assert evaluate(["", ""], ["a b", "c"]).wer == 3.0


def test_the_interval_is_that_of_the_binomial_where_it_is_known() -> None:
    # One word each, wrong with probability 0.2: the rate over n words has deviation sqrt(p (1 - p) / n).
    n, p = 400, 0.2
    hypotheses = ["wrong"] * round(n * p) + ["right"] * round(n * (1 - p))
    score = evaluate(["right"] * n, hypotheses, resamples=4000)
    deviation = np.sqrt(p * (1 - p) / n)
    assert score.wer_interval == pytest.approx((p - 1.96 * deviation, p + 1.96 * deviation), abs=0.005)


def test_the_seed_decides_the_interval() -> None:
    references = ["a b c", "d e", "f g h i", "j"] * 5
    hypotheses = ["a b", "d x", "f g h i", "k"] * 5
    assert evaluate(references, hypotheses) == evaluate(references, hypotheses)
    assert evaluate(references, hypotheses) != evaluate(references, hypotheses, seed=1)


def test_whole_speakers_are_drawn_where_there_are_several() -> None:
    references = ["a b"] * 30
    hypotheses = ["a b"] * 15 + ["x y"] * 15  # three of six speakers are understood
    alone = evaluate(references, hypotheses)
    clustered = evaluate(references, hypotheses, clusters=np.repeat(np.arange(6), 5))
    assert (alone.interval_over, clustered.interval_over) == ("utterances", "speakers")
    assert clustered.wer == alone.wer == 0.5
    widths = [high - low for low, high in (alone.wer_interval, clustered.wer_interval)]
    assert widths[1] > 1.5 * widths[0]


def test_what_cannot_be_scored_is_refused() -> None:
    with pytest.raises(LittlefootError, match="2 references cannot be compared with 1 hypotheses"):
        evaluate(["a", "b"], ["a"])
    with pytest.raises(LittlefootError, match="no utterances"):
        evaluate([], [])


def test_slot_words_are_found_as_often_as_they_are_meant() -> None:
    meant = [
        slot_words('{"drink": "iced mocha", "size": "large"}'),
        slot_words('{"a": "milk", "b": "soy milk"}'),
    ]
    said = ["a large iced tea", "milk and more"]
    recall = slot_word_recall(meant, said)
    assert recall.words == 6
    assert recall.rate == pytest.approx(3 / 6)
    assert recall.interval == pytest.approx((1 / 3, 2 / 3))
    assert slot_word_recall(meant, ["LARGE ICED MOCHA", "soy milk milk"]).rate == 1.0


@pytest.mark.parametrize("slots", ["", "[1]", "3", '{"a": 1}', "{", '"text"'])
def test_slots_that_are_no_object_of_texts_are_refused(slots: str) -> None:
    with pytest.raises(LittlefootError, match="slots"):
        slot_words(slots)
