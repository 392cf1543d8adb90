"""Restrict texts to a list of words: a trie over the tokens that spell them."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.lm import Foreign
from littlefoot.decode.spelling import lines, spell
from littlefoot.errors import ConfigError

Integers = NDArray[np.int64]


class Lexicon:
    """The tokens that may follow in a word. Node 0 is the beginning of a word."""

    def __init__(self, words: Iterable[str], vocabulary: Vocabulary) -> None:
        """Words that the alphabet cannot spell are left out.

        Raises:
            ConfigError: none is left, or the alphabet has no word delimiter to tell words apart.
        """
        if vocabulary.delimiter < 0:
            raise ConfigError(
                "a lexicon needs an alphabet with a word delimiter, this one has none: leave it out"
            )
        self._size = len(vocabulary.tokens)
        delimiter = vocabulary.delimiter
        children: dict[int, int] = {}
        for word in words:
            tokens = spell(word, vocabulary)
            if not tokens or delimiter in tokens:
                continue
            node = 0
            for token in tokens:
                node = children.setdefault(node * self._size + token, len(children) + 1)
            children[node * self._size + delimiter] = 0
        if not children:
            raise ConfigError("the lexicon holds no word that the alphabet can spell: add some")
        self._keys = np.array(sorted(children), np.int64)
        self._nodes = np.array([children[key] for key in self._keys.tolist()], np.int64)

    def follow(self, nodes: Integers, tokens: Integers) -> Integers:
        """Return the nodes after tokens, -1 where no word continues in this way; the arguments are broadcast.

        The word delimiter leads back to 0 from nodes where a word is complete.
        """
        wanted = nodes * self._size + tokens
        found = self._keys.searchsorted(wanted)
        found[found == len(self._keys)] = 0
        following: Integers = np.where(self._keys[found] == wanted, self._nodes[found], -1)
        return following


def read_lexicon(path: str | Path, vocabulary: Vocabulary) -> Lexicon:
    """Read a list of words, one on each line.

    Raises:
        LittlefootError: the file is missing, or is not UTF-8 text.
        ConfigError: most of its words cannot be spelled in the alphabet.
    """
    words = [text for _, text in lines(path)]
    foreign = Foreign(vocabulary)
    known = [word for word in words if foreign.spell(word) is not None]
    foreign.check(path)
    return Lexicon(known, vocabulary)
