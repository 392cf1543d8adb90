"""Convert between the tokens of a CTC model and text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from littlefoot.artifact.alphabet import Alphabet
from littlefoot.artifact.pieces import BEGIN, Merges, Pieces
from littlefoot.errors import CheckpointError, ManifestError

WORD_DELIMITER = "|"

_SPECIAL = re.compile(r"<[^<>]+>|\[[^\[\]]+\]")
_CLEANED = (" .", " ?", " !", " ,", " ' ", " n't", " 'm", " 's", " 've", " 're")
"""Strings from which ``clean_up_tokenization`` of transformers removes the space, in its order."""


@dataclass(frozen=True)
class Vocabulary:
    """V tokens in the order of the logits, with the rules by which they become text."""

    tokens: tuple[str, ...]
    blank: int = 0
    """Index of the CTC blank (``<pad>`` in Hugging Face vocabularies)."""
    word_delimiter: str = WORD_DELIMITER
    special: frozenset[str] | None = None
    """Tokens without text; None: those of the usual form, such as ``<s>`` and ``[UNK]``."""
    space: str = " "
    """Text between words."""
    lower_case: bool = False
    """Whether texts are in lower case, even if the tokens are not."""
    phones: bool = False
    """Whether every token is a word, with ``space`` between words, as in a model of phones."""
    clean_up: bool = False
    """Whether punctuation and English contractions move to the word before them."""
    merges: Merges | None = None
    """Merges of SentencePiece's pieces, of which one that begins with ``BEGIN`` begins a word
    (``littlefoot.artifact.pieces``); None if tokens are letters, phones or words."""

    def __post_init__(self) -> None:
        if len(set(self.tokens)) != len(self.tokens):
            twice = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise CheckpointError(f"vocabulary: it contains tokens twice: {', '.join(map(repr, twice))}")
        if not 0 <= self.blank < len(self.tokens):
            raise CheckpointError(
                f"vocabulary: the blank {self.blank} is outside its {len(self.tokens)} tokens"
            )
        special = set(filter(looks_special, self.tokens)) if self.special is None else self.special
        special = (special | {self.tokens[self.blank]}) & set(self.tokens)
        if self.delimiter >= 0:
            special -= {self.word_delimiter}
        object.__setattr__(self, "special", frozenset(special))

    @classmethod
    def from_dict(cls, vocabulary: Mapping[str, Any], blank: int, language: str | None = None) -> Vocabulary:
        """Make a vocabulary from the content of ``vocab.json``: token -> index, or a table for each language
        (MMS).

        ``artifact.tokenizer`` reads all of a checkpoint's files. Raises CheckpointError for gaps, doubles
        and unknown languages.
        """
        chosen = choose_language(vocabulary, language)
        by_index: dict[int, str] = {}
        for token, index in checked_table(vocabulary if chosen is None else vocabulary[chosen]).items():
            if index in by_index:
                raise CheckpointError(
                    f"vocabulary: {by_index[index]!r} and {token!r} both have the index {index}"
                )
            by_index[index] = token
        if sorted(by_index) != list(range(len(by_index))):
            raise CheckpointError(f"vocabulary: the indices must be 0 to {len(by_index) - 1} without gaps")
        delimiter = WORD_DELIMITER if WORD_DELIMITER in by_index.values() else " "
        return cls(tuple(by_index[index] for index in range(len(by_index))), blank, delimiter)

    def to_dict(self) -> dict[str, int]:
        """Return the content of ``vocab.json``."""
        return {token: index for index, token in enumerate(self.tokens)}

    @property
    def form(self) -> dict[str, Any]:
        """Return the rules about text that differ from the defaults."""
        usual = Vocabulary(self.tokens, self.blank, self.word_delimiter).special
        unusual = sorted((self.special or set()) ^ (usual or set()))
        settings = {"lower_case": self.lower_case, "phones": self.phones, "clean_up": self.clean_up}
        return {
            **{name: value for name, value in settings.items() if value},
            **({"space": self.space} if self.space != " " else {}),
            **({"unusual": unusual} if unusual else {}),
            **({"merges": self.merges} if self.merges is not None else {}),
        }

    @cached_property
    def delimiter(self) -> int:
        """Return the index of the word delimiter, -1 if every token is a word, or tokens are pieces."""
        if self.phones or self.merges is not None or self.word_delimiter not in self.tokens:
            return -1
        index = self.tokens.index(self.word_delimiter)
        return -1 if index == self.blank else index

    @cached_property
    def written(self) -> tuple[str, ...]:
        """Return the text of each token (V,): empty for special tokens and the blank."""
        silent = set(self.special or ())
        if self.phones:
            silent |= {self.word_delimiter, *(token for token in self.tokens if not token.strip())}
        if self.merges is not None:
            return tuple("" if token in silent else token.removeprefix(BEGIN) for token in self.tokens)
        return tuple("" if token in silent else token for token in self.tokens)

    @cached_property
    def begins(self) -> tuple[bool, ...]:
        """Return whether each token begins a word (V,); where there is a delimiter, none does by itself."""
        if self.merges is not None:
            special = self.special or ()
            return tuple(token.startswith(BEGIN) and token not in special for token in self.tokens)
        return tuple(self.delimiter < 0 and bool(text) for text in self.written)

    @property
    def pause(self) -> int:
        """Return the index of a token without text that ends a word: the blank if there is none."""
        if self.merges is not None and BEGIN in self.tokens:
            return self.tokens.index(BEGIN)
        return self.delimiter if self.delimiter >= 0 else self.blank

    @property
    def separator(self) -> str:
        """Return the text between words: empty if the alphabet has no word delimiter."""
        return self.space if self.phones or self.delimiter >= 0 or self.merges is not None else ""

    @property
    def cleaned(self) -> tuple[str, ...]:
        """Strings whose spaces are removed from the text, in this order."""
        return _CLEANED if self.clean_up and self.separator == " " else ()

    def word(self, ids: Iterable[int]) -> str:
        """Return the text of the tokens of one word."""
        text = "".join(self.written[index] for index in ids)
        return text.lower() if self.lower_case else text

    def groups(self, words: Sequence[str]) -> list[list[int]]:
        """Group the indices of words that are written together in the text, which cleaning up may join."""
        places = [[place] for place in range(len(words))]
        if not self.cleaned:
            return places
        text = " ".join(words)
        for spaced in self.cleaned:
            text = text.replace(spaced, spaced.strip())
        found: list[list[int]] = []
        at, joined = 0, False
        for place, word in enumerate(words):
            if joined:
                found[-1].append(place)
            else:
                found.append([place])
            at += len(word)
            joined = text[at : at + 1] != " "
            at += not joined
        return found

    def join(self, words: Sequence[str]) -> str:
        """Return the text of words."""
        together = ["".join(words[place] for place in group) for group in self.groups(words)]
        return self.separator.join(together)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of tokens whose repetitions are already merged."""
        return self.join(self.words(ids))

    def words(self, ids: Iterable[int]) -> list[str]:
        """Return the words of tokens whose repetitions are already merged."""
        words: list[list[int]] = [[]]
        for index in ids:
            if index == self.delimiter or self.begins[index]:
                words.append([])
            if index != self.delimiter:
                words[-1].append(index)
        return [word for word in map(self.word, words) if word]

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, in the alphabet's case and Unicode form
        (``littlefoot.artifact.alphabet``).

        Raises ManifestError that names the characters that the alphabet lacks.
        """
        tokens, missing = self.spell(text)
        if missing:
            raise ManifestError(
                f"characters outside of the model's alphabet: {' '.join(map(repr, sorted(set(missing))))} "
                f"in '{text[:60]}': leave them out, or spell them in its letters"
            )
        return tokens

    def unknown(self, text: str) -> set[str]:
        """Return the characters of a text that the alphabet lacks, in any case and Unicode form."""
        return set(self.spell(text)[1])

    def spell(self, text: str) -> tuple[list[int], list[str]]:
        """Return the tokens of a text, and its characters that the alphabet lacks, which are left out.

        The word delimiter separates words. The text of a model of phones has spaces between phones.
        """
        if self.phones:
            tokens: list[int] = []
            missing: list[str] = []
            for phone in text.split():
                found, lacking = self._alphabet.spell(phone)
                tokens += found
                missing += [phone] if lacking else []
            return tokens, missing
        if self.merges is not None:
            parts = [part for word in text.split() for part in self._pieces.divide(word)]
            return [index for _, found in parts for index in found], [
                part for part, found in parts if not found
            ]
        between = self.word_delimiter if self.delimiter >= 0 else " "
        return self._alphabet.spell(between.join(text.split()))

    def pieces(self, word: str) -> list[tuple[str, list[int]]]:
        """Return the characters of a word, or groups of them, with their tokens; none if one is missing."""
        return self._alphabet.pieces(word) if self.merges is None else self._pieces.divide(word)

    @cached_property
    def _pieces(self) -> Pieces:
        special = self.special or ()
        index = {token: place for place, token in enumerate(self.tokens) if token not in special}
        return Pieces(index, self.merges or ())

    @cached_property
    def _alphabet(self) -> Alphabet:
        tokens = {token: index for index, token in enumerate(self.written) if token}
        return Alphabet(tokens, cased=self.phones)


def looks_special(token: str) -> bool:
    """Return True if a token has the form of tokens without text, such as ``<s>`` and ``[PAD]``."""
    return _SPECIAL.fullmatch(token) is not None


def checked_table(vocabulary: Mapping[str, Any]) -> Mapping[str, int]:
    """Check the content of ``vocab.json`` for one language. Raises CheckpointError if it is not valid."""
    for token, index in vocabulary.items():
        if not isinstance(index, int) or isinstance(index, bool):
            raise CheckpointError(f"vocabulary: the index of {token!r} must be an integer, not {index!r}")
    if not vocabulary:
        raise CheckpointError("vocabulary: it holds no tokens")
    return vocabulary


def is_nested(vocabulary: Mapping[str, Any]) -> bool:
    """Return True if ``vocab.json`` has a table for each language (MMS)."""
    return bool(vocabulary) and all(isinstance(value, Mapping) for value in vocabulary.values())


def choose_language(
    vocabulary: Mapping[str, Any], language: str | None, saved: str | None = None
) -> str | None:
    """Choose a language from the content of ``vocab.json``; None if it has only one, without a name.

    The default is the language that the model was ``saved`` for, else English, else the first.
    Raises CheckpointError for a language that the vocabulary does not have.
    """
    if not is_nested(vocabulary):
        if language not in (None, saved):
            raise CheckpointError(f"language '{language}' cannot be chosen: the model has one language only")
        return None
    if language is None:
        language = saved or ("eng" if "eng" in vocabulary else next(iter(vocabulary)))
    if language not in vocabulary:
        known = sorted(vocabulary)
        raise CheckpointError(
            f"language '{language}' is not in the vocabulary: it has {len(known)}, "
            f"such as {', '.join(known[:8])}"
        )
    return language
