"""Run jobs in threads, with a limit on those that run and on those that wait."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from littlefoot.server.errors import ApiError

Result = TypeVar("Result")


class Jobs:
    """A limited queue in front of threads, for use from one event loop."""

    def __init__(self, parallel: int, queue: int) -> None:
        """
        Args:
            parallel: jobs that run at once.
            queue: jobs that may wait in addition.
        """
        self._executor = ThreadPoolExecutor(parallel, thread_name_prefix="littlefoot-job")
        self._parallel, self._queue = parallel, queue
        self._held = 0
        self._seconds = 1.0  # seconds of a job, a moving average

    @property
    def running(self) -> int:
        """Return the number of running jobs."""
        return min(self._held, self._parallel)

    @property
    def waiting(self) -> int:
        """Return the number of waiting jobs."""
        return self._held - self.running

    def refuse_if_full(self) -> None:
        """Raise ApiError 429 if ``run`` would."""
        if self._held >= self._parallel + self._queue:
            seconds = math.ceil(self._held * self._seconds / self._parallel)
            raise ApiError(
                429,
                f"{self.waiting} recordings wait already: try again later",
                "queue_full",
                retry_after=min(max(seconds, 1), 60),
            )

    async def run(
        self, work: Callable[[threading.Event], Result], ended: Callable[[], None] | None = None
    ) -> Result:
        """Run a job in a thread.

        Args:
            work: receives an event that is set when its result is no longer needed. A job that has not
                started by then never starts.
            ended: called when ``work`` has ended or will not start.

        Raises:
            ApiError: 429, the queue is full.
        """
        try:
            self.refuse_if_full()
        except ApiError:
            if ended is not None:
                ended()
            raise
        loop = asyncio.get_running_loop()
        stop = threading.Event()
        self._held += 1

        def timed() -> Result:
            began = time.monotonic()
            try:
                return work(stop)
            finally:
                self._seconds += 0.1 * (time.monotonic() - began - self._seconds)

        def release() -> None:
            self._held -= 1
            if ended is not None:
                ended()

        future = self._executor.submit(timed)

        def done(_: Future[Result]) -> None:
            with suppress(RuntimeError):  # the loop is closed: the server was made to stop at once
                loop.call_soon_threadsafe(release)

        future.add_done_callback(done)
        try:
            return await asyncio.wrap_future(future)
        finally:
            stop.set()

    def close(self) -> None:
        """Start no more jobs; do not wait for the running ones."""
        self._executor.shutdown(wait=False, cancel_futures=True)
