"""What a word that is begun will gain at best, so that hypotheses in and between words can be compared.

A model of words judges a word when it ends. Until then a beam fills with spellings that no word has, and the
right one may leave it. So a word that is begun gains at once what the likeliest of all words that begin so
would gain without history, and the difference when it ends: complete texts keep their scores. Ortmanns, Ney
and Eiden, "Language-model look-ahead for large vocabulary speech recognition", ICSLP 1996, with single words.
"""

from bisect import bisect_left
from collections.abc import Mapping

import numpy as np

_BEHIND_ALL = "\U0010ffff"


class Lookahead:
    """The best gain of all words that begin with a prefix; the empty prefix is no word yet and gains 0."""

    def __init__(self, gains: Mapping[str, float], unknown: float) -> None:
        """
        Args:
            gains: of each word of a model.
            unknown: of all other words.
        """
        self._words = sorted(gains)
        self._gains = np.array([gains[word] for word in self._words])
        self._unknown = unknown

    def __call__(self, prefix: str) -> float:
        """What a word that begins so gains at best, be it a word that the model does not know."""
        if not prefix:
            return 0.0
        begin, end = bisect_left(self._words, prefix), bisect_left(self._words, prefix + _BEHIND_ALL)
        return float(self._gains[begin:end].max(initial=self._unknown))
