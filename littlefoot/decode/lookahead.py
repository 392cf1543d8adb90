"""Look-ahead in a model of words, which makes hypotheses inside and between words comparable.

A model of words scores a word when it ends. Until then a beam fills with spellings that no word has, and the
right one may leave it. With look-ahead, an open word gets at once the score of the likeliest word with its
prefix, without history, and the difference when it ends, so complete texts keep their scores. Ortmanns, Ney
and Eiden, "Language-model look-ahead for large vocabulary speech recognition", ICSLP 1996, with single words.
"""

from bisect import bisect_left
from collections.abc import Mapping

import numpy as np

_BEHIND_ALL = "\U0010ffff"


class Lookahead:
    """Return the best gain of all words that begin with a prefix; 0 for the empty prefix."""

    def __init__(self, gains: Mapping[str, float], unknown: float, letter: float = 0.0) -> None:
        """
        Args:
            gains: of each word of a model.
            unknown: of all other words.
            letter: added to it for each of their letters.
        """
        self._words = sorted(gains)
        self._gains = np.array([gains[word] for word in self._words])
        self._unknown, self._letter = unknown, letter

    def __call__(self, prefix: str) -> float:
        """Return the best score of the words with this prefix; an unknown word counts too."""
        if not prefix:
            return 0.0
        begin, end = bisect_left(self._words, prefix), bisect_left(self._words, prefix + _BEHIND_ALL)
        unknown = self._unknown + self._letter * len(prefix)
        return float(self._gains[begin:end].max(initial=unknown))
