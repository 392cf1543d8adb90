"""Decode recordings in separate processes, so that a fault of a decoder affects one recording only.

FFmpeg, and libsndfile's readers of rare formats, are large programs that read untrusted data. A decoding
process (``audio.isolated``) receives an open file and returns samples on request, with limits on memory and
time. If it dies, its recording is refused, and the next recording gets a new process. A process that has
finished is kept for the next recording, so that a batch starts only one.
"""

from __future__ import annotations

import atexit
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from littlefoot.audio.channels import Choice
from littlefoot.audio.opened import Opened, named
from littlefoot.errors import AudioError
from littlefoot.system import machine
from littlefoot.system.processes import how_it_ended

MEMORY_BYTES = 1_000_000_000
"""Bytes of memory that decoding a recording may take."""
STEP_SECONDS = 60.0
"""Seconds that a recording may take until it is open, and for each piece."""
AVAILABLE = hasattr(socket, "send_fds")
"""Whether separate processes are supported. On Windows everything is decoded in this process."""
MOST_SAMPLES = 7 * 24 * 3600 * 48_000
"""Most samples of a recording: a week of sound at 48 kHz."""
PIECE_SAMPLES = 1 << 18
"""Most samples of one piece."""

OPENED, PIECE, END, REFUSED, FAULT = b"O", b"P", b"E", b"R", b"F"
"""Kinds of answers. The requests are OPEN (with a file), NEXT and CLOSE (without an answer)."""
OPEN, NEXT, CLOSE = b"o", b"n", b"c"
_MOST_BYTES = max(4 * PIECE_SAMPLES, 1 << 16)  # bytes of an answer
_HEADER = struct.Struct(">cI")  # the kind of a message, and its length
REMEDY = "it is damaged or malicious: export it again"
_COPIED_IN_MEMORY = 1 << 26  # bytes of a copied stream


@contextmanager
def opened(stream: BinaryIO, name: str, choice: Choice) -> Iterator[Opened]:
    """Open a recording in another process.

    Args:
        stream: a binary file that can seek; its position changes.
        name: name of the recording, for messages.

    Raises:
        AudioError: it cannot be read, or its process died or took too long; the message does not name it.
        OSError: no process can be started, or the stream cannot be copied to a file for it.
    """
    process = _take()
    try:
        rate, seconds, is_exact, channels = process.open(stream, name, choice)
        warnings: list[str] = []
        yield Opened(rate, seconds, is_exact, process.pieces(name, warnings), channels, warnings)
    finally:
        process.close_file()
        _give_back(process)


class Process:
    """A process that decodes one recording at a time. Raises OSError if it cannot be started."""

    def __init__(self, memory_bytes: int = MEMORY_BYTES, step_seconds: float = STEP_SECONDS) -> None:
        self._connection, its = socket.socketpair()
        self.step_seconds = step_seconds
        with its:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-P",
                    "-m",
                    "littlefoot.audio.isolated",
                    str(its.fileno()),
                    str(memory_bytes),
                ],
                pass_fds=(its.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": _path(), "OPENBLAS_NUM_THREADS": "1"},
                process_group=0,  # the parent handles Ctrl-C
            )

    @property
    def step_seconds(self) -> float:
        """Return the seconds that each further step may take."""
        return self._connection.gettimeout() or 0.0

    @step_seconds.setter
    def step_seconds(self, seconds: float) -> None:
        self._connection.settimeout(seconds)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def usable(self) -> bool:
        """Return True if it is ready for a recording."""
        return self._process.poll() is None

    def open(
        self, stream: BinaryIO, name: str, choice: Choice | None = None
    ) -> tuple[int, float | None, bool, int]:
        """Open a recording; return the sampling rate, the length if it is known, whether the length is
        exact, and the number of channels. Raises AudioError, OSError.
        """
        choice = choice or Choice()
        wanted = {"name": name, "channel": choice.channel, "track": choice.track}
        with _descriptor(stream) as descriptor:
            found = json.loads(self._ask(OPEN, json.dumps(wanted).encode(), descriptor)[1])
        return found["rate"], found["seconds"], found["is_exact"], found["channels"]

    def pieces(self, name: str, warnings: list[str] | None = None) -> Iterator[NDArray[np.float32]]:
        """Yield mono samples (T,) to the end, and add to ``warnings`` then.

        Raises AudioError, whose message names the recording.
        """
        left = MOST_SAMPLES
        try:
            while (answer := self._ask(NEXT))[0] == PIECE:
                samples = np.frombuffer(answer[1], np.float32)
                left -= len(samples)
                if left < 0:
                    raise AudioError(f"holds more than {MOST_SAMPLES} samples: send it in parts")
                yield samples
            if warnings is not None:
                warnings += json.loads(answer[1])
        except AudioError as error:
            raise named(error, name) from error

    def close_file(self) -> None:
        """Close the recording."""
        with suppress(OSError):  # it is dead, as the next call finds
            send(self._connection, CLOSE)

    def end(self) -> str:
        """End the process; return its exit status."""
        self._connection.close()
        try:
            self._process.wait(0.5)  # by itself, if it can
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        return how_it_ended(self._process.returncode)

    def disown(self) -> None:
        """Leave the process to the parent, after a fork."""
        self._connection.close()
        self._process.returncode = 0  # otherwise Python would wait for it and print a warning

    def _ask(self, kind: bytes, data: bytes = b"", descriptor: int | None = None) -> tuple[bytes, bytearray]:
        try:
            send(self._connection, kind, data)
            if descriptor is not None:
                socket.send_fds(self._connection, [b"f"], [descriptor])
            answer, found = receive(self._connection)
        except TimeoutError:
            self._process.kill()
            self.end()
            raise AudioError(
                f"could not be decoded: a part of it took over {self.step_seconds:g} s; {REMEDY}"
            ) from None
        except (EOFError, OSError):
            raise AudioError(
                f"could not be decoded: the process that did so ended ({self.end()}); {REMEDY}"
            ) from None
        if answer == REFUSED:
            raise AudioError(found.decode())
        if answer == FAULT:
            raise RuntimeError(found.decode())
        return answer, found


