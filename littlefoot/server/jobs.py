"""Work in threads: so much at once, so much in the queue, and no more."""

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
    """A queue before threads. Used from one event loop."""

    def __init__(self, parallel: int, queue: int) -> None:
        """
        Args:
            parallel: jobs that run at once.
            queue: jobs that may wait besides.
        """
        self._executor = ThreadPoolExecutor(parallel, thread_name_prefix="littlefoot-job")
        self._parallel, self._queue = parallel, queue
        self._held = 0
        self._seconds = 1.0  # what a job takes, a moving average

    @property
    def running(self) -> int:
        """Jobs that run."""
        return min(self._held, self._parallel)

    @property
    def waiting(self) -> int:
        """Jobs in the queue."""
        return self._held - self.running

    def refuse_if_full(self) -> None:
        """Raises ApiError 429 where ``run`` would."""
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
        """Run in a thread.

        Args:
            work: gets an event that is set when nobody waits for its result any longer. A job that has not
                begun by then never does.
            ended: called in any case when ``work`` has ended or will not begin.

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
        """Begin nothing more; do not wait for what runs."""
        self._executor.shutdown(wait=False, cancel_futures=True)
