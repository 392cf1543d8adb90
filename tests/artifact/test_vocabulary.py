"""The alphabet of a model, and the text that its tokens spell."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from littlefoot.artifact.vocabulary import Vocabulary, choose_language
from littlefoot.errors import CheckpointError, ManifestError

ENGLISH = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6, "'": 7}
GERMAN = {"<pad>": 0, "|": 1, "ß": 2}


def vocabulary() -> Vocabulary:
    return Vocabulary.from_dict(ENGLISH, blank=0)


def test_tokens_stand_in_the_order_of_the_logits() -> None:
    shuffled = dict(sorted(ENGLISH.items()))
    assert Vocabulary.from_dict(shuffled, 0).tokens == tuple(ENGLISH)


def test_a_table_comes_back() -> None:
    assert vocabulary().to_dict() == ENGLISH


def test_text_becomes_tokens_with_one_delimiter_between_words() -> None:
    assert vocabulary().encode("  AB \t B'A\n") == [5, 6, 4, 6, 7, 5]


@given(st.text("AB' \t"))
def test_what_is_encoded_can_be_read_again(text: str) -> None:
    assert vocabulary().decode(vocabulary().encode(text)) == " ".join(text.split())


def test_delimiters_at_the_ends_make_no_words() -> None:
    assert vocabulary().decode([4, 5, 4, 4, 6, 4]) == "A B"


def test_unknown_characters_are_listed() -> None:
    assert vocabulary().unknown("A cÄ B") == {"c", "Ä"}
    with pytest.raises(ManifestError, match=r"outside of the model's alphabet: 'c' 'Ä' in 'A cÄ B'"):
        vocabulary().encode("A cÄ B")


@pytest.mark.parametrize("text", ["ab b'a", "Ab B\u2019a", "AB B'A"])
def test_text_in_any_case_is_spelled_in_the_alphabets(text: str) -> None:
    assert vocabulary().encode(text) == [5, 6, 4, 6, 7, 5]


def test_a_vocabulary_without_delimiter_spells_without_spaces() -> None:
    chinese = Vocabulary.from_dict({"<pad>": 0, "你": 1, "好": 2}, 0)
    assert chinese.decode(chinese.encode("你好")) == "你好"
    with pytest.raises(ManifestError, match="alphabet: ' '"):
        chinese.encode("你 好")


def test_a_space_may_be_the_delimiter() -> None:
    spaced = Vocabulary.from_dict({"<pad>": 0, " ": 1, "A": 2}, 0)
    assert spaced.encode("A A") == [2, 1, 2]
    assert spaced.decode([2, 1, 2]) == "A A"


@pytest.mark.parametrize(
    ("table", "match"),
    [
        ({}, "holds no tokens"),
        ({"A": 0, "B": 2}, "indices must be 0 to 1 without gaps"),
        ({"A": 1, "B": 2}, "indices must be 0 to 1 without gaps"),
        ({"A": 0, "B": -1}, "without gaps"),
        ({"A": 0, "B": 0}, "'A' and 'B' both have the index 0"),
        ({"A": 0, "B": "1"}, "index of 'B' must be an integer, not '1'"),
        ({"A": 0, "B": True}, "index of 'B' must be an integer, not True"),
        ({"A": 0, "B": 1.0}, "index of 'B' must be an integer"),
        ({"A": 0, "deu": {"B": 0}}, "index of 'deu' must be an integer"),
    ],
)
def test_damaged_tables_are_refused(table: dict[str, Any], match: str) -> None:
    with pytest.raises(CheckpointError, match=match):
        Vocabulary.from_dict(table, 0)


@pytest.mark.parametrize("blank", [-1, 8])
def test_the_blank_must_be_a_token(blank: int) -> None:
    with pytest.raises(CheckpointError, match=f"blank {blank} is outside its 8 tokens"):
        Vocabulary.from_dict(ENGLISH, blank)


def test_tokens_must_differ() -> None:
    with pytest.raises(CheckpointError, match="twice: 'A'"):
        Vocabulary(("<pad>", "A", "A"))


# Languages


@pytest.mark.parametrize(
    ("tables", "language", "expected"),
    [
        ({"deu": GERMAN, "eng": ENGLISH}, None, "eng"),
        ({"deu": GERMAN, "eng": ENGLISH}, "deu", "deu"),
        ({"deu": GERMAN}, None, "deu"),
        (ENGLISH, None, None),
    ],
)
def test_the_language_asked_for_is_taken(
    tables: dict[str, Any], language: str | None, expected: str | None
) -> None:
    assert choose_language(tables, language) == expected
    chosen = Vocabulary.from_dict(tables, 0, language)
    assert chosen.to_dict() == (tables if expected is None else tables[expected])


def test_an_unknown_language_is_answered_with_some_that_are_there() -> None:
    tables = {f"l{number:02}": GERMAN for number in range(20)}
    with pytest.raises(CheckpointError, match=r"'xyz'.* has 20, such as l00, l01, .*l07$"):
        choose_language(tables, "xyz")


def test_a_language_cannot_be_chosen_where_there_is_one() -> None:
    with pytest.raises(CheckpointError, match="one language only"):
        choose_language(ENGLISH, "eng")
