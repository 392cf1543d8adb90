"""Decode recordings for another process: the child of ``littlefoot.audio.isolation``."""

from __future__ import annotations

import json
import os
import socket
import sys
from contextlib import suppress
from typing import Any

import numpy as np

from littlefoot.audio import decoding
from littlefoot.audio.channels import Choice
from littlefoot.audio.isolation import (
    END,
    FAULT,
    NEXT,
    OPEN,
    OPENED,
    PIECE,
    PIECE_SAMPLES,
    REFUSED,
    REMEDY,
    receive,
    send,
)
from littlefoot.audio.opened import in_blocks
from littlefoot.errors import AudioError, MissingExtraError


def main() -> None:
    """Serve requests. Arguments: file descriptor of the connection, and bytes of memory for a recording."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    memory_bytes = int(sys.argv[2])
    decoding.load_decoders()
    _limit(memory_bytes)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libmpg123 prints a line for every irregular frame
    with suppress(EOFError, ConnectionError):  # the parent has ended
        while True:
            kind, data = receive(connection)
            if kind != OPEN:  # the file is closed already
                continue
            wanted = json.loads(data)
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 1)
            try:
                _decode(connection, descriptors[0], wanted)
            except (AudioError, MissingExtraError) as error:
                _answer(connection, REFUSED, str(error))
            except MemoryError:
                most = f"{memory_bytes / 1e6:g} MB"
                _answer(connection, REFUSED, f"takes more than {most} of memory to decode; {REMEDY}")
            except (EOFError, ConnectionError):
                raise
            except Exception as error:
                _answer(connection, FAULT, f"{type(error).__name__}: {error}")


def _decode(connection: socket.socket, descriptor: int, wanted: dict[str, Any]) -> None:
    choice = Choice(wanted["channel"], wanted["track"])
    with open(descriptor, "rb") as stream, decoding.opened(stream, wanted["name"], choice) as recording:
        found = {
            **{"rate": recording.rate, "seconds": recording.seconds},
            **{"is_exact": recording.is_exact, "channels": recording.channels},
        }
        send(connection, OPENED, json.dumps(found).encode())
        pieces = in_blocks(recording.pieces, PIECE_SAMPLES)
        while receive(connection)[0] == NEXT:
            piece = next(pieces, None)
            if piece is None:
                send(connection, END, json.dumps(recording.warnings).encode())
            else:
                send(connection, PIECE, piece.astype(np.float32, copy=False).tobytes())


def _answer(connection: socket.socket, kind: bytes, text: str) -> None:
    send(connection, kind, text[:10_000].encode("utf-8", "backslashreplace"))


def _limit(memory_bytes: int) -> None:
    """Limit the further memory in bytes, and write no core dump, where the system supports this."""
    if sys.platform != "linux":
        return
    import resource

    with open("/proc/self/statm", "rb") as file:
        pages = int(file.read().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + memory_bytes, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


if __name__ == "__main__":
    main()
