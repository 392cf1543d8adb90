"""Show progress bars on stderr, only on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from littlefoot.errors import LittlefootError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left. Yields a function that takes the number done."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    with _shown(TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def recordings(names: list[str]) -> Iterator[Meter | None]:
    """Show a bar over recordings by their sizes, with the time left; None without a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with _shown(*columns) as progress:
        yield Meter(progress, names)


class Meter:
    """Progress over recordings by bytes, whose number is known before any recording is opened."""

    def __init__(self, progress: Progress, names: list[str]) -> None:
        self._progress, self._names = progress, names
        self._sizes = [_size(name) for name in names]
        self._lengths: dict[int, float] = {}  # seconds of the recordings that were begun
        self._bytes: dict[int, float] = {}  # bytes that were processed
        self._ended: set[int] = set()
        self._task: TaskID = progress.add_task("", total=sum(self._sizes) or None)
        self._show()

    def heard(self, index: int, seconds: float) -> None:
        """Record that this many seconds of a recording are done."""
        if index not in self._lengths:
            self._lengths[index] = _length(self._names[index])
        share = min(1.0, seconds / self._lengths[index]) if self._lengths[index] else 0.0
        self._bytes[index] = share * self._sizes[index]
        self._show()

    def ended(self, index: int) -> None:
        """Record that a recording is done or has failed."""
        self._bytes[index] = self._sizes[index]
        self._ended.add(index)
        self._show()

    def _show(self) -> None:
        description = f"{len(self._ended)}/{len(self._names)} recordings"
        self._progress.update(self._task, completed=sum(self._bytes.values()), description=description)


@contextmanager
def _shown(*columns: Any) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def _size(name: str) -> int:
    try:
        return os.stat(name).st_size
    except (OSError, ValueError):
        return 0


def _length(name: str) -> float:
    """Return the seconds that the header gives, or 0 if it gives none."""
    from littlefoot.audio import reading

    try:
        return reading.duration(name, exact=False) if _size(name) else 0.0
    except LittlefootError:
        return 0.0
