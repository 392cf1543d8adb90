"""Run workers as processes of this machine."""

from __future__ import annotations

import multiprocessing
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from typing import Any

from littlefoot.errors import LittlefootError
from littlefoot.label.job import Job, Label, Task
from littlefoot.label.worker import Worker
from littlefoot.system.processes import deaf_to_interrupts, follow_parent, how_it_ended

READY = "ready"


def run(
    job: Job, tasks: Sequence[Task], lost: Callable[[str], None], *, workers: int, retries: int
) -> Iterator[tuple[int, list[Label]]]:
    """Yield shards with the labels of their tasks' rows, as they are finished.

    A worker that dies is replaced, and another one continues with the same recording. If more than
    ``retries`` workers die at a recording, its label is this error. ``lost`` is called for every death.

    Raises LittlefootError if no worker can load the model.
    """
    context = multiprocessing.get_context("spawn")
    board = _Board(job, tasks, retries, lost)
    pool = [_Process(context, job) for _ in range(min(workers, len(tasks)))]
    in_vain = 0  # deaths since a worker last loaded the model
    try:
        while True:
            yield from board.finished()
            for each in pool:
                if each.idle and board.waiting:
                    each.give(board.waiting.popleft())
            if not board.waiting and all(each.task is None for each in pool):
                return
            for ready in connection.wait([each.connection for each in pool]):
                each = next(each for each in pool if each.connection is ready)
                try:
                    message = each.connection.recv()
                except (EOFError, OSError):
                    pool.remove(each)
                    how = each.end()
                    if not each.loaded:
                        in_vain += 1
                        board.lost(f"a worker process ended while it loaded the model ({how})")
                        if in_vain > retries:
                            raise LittlefootError(
                                f"{in_vain} worker processes ended while they loaded the model, the last"
                                f" by {how}: try fewer --workers"
                            ) from None
                    elif each.task is not None:
                        board.died(each.task, how)
                    pool.append(_Process(context, job))
                    continue
                if isinstance(message, LittlefootError):
                    raise message
                if isinstance(message, Label):
                    assert each.task is not None
                    each.task = board.note(each.task, message)
                else:
                    each.loaded, in_vain = True, 0
    finally:
        for each in pool:
            each.connection.close()  # all of them at once
        for each in pool:
            each.end()


class _Board:
    """The tasks, with the rows that are done."""

    def __init__(self, job: Job, tasks: Sequence[Task], retries: int, lost: Callable[[str], None]) -> None:
        self.waiting = deque(tasks)
        self.lost = lost
        self._corpus, self._retries = job.corpus, retries
        self._labels: dict[int, list[Label]] = {}  # rows of shards in work
        self._complete: list[int] = []
        self._deaths: Counter[int] = Counter()  # deaths at each row

    def note(self, task: Task, label: Label) -> Task | None:
        """Record that the first row of a task is done; return the rest of the task."""
        self._labels.setdefault(task.shard, []).append(label)
        if len(task.rows) > 1:
            return replace(task, rows=task.rows[1:])
        self._complete.append(task.shard)
        return None

    def died(self, task: Task, how: str) -> None:
        """Record that a worker died at the first row of a task. The rest is done next, perhaps without this
        row.
        """
        row = task.rows[0]
        utterance = self._corpus[row]
        self._deaths[row] += 1
        self.lost(f"a worker process ended ({how}) at {utterance.id}, {utterance.path}")
        left: Task | None = task
        if self._deaths[row] > self._retries:
            error = f"{utterance.path}: {died_at(self._deaths[row])}, the last by {how}"
            left = self.note(task, Label(row, utterance.id, error=error))
        if left is not None:
            self.waiting.appendleft(left)

    def finished(self) -> Iterator[tuple[int, list[Label]]]:
        """Return the shards that were completed since the last call, with their labels."""
        while self._complete:
            shard = self._complete.pop()
            yield shard, self._labels.pop(shard)


def died_at(times: int) -> str:
    """Return the error of a recording at which workers died."""
    return f"{times} worker processes ended while they transcribed it"


class _Process:
    """A worker in a process of its own."""

    def __init__(self, context: Any, job: Job) -> None:
        self.loaded = False
        self.task: Task | None = None
        """The current task, without the finished rows."""
        self.connection, its = context.Pipe()
        self._process = context.Process(target=_serve, args=(job, its), daemon=True)
        with deaf_to_interrupts():
            self._process.start()
        its.close()  # otherwise the end of the process would not be noticed

    @property
    def idle(self) -> bool:
        return self.loaded and self.task is None

    def give(self, task: Task) -> None:
        """Send a task. A worker that has died is noticed when its answer is read."""
        self.task = task
        with suppress(OSError):
            self.connection.send(task.rows)

    def end(self) -> str:
        """End the process; return its exit status."""
        self.connection.close()
        self._process.join(1)  # by itself, if it can
        self._process.kill()
        self._process.join()
        return how_it_ended(self._process.exitcode)


def _serve(job: Job, driver: Connection) -> None:
    """Receive rows and send their labels, until the driver ends."""
    follow_parent()
    with suppress(EOFError, OSError):
        try:
            worker = Worker(job)
        except LittlefootError as error:
            driver.send(LittlefootError(str(error)))  # some errors cannot be pickled
            return
        driver.send(READY)
        while True:
            for row in driver.recv():
                driver.send(worker.label(row))
