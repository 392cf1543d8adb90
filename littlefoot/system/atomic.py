"""Write directories and files atomically: they appear whole or not at all."""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def directory(target: Path) -> Iterator[Path]:
    """Yield a directory to fill, which replaces ``target`` when the block ends without an error.

    A reader of ``target`` sees the old directory or the new one, even after a kill at any moment. On Linux
    the two are exchanged in one step; elsewhere there is a moment without either. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _sync(temporary)
        if not target.exists():
            temporary.replace(target)
        elif not _exchange(temporary, target):
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
            target.replace(old)
            temporary.replace(target)
            shutil.rmtree(old)
        _sync(target.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # an incomplete new directory, or the old one


@contextmanager
def file(target: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file replaces ``target`` when the block ends without an error.

    A reader of ``target`` sees the old file or the new one, even after a kill at any moment. Raises OSError.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step. Returns False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    done: int = rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return done == 0


def _sync(path: Path) -> None:
    """Flush a file, or the entries of a directory, to the disk, where the system can."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _umask() -> int:
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
