"""Texts in any case and Unicode form, spelled in the tokens of an alphabet."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from littlefoot.artifact.alphabet import Alphabet


def spelled(tokens: list[str], text: str, cased: bool = False) -> list[str]:
    """The tokens themselves; what is missing in braces at the end."""
    found, missing = Alphabet({token: index for index, token in enumerate(tokens)}, cased).spell(text)
    return [*(tokens[index] for index in found), *(f"{{{character}}}" for character in missing)]


@pytest.mark.parametrize(
    ("alphabet", "text", "expected"),
    [
        ("abc", "CAb", "cab"),
        ("ABC", "cab", "CAB"),
        ("abAB", "aBbA", "aBbA"),
        ("abAB\u00e9", "Ab\u00c9", "Ab\u00e9"),  # mixed case, but one letter has one only
        ("aou\u00e4\u00f6", "O\u0308a\u0308", "\u00f6\u00e4"),  # decomposed
        ("strae\u00df", "Stra\u00dfe", "stra\u00dfe"),
        ("STRAE", "stra\u00dfe", "STRASSE"),
        ("i\u0131s", "I\u0130S", "\u0131is"),  # Turkish
        ("I\u0130S", "\u0131is", "I\u0130S"),
        ("don't", "Don\u2019t", "don't"),
        ("don\u2019t", "don't", "don\u2019t"),
        ("fin", "\ufb01n", "fin"),  # a ligature
        (
            "\u03bb\u03bf\u03b3\u03c3\u03c2",
            "\u039b\u039f\u0393\u039f\u03a3",
            "\u03bb\u03bf\u03b3\u03bf\u03c2",
        ),
    ],
)
def test_characters_are_found_in_another_form(alphabet: str, text: str, expected: str) -> None:
    assert "".join(spelled(list(alphabet), text)) == expected


@pytest.mark.parametrize(
    ("tokens", "text", "expected"),
    [
        (["a", "b", "ab", "abc"], "abcab", ["abc", "ab"]),
        (["s", "h", "sh", "i"], "SHI", ["sh", "i"]),
        (["e", "\u0301", "a"], "\u00e9a", ["e", "\u0301", "a"]),  # an accent is a token of its own
        (["e\u0301", "e"], "\u00c9e", ["e\u0301", "e"]),  # the alphabet is decomposed
        (["q\u0303", "q"], "qq\u0303", ["q", "q\u0303"]),  # no composed form
        (["a"], "ab\u00e9a", ["a", "a", "{b}", "{\u00e9}"]),
        ([], "a", ["{a}"]),
        (["a"], "", []),
    ],
)
def test_tokens_are_found_by_longest_match(tokens: list[str], text: str, expected: list[str]) -> None:
    assert spelled(tokens, text) == expected


def test_case_may_matter() -> None:
    assert spelled(["a", "A"], "aA", cased=True) == ["a", "A"]
    assert spelled(["a"], "A", cased=True) == ["{A}"]


@given(st.text("abcdeABCDE\u00e4\u00c4\u00e9"), st.sampled_from(["NFC", "NFD", "NFKC"]))
def test_case_and_form_of_a_text_never_matter_to_an_alphabet_of_one_case(text: str, form: str) -> None:
    alphabet = list("abcde\u00e4\u00e9")
    for changed in (text.upper(), text.lower(), text):
        found = "".join(spelled(alphabet, unicodedata.normalize(form, changed)))  # type: ignore[arg-type]
        assert found == text.lower()
