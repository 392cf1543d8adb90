"""Order the utterances of an epoch in batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Draw:
    """One utterance's turn in an epoch."""

    index: int
    """Index of the utterance in the training set."""
    turn: int
    """Counts the turns of the same utterance in the same epoch."""
    speed: float


Turn = tuple[int, Sequence[Draw]]
"""An epoch's number, and one of its batches."""


class Epoch(Sequence[list[Draw]]):
    """The batches of an epoch, kept as arrays; ``begins`` (N + 1,) are the indices of their first draws."""

    def __init__(
        self,
        index: npt.NDArray[np.int64],
        turn: npt.NDArray[np.int64],
        speed: npt.NDArray[np.float64],
        begins: npt.NDArray[np.int64],
        order: npt.NDArray[np.int64],
    ) -> None:
        self._index, self._turn, self._speed = index, turn, speed
        self._begins, self._order = begins, order

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, number: int) -> list[Draw]: ...
    @overload
    def __getitem__(self, number: slice) -> Epoch: ...
    def __getitem__(self, number: int | slice) -> list[Draw] | Epoch:
        if isinstance(number, slice):
            return Epoch(self._index, self._turn, self._speed, self._begins, self._order[number])
        batch = self._order[number]
        draws = slice(self._begins[batch], self._begins[batch + 1])
        columns = self._index[draws].tolist(), self._turn[draws].tolist(), self._speed[draws].tolist()
        return [Draw(*values) for values in zip(*columns, strict=True)]


def fill(padded: list[float], limit: float) -> npt.NDArray[np.int64]:
    """Find where batches of ascending lengths begin, and the end. As many as fit into ``limit`` share one."""
    begins = [0]
    for i, length in enumerate(padded):
        if i > begins[-1] and length * (i - begins[-1] + 1) > limit:
            begins.append(i)
    return np.array([*begins, len(padded)])


def shuffled(batches: npt.NDArray[np.int64], parts: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Shuffle the steps, each of ``parts`` neighbouring batches; the few that fill no step come last."""
    left = len(batches) % parts
    begin = rng.integers(len(batches) - left + 1)
    steps = np.delete(batches, slice(begin, begin + left)).reshape(-1, parts)
    rng.shuffle(steps)
    return np.concatenate([steps.ravel(), batches[begin : begin + left]])
