"""Wait for a quiet machine, because speeds measured beside other programs are not meaningful."""

from __future__ import annotations

import os
import time
from pathlib import Path

from littlefoot.errors import LittlefootError
from littlefoot.system import machine

THRESHOLD = 0.1
"""Share of the processor threads that other programs may use."""
WINDOW = 0.5
"""Seconds over which their use is counted."""
PATIENCE = 60.0
"""Seconds to wait until they use less."""

STATISTICS = Path("/proc/stat")


class BusyError(LittlefootError):
    """Raised if other programs use the processor for too long."""


def wait() -> float | None:
    """Wait until other programs leave the processor alone.

    Returns the share of the processor threads that they used in the last window, in 0 ... 1; None if the
    system does not tell. Raises BusyError after ``PATIENCE`` seconds.
    """
    end = time.monotonic() + PATIENCE
    while (found := others()) is not None and found > THRESHOLD:
        if time.monotonic() > end:
            raise BusyError(
                f"other programs use {found * machine.threads():.1f} of {machine.threads()} processor "
                "threads, which makes speeds meaningless: end them, or measure nevertheless, with --busy"
            )
    return found


def others() -> float | None:
    """Return the share of this process's processor threads that others use; call it without workers.

    Time that a hypervisor gives to other machines counts too.
    """
    before = _busy_seconds()
    own, start = time.process_time(), time.perf_counter()
    time.sleep(WINDOW)
    after = _busy_seconds()
    if before is None or after is None:
        return None
    own, wall = time.process_time() - own, time.perf_counter() - start
    return max(0.0, after - before - own) / (wall * machine.threads())


def _busy_seconds() -> float | None:
    """Return the time in which the processor threads of this process were not idle; None if unknown."""
    try:
        lines = STATISTICS.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    if (numbers := machine.processors()) is None:
        return None
    usable = {f"cpu{number}" for number in numbers}
    ticks = 0
    for name, *values in (line.split() for line in lines if line.startswith("cpu")):
        if name in usable:
            user, nice, system, _idle, _waiting, *rest = map(int, values[:8])
            ticks += user + nice + system + sum(rest)
    return ticks / os.sysconf("SC_CLK_TCK")
