"""N-gram language models: how likely is a token after the few before it?

Estimated by interpolated modified Kneser-Ney smoothing: Chen and Goodman, "An empirical study of smoothing
techniques for language modeling", Harvard TR-10-98, 1998. Details and pruning are those of KenLM's lmplz
(Heafield et al., "Scalable modified Kneser-Ney language model estimation", ACL 2013), which gives the same
models.

Tokens are words, characters or any other strings without white space. All logarithms are natural ones.
"""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from littlefoot.errors import ConfigError, LittlefootError

UNKNOWN, BEGIN, END = SPECIAL = ("<unk>", "<s>", "</s>")
"""The first three tokens of every model: any word never seen, and the two ends of a sentence."""

_BEGIN, _END = SPECIAL.index(BEGIN), SPECIAL.index(END)
_NEVER = 1e-99
"""Probability of ``<s>``, which occurs in histories only; ARPA files conventionally give it -99."""
_FALLBACK = (0.0, 0.5, 1.0, 1.5)
"""Discounts of n-grams seen 0, 1, 2 and more times where a text is too small to tell (as in lmplz)."""


Integers = NDArray[np.int64]

State = tuple[int, ...]
"""The last tokens as numbers, oldest first: the longest history that the model has."""


@dataclass(frozen=True)
class Table:
    """The N n-grams of one order, sorted by prefix and then by last token; each field has shape (N,)."""

    prefix: NDArray[np.int64]
    """All tokens but the last: index in the table one order lower; 0 for single tokens."""
    last: NDArray[np.int64]
    """Index in the model's tokens; in the table of single tokens, 0, 1, 2, ..."""
    log_prob: NDArray[np.float64]
    """Log probability of the last token after the others."""
    log_backoff: NDArray[np.float64]
    """Added where a token does not follow this n-gram in the model and a shorter history is used."""


