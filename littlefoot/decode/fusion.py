"""What a language model adds to the score of a text, token by token of the alphabet (shallow fusion)."""

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from littlefoot.decode.lm import DELIMITER, LanguageModel
from littlefoot.decode.ngram import END
from littlefoot.decode.spans import TokenSet, separator

Context = tuple[Any, Any]
"""A state of the language model, and what was begun since: see the two kinds of fusion."""

_CACHED = 100_000
"""Answers of the language model that are kept."""


class WordFusion:
    """A model of words is asked when a word ends. Contexts hold the letters of the word that is begun."""

    def __init__(
        self, lm: LanguageModel, alpha: float, beta: float, unknown: float, vocabulary: TokenSet
    ) -> None:
        """As in ``littlefoot.decode.beam.BeamConfig``; ``vocabulary`` has a word delimiter."""
        self._lm, self._alpha, self._beta, self._unknown = lm, alpha, beta, unknown
        self._tokens = vocabulary.tokens
        self._delimiter = vocabulary.tokens.index(vocabulary.word_delimiter)
        self._cache: dict[Context, tuple[float, Context]] = {}

    def begin(self) -> Context:
        return self._lm.begin(), ""

    def gains(self, contexts: Sequence[Context], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, K) what each of K tokens adds after each of B contexts."""
        gains = np.zeros((len(contexts), len(tokens)))
        if len(column := np.flatnonzero(tokens == self._delimiter)):
            gains[:, column[0]] = [self._end_word(context)[0] for context in contexts]
        return gains

    def follow(self, context: Context, token: int) -> Context:
        """The context after a token."""
        if token == self._delimiter:
            return self._end_word(context)[1]
        return context[0], context[1] + self._tokens[token]

    def finish(self, context: Context) -> float:
        """What is added where the text ends."""
        gain, (state, _) = self._end_word(context)
        return gain + self._alpha * self._lm.step(state, END)[0]

    def _end_word(self, context: Context) -> tuple[float, Context]:
        if (known := self._cache.get(context)) is not None:
            return known
        state, word = context
        gain = 0.0
        if word:
            log_prob, state = self._lm.step(state, word)
            gain = self._alpha * log_prob + self._beta + (0.0 if word in self._lm else self._unknown)
        if len(self._cache) >= _CACHED:
            self._cache.clear()
        self._cache[context] = gain, (state, "")
        return self._cache[context]


class TokenFusion:
    """A model of the alphabet's tokens is asked at every token.

    A delimiter is scored with the token after it: at the end of a text it does not count. Contexts hold
    ``_BEGUN`` in a word, ``_DELIMITED`` after a delimiter, ``_FIRST`` at the very beginning.
    """

    _BEGUN, _DELIMITED, _FIRST = range(3)

    def __init__(
        self, lm: LanguageModel, alpha: float, beta: float, unknown: float, vocabulary: TokenSet
    ) -> None:
        """As in ``littlefoot.decode.beam.BeamConfig``; without a word delimiter every token is a word."""
        self._lm, self._alpha, self._beta, self._unknown = lm, alpha, beta, unknown
        self._tokens = vocabulary.tokens
        self._delimiter = vocabulary.tokens.index(vocabulary.word_delimiter) if separator(vocabulary) else -1
        self._cache: dict[tuple[Context, int], tuple[float, Context]] = {}

    def begin(self) -> Context:
        return self._lm.begin(), self._FIRST

    def gains(self, contexts: Sequence[Context], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """(B, K) what each of K tokens adds after each of B contexts."""
        numbers = tokens.tolist()
        return np.array([[self._step(context, token)[0] for token in numbers] for context in contexts])

    def follow(self, context: Context, token: int) -> Context:
        """The context after a token."""
        return self._step(context, token)[1]

    def finish(self, context: Context) -> float:
        """What is added where the text ends."""
        return self._alpha * self._lm.step(context[0], END)[0]

    def _step(self, context: Context, token: int) -> tuple[float, Context]:
        if (known := self._cache.get((context, token))) is not None:
            return known
        state, place = context
        if token == self._delimiter:
            answer = 0.0, (state, self._DELIMITED)
        else:
            gain = 0.0
            if place == self._DELIMITED:
                gain, state = self._ask(state, DELIMITER)
            more, state = self._ask(state, self._tokens[token])
            gain += more + (self._beta if place != self._BEGUN else 0.0)
            answer = gain, (state, self._BEGUN if self._delimiter >= 0 else self._FIRST)
        if len(self._cache) >= _CACHED:
            self._cache.clear()
        self._cache[context, token] = answer
        return answer

    def _ask(self, state: Any, text: str) -> tuple[float, Hashable]:
        log_prob, following = self._lm.step(state, text)
        return self._alpha * log_prob + (0.0 if text in self._lm else self._unknown), following
