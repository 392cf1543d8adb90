"""Functions for worker processes of ``multiprocessing``."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading


def follow_parent() -> None:
    """Ignore Ctrl-C, which the parent handles, and end this process when the parent ends.

    Call this first in a worker process.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def how_it_ended(code: int | None) -> str:
    """Describe a process's exit code in words."""
    if code == -signal.SIGKILL:
        return "SIGKILL, as the system does when memory is short"
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
