"""ARPA files, the text format of n-gram language models, in UTF-8 and with logarithms of base 10.

    \\data\\
    ngram 1=4
    ngram 2=3

    \\1-grams:
    -0.6 word -0.3          logarithm of the probability, tokens, logarithm of the backoff (0 if missing)
    ...
    \\end\\
"""

import bz2
import codecs
import gzip
import lzma
import math
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from littlefoot.decode.ngram import SPECIAL, UNKNOWN, NGram, Table
from littlefoot.errors import LittlefootError
from littlefoot.system import atomic
from littlefoot.system.outputs import writing

_COMPRESSED: dict[bytes, Callable[[Path], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_ABSENT = -100.0
"""Base-10 logarithm of the probability of special tokens that a file lacks, as in KenLM."""


def read_arpa(path: str | Path) -> NGram:
    """Read a model, such as ``write_arpa``, KenLM or SRILM write.

    Raises:
        LittlefootError: the file is missing or damaged; the message names the line.
    """
    try:
        with _opened(Path(path)) as file:
            lines = _Lines(str(path), enumerate(file, start=1))
            counts = _header(lines)
            tokens: dict[str, int] = {}
            tables: list[Table] = []
            for order, count in enumerate(counts, start=1):
                section = _section(lines, order, count, order == len(counts))
                if order == 1:
                    tokens, table = _single_tokens(lines, section)
                else:
                    table = _longer(lines, section, order, tokens, tables)
                tables.append(table)
            lines.expect("\\end\\")
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise LittlefootError(
            f"{path}: cannot be read ({error}): check the path and its permissions"
        ) from error
    return NGram(tuple(tokens), tuple(tables))


def _opened(path: Path) -> BinaryIO:
    """Open a file, which may be compressed, and yield its bytes."""
    with path.open("rb") as file:
        start = file.read(6)
    opener = next((each for magic, each in _COMPRESSED.items() if start.startswith(magic)), None)
    return cast(BinaryIO, path.open("rb") if opener is None else opener(path))


def write_arpa(model: NGram, path: str | Path) -> None:
    """Write a model for language model tools such as KenLM.

    Logarithms have seven significant digits. The file appears whole or not at all, and replaces an older one.

    Raises:
        LittlefootError: the file cannot be written.
    """
    with (
        writing(path),
        atomic.file(Path(path).resolve()) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        file.writelines(_arpa(model))


def _arpa(model: NGram) -> Iterator[str]:
    yield "\\data\\\n"
    for order, table in enumerate(model.tables, start=1):
        yield f"ngram {order}={len(table.last)}\n"
    texts = [""]
    for order, table in enumerate(model.tables, start=1):
        yield f"\n\\{order}-grams:\n"
        before = texts
        texts = []
        for prefix, last, log_prob, log_backoff in zip(
            table.prefix.tolist(),
            table.last.tolist(),
            (table.log_prob / np.log(10)).tolist(),
            (table.log_backoff / np.log(10)).tolist(),
            strict=True,
        ):
            text = f"{before[prefix]} {model.tokens[last]}" if order > 1 else model.tokens[last]
            if order < model.order:
                texts.append(text)
                yield f"{log_prob:.7g}\t{text}\t{log_backoff:.7g}\n"
            else:
                yield f"{log_prob:.7g}\t{text}\n"
    yield "\n\\end\\\n"


class _Lines:
    """The lines of a file that are not empty, with their numbers."""

    def __init__(self, path: str, numbered: Iterator[tuple[int, bytes]]) -> None:
        self._path, self._numbered = path, numbered
        self._number = 0

    def next(self, otherwise: str = "the file ends too early") -> bytes:
        for number, line in self._numbered:
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            self._number = number
            if stripped := line.strip():
                return stripped
        raise self.damaged(self._number, otherwise)

    def expect(self, text: str) -> None:
        if (line := self.next()) != text.encode():
            raise self.damaged(self._number, f"expected {text}, found {line.decode(errors='replace'):.60}")

    @property
    def number(self) -> int:
        """Return the number of the line that was read last."""
        return self._number

    def damaged(self, number: int, what: str) -> LittlefootError:
        return LittlefootError(f"{self._path}, line {number}: {what}: this is not a complete ARPA file")


class _Section(NamedTuple):
    """The N n-grams of one order in the order of the file; lists of N."""

    numbers: list[int]
    """Line numbers."""
    tokens: list[list[bytes]]
    log_prob: list[float]
    log_backoff: list[float]


def _header(lines: _Lines) -> list[int]:
    """Read the number of n-grams of each order, up to and including the title of the first section."""
    while lines.next("no line up to here is \\data\\") != b"\\data\\":
        pass
    counts: list[int] = []
    while match := re.fullmatch(rb"ngram\s+(\d+)\s*=\s*(\d+)", line := lines.next()):
        if int(match[1]) != len(counts) + 1:
            raise lines.damaged(lines.number, f"expected the number of {len(counts) + 1}-grams")
        counts.append(int(match[2]))
    if line != b"\\1-grams:":
        raise lines.damaged(lines.number, f"expected \\1-grams:, found {line.decode(errors='replace'):.60}")
    return counts


def _section(lines: _Lines, order: int, count: int, highest: bool) -> _Section:
    if order > 1:
        lines.expect(f"\\{order}-grams:")
    section = _Section([], [], [], [])
    widths = (order + 1,) if highest else (order + 1, order + 2)
    for _ in range(count):
        fields = lines.next().split()
        try:
            if len(fields) not in widths:
                raise ValueError
            log_prob = _logarithm(fields[0])
            log_backoff = _logarithm(fields[order + 1]) if len(fields) == order + 2 else 0.0
            if not (math.isfinite(log_prob) and math.isfinite(log_backoff) and log_prob <= 0):
                raise ValueError
        except ValueError as error:
            found = b" ".join(fields).decode(errors="replace")
            wanted = f"expected one of {count} {order}-grams with its logarithms, found {found:.60}"
            raise lines.damaged(lines.number, wanted) from error
        section.numbers.append(lines.number)
        section.tokens.append(fields[1 : order + 1])
        section.log_prob.append(log_prob)
        section.log_backoff.append(log_backoff)
    return section


def _logarithm(field: bytes) -> float:
    """Parse a logarithm; some tools write minus infinity where others write -99."""
    value = float(field)
    return _ABSENT if value == -math.inf else value


def _single_tokens(lines: _Lines, section: _Section) -> tuple[dict[str, int], Table]:
    """Return the tokens with their numbers, ``SPECIAL`` first, and their table."""
    numbers = {token: number for number, token in enumerate(SPECIAL)}
    own = []  # index of each row
    for where, (raw,) in zip(section.numbers, section.tokens, strict=True):
        try:
            token = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise lines.damaged(where, "the token is not UTF-8 text") from error
        own.append(numbers.setdefault(UNKNOWN if token == "<UNK>" else token, len(numbers)))
    if len(set(own)) < len(own):
        seen: set[int] = set()
        for where, number in zip(section.numbers, own, strict=True):
            if number in seen and number >= len(SPECIAL):
                raise lines.damaged(where, "the token stands in the file twice")
            seen.add(number)
        # Of special tokens, which a recipe doubles as copies of <s>, the less likely one is the real one.
        order = sorted(range(len(own)), key=section.log_prob.__getitem__, reverse=True)
        own = [own[place] for place in order]
        section = section._replace(
            log_prob=[section.log_prob[place] for place in order],
            log_backoff=[section.log_backoff[place] for place in order],
        )
    log_prob, log_backoff = np.full(len(numbers), _ABSENT), np.zeros(len(numbers))
    log_prob[own] = section.log_prob
    log_backoff[own] = section.log_backoff
    last = np.arange(len(numbers))
    return numbers, Table(np.zeros_like(last), last, log_prob * math.log(10), log_backoff * math.log(10))


def _longer(
    lines: _Lines, section: _Section, order: int, tokens: dict[str, int], tables: list[Table]
) -> Table:
    """Return the table of an order above 1; ``tables`` has those of the lower orders."""
    known = {token.encode(): number for token, number in tokens.items()} | {b"<UNK>": 0}
    rows = [[known.get(token, -1) for token in gram] for gram in section.tokens]
    numbers = np.array(rows, np.int64).reshape(-1, order)
    _refuse(lines, section, (numbers < 0).max(axis=1, initial=False), "a token is not among the 1-grams")
    prefix = numbers[:, 0]
    for table, following in zip(tables[1:], numbers.T[1:], strict=False):
        keys, wanted = table.prefix * len(tokens) + table.last, prefix * len(tokens) + following
        prefix = keys.searchsorted(wanted)
        missing = np.append(keys, -1)[prefix] != wanted
        _refuse(lines, section, missing, f"its first {order - 1} tokens are not among the {order - 1}-grams")
    last = numbers[:, -1]
    sorting = np.lexsort((last, prefix))
    prefix, last = prefix[sorting], last[sorting]
    repeated = np.zeros(len(last), np.bool_)
    repeated[1:] = (prefix[1:] == prefix[:-1]) & (last[1:] == last[:-1])
    _refuse(lines, section, repeated[np.argsort(sorting)], "the n-gram occurs in the file twice")
    log_prob, log_backoff = (
        np.array(column)[sorting] * math.log(10) for column in (section.log_prob, section.log_backoff)
    )
    return Table(prefix, last, log_prob, log_backoff)


def _refuse(lines: _Lines, section: _Section, wrong: NDArray[np.bool_], what: str) -> None:
    """Raise an error for the first wrong n-gram of a section; ``wrong`` has shape (N,)."""
    if wrong.any():
        raise lines.damaged(section.numbers[int(wrong.argmax())], what)
