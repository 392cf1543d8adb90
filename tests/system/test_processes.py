"""Worker processes leave Ctrl-C to their parent from their first moment on."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from littlefoot.system.processes import deaf_to_interrupts


def is_deaf(pid: int) -> bool:
    """Whether a process blocks SIGINT."""
    status = Path(f"/proc/{pid}/status").read_text()
    blocked = next(line for line in status.splitlines() if line.startswith("SigBlk:"))
    return bool(int(blocked.split()[1], 16) >> (signal.SIGINT - 1) & 1)


def test_a_worker_is_deaf_before_it_has_imported_anything() -> None:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    with deaf_to_interrupts():
        process.start()
    try:
        assert is_deaf(process.pid or 0)
        assert not is_deaf(os.getpid())
        os.kill(process.pid or 0, signal.SIGINT)
        process.join(0.5)
        assert process.exitcode is None
    finally:
        process.kill()
        process.join()


def test_the_parent_hears_afterwards_what_came_meanwhile() -> None:
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)  # the background may ignore it
    try:
        with pytest.raises(KeyboardInterrupt), deaf_to_interrupts():
            os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, previous)
