"""Directories and files that appear whole or not at all."""

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
"""Of what is being written: its name is then surely not one that a user gave."""
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def directory(target: Path) -> Iterator[Path]:
    """A directory to fill, which takes the place of ``target`` when the block ends without an error.

    Whoever looks at ``target``, after a kill at any moment too, finds the old directory or the new one:
    on Linux the two are exchanged in one step, elsewhere there is a moment without either. Raises OSError.
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
    """A path to write to, whose file takes the place of ``target`` when the block ends without an error.

    Whoever looks at ``target``, after a kill at any moment too, finds the old file or the new one. Raises
    OSError.
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
    """A new place beside ``target``, which is removed at the end if it is still there. So are those that
    processes left behind that were killed: nobody holds a lock on them any longer."""
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
        _remove(place)  # half of the new one, or the old one
        if lock is not None:
            os.close(lock)


def _lock(place: Path) -> int | None:
    """A descriptor that holds a lock until it or its process ends; None where there can be no lock."""
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
    """Swap two directories in one step; False where the system or the file system cannot."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    if rename is None:
        return False
    done: int = rename(_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return done == 0


def _sync(path: Path) -> None:
    """Make sure that a file or a directory's entries are on the disk, where the system can."""
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
