"""Find the best path of a text through the frames of a recording, exactly, in little memory.

CTC collapses a path to its text (Graves et al., ICML 2006, section 4.1). The Viterbi algorithm finds the best
path over N tokens with a blank before each and after the last. A cell is a blank and the token after it.

**Memory.** The first pass keeps the scores of some frames only. The second takes the blocks between them, the
last one first, computes each again and follows its back pointers, two bits for each cell. With blocks of
about the square root of the number of frames F this takes O(sqrt(F) W) bytes for W cells.

**Time.** O(F W). Of texts up to BAND tokens all cells are computed. Of a longer one a band of W cells is
computed, which follows the best of them (as in Kürzinger et al., "CTC-segmentation of large corpora",
SPECOM 2020). The result is nevertheless the best of all paths. Scores are regrets: the loss against the best
token of every frame, so that no path gains by its future. A path that leaves the band will lose at least what
it has lost by then. If that is less than what the best path in the band loses, the band is widened, up to all
N + 1 cells.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from littlefoot.errors import EngineError

BAND = 8192
"""Cells of the first band: as many tokens as about eight minutes of speech have."""
_STEP = 64
"""Frames between two movements of the band."""
IN_MEMORY = 64 * 10**6
"""Bytes of log-posteriors beyond which they are kept in a temporary file."""

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Scores:
    """Log-posteriors (F, C) of the C tokens that a text needs, frame by frame; large ones are on the disk.

    Used as ``with contextlib.closing(Scores(...)) as scores``.
    """

    def __init__(self, columns: int) -> None:
        self.frames = 0
        self._columns = columns
        self._file = tempfile.SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - by close

    def close(self) -> None:
        """Delete the file."""
        self._file.close()

    def add(self, rows: NDArray[np.floating]) -> None:
        """Append the log-posteriors (n, C) of n frames."""
        self._file.seek(0, 2)
        self._file.write(rows.astype(np.float64).tobytes())
        self.frames += len(rows)

    def rows(self, begin: int, end: int) -> Floats:
        """Return the log-posteriors (end - begin, C) of frames."""
        size = 8 * self._columns
        self._file.seek(begin * size)
        return np.frombuffer(self._file.read((end - begin) * size)).reshape(-1, self._columns)

    def regrets(self, begin: int, end: int) -> Floats:
        """Return ``rows`` less the best of each frame, (n, C + 1); the last column is minus infinity."""
        rows = self.rows(begin, end)
        best = rows.max(axis=1, keepdims=True)
        rows = rows - np.where(np.isfinite(best), best, 0.0)
        return np.append(rows, np.full((len(rows), 1), -np.inf), axis=1)


def best_path(scores: Scores, labels: Sequence[int] | Integers, band: int = BAND) -> Integers:
    """Find the best path.

    Args:
        scores: of F frames. Column 0 is the blank.
        labels: (N,) the column of each token of the text.
        band: cells of the first band.

    Returns:
        (F,) the state of each frame: 2 i for the blank before token i, 2 i + 1 for token i. Of paths that are
        equally good, the one whose last states begin earliest.

    Raises:
        EngineError: no path has a probability above zero.
    """
    text = _Text.of(labels, scores)
    while True:
        search = BandSearch(scores, text, min(band, text.cells))
        if search.run() or search.width == text.cells:
            break
        band *= 2
    if not np.isfinite(search.regret):
        raise EngineError("every path of the text has a probability of zero: tokens of it are masked")
    return search.path()


@dataclass(frozen=True)
class _Text:
    """The N + 1 cells of a text; the last has no token."""

    labels: NDArray[np.intp]
    """(N + 1,) columns of the tokens; that of the last cell is minus infinity."""
    skip: Floats
    """(N + 1,) 0 if a token may follow the one before it without a blank, else minus infinity."""
    needed: Integers
    """(N + 1,) frames that the tokens of this cell and those after it need at least."""

    @classmethod
    def of(cls, labels: Sequence[int] | Integers, scores: Scores) -> _Text:
        columns = np.append(np.asarray(labels, np.intp), scores.rows(0, 0).shape[1])
        repeated = np.append(False, columns[1:] == columns[:-1])
        needed = np.append(np.cumsum((1 + repeated[:-1])[::-1])[::-1] - repeated[:-1], 0)
        return cls(columns, np.where(repeated, -np.inf, 0.0), needed)

    @property
    def cells(self) -> int:
        return len(self.labels)


class BandSearch:
    """One search in a band of ``width`` cells."""

    def __init__(self, scores: Scores, text: _Text, width: int) -> None:
        self.scores, self.text, self.width = scores, text, width
        self.regret = -np.inf
        """Of the best path, at most 0."""
        self._first: list[int] = []  # first cell of the band in each step of _STEP frames
        self._kept: list[tuple[Floats, Floats]] = []  # scores before the first frame of each block
        steps = max(1, round((64 * scores.frames) ** 0.5 / _STEP))  # 16 bytes a kept cell, 2 bits a frame's
        self._block = _STEP * steps
        self._escaped = -np.inf

    def run(self) -> bool:
        """Compute all frames. Returns True if no path outside of the band can be better than those inside."""
        blanks, tokens = (np.full(self.width, -np.inf) for _ in range(2))
        blanks[0] = 0.0
        first = 0
        for begin in range(0, self.scores.frames, _STEP):
            if begin:
                first = self._move(first, begin, blanks, tokens)
            self._first.append(first)
            if begin % self._block == 0:
                self._kept.append((blanks.copy(), tokens.copy()))
            self._advance(begin, blanks, tokens)
        if first + self.width == self.text.cells:
            self.regret = float(max(blanks[-1], tokens[-2] if self.width > 1 else -np.inf))
        return self._escaped <= self.regret and np.isfinite(self.regret)

    def path(self) -> Integers:
        """Return the states (F,) of the best path."""
        states = np.empty(self.scores.frames, np.int64)
        cell, on_token = self.text.cells - 1, False
        for number in range(len(self._kept) - 1, -1, -1):
            start = number * self._block
            blanks, tokens = (kept.copy() for kept in self._kept[number])
            stop = min(start + self._block, self.scores.frames)
            pointers = np.empty((stop - start, 2, (self.width + 7) // 8), np.uint8)
            for begin in range(start, stop, _STEP):
                first = self._first[begin // _STEP]
                if begin > start:
                    _shift(first - self._first[begin // _STEP - 1], blanks, tokens)
                self._advance(begin, blanks, tokens, pointers[begin - start :])
            if stop == self.scores.frames and self.width > 1 and tokens[-2] > blanks[-1]:
                cell, on_token = cell - 1, True
            for frame in range(stop - 1, start - 1, -1):
                states[frame] = 2 * cell + on_token
                bit = cell - self._first[frame // _STEP]
                steps, moves = pointers[frame - start, :, bit >> 3] >> (7 - (bit & 7)) & 1
                if not on_token:
                    cell, on_token = (cell - 1, True) if steps else (cell, False)
                elif moves:
                    cell, on_token = (cell - 1, True) if steps and not self.text.skip[cell] else (cell, False)
        return states

    def _move(self, first: int, frame: int, blanks: Floats, tokens: Floats) -> int:
        """Let the band follow the best cell, and the last that can still reach the end. Returns its first."""
        last = self.text.cells - self.width
        if first == last:
            return first
        best = first + int(np.maximum(blanks, tokens).argmax())
        left = self.scores.frames - frame - _STEP
        late = self.text.cells - int(np.searchsorted(self.text.needed[::-1], left, side="right"))
        moved = max(first, min(last, max(best, late) - self.width // 2))
        if moved > first:
            count = moved - first
            self._escaped = max(self._escaped, float(blanks[:count].max()), float(tokens[:count].max()))
            _shift(count, blanks, tokens)
        return moved

    def _advance(
        self, begin: int, blanks: Floats, tokens: Floats, pointers: NDArray[np.uint8] | None = None
    ) -> None:
        """Compute the scores after a step's frames, in place.

        ``pointers`` (n, 2, bytes) receives the bits of each frame: that the token before is better than the
        blank, and that what comes into the token is better than to stay in it.
        """
        end = min(begin + _STEP, self.scores.frames)
        cells = slice(self._first[begin // _STEP], self._first[begin // _STEP] + self.width)
        labels, skip = self.text.labels[cells], self.text.skip[cells]
        open_end = cells.stop < self.text.cells
        before, entering, emitted = (np.full(self.width, -np.inf) for _ in range(3))
        for frame, row in enumerate(self.scores.regrets(begin, end)):
            if open_end and pointers is None:
                self._escaped = max(self._escaped, float(tokens[-1]))
            before[1:] = tokens[:-1]
            np.add(before, skip, out=entering)
            np.maximum(blanks, entering, out=entering)
            if pointers is not None:
                pointers[frame, 0] = np.packbits(before > blanks)
                pointers[frame, 1] = np.packbits(entering > tokens)
            np.maximum(blanks, before, out=blanks)
            blanks += row[0]
            np.maximum(tokens, entering, out=tokens)
            tokens += np.take(row, labels, out=emitted, mode="clip")


def _shift(count: int, blanks: Floats, tokens: Floats) -> None:
    """Move the band's first cell forward by ``count``."""
    for values in (blanks, tokens):
        if count:
            values[: max(0, len(values) - count)] = values[count:].copy()
            values[max(0, len(values) - count) :] = -np.inf
