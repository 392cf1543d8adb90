"""Spell texts in the tokens of an alphabet, whatever their case and Unicode form.

Tokens of several characters are found by longest match. A character that the alphabet lacks is written in
its other case, its other Unicode form (composed, decomposed, compatible) or as a plain apostrophe, if the
alphabet has that.
"""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Callable, Iterator, Mapping

_APOSTROPHES = "'\u2019\u2018\u02bc\u0060\u00b4"
_DOTTED, _DOTLESS = "\u0130", "\u0131"  # I and i of Turkish and its relatives, which have both pairs


class Alphabet:
    """Tokens for spelling texts, with their indices."""

    def __init__(self, tokens: Mapping[str, int], cased: bool = False) -> None:
        """Take the tokens that have text; ``cased`` means that upper and lower case differ."""
        self._index = dict(tokens)
        for token, index in tokens.items():
            self._index.setdefault(unicodedata.normalize("NFC", token), index)
        self._index.pop("", None)
        self._longest = max(map(len, self._index), default=1)
        turkish = _DOTLESS in self._index or _DOTTED in self._index
        self._cases: tuple[Callable[[str], str], ...] = ()
        if not cased:
            self._cases = (_turkish_upper, _turkish_lower) if turkish else (str.upper, str.lower)
        own = [case for case in self._cases if all(case(token) == token for token in tokens)]
        self._own_case = own[0] if own else None
        self._rewritten: dict[str, list[int] | None] = {}

    def spell(self, text: str) -> tuple[list[int], list[str]]:
        """Return the tokens of a text, and its characters that the alphabet lacks, which are left out."""
        text = unicodedata.normalize("NFC", text)
        if self._own_case is not None:  # of the whole: the last sigma of a word has a form of its own
            tokens, missing = self._spell(self._own_case(text))
            if not missing:
                return tokens, missing
        return self._spell(text)

    def _spell(self, text: str) -> tuple[list[int], list[str]]:
        if self._longest == 1 and all(character in self._index for character in text):
            return [self._index[character] for character in text], []
        found = list(self._divide(text))
        return [index for _, tokens in found for index in tokens], [
            part for part, tokens in found if not tokens
        ]

    def pieces(self, text: str) -> list[tuple[str, list[int]]]:
        """Divide a text, in form NFC, into parts of a token or a character, each with its tokens.

        A part that the alphabet lacks has none. All the tokens are those of ``spell``.
        """
        text = unicodedata.normalize("NFC", text)
        folded = text if self._own_case is None else self._own_case(text)
        if len(folded) == len(text):
            found = list(self._divide(folded))
            if all(tokens for _, tokens in found):
                ends = itertools.accumulate(len(part) for part, _ in found)
                return [
                    (text[end - len(part) : end], tokens)
                    for (part, tokens), end in zip(found, ends, strict=True)
                ]
        return list(self._divide(text))

    def _divide(self, text: str) -> Iterator[tuple[str, list[int]]]:
        at = 0
        while at < len(text):
            index, length = self._match(text, at)
            if length:
                yield text[at : at + length], [index]
            else:
                yield text[at], self._other_form(text[at]) or []
            at += length or 1

    def _match(self, text: str, at: int) -> tuple[int, int]:
        """Return the longest token that begins here, unchanged or else in another case, and its
        characters.
        """
        for case in (_as_it_stands, *self._cases):
            for length in range(min(self._longest, len(text) - at), 0, -1):
                index = self._index.get(case(text[at : at + length]))
                if index is not None:
                    return index, length
        return 0, 0

    def _other_form(self, character: str) -> list[int] | None:
        """Return the tokens of one character in another form; None if the alphabet has none of them."""
        if character not in self._rewritten:
            candidates = (self._exact(form) for form in self._forms(character))
            self._rewritten[character] = next((each for each in candidates if each is not None), None)
        return self._rewritten[character]

    def _forms(self, character: str) -> Iterator[str]:
        cases = [character, *(case(character) for case in self._cases)]
        yield from cases
        if character in _APOSTROPHES:
            yield from _APOSTROPHES
        for form in ("NFD", "NFKC", "NFKD"):
            for case in cases:
                yield unicodedata.normalize(form, case)

    def _exact(self, text: str) -> list[int] | None:
        """Return the tokens of an unchanged text by longest match; None if the alphabet lacks some of it."""
        tokens: list[int] = []
        at = 0
        while at < len(text):
            for length in range(min(self._longest, len(text) - at), 0, -1):
                if (index := self._index.get(text[at : at + length])) is not None:
                    tokens.append(index)
                    at += length
                    break
            else:
                return None
        return tokens


def _as_it_stands(text: str) -> str:
    return text


def _turkish_upper(text: str) -> str:
    return text.replace("i", _DOTTED).upper()


def _turkish_lower(text: str) -> str:
    return text.replace("I", _DOTLESS).replace(_DOTTED, "i").lower()
