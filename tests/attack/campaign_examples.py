"""Targets that each fail in one way, at some inputs, for the tests of the campaign."""

from __future__ import annotations

import os
import signal
import time
import zlib
from collections.abc import Callable

import numpy as np
from campaign import Target

from littlefoot.errors import AudioError

GOOD = b"good" * 100
_kept = []


def fate(data: bytes) -> str:
    """What becomes of an input."""
    return "read" if data == GOOD else ("fail", "refused", "read")[zlib.crc32(data) % 3]


def _crash() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang() -> None:
    while True:
        time.process_time()


def _memory() -> None:
    _kept.append(np.ones(1_100_000_000, np.uint8))


def _exception() -> None:
    raise KeyError("nobody expects it")


def _wrong() -> None:
    raise AssertionError("4 is not 5")


def _target(fault: Callable[[], None]) -> Target:
    def attempt(data: bytes, original: bytes) -> None:
        if fate(data) == "fail":
            fault()
        if fate(data) == "refused":
            raise AudioError("refused")

    return Target(fault.__name__[1:], lambda: [GOOD], attempt)


TARGETS = [_target(fault) for fault in (_crash, _hang, _memory, _exception, _wrong)]
