"""Write directories and files atomically: they appear whole or not at all."""

from __future__ import annotations

import ctypes
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_SUFFIX = ".unfinished"
"""Suffix of unfinished files and directories, which no name that a user gives is likely to have."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def directory(target: Path) -> Iterator[Path]:
    """Yield a directory to fill, which replaces ``target`` when the block ends without an error.

    A reader of ``target`` sees the old directory or the new one, even after a kill at any moment. On Linux
    the two are exchanged in one step; elsewhere there is a moment without either. Raises OSError.
    """
    with _claimed(target, lambda prefix, parent: tempfile.mkdtemp("", prefix, parent)) as temporary:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _sync(temporary)
        if not target.exists():
            temporary.replace(target)
        elif not _exchange(temporary, target):
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))  # stays after a kill
            target.replace(old)
            temporary.replace(target)
            shutil.rmtree(old)
        _sync(target.parent)


@contextmanager
def file(target: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file replaces ``target`` when the block ends without an error.

    A reader of ``target`` sees the old file or the new one, even after a kill at any moment. Raises OSError.
    """
    with _claimed(target, _empty_file) as temporary:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        _sync(temporary)
        temporary.replace(target)
        _sync(target.parent)


def _empty_file(prefix: str, parent: Path) -> str:
    descriptor, name = tempfile.mkstemp("", prefix, parent)
    os.close(descriptor)
    return name


@contextmanager
def _claimed(target: Path, make: Callable[[str, Path], str]) -> Iterator[Path]:
    """Yield a new path beside ``target``, which is removed at the end if it still exists.

    Paths that killed processes left behind are removed too: no process holds a lock on them any more.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{_SUFFIX}"):
        lock = _lock(left)
        if lock is not None:
            _remove(left)
            os.close(lock)
    unclaimed = Path(make(f".new{_SUFFIX}-", target.parent))
    lock = _lock(unclaimed)
    place = unclaimed.with_name(
        f".{target.name}.{unclaimed.name[-8:]}{_SUFFIX}"
    )  # from now on it may be found
    try:
        unclaimed.rename(place)
        yield place
    finally:
        _remove(unclaimed)
        _remove(place)  # an incomplete new directory, or the old one
        if lock is not None:
            os.close(lock)


def _lock(place: Path) -> int | None:
    """Return a descriptor that holds a lock until it is closed, or None if locking is impossible."""
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        descriptor = os.open(place, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(place: Path) -> None:
    if place.is_dir():
        shutil.rmtree(place, ignore_errors=True)
    else:
        place.unlink(missing_ok=True)


def _exchange(first: Path, second: Path) -> bool:
    """Swap two directories in one step. Returns False if the system or the file system cannot."""
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
