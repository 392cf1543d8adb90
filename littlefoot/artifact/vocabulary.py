"""The tokens of a CTC model and the text they spell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from littlefoot.errors import CheckpointError, ManifestError

WORD_DELIMITER = "|"


@dataclass(frozen=True)
class Vocabulary:
    """V tokens in the order of the logits."""

    tokens: tuple[str, ...]
    blank: int = 0
    """Index of the CTC blank (``<pad>`` in Hugging Face vocabularies)."""
    word_delimiter: str = WORD_DELIMITER
    _index: dict[str, int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_index", {token: index for index, token in enumerate(self.tokens)})
        if len(self._index) != len(self.tokens):
            twice = [token for token, count in Counter(self.tokens).items() if count > 1]
            raise CheckpointError(f"vocabulary: tokens stand in it twice: {', '.join(map(repr, twice))}")
        if not 0 <= self.blank < len(self.tokens):
            raise CheckpointError(
                f"vocabulary: the blank {self.blank} is outside its {len(self.tokens)} tokens"
            )

    @classmethod
    def from_dict(cls, vocabulary: Mapping[str, Any], blank: int, language: str | None = None) -> Vocabulary:
        """From the content of ``vocab.json``: token -> index, or one such table for each language (MMS).

        Raises CheckpointError for gaps, doubles and unknown languages.
        """
        chosen = choose_language(vocabulary, language)
        if chosen is not None:
            vocabulary = vocabulary[chosen]
        by_index: dict[int, str] = {}
        for token, index in vocabulary.items():
            if not isinstance(index, int) or isinstance(index, bool):
                raise CheckpointError(f"vocabulary: the index of {token!r} must be an integer, not {index!r}")
            if index in by_index:
                raise CheckpointError(
                    f"vocabulary: {by_index[index]!r} and {token!r} both have the index {index}"
                )
            by_index[index] = token
        if not by_index:
            raise CheckpointError("vocabulary: it holds no tokens")
        if sorted(by_index) != list(range(len(by_index))):
            raise CheckpointError(f"vocabulary: the indices must be 0 to {len(by_index) - 1} without gaps")
        delimiter = WORD_DELIMITER if WORD_DELIMITER in vocabulary else " "
        return cls(tuple(by_index[index] for index in range(len(by_index))), blank, delimiter)

    def to_dict(self) -> dict[str, int]:
        """The content of ``vocab.json``."""
        return dict(self._index)

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, one for each character.

        Raises ManifestError naming the characters that are not in the alphabet.
        """
        if missing := self.unknown(text):
            raise ManifestError(
                f"characters outside of the model's alphabet: {' '.join(map(repr, sorted(missing)))} "
                f"in '{text[:60]}': leave them out, or spell them in its letters"
            )
        return [self._index[character] for character in self._spelled(text)]

    def unknown(self, text: str) -> set[str]:
        """The characters of a text that the alphabet lacks."""
        return {character for character in self._spelled(text) if character not in self._index}

    def decode(self, ids: Iterable[int]) -> str:
        """The text of tokens whose repetitions and blanks are already gone."""
        text = "".join(self.tokens[index] for index in ids)
        return " ".join(text.replace(self.word_delimiter, " ").split())

    def padded(self, added: Mapping[int, str], size: int) -> Vocabulary:
        """With ``size`` tokens: tokens that a tokenizer added later, and placeholders for unused outputs."""
        tokens = list(self.tokens)
        for index in range(len(tokens), size):
            token = added.get(index, "")
            tokens.append(token if token and token not in tokens else f"<unused-{index}>")
        return Vocabulary(tuple(tokens), self.blank, self.word_delimiter)

    def _spelled(self, text: str) -> str:
        return self.word_delimiter.join(text.split())


def choose_language(vocabulary: Mapping[str, Any], language: str | None) -> str | None:
    """The language to take from the content of ``vocab.json``; None where it has only one, unnamed.

    Without a wish, English; without English, the first. Raises CheckpointError for a language that the
    vocabulary does not have.
    """
    if not vocabulary or not all(isinstance(value, Mapping) for value in vocabulary.values()):
        if language is not None:
            raise CheckpointError(
                f"language '{language}' cannot be chosen: the model knows one language only"
            )
        return None
    if language is None:
        return "eng" if "eng" in vocabulary else next(iter(vocabulary))
    if language not in vocabulary:
        known = sorted(vocabulary)
        raise CheckpointError(
            f"language '{language}' is not in the vocabulary: it has {len(known)}, "
            f"such as {', '.join(known[:8])}"
        )
    return language
