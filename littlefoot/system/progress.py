"""Report the progress of long work in words: a line now and then, with the time left."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from littlefoot.system.amounts import in_time

FIRST_SECONDS, SECONDS = 10.0, 30.0
"""Time before the first line and between two lines. Short work reports nothing."""

T = TypeVar("T")


class Pace:
    """Report the progress of work every SECONDS, with an estimate of the time left if its amount is known."""

    def __init__(self, label: str, total: float | None, tell: Callable[[str], None]) -> None:
        """``total`` is None for an unknown amount; ``tell`` gets the lines."""
        self.label, self.total, self._tell = label, total, tell
        self._began = time.monotonic()
        self._next = self._began + FIRST_SECONDS

    def update(self, done: float, shown: str | None = None) -> None:
        """Report that ``done`` of the total is complete, as ``shown``, if the last line is old enough."""
        now = time.monotonic()
        if now < self._next or not 0 < done < (math.inf if self.total is None else self.total):
            return
        self._next = now + SECONDS
        if self.total is None:
            self._tell(f"{self.label}: {shown or done}")
            return
        left = (now - self._began) / done * (self.total - done)
        self._tell(f"{self.label}: {shown or f'{done} of {self.total}'}, about {in_time(left)} left")


def tracked(items: Iterable[T], total: int, label: str, tell: Callable[[str], None]) -> Iterator[T]:
    """Yield ``total`` items and report the progress. An item is complete when the next one is taken."""
    pace = Pace(label, total, tell)
    for done, item in enumerate(items):
        pace.update(done)
        yield item
