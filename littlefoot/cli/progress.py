"""Show progress on stderr: a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import typer

from littlefoot.errors import LittlefootError
from littlefoot.system.progress import Pace

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@contextmanager
def bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress and the time left. Yields a function that takes the number done."""
    if not sys.stderr.isatty():
        yield Pace(label, total, tell).update
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    with _shown(TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def counter(label: str) -> Iterator[Callable[[int], None]]:
    """Show the progress of work whose amount is unknown. Yields a function that takes the number done."""
    if not sys.stderr.isatty():
        yield Pace(label, None, tell).update
        return
    from rich.progress import SpinnerColumn, TextColumn, TimeElapsedColumn

    with _shown(
        SpinnerColumn(), TextColumn("{task.completed:.0f} " + label), TimeElapsedColumn()
    ) as progress:
        task = progress.add_task(label, total=None)
        yield lambda done: progress.update(task, completed=done)


@contextmanager
def recordings(names: list[str]) -> Iterator[Meter]:
    """Show the progress over recordings by their sizes, with the time left."""
    if not sys.stderr.isatty():
        yield Meter(names, Lines())
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with _shown(*columns) as progress:
        yield Meter(names, Bar(progress))


class Display(Protocol):
    """A way to show progress."""

    def show(self, done: float, total: float, text: str) -> None: ...


class Bar:
    """A bar with a text before it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task: TaskID = progress.add_task("", total=None)

    def show(self, done: float, total: float, text: str) -> None:
        self._progress.update(self._task, completed=done, total=total or None, description=text)


class Lines:
    """A line on stderr now and then."""

    def __init__(self) -> None:
        self._pace = Pace("transcribing", 0, tell)

    def show(self, done: float, total: float, text: str) -> None:
        self._pace.total = total
        self._pace.update(done, f"{text}, {100 * done / max(total, 1):.0f} %")


class Meter:
    """Progress over recordings by bytes, whose number is known before any recording is opened."""

    def __init__(self, names: list[str], display: Display) -> None:
        self._names, self._display = names, display
        self._sizes = [_size(name) for name in names]
        self._lengths: dict[int, float] = {}  # seconds of the recordings that were begun
        self._bytes: dict[int, float] = {}  # bytes that were processed
        self._ended: set[int] = set()
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
        text = f"{len(self._ended)}/{len(self._names)} recordings"
        self._display.show(sum(self._bytes.values()), sum(self._sizes), text)


@contextmanager
def _shown(*columns: Any) -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield progress


def tell(message: object) -> None:
    """Print a message to stderr."""
    typer.echo(f"littlefoot: {message}", err=True)


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
