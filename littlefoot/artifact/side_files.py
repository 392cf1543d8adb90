"""Read files of a model's directory safely, since the directory may come from anywhere.

A file is read if it is a regular file in the directory itself and has at most LIMIT bytes. A link must end in
the directory too, or in the ``blobs`` of the Hugging Face cache that the directory belongs to, where the
files of a snapshot are links to blobs.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePath

from littlefoot.errors import ArtifactError

LIMIT = 64_000_000
"""Most bytes of a file beside the weights; the vocabularies of a thousand languages have two million."""


def checked(directory: Path, name: str) -> Path:
    """Return the path of a file that may be read. Raises ArtifactError that names it otherwise."""
    if PurePath(name).name != name or name in ("", "..") or "\\" in name or "\0" in name:
        raise ArtifactError(f"{name!r}: a model's files lie in its directory, and this name leads elsewhere")
    path = directory / name
    try:
        real, home = path.resolve(strict=True), directory.resolve(strict=True)
        mode = real.stat().st_mode
    except FileNotFoundError as error:
        raise ArtifactError(f"{name} is missing") from error
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle
        reason = error.strerror if isinstance(error, OSError) else "its links go in a circle"
        raise ArtifactError(f"{name} cannot be read: {reason}") from error
    snapshots = [place.parent for place in (home, home.parent) if place.parent.name == "snapshots"]
    blobs = snapshots[0].parent / "blobs" if snapshots else home
    if not (real.is_relative_to(home) or real.is_relative_to(blobs)):
        raise ArtifactError(
            f"{name} is a link to {real}, outside of the model's directory: if it is meant, put a copy there"
        )
    if not stat.S_ISREG(mode):
        raise ArtifactError(f"{name} is a directory, device or pipe, not a file")
    return path


def read(directory: Path, name: str, limit: int = LIMIT) -> bytes:
    """Read a file. Raises ArtifactError that names it if it is missing or must not be read."""
    path = checked(directory, name)
    try:
        with open(path, "rb", opener=_open_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise ArtifactError(f"{name} is a directory, device or pipe, not a file")
            content = file.read(limit + 1)
    except OSError as error:
        raise ArtifactError(f"{name} cannot be read: {error.strerror}") from error
    if len(content) > limit:
        raise ArtifactError(
            f"{name} is larger than {limit / 1e6:.0f} MB, which no model needs: it is damaged"
        )
    return content


def _open_at_once(path: str, flags: int) -> int:
    """Open a file without waiting for the other end, in case it has become a pipe in the meantime."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))