@dataclass(frozen=True)
class NGram:
    """A backoff language model, made by ``estimate`` or read by ``littlefoot.decode.arpa.read_arpa``."""

    tokens: tuple[str, ...]
    """``SPECIAL``, then all others in the order in which the text or file has them."""
    tables: tuple[Table, ...]
    """Tables of single tokens, of pairs, and so on."""

    @property
    def order(self) -> int:
        """Return the length of the longest n-gram; histories are one token shorter."""
        return len(self.tables)

    def log_prob(self, token: str, history: Sequence[str] = ()) -> float:
        """Return the natural logarithm of the probability of a token.

        Over all tokens but ``<s>`` the probabilities sum to 1 after any history. Tokens that the model does
        not have count as ``<unk>``.

        Args:
            token: a token, or ``</s>`` for the end of the sentence.
            history: the tokens before it, oldest first; ``<s>`` is the first of a sentence. Those beyond the
                order are ignored.
        """
        return self._score(self._numbers([*history[max(0, len(history) - self.order + 1) :], token]))

    def begin(self) -> State:
        """Return the state before the first token of a sentence."""
        return (_BEGIN,)[: self.order - 1]

    def step(self, state: State, token: str) -> tuple[float, State]:
        """Score a token after a state, which stands for all of the history that matters.

        Returns:
            The natural logarithm of the token's probability, and the state after it.
        """
        numbers = (*state, self._number.get(token, 0))
        following = numbers[max(0, len(numbers) - self.order + 1) :]
        while self._find(following) is None:
            following = following[1:]
        return self._score(numbers), following

    def log_probs(self, state: State, tokens: Sequence[str]) -> NDArray[np.float64]:
        """Return the natural logarithms (N,) of the probabilities of each of N tokens after a state."""
        numbers = np.array(self._numbers(tokens), np.int64)
        scores = self.tables[0].log_prob[numbers]
        for start in reversed(range(len(state))):
            if (history := self._find(state[start:])) is not None:
                length = len(state) - start
                keys = self._keys[length]
                wanted = history * len(self.tokens) + numbers
                found = np.minimum(keys.searchsorted(wanted), len(keys) - 1)
                backed_off = self.tables[length - 1].log_backoff[history] + scores
                scores = np.where(keys[found] == wanted, self.tables[length].log_prob[found], backed_off)
        return scores

    def grams(self, order: int) -> Integers:
        """(N, order) the tokens of the n-grams of one order, as numbers, in the order of the table."""
        columns: list[Integers] = []
        rows = np.arange(len(self.tables[order - 1].last))
        for table in reversed(self.tables[:order]):
            columns.append(table.last[rows])
            rows = table.prefix[rows]
        return np.stack(columns[::-1], axis=1)

    def scores(self, grams: Integers) -> NDArray[np.float64]:
        """(N,) natural logarithms of the probabilities of the last of n tokens after the others.

        Args:
            grams: (N, n) tokens as numbers, n at most the order; -1 for a token that the model does not have:
                no history reaches beyond it, and its probability is 0.
        """
        last = grams[:, -1]
        scores = np.where(last < 0, -np.inf, self.tables[0].log_prob[last])
        for begin in reversed(range(grams.shape[1] - 1)):
            length = grams.shape[1] - 1 - begin
            history = self.rows(grams[:, begin:-1])
            found = self._row(history, last, length)
            backed_off = self.tables[length - 1].log_backoff[history] + scores
            scores = np.where(history < 0, scores, backed_off)
            scores = np.where(found < 0, scores, self.tables[length].log_prob[found])
        return scores

    def __contains__(self, token: str) -> bool:
        return self._number.get(token, 0) > 0

    def words(self) -> Iterator[tuple[str, float]]:
        """All tokens, with the natural logarithms of their probabilities without history."""
        return zip(self.tokens, self.tables[0].log_prob.tolist(), strict=True)

    def perplexity(self, sentences: Iterable[Sequence[str]]) -> float:
        """Return the inverse geometric mean of the probabilities of all tokens and ends of sentences.

        Tokens that the model does not have count with the probability of ``<unk>``.

        Raises:
            LittlefootError: there are no sentences.
        """
        total, count = 0.0, 0
        for sentence in sentences:
            numbers = self._numbers([BEGIN, *sentence, END])
            for end in range(2, len(numbers) + 1):
                total += self._score(numbers[max(0, end - self.order) : end])
            count += len(numbers) - 1
        if not count:
            raise LittlefootError("a perplexity of no sentences is undefined: give at least one")
        return float(np.exp(-total / count))

    @cached_property
    def _number(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _keys(self) -> list[NDArray[np.int64]]:
        """Return for each order a sorted (N,) array of numbers that identify its n-grams."""
        return [table.prefix * len(self.tokens) + table.last for table in self.tables]

    def _numbers(self, tokens: Sequence[str]) -> list[int]:
        return [self._number.get(token, 0) for token in tokens]

    def _find(self, numbers: Sequence[int]) -> int | None:
        """Return the index of an n-gram in the table of its order; None if the model does not contain it."""
        if not numbers:
            return 0
        found = numbers[0]
        for keys, number in zip(self._keys[1:], numbers[1:], strict=False):
            key = found * len(self.tokens) + number
            found = int(keys.searchsorted(key))
            if found == len(keys) or keys[found] != key:
                return None
        return found

    def rows(self, grams: Integers) -> Integers:
        """(N,) as ``_find``, for n-grams (N, n) of one order; -1 where the model does not have them."""
        found = grams[:, 0]
        for length, last in enumerate(grams.T[1:], start=1):
            found = self._row(found, last, length)
        return found

    def _row(self, prefix: Integers, last: Integers, length: int) -> Integers:
        """(N,) rows of prefixes of ``length`` tokens and tokens; -1 if either is -1, or if there is none."""
        if length >= self.order or not len(self._keys[length]):
            return np.full(len(prefix), -1)
        keys, wanted = self._keys[length], prefix * len(self.tokens) + last
        found = np.minimum(keys.searchsorted(wanted), len(keys) - 1)
        return np.where((prefix >= 0) & (last >= 0) & (keys[found] == wanted), found, -1)

    def _score(self, numbers: Sequence[int]) -> float:
        """Score the last of at most ``order`` tokens after the others: by its n-gram, or by backing off."""
        found = self._find(numbers)
        if found is not None:
            return float(self.tables[len(numbers) - 1].log_prob[found])
        history = self._find(numbers[:-1])
        backoff = 0.0 if history is None else float(self.tables[len(numbers) - 2].log_backoff[history])
        return backoff + self._score(numbers[1:])


def estimate(
    sentences: Iterable[Sequence[str]],
    order: int,
    prune: Sequence[int] = (),
    max_histories: int | None = None,
) -> NGram:
    """Estimate a model from sentences.

    The probability of a token after a history interpolates the discounted share of the token among all that
    follow the history with its probability after a history one token shorter (Chen and Goodman, section
    3); the last resort is the uniform distribution over all tokens but ``<s>``.

    Args:
        sentences: the tokens of each, without ``<s>`` and ``</s>``; may be empty. They are read once.
        order: the longest n-gram, at least 1. Where all sentences are shorter, so is the model.
        prune: leave out n-grams that occur at most this often, a number for each order from 1 on. They do
            not decrease; the first is 0; the last holds for all higher orders.
        max_histories: raise the thresholds, all to the same number, until at most this many histories of a
            token or more are followed by a token in the model.

    Raises:
        ConfigError: the order or the pruning is impossible.
        LittlefootError: there are no tokens, or some are special, empty or hold white space.
    """
    thresholds = _thresholds(order, prune)
    tokens, text = _encode(sentences)
    counts = _count(text, len(tokens), order)
    if max_histories is not None:
        least = _threshold(counts, max_histories)
        thresholds[1:] = [max(threshold, least) for threshold in thresholds[1:]]
    kept = [count.raw > threshold for count, threshold in zip(counts, thresholds, strict=True)]
    probabilities = [np.array([1 / (len(tokens) - 1)])]
    backoffs = []  # backoffs[n]: of histories of n tokens
    for count, adjusted, keep in zip(counts, _adjusted(counts), kept, strict=True):
        probability, backoff = _interpolate(count, adjusted, keep, probabilities[-1])
        probabilities.append(probability)
        backoffs.append(backoff)
    backoffs.append(np.ones(len(counts[-1].raw)))
    probabilities[1][_BEGIN] = _NEVER
    return NGram(tokens, _tables(counts, kept, probabilities[1:], backoffs[1:]))


def _thresholds(order: int, prune: Sequence[int]) -> list[int]:
    """Return for each order the largest count that is pruned; single tokens always stay."""
    if order < 1:
        raise ConfigError(f"the order {order} is impossible: it is the longest n-gram, at least 1")
    if len(prune) > order:
        raise ConfigError(f"there are {len(prune)} pruning thresholds for order {order}: give one for each")
    given = [*prune] or [0]
    if given[0] != 0 or given != sorted(given):
        raise ConfigError(
            f"the pruning thresholds {', '.join(map(str, given))} are impossible: they begin with 0, for"
            " single tokens, and do not decrease"
        )
    return [-1, *(given + [given[-1]] * order)[1:order]]


def _encode(sentences: Iterable[Sequence[str]]) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return all tokens, and the text (T,) as numbers, with ``<s>`` and ``</s>`` around every sentence."""
    numbers: dict[str, int] = {}
    text = array("q")
    for sentence in sentences:
        text.append(_BEGIN)
        text.extend(numbers.setdefault(token, len(SPECIAL) + len(numbers)) for token in sentence)
        text.append(_END)
    if not numbers:
        raise LittlefootError("there is nothing to estimate from: give at least one sentence with a word")
    for token in numbers:
        if token in SPECIAL:
            raise LittlefootError(
                f"the text holds '{token}', which has a special meaning in language models: remove it"
            )
        if token.split() != [token]:
            raise LittlefootError(f"the token {token!r} is empty or holds white space: split the text at it")
    return (*SPECIAL, *numbers), np.frombuffer(text, np.int64)


@dataclass(frozen=True)
class _Counts:
    """The N n-grams of one order in a text, sorted by prefix and then by last token; shapes (N,)."""

    prefix: NDArray[np.int64]
    """All tokens but the last: index among the n-grams one order lower."""
    last: NDArray[np.int64]
    suffix: NDArray[np.int64]
    """All tokens but the first: index among the n-grams one order lower."""
    raw: NDArray[np.int64]
    """Number of occurrences."""


def _count(text: NDArray[np.int64], size: int, order: int) -> list[_Counts]:
    """Count the n-grams of every order up to ``order``; lengths without n-grams are left out."""
    occurrences = np.bincount(text, minlength=size)
    occurrences[_BEGIN] = 0  # it is never predicted
    none = np.zeros(size, np.int64)
    counts = [_Counts(none, np.arange(size), none, occurrences)]
    index = text  # (T,) for every position where one starts, the n-gram of the order before
    starts = np.arange(len(text))  # those positions
    for length in range(2, order + 1):
        starts = starts[text[starts + length - 2] != _END]
        keys = index[starts] * size + text[starts + length - 1]
        unique, first, inverse, raw = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        prefix, last = np.divmod(unique, size)
        counts.append(_Counts(prefix, last, index[starts[first] + 1], raw))
        index = np.zeros_like(text)
        index[starts] = inverse
    return counts


def _threshold(counts: list[_Counts], max_histories: int) -> int:
    """Return the largest count to prune so that few enough histories remain."""
    most = []  # for each history, how often it occurs with the token that follows it most
    for count, longer in pairwise(counts):
        of_history = np.zeros(len(count.raw), np.int64)
        np.maximum.at(of_history, longer.prefix, longer.raw)
        most.append(of_history)
    ranked = np.sort(np.concatenate([np.zeros(1, np.int64), *most]))[::-1]
    return int(ranked[min(max_histories, len(ranked) - 1)])


def _adjusted(counts: list[_Counts]) -> Iterator[NDArray[np.int64]]:
    """Return for each order the counts (N,) from which probabilities are computed.

    In the highest order, and for n-grams that begin a sentence, this is the number of occurrences; otherwise
    the number of different tokens before the n-gram (Kneser and Ney, ICASSP 1995).
    """
    begins = counts[0].last == _BEGIN
    for count, longer in pairwise(counts):
        yield np.where(begins, count.raw, np.bincount(longer.suffix, minlength=len(count.raw)))
        begins = begins[longer.prefix]
    yield counts[-1].raw


def _discounts(adjusted: NDArray[np.int64]) -> NDArray[np.float64]:
    """Compute the discounts (4,) of adjusted counts of 0, 1, 2 and more (Chen and Goodman, equation 26).

    Without n-grams of some count, or with irregular numbers of them, the formula gives no positive discount.
    """
    seen = np.bincount(np.minimum(adjusted, 5), minlength=6)  # n-grams with a count of 0, 1, 2, 3, 4, more
    if seen[1:4].all():
        share = seen[1] / (seen[1] + 2 * seen[2])
        once, twice, more = (k - (k + 1) * share * seen[k + 1] / seen[k] for k in (1, 2, 3))
        if min(once, twice, more) > 0:
            return np.array([0.0, once, twice, more])
    return np.array(_FALLBACK)


def _interpolate(
    count: _Counts,
    adjusted: NDArray[np.int64],
    keep: NDArray[np.bool_],
    lower: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute probabilities (N,) of one order, meaningless where not kept, and backoffs (M,) of their
    histories.

    A history leaves to shorter ones what is discounted, and all counts of pruned n-grams (as in lmplz), so
    that the sum stays 1. ``lower`` has the probabilities (M,) one order lower.
    """
    discount = _discounts(adjusted)[np.minimum(adjusted, 3)]
    left_over = np.bincount(count.prefix, np.where(keep, discount, adjusted), len(lower))
    total = np.bincount(count.prefix, adjusted, len(lower))
    backoff = np.divide(left_over, total, out=np.ones(len(lower)), where=total > 0)
    probability = (adjusted - discount) / total[count.prefix] + backoff[count.prefix] * lower[count.suffix]
    return probability, backoff


def _tables(
    counts: list[_Counts],
    kept: list[NDArray[np.bool_]],
    probabilities: list[NDArray[np.float64]],
    backoffs: list[NDArray[np.float64]],
) -> tuple[Table, ...]:
    """Make the tables without pruned n-grams. Parts of kept ones occur at least as often, so they are kept
    too.

    Higher orders without n-grams are dropped: the model is the same without them.
    """
    tables = []
    renumbered = np.zeros(1, np.int64)
    for count, keep, probability, backoff in zip(counts, kept, probabilities, backoffs, strict=True):
        if not keep.any():
            break
        prefix = renumbered[count.prefix[keep]]
        tables.append(Table(prefix, count.last[keep], np.log(probability[keep]), np.log(backoff[keep])))
        renumbered = np.cumsum(keep) - 1
    return tuple(tables)