def send(connection: socket.socket, kind: bytes, data: bytes | memoryview = b"") -> None:
    """Send a message. Raises OSError."""
    connection.sendall(_HEADER.pack(kind, len(data)))
    connection.sendall(data)


def receive(connection: socket.socket) -> tuple[bytes, bytearray]:
    """Receive the kind and the data of a message. Raises EOFError, OSError."""
    kind, length = _HEADER.unpack(_exactly(connection, _HEADER.size))
    if length > _MOST_BYTES:
        raise OSError(f"a message of {length} bytes")
    return kind, _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytearray:
    data = bytearray(count)
    view = memoryview(data)
    while view:
        got = connection.recv_into(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data


@contextmanager
def _descriptor(stream: BinaryIO) -> Iterator[int]:
    """Open a file with the content of a stream, with an independent position."""
    raw = getattr(stream, "raw", stream)
    if isinstance(raw, io.FileIO) and os.path.exists(place := f"/proc/self/fd/{raw.fileno()}"):
        with open(place, "rb", 0) as file:
            yield file.fileno()
        return
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    with _temporary(size) as copy:
        shutil.copyfileobj(stream, copy)
        copy.seek(0)
        yield copy.fileno()


def _temporary(size: int) -> Any:
    if hasattr(os, "memfd_create") and size <= _COPIED_IN_MEMORY:
        return open(os.memfd_create("littlefoot"), "w+b")
    return tempfile.TemporaryFile()


def _path() -> str:
    """Return the module path of this process."""
    return os.pathsep.join(os.path.abspath(place) for place in sys.path)


# The running processes

_lock = threading.Lock()
_idle: list[Process] = []
_all: weakref.WeakSet[Process] = weakref.WeakSet()


def idle() -> list[Process]:
    """Return the processes that wait for a recording."""
    return list(_idle)


def started() -> list[Process]:
    """Return all processes that this one has started and still refers to, running or ended."""
    return list(_all)


def _take() -> Process:
    with _lock:
        while _idle:
            process = _idle.pop()
            if process.usable:
                return process
            process.end()
    process = Process()
    _all.add(process)
    return process


def prepare() -> None:
    """Start a process in advance, so that the first recording does not wait for it. Raises OSError."""
    if AVAILABLE:
        _give_back(_take())


def _give_back(process: Process) -> None:
    with _lock:
        if process.usable and len(_idle) < machine.threads():
            _idle.append(process)
            return
    process.end()


def end_idle() -> None:
    """End the processes that wait for a recording."""
    while _idle:
        _idle.pop().end()


def _forget_all() -> None:
    global _lock
    _lock = threading.Lock()
    _idle.clear()
    for process in _all:
        process.disown()


atexit.register(end_idle)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_all)
