"""N-gram models in a compact file that is mapped into memory, not read: about 4 bytes for each n-gram.

The file: 8 bytes ``MAGIC``, the length of the header in 4, the CRC-32 of all that follows in 4, the header in
JSON, and arrays that begin at multiples of 8 bytes behind it. Numbers are little-endian. The header holds the
order, and for each array its type, length and first byte:

    {"order": 3, "arrays": {"tokens": ["|u1", 1234, 0], ...}}

    tokens      UTF-8 text, a token on each line
    log_prob.1  natural logarithms of the probabilities of single tokens
    last.n      of n-grams of n > 1 tokens, their last token; those of one history stand together, sorted
    log_prob.n  indices of ``log_probs.n``, the at most 256 values that there are
    history.n   those of the n-grams of n tokens that are histories: others follow them, or a backoff is not 0
    begin.n     where the n-grams of n + 1 tokens that follow each history begin, and the end
    backoff.n   indices of ``backoffs.n``, the values

Where there are more than 256 values, they are the means of as many groups of equally many of the sorted
logarithms (Federico and Bertoldi, "How many bits are needed to store probabilities for phrase-based
translation?", WMT 2006, section 3.1).
"""

import json
import struct
import zlib
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from littlefoot.decode.ngram import BEGIN, SPECIAL, NGram
from littlefoot.errors import LittlefootError
from littlefoot.system import atomic
from littlefoot.system.outputs import writing

SUFFIX = ".lflm"
MAGIC = b"LFNGRAM1"
_HEAD = struct.Struct("<8sII")
_ALIGNMENT = 8
_VALUES = 256

State = tuple[int, ...]
"""Numbers of the histories that the last 1, 2, ... tokens are, oldest first; -1 if they are none."""

Arrays = dict[str, NDArray[np.generic]]


def write_compact(model: NGram, path: str | Path) -> None:
    """Write a model. The file is complete or not there; an older one is replaced.

    Raises:
        LittlefootError: it cannot be written.
    """
    with writing(path), atomic.file(Path(path).resolve()) as temporary:
        temporary.write_bytes(_encode(model))


def is_compact(start: bytes) -> bool:
    """Return True if a file with these first bytes is a compact file."""
    return start.startswith(MAGIC)


def compact_bytes(model: NGram) -> int:
    """Return an upper bound for the size of a normalised model's file, which is at most 10 kB too large."""
    total = 1000 + 2 * 1100 * model.order + 4 * len(model.tokens) + len("\n".join(model.tokens).encode())
    for table, longer in pairwise(model.tables):
        histories = int(np.count_nonzero(np.bincount(longer.prefix, minlength=len(table.last))))
        total += histories * (4 + 4 + 1) + len(longer.last) * (_number(model).itemsize + 1)
    return total


def _encode(model: NGram) -> bytes:
    arrays = _arrays(model)
    layout: dict[str, tuple[str, int, int]] = {}
    end = 0
    for name, array in arrays.items():
        layout[name] = (array.dtype.str, len(array), end)
        end += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
    body = b"".join(array.tobytes() + bytes(-array.nbytes % _ALIGNMENT) for array in arrays.values())
    header = json.dumps({"order": model.order, "arrays": layout}).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    return _HEAD.pack(MAGIC, len(header), zlib.crc32(header + body)) + header + body


def _arrays(model: NGram) -> Arrays:
    """All arrays of the file."""
    text = "\n".join(model.tokens).encode()
    arrays: Arrays = {
        "tokens": np.frombuffer(text, np.uint8),
        "log_prob.1": model.tables[0].log_prob.astype("<f4"),
    }
    for order, table in enumerate(model.tables, start=1):
        if order > 1:
            arrays[f"last.{order}"] = table.last.astype(_number(model))
            arrays[f"log_prob.{order}"], arrays[f"log_probs.{order}"] = _quantized(table.log_prob)
        if order < model.order:
            longer = model.tables[order].prefix
            followed = np.bincount(longer, minlength=len(table.last)) > 0
            history = np.flatnonzero(followed | (table.log_backoff != 0))
            arrays[f"history.{order}"] = history.astype("<u4")
            begin = longer.searchsorted(np.append(history, len(table.last)))
            arrays[f"begin.{order}"] = begin.astype("<u4")
            arrays[f"backoff.{order}"], arrays[f"backoffs.{order}"] = _quantized(table.log_backoff[history])
    return arrays


def _number(model: NGram) -> np.dtype[np.unsignedinteger]:
    """Return the type of numbers of tokens."""
    return np.dtype("<u2" if len(model.tokens) <= 1 << 16 else "<u4")


