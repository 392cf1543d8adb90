"""Run a model in a separate process, so that its failure does not affect the others."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from littlefoot.errors import LittlefootError
from littlefoot.system.processes import how_it_ended

TIMEOUT_SECONDS = 900.0
"""Seconds without an answer after which a model counts as dead."""


class EntryError(LittlefootError):
    """Raised if a model fails to load, crashes or does not answer."""


class Process:
    """A worker (``littlefoot.bench.worker``), which ends with the ``with`` statement."""

    def __init__(self, cache: Path, timeout: float = TIMEOUT_SECONDS) -> None:
        """Start a worker; ``cache`` is the directory of its compiled models."""
        self._timeout = timeout
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed in __exit__)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "littlefoot.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env={**os.environ, "LITTLEFOOT_CACHE": str(cache)},
        )
        self.pid = self._process.pid
        self._received = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._errors):
            if file is not None:
                try:
                    file.close()
                except BrokenPipeError:  # it ended before it read the request
                    continue

    def ask(self, do: str, **arguments: Any) -> Any:
        """Call a method of the worker and return its result.

        Raises EntryError if it fails, or if the process ends or does not answer in time.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._ended(do) from None
        answer = json.loads(self._line(do))
        if "error" in answer:
            raise EntryError(answer["error"])
        return answer["result"]

    def _line(self, do: str) -> bytes:
        """Read the next answer."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        end = time.monotonic() + self._timeout
        with selectors.DefaultSelector() as selector:
            selector.register(descriptor, selectors.EVENT_READ)
            while b"\n" not in self._received:
                if not selector.select(max(0.0, end - time.monotonic())):
                    self._process.kill()
                    raise EntryError(f"no answer to '{do}' within {self._timeout:g} s")
                data = os.read(descriptor, 1 << 16)
                if not data:
                    raise self._ended(do)
                self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line

    def _ended(self, do: str) -> EntryError:
        code = self._process.wait()
        size = self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, size - 2000))
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        said = f": {lines[-1].strip()}" if lines else ""
        return EntryError(f"its process ended during '{do}' ({how_it_ended(code)}){said}")
