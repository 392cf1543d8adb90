"""Add the scores of a language model to a text, token by token of the alphabet (shallow fusion)."""

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.lm import DELIMITER, LanguageModel
from littlefoot.decode.lookahead import Lookahead
from littlefoot.decode.ngram import END, SPECIAL, UNKNOWN

Context = tuple[Any, Any]
"""A state of the language model, and the text begun since; the two kinds of fusion differ in it."""

_CACHED = 100_000
"""Number of language model scores that are kept."""


BEAM = 32
"""Number of hypotheses of a search, unless a language model of words needs more."""


class _Fusion:
    """The settings of both kinds of fusion."""

    ALPHA: float
    BETA: float
    BEAM: int = BEAM

    def __init__(
        self,
        lm: LanguageModel,
        vocabulary: Vocabulary,
        alpha: float | None,
        beta: float | None,
        unknown: float,
    ) -> None:
        """Settings as in ``littlefoot.decode.beam.BeamConfig``."""
        self.lm, self._unknown = lm, unknown
        self._alpha = self.ALPHA if alpha is None else alpha
        self._beta = self.BETA if beta is None else beta
        self._tokens = vocabulary.tokens
        self._delimiter = vocabulary.delimiter


class WordFusion(_Fusion):
    """Fusion with a model of words, which scores a word when it ends; until then the score is estimated.

    Contexts contain the letters of the open word. The vocabulary must have a word delimiter.
    """

    ALPHA, BETA, BEAM = 0.9, 2.0, 128
    """Defaults, the best on dev for the model of open English (RESULTS.md, section Open English)."""

    def __init__(
        self,
        lm: LanguageModel,
        vocabulary: Vocabulary,
        *settings: Any,
        unknown_letter: float,
        listed: Collection[str],
    ) -> None:
        """Settings as in ``littlefoot.decode.beam.BeamConfig``; letters of ``listed`` words cost nothing."""
        super().__init__(lm, vocabulary, *settings)
        self._letter, self._listed = unknown_letter, frozenset(listed)
        self._ahead = self._lookahead()
        self._rows: dict[str, NDArray[np.float64]] = {}
        self._cache: dict[Context, tuple[float, Context]] = {}

    def begin(self) -> Context:
        return self.lm.begin(), ""

    def gains(self, contexts: Sequence[Context], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the scores (B, K) that each of K tokens adds after each of B contexts."""
        gains = np.array([self._row(word) for _, word in contexts])[:, tokens]
        if len(column := np.flatnonzero(tokens == self._delimiter)):
            gains[:, column[0]] = [self._end_word(context)[0] for context in contexts]
        return gains

    def follow(self, context: Context, token: int) -> Context:
        """Return the context after a token."""
        if token == self._delimiter:
            return self._end_word(context)[1]
        return context[0], context[1] + self._tokens[token]

    def finish(self, context: Context) -> float:
        """Return the score that is added where the text ends."""
        gain, (state, _) = self._end_word(context)
        return gain + self._alpha * self.lm.step(state, END)[0]

    def _lookahead(self) -> Lookahead:
        """If the model does not list its words, there are no gains."""
        log_probs = dict(self.lm.words())
        if UNKNOWN not in log_probs:
            return Lookahead({}, 0.0)
        unknown = self._alpha * log_probs[UNKNOWN] + self._beta + self._unknown
        gains = dict.fromkeys(self._listed, unknown)
        gains |= {w: self._alpha * p + self._beta for w, p in log_probs.items() if w not in SPECIAL}
        return Lookahead(gains, unknown, self._letter)

    def _row(self, word: str) -> NDArray[np.float64]:
        """(V,) what each token but the delimiter adds to the prospects of a word that is begun."""
        if (known := self._rows.get(word)) is not None:
            return known
        row = np.array([self._ahead(word + token) for token in self._tokens]) - self._ahead(word)
        if len(self._rows) * len(row) >= _CACHED * 32:
            self._rows.clear()
        self._rows[word] = row
        return row

    def _cost(self, word: str) -> float:
        """Return what is added for a word that the model lacks."""
        if word in self.lm:
            return 0.0
        return self._unknown + (0.0 if word in self._listed else self._letter * len(word))

    def _end_word(self, context: Context) -> tuple[float, Context]:
        if (known := self._cache.get(context)) is not None:
            return known
        state, word = context
        gain = 0.0
        if word:
            log_prob, state = self.lm.step(state, word)
            gain = self._alpha * log_prob + self._beta + self._cost(word) - self._ahead(word)
        if len(self._cache) >= _CACHED:
            self._cache.clear()
        found = gain, (state, "")
        self._cache[context] = found
        return found


class TokenFusion(_Fusion):
    """Fusion with a model of the alphabet's tokens, which scores every token.

    A delimiter is scored with the token after it, so that it does not count at the end of a text; without a
    delimiter every token is a word. Contexts
    contain ``_BEGUN`` in a word, ``_DELIMITED`` after a delimiter, ``_FIRST`` at the very beginning.
    """

    _BEGUN, _DELIMITED, _FIRST = range(3)

    ALPHA, BETA = 0.9, 0.0
    """Defaults, the best on the dev sets for littlefoot-en (RESULTS.md, section Decoding)."""

    def __init__(self, lm: LanguageModel, vocabulary: Vocabulary, *settings: Any) -> None:
        super().__init__(lm, vocabulary, *settings)
        unknown_tokens = [token not in lm for token in self._tokens]
        self._added = np.where(unknown_tokens, self._unknown, 0.0)  # (V,)
        self._gains: dict[Context, NDArray[np.float64]] = {}
        self._following: dict[tuple[Context, int], Context] = {}

    def begin(self) -> Context:
        return self.lm.begin(), self._FIRST

    def gains(self, contexts: Sequence[Context], tokens: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the scores (B, K) that each of K tokens adds after each of B contexts."""
        return np.array([self._row(context) for context in contexts])[:, tokens]

    def follow(self, context: Context, token: int) -> Context:
        """Return the context after a token."""
        if (known := self._following.get((context, token))) is not None:
            return known
        if token == self._delimiter:
            following = context[0], self._DELIMITED
        else:
            _, state = self.lm.step(self._before(context)[0], self._tokens[token])
            following = state, self._BEGUN if self._delimiter >= 0 else self._FIRST
        if len(self._following) >= _CACHED:
            self._following.clear()
        self._following[context, token] = following
        return following

    def finish(self, context: Context) -> float:
        """Return the score that is added where the text ends."""
        return self._alpha * self.lm.step(context[0], END)[0]

    def _row(self, context: Context) -> NDArray[np.float64]:
        """Return the scores (V,) that each token adds after a context."""
        if (known := self._gains.get(context)) is not None:
            return known
        state, gain = self._before(context)
        row = gain + self._added + self._alpha * self.lm.log_probs(state, self._tokens)
        if context[1] != self._BEGUN:
            row += self._beta
        if self._delimiter >= 0:
            row[self._delimiter] = 0.0
        if len(self._gains) * len(row) >= _CACHED * 32:
            self._gains.clear()
        self._gains[context] = row
        return row

    def _before(self, context: Context) -> tuple[Any, float]:
        """Return the state in which the next token is scored, and the score of a delimiter before it."""
        state, place = context
        if place != self._DELIMITED:
            return state, 0.0
        log_prob, state = self.lm.step(state, DELIMITER)
        return state, self._alpha * log_prob
