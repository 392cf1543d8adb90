"""Read the language model of US English that PocketSphinx brings along (CMU Sphinx, BSD-2-Clause).

A binary file "Trie Language Model", as sphinxbase's lm_trie.c writes it: a trie whose first level holds the
last words of n-grams, deeper levels those before them; fields of a number of bits each, probabilities and
backoffs as indices of tables. Logarithms are of base 1.0001.
"""

from __future__ import annotations

import math
import re
import struct
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from littlefoot.decode.ngram import BEGIN, END, SPECIAL, Integers, NGram, Table
from littlefoot.decode.pruning import normalize

FILE = "pocketsphinx/model/en-us/en-us.lm.bin"
MAGIC = b"Trie Language Model"
LOG_BASE = math.log(1.0001)
TABLE = 1 << 16  # values of 16 bits
SPOKEN = {"MR.": "MISTER", "MRS.": "MISSUS", "DR.": "DOCTOR", "ST.": "SAINT"}

BEGINNING, ENDING = SPECIAL.index(BEGIN), SPECIAL.index(END)
UNKNOWN = 1e-6
"""Probability of all words that the file does not have: it gives them none."""


def read(wheel: Path) -> NGram:
    """Read the model of the words that are spelled with A to Z and apostrophes, in upper case.

    N-grams of other words are left out, and what they had goes to shorter histories.
    """
    with zipfile.ZipFile(wheel) as package:
        data = package.read(FILE)
    trie, words = _trie(data)
    tokens, numbers = _tokens(words)
    single = np.full(len(tokens), -np.inf)
    known = numbers >= 0
    single[numbers[known]] = trie[0].log_prob[known]
    single[0] = np.log(UNKNOWN)
    single[BEGINNING] = -np.inf  # it is never predicted
    single -= np.logaddexp.reduce(single)
    single[BEGINNING] = np.log(1e-99)
    none = np.zeros(len(tokens), np.int64)
    tables = [Table(none, np.arange(len(tokens)), single, np.zeros(len(tokens)))]
    columns = numbers[trie[0].word][:, None]  # (N, order) tokens of the n-grams of the file
    for level in trie[1:]:
        columns = np.column_stack([numbers[level.word], columns[level.parent]])
        allowed = (columns >= 0).all(axis=1)
        allowed &= (columns[:, 1:] != BEGINNING).all(axis=1) & (columns[:, :-1] != ENDING).all(axis=1)
        prefix = NGram(tokens, tuple(tables)).rows(columns[allowed, :-1])
        keys = prefix * len(tokens) + columns[allowed, -1]
        sorting = np.argsort(keys)[np.count_nonzero(prefix < 0) :]  # not those whose prefix is left out
        prefix, last = np.divmod(keys[sorting], len(tokens))
        tables.append(Table(prefix, last, level.log_prob[allowed][sorting], np.zeros(len(last))))
    return normalize(tokens, tables)


class _Level(NamedTuple):
    """The N n-grams of one order; shapes (N,)."""

    word: Integers
    """The first of its tokens, which stands deepest in the trie."""
    parent: Integers
    """The n-gram of all others, in the level before."""
    log_prob: NDArray[np.float64]
    """Natural logarithm."""


def _trie(data: bytes) -> tuple[list[_Level], list[str]]:
    """Return the levels, and the words."""
    assert data.startswith(MAGIC), "this is not a trie language model"
    place = len(MAGIC)
    order = data[place]
    counts = struct.unpack_from(f"<{order}I", data, place + 1)
    place += 1 + 4 * order + 4
    tables = np.frombuffer(data, "<f4", TABLE * (2 * order - 3), place).reshape(-1, TABLE)
    place += tables.nbytes
    single = np.frombuffer(data, "<f4, <f4, <u4", counts[0] + 1, place)
    place += single.nbytes
    every = np.arange(counts[0])
    levels = [_Level(every, every, single["f0"][:-1] * LOG_BASE)]
    following = single["f2"].astype(np.int64)  # where the children of each begin
    for length in range(2, order + 1):
        widths = [counts[0].bit_length(), 16]
        if length < order:
            widths = [counts[0].bit_length(), 16, 16, counts[length].bit_length()]
        size = ((counts[length - 1] + 1) * sum(widths) + 7) // 8 + 8
        fields = _unpack(data[place : place + size], widths, counts[length - 1] + 1)
        place += size
        count = int(following[-1])  # the file may promise more than it has
        parent = np.repeat(np.arange(len(following) - 1), np.diff(following))
        log_prob = tables[2 * (length - 2)][fields[-2 if length < order else 1][:count]] * LOG_BASE
        levels.append(_Level(fields[0][:count], parent, log_prob))
        following = fields[-1][: count + 1]
    (size,) = struct.unpack_from("<I", data, place)
    return levels, data[place + 4 : place + 4 + size].decode().split("\0")[: counts[0]]


def _unpack(data: bytes, widths: list[int], count: int) -> list[Integers]:
    """Unpack the fields of ``count`` rows of bits, lowest first."""
    raw = np.frombuffer(data + bytes(8), np.uint8)
    found = []
    for begin, width in zip(np.cumsum([0, *widths]).tolist(), widths, strict=False):
        bits = np.arange(count, dtype=np.int64) * sum(widths) + begin
        value = np.zeros(count, np.uint64)
        for byte in range(5):  # 7 bits before and 32 of the field
            value |= raw[(bits >> 3) + byte].astype(np.uint64) << np.uint64(8 * byte)
        found.append(((value >> (bits & 7).astype(np.uint64)) & np.uint64((1 << width) - 1)).astype(np.int64))
    return found


def _tokens(words: list[str]) -> tuple[tuple[str, ...], Integers]:
    """Return the tokens that are kept, and the number of each word among them (W,), -1 if it is not kept."""
    replaced = set(SPOKEN.values())
    tokens = dict.fromkeys(SPECIAL, 0) | {token: number for number, token in enumerate(SPECIAL)}
    numbers = []
    for word in words:
        token = word if word in SPECIAL else SPOKEN.get(word.upper(), word.upper())
        abbreviated = word.upper() in SPOKEN
        if word in SPECIAL or (re.fullmatch("[A-Z']+", token) and (abbreviated or token not in replaced)):
            numbers.append(tokens.setdefault(token, len(tokens)))
        else:
            numbers.append(-1)
    return tuple(tokens), np.array(numbers)
