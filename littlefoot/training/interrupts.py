"""Let a training end between two steps when the user asks for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class StopRequest:
    """The user's request to end the run."""

    requested = False


@contextmanager
def interrupts() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT instead of dying in the middle of a step; a second one does end it."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def request(number: int, frame: object) -> None:
        stop.requested = True
        signal.signal(number, previous[signal.Signals(number)])

    try:
        for number in previous:
            signal.signal(number, request)
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
