"""Spell texts in the tokens that a model is trained on: letters, or phones of a pronunciation lexicon."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.graph import TokenGraph
from littlefoot.decode.spelling import lines
from littlefoot.errors import ConfigError, ManifestError

VARIANT = re.compile(r"\(\d+\)$")
"""Suffix of a word's second and later pronunciations in CMUdict."""


class Spelling(Protocol):
    """The conversion of texts to tokens. A ``Vocabulary`` spells letter by letter."""

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text. Raises ManifestError, which names the parts that cannot be spelled."""
        ...

    def unknown(self, text: str) -> set[str]:
        """Return the parts of a text that cannot be spelled."""
        ...


class Pronunciations:
    """The pronunciations of words in a model's tokens; case does not matter."""

    def __init__(self, words: Mapping[str, Sequence[Sequence[int]]], vocabulary: Vocabulary) -> None:
        """Each word's pronunciations, the commonest first. Between words stands the vocabulary's delimiter,
        where it has one."""
        self._words = {folded(word): [tuple(p) for p in spoken] for word, spoken in words.items()}
        self._between: tuple[int, ...] = ()
        if vocabulary.delimiter >= 0:
            self._between = (vocabulary.delimiter,)

    def unknown(self, text: str) -> set[str]:
        """Return the words of a text that have no pronunciation."""
        return {word for word in text.split() if folded(word) not in self._words}

    def encode(self, text: str) -> list[int]:
        """Return the tokens of a text, each word in its first pronunciation.

        Raises ManifestError, which names words without a pronunciation.
        """
        tokens: list[int] = []
        for spoken in self._spoken(text):
            tokens += [*(self._between if tokens else ()), *spoken[0]]
        return tokens

    def graph(self, text: str) -> TokenGraph:
        """Return a graph of all pronunciations of a text, each with weight 1.

        Raises ManifestError, which names words without a pronunciation.
        """
        arcs: list[tuple[int, int, int]] = []
        state = states = 0  # the end of the words so far; the newest state
        for number, spoken in enumerate(self._spoken(text)):
            end = states + 1
            states = end
            for tokens in dict.fromkeys(spoken):
                before = state
                whole = [*(self._between if number else ()), *tokens]
                for token in whole[:-1]:
                    states += 1
                    arcs.append((before, states, token))
                    before = states
                arcs.append((before, end, whole[-1]))
            state = end
        source, target, token_of = np.array(arcs, np.int64).reshape(-1, 3).T
        final = np.full(states + 1, -np.inf)
        final[state] = 0.0
        return TokenGraph(source, target, token_of, np.zeros(len(arcs)), final)

    def _spoken(self, text: str) -> list[list[tuple[int, ...]]]:
        if missing := self.unknown(text):
            named = ", ".join(sorted(missing)[:10])
            raise ManifestError(
                f"words without a pronunciation in '{text[:60]}': {named}: add them to the lexicon"
            )
        return [self._words[folded(word)] for word in text.split()]


def read_pronunciations(path: str, vocabulary: Vocabulary) -> Pronunciations:
    """Read a lexicon: each line has a word and its phones, separated by spaces or tabs.

    A word may have several lines. Lines that begin with ``;;;`` are comments, and ``word(2)`` is ``word``, as
    in CMUdict.

    Raises:
        LittlefootError: the file cannot be read, or is empty.
        ConfigError: a line has no phones, or phones that are not among the model's tokens; or these are
            pieces of words.
    """
    if vocabulary.merges is not None:
        raise ConfigError(
            f"{path}: a lexicon needs a model of phones or letters, but this model's tokens are pieces of "
            "words: leave it out"
        )
    index = {composed(token): place for place, token in enumerate(vocabulary.written) if token}
    words: dict[str, list[list[int]]] = {}
    for number, line in lines(path):
        if line.startswith(";;;"):
            continue
        word, *phones = line.split()
        if not phones:
            raise ConfigError(f"{path}, line {number}: '{word}' has no phones: write them after the word")
        if strange := [phone for phone in phones if composed(phone) not in index]:
            raise ConfigError(
                f"{path}, line {number}: {', '.join(map(repr, strange))} of '{word}' are not among the "
                f"model's tokens, which are {' '.join(vocabulary.tokens[:50])}"
            )
        words.setdefault(folded(VARIANT.sub("", word)), []).append(
            [index[composed(phone)] for phone in phones]
        )
    if not words:
        raise ConfigError(f"{path}: holds no words: write a word and its phones on each line")
    return Pronunciations(words, vocabulary)


def composed(text: str) -> str:
    """Convert a text to the Unicode form in which phones are compared, case-sensitively."""
    return unicodedata.normalize("NFC", text)


def folded(word: str) -> str:
    """Convert a word to the form in which words are compared, without case."""
    return composed(word).casefold()


def spelling(vocabulary: Vocabulary, lexicon: str | None) -> Spelling:
    """Choose the spelling of training texts: the phones of a lexicon, if there is one, or letters."""
    return read_pronunciations(lexicon, vocabulary) if lexicon else vocabulary
