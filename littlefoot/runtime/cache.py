"""Cache compiled models on disk by the digest of their content, so that a second start is fast."""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import tempfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from platformdirs import user_cache_path

from littlefoot.artifact import Artifact
from littlefoot.system import machine

LIMIT_BYTES = 4_000_000_000
"""Size of the cache beyond which the oldest entries are removed."""

_CHECKSUM_BYTES = 4

mappings: dict[tuple[int, int, int], mmap.mmap] = {}
"""Every mapped entry, by device, inode and size, until the process ends.

An engine reads the memory until its last object is freed, but keeps no reference to it, so there is no safe
time to unmap it. Pages that are not read cost no memory, and two engines of one model share theirs.
"""

_GRAPH_SOURCES = (
    "network/*.py",
    "runtime/onnx_ops.py",
    "runtime/graph.py",
    "runtime/saturation.py",
)


def directory() -> Path:
    """Return ``$LITTLEFOOT_CACHE``, or ``littlefoot`` where the system keeps the user's caches.

    On Linux that is ``$XDG_CACHE_HOME`` or ``~/.cache``.
    """
    if chosen := os.environ.get("LITTLEFOOT_CACHE"):
        return Path(chosen)
    return user_cache_path("littlefoot", appauthor=False)


def key(artifact: Artifact, engine: str, **settings: Any) -> str:
    """Compute a digest of everything that a compiled model depends on.

    These are the weights, the architecture, the engine's version and settings, and the code that emits the
    graph.

    Args:
        engine: name of the engine's package.
    """
    digest = hashlib.sha256()
    package = Path(__file__).parent.parent
    for source in graph_sources(package):
        digest.update(source.read_bytes())
    digest.update(str(machine.package_version(engine)).encode())
    architecture = {k: v for k, v in artifact.config.to_dict().items() if k != "littlefoot"}
    digest.update(json.dumps([architecture, settings], sort_keys=True, default=str).encode())
    digest.update(artifact.weights_digest.encode())
    return digest.hexdigest()[:32]


def graph_sources(package: Path) -> list[Path]:
    """List the modules of the package that a graph depends on."""
    return [source for pattern in _GRAPH_SOURCES for source in sorted(package.glob(pattern))]


def load(name: str) -> npt.NDArray[np.uint8] | None:
    """Return the bytes (N,) of an entry, or None if it is absent or damaged.

    The bytes are mapped from the disk and stay valid until the process ends. Loading marks the entry as
    recently used.
    """
    path = directory() / name
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            identity = (stat.st_dev, stat.st_ino, stat.st_size)
            if identity not in mappings:
                mappings[identity] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        data = np.frombuffer(mappings[identity], np.uint8)
    except (OSError, ValueError):  # ValueError: an empty file
        return None
    if bytes(data[:_CHECKSUM_BYTES]) != _checksum(data[_CHECKSUM_BYTES:]):
        discard(name)
        return None
    with suppress(OSError):  # the cache may be read-only
        path.touch()
    return data[_CHECKSUM_BYTES:]


def names(suffix: str) -> list[str]:
    """List the entries whose names have a suffix."""
    with suppress(OSError):
        return sorted(path.name for path in directory().glob(f"*{suffix}"))
    return []


def release(name: str) -> None:
    """Release the memory of a mapped entry. Pages that are read again are loaded from the disk again."""
    with suppress(OSError):
        stat = (directory() / name).stat()
        mapping = mappings.get((stat.st_dev, stat.st_ino, stat.st_size))
        if mapping is not None and hasattr(mmap, "MADV_DONTNEED"):
            mapping.madvise(mmap.MADV_DONTNEED)


def store(name: str, data: bytes) -> None:
    """Store an entry. Nothing is stored if the cache cannot be written; the next start compiles again."""
    folder = directory()
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
            temporary = Path(file.name)
            file.write(_checksum(np.frombuffer(data, np.uint8)))
            file.write(data)
        temporary.replace(folder / name)
        _prune(folder)
    except OSError:
        if temporary is not None:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def discard(name: str) -> None:
    """Remove an unusable entry."""
    with suppress(OSError):
        (directory() / name).unlink(missing_ok=True)


def _checksum(data: npt.NDArray[np.uint8]) -> bytes:
    """Compute a checksum. Engines do not detect a damaged entry and would compute wrong numbers with it."""
    return zlib.crc32(data.data).to_bytes(_CHECKSUM_BYTES, "little")


def _prune(folder: Path) -> None:
    entries = sorted(((path.stat(), path) for path in folder.iterdir()), key=lambda e: -e[0].st_mtime)
    total = 0
    for stat, path in entries:
        total += stat.st_size
        if total > LIMIT_BYTES:
            path.unlink(missing_ok=True)