def _quantized(values: NDArray[np.float64]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """(N,) indices and (256,) or fewer values, sorted: where there are no more, they are exact."""
    distinct = np.unique(values)
    if len(distinct) > _VALUES:
        groups = np.array_split(np.sort(values), _VALUES)
        distinct = np.unique([group.mean() for group in groups])
    nearest = (distinct[1:] + distinct[:-1]).searchsorted(2 * values) if len(distinct) else np.zeros(0)
    return nearest.astype(np.uint8), distinct.astype("<f4")


class CompactNGram:
    """A model in such a file: a ``littlefoot.decode.lm.LanguageModel``.

    The file is read once, to find damage, and then mapped: processes share its memory.
    """

    def __init__(self, path: str | Path) -> None:
        """
        Raises:
            LittlefootError: the file is missing or damaged.
        """
        self.order, arrays = _read(path)
        self.tokens = tuple(bytes(arrays["tokens"]).decode().split("\n"))
        self._single = arrays["log_prob.1"]
        middle = range(1, self.order)
        self._last = [arrays[f"last.{n + 1}"] for n in middle]
        self._log_prob = [arrays[f"log_prob.{n + 1}"].data for n in middle]
        self._log_probs = [arrays[f"log_probs.{n + 1}"].tolist() for n in middle]
        self._history = [arrays[f"history.{n}"].data for n in middle]
        self._begin = [arrays[f"begin.{n}"].data for n in middle]
        self._backoff = [arrays[f"backoff.{n}"].data for n in middle]
        self._backoffs = [arrays[f"backoffs.{n}"].tolist() for n in middle]
        self._lasts = [last.data for last in self._last]

    def begin(self) -> State:
        """Return the state before the first token of a sentence."""
        return self._trimmed([self._as_history(1, SPECIAL.index(BEGIN))] if self.order > 1 else [])

    def step(self, state: State, token: str) -> tuple[float, State]:
        """Score a token like ``NGram.step``."""
        number = self._number.get(token, 0)
        log_prob = float(self._single[number])
        following = [self._as_history(1, number)] if self.order > 1 else []
        for length, history in enumerate(state, start=1):
            if history < 0:
                following.append(-1)
                continue
            found = self._find(length, history, number)
            if found < 0:
                log_prob += self._backoffs[length - 1][self._backoff[length - 1][history]]
                following.append(-1)
            else:
                log_prob = self._log_probs[length - 1][self._log_prob[length - 1][found]]
                following.append(self._as_history(length + 1, found))
        return log_prob, self._trimmed(following)

    def log_probs(self, state: State, tokens: Sequence[str]) -> NDArray[np.float64]:
        """(N,) natural logarithms of the probabilities of each of N tokens after a state."""
        numbers = np.array([self._number.get(token, 0) for token in tokens], np.int64)
        scores = self._single[numbers].astype(np.float64)
        for length, history in enumerate(state, start=1):
            if history < 0:
                continue
            begin, end = self._begin[length - 1][history : history + 2]
            scores += self._backoffs[length - 1][self._backoff[length - 1][history]]
            following = self._last[length - 1][begin:end]
            if not len(following):
                continue
            rows = np.minimum(following.searchsorted(numbers), len(following) - 1)
            known = following[rows] == numbers
            values = np.array(self._log_probs[length - 1])
            codes = np.asarray(self._log_prob[length - 1][begin:end])[rows]
            scores = np.where(known, values[codes], scores)
        return scores

    def words(self) -> Iterator[tuple[str, float]]:
        """Return the words like ``NGram.words``."""
        return zip(self.tokens, self._single.tolist(), strict=True)

    def __contains__(self, token: str) -> bool:
        return self._number.get(token, 0) > 0

    @cached_property
    def _number(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    def _find(self, length: int, history: int, number: int) -> int:
        """Return the n-gram of a history of ``length`` tokens and a token, or -1 if the model lacks it."""
        begin, end = self._begin[length - 1][history], self._begin[length - 1][history + 1]
        last = self._lasts[length - 1]
        found = bisect_left(last, number, begin, end)
        return found if found < end and last[found] == number else -1

    def _as_history(self, length: int, ngram: int) -> int:
        """Return the history that an n-gram of ``length`` tokens is, or -1 if it is none."""
        if length >= self.order:
            return -1
        histories = self._history[length - 1]
        found = bisect_left(histories, ngram)
        return found if found < len(histories) and histories[found] == ngram else -1

    def _trimmed(self, state: list[int]) -> State:
        """Drop trailing lengths without a history, so that equal histories compare as equal."""
        while state and state[-1] < 0:
            state.pop()
        return tuple(state)


def _read(path: str | Path) -> tuple[int, Arrays]:
    """Map a file into memory; return its order and arrays."""
    damaged = LittlefootError(f"{path}: is damaged or no compact language model: get the file again")
    try:
        data = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:  # ValueError: it is empty
        raise LittlefootError(
            f"{path}: cannot be read ({error}): check the path and its permissions"
        ) from error
    rest = data[_HEAD.size :]
    try:
        magic, size, checksum = _HEAD.unpack(bytes(data[: _HEAD.size]))
        if magic != MAGIC or checksum != zlib.crc32(rest.data):
            raise damaged
    except struct.error as error:  # it is shorter
        raise damaged from error
    header = json.loads(bytes(rest[:size]))
    arrays = {
        name: np.frombuffer(rest, dtype, length, size + begin)
        for name, (dtype, length, begin) in header["arrays"].items()
    }
    return header["order"], arrays
