"""Functions for worker processes of ``multiprocessing``."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Block Ctrl-C while worker processes start; the parent receives it afterwards.

    A process that is started inside the block ignores Ctrl-C from its beginning, also while it imports.
    """
    if sys.platform == "win32":
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # now: it would undo what follows
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def follow_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and end this process when the parent ends.

    Call this first in a worker process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def how_it_ended(code: int | None) -> str:
    """Describe a process's exit code in words."""
    if code is None or code >= 0:
        return f"exit code {code}"
    name = signal.Signals(-code).name
    return f"{name}, as the system does when memory is short" if name == "SIGKILL" else name


def end_group(pid: int, kill: bool = False) -> None:
    """Ask the processes of a group to end, or ``kill`` them. On Windows the first of them is killed."""
    if sys.platform == "win32":
        os.kill(pid, signal.SIGTERM)
    else:
        os.killpg(pid, signal.SIGKILL if kill else signal.SIGTERM)


def _end_with_parent() -> None:
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
