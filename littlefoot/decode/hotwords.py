"""Favour hot words: phrases that are likelier than the model expects, such as names and terms of a subject.

Every occurrence of a phrase, as whole words, adds its weight times its length in characters to the score of a
text. So that the beam keeps the beginning of a phrase, each of its characters earns its share at once, and
all of them are taken back if the phrase is not completed. A phrase begins where a word begins and counts only
when a word delimiter or the end follows: joining words earns nothing.

The phrases form an automaton of Aho and Corasick ("Efficient string matching", CACM 1975, section 3), with
matches only where words begin.
"""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.spelling import lines, spell
from littlefoot.errors import ConfigError

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

DEFAULT_WEIGHT = 1.0
"""Natural logarithm per character."""

ROOT, _OUTSIDE = 0, 1
"""States: at the beginning of a word; in a word that is part of no phrase."""


class HotWords:
    """The score of every token in every state; S states.

    The score of a text is the sum of ``gain`` over its tokens, and of ``finish`` for the last state.
    """

    def __init__(self, weights: Mapping[str, float], vocabulary: Vocabulary) -> None:
        """
        Args:
            weights: weights of phrases, natural logarithms per character, above 0.
            vocabulary: the alphabet; phrases may be given in upper or lower case.

        Raises: ConfigError: a phrase is empty or contains characters outside of the alphabet, or a weight is
            not a
                positive number.
        """
        spelled = {_checked(phrase, weight, vocabulary): weight for phrase, weight in weights.items()}
        delimiter = vocabulary.delimiter
        spaced = (
            "".join(" " if t == delimiter else vocabulary.tokens[t] for t in tokens) for tokens in spelled
        )
        self.words = frozenset(word for phrase in spaced for word in phrase.split())
        """The words of all phrases, in the alphabet's letters."""
        used = sorted({token for tokens in spelled for token in tokens})
        if delimiter >= 0:
            used = sorted({*used, delimiter})
        self._columns = np.full(len(vocabulary.tokens), len(used))  # the last column: all other tokens
        self._columns[used] = np.arange(len(used))
        self._build(spelled, len(used) + 1, -1 if delimiter < 0 else used.index(delimiter))

    def gain(self, states: Integers, tokens: Integers) -> Floats:
        """Return the scores (B, K) of each of K tokens in each of B states."""
        gain: Floats = self._gain[states[:, None], self._columns[tokens]]
        return gain

    def follow(self, states: Integers, tokens: Integers) -> Integers:
        """Return the states (B,) after tokens (B,)."""
        following: Integers = self._next[states, self._columns[tokens]]
        return following

    def finish(self, states: Integers) -> Floats:
        """Return the scores (B,) that are earned, or taken back, where the text ends in a state."""
        finish: Floats = self._finish[states]
        return finish

    def _build(self, phrases: dict[tuple[int, ...], float], columns: int, delimiter: int) -> None:
        """Build the tables of the automaton; ``delimiter`` is a column, -1 where every token is a word."""
        children: list[dict[int, int]] = [{}, {}]
        depth, partial, completed = [0, 0], [0.0, 0.0], [0.0, 0.0]
        outside = ROOT if delimiter < 0 else _OUTSIDE
        for tokens, weight in phrases.items():
            node = ROOT
            for column in self._columns[list(tokens)].tolist():
                if column not in children[node]:
                    children[node][column] = len(children)
                    children.append({})
                    depth.append(depth[node] + 1)
                    partial.append(0.0)
                    completed.append(0.0)
                node = children[node][column]
                partial[node] = max(partial[node], weight * depth[node])
            completed[node] = weight * depth[node]

        # In order of depth: the failure of a node, the longest suffix that begins with a word, is less deep.
        following = np.full((len(children), columns), outside)
        following[[ROOT, _OUTSIDE], delimiter] = ROOT
        failure = np.full(len(children), outside)
        for node in sorted(range(len(children)), key=depth.__getitem__):
            if depth[node]:
                following[node] = following[failure[node]]
                completed[node] += completed[failure[node]]
            for column, child in children[node].items():
                failure[child] = following[node, column] if node != ROOT else outside
                following[node, column] = child

        held, earned = np.array(partial), np.array(completed)
        self._next = following
        self._gain = held[following] - held[:, None]
        if delimiter < 0:
            self._gain += earned[:, None]
        else:
            self._gain[:, delimiter] += earned
        self._finish = earned - held


def read_hotwords(
    path: str | Path, vocabulary: Vocabulary, weight: float = DEFAULT_WEIGHT
) -> dict[str, float]:
    """Read phrases, one on each line, after which a tab and a weight may stand.

    Args:
        weight: weight of phrases that have none.

    Raises: LittlefootError: the file is missing, empty, or not UTF-8 text. ConfigError: a weight is not a
        positive number, or a phrase contains characters outside of the alphabet.
    """
    weights = {}
    for number, line in lines(path):
        phrase, tab, given = line.partition("\t")
        try:
            weights[phrase.strip()] = float(given) if tab else weight
            _checked(phrase, weights[phrase.strip()], vocabulary)
        except ValueError as error:
            raise ConfigError(f"{path}, line {number}: the weight '{given}' is not a number") from error
        except ConfigError as error:
            raise ConfigError(f"{path}, line {number}: {error}") from error
    return weights


def _checked(phrase: str, weight: float, vocabulary: Vocabulary) -> tuple[int, ...]:
    """Return the tokens of a phrase. Raises ConfigError if the phrase or its weight is invalid."""
    if not (math.isfinite(weight) and weight > 0):
        raise ConfigError(f"hot word '{phrase}': the weight {weight} is not a number above 0")
    tokens = spell(phrase, vocabulary)
    if tokens is None:
        foreign = sorted(vocabulary.unknown(phrase))
        raise ConfigError(
            f"hot word '{phrase}' holds characters outside of the model's alphabet:"
            f" {' '.join(map(repr, foreign))}: spell it in its letters"
        )
    if not tokens:
        raise ConfigError("a hot word is empty: remove it")
    return tuple(tokens)
