"""Write and verify the list of the checksums of all files of an artifact, ``littlefoot.sha256``.

The list has the form of the command sha256sum, so that ``sha256sum -c littlefoot.sha256`` verifies a
directory too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from littlefoot.artifact import side_files
from littlefoot.errors import ArtifactError

NAME = "littlefoot.sha256"

AGAIN = "get or make the artifact again"

_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")


def of_file(path: Path) -> str:
    """Compute a file's SHA-256, as hexadecimal digits. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def listing(digests: Mapping[str, str]) -> str:
    """Write the content of a list of checksums, which are given by the names of their files."""
    return "".join(f"{digests[name]}  {name}\n" for name in sorted(digests))


def read(directory: Path) -> dict[str, str] | None:
    """Read the checksums by the names of their files; None if there is no list.

    Raises ArtifactError for a damaged list.
    """
    if not (directory / NAME).exists():
        return None
    digests: dict[str, str] = {}
    *lines, rest = side_files.read(directory, NAME).decode("utf-8", errors="replace").split("\n")
    if rest:
        raise ArtifactError(f"{NAME} is cut off: {AGAIN}")
    for number, line in enumerate(lines, 1):
        found = _LINE.fullmatch(line)
        if found is None or found[2] in digests:
            raise ArtifactError(f"{NAME} is damaged in line {number}: {AGAIN}")
        digests[found[2]] = found[1]
    return digests


def verify(directory: Path, digests: Mapping[str, str], names: Iterable[str]) -> None:
    """Compare files with their checksums.

    Raises ArtifactError that names a file that differs, is missing, or is not in the list.
    """
    for name in names:
        there = (directory / name).exists()
        if name not in digests:
            if there:
                raise ArtifactError(f"{name} is not in {NAME}: it was added, or the list is damaged: {AGAIN}")
            continue
        if not there:
            raise ArtifactError(f"{name} is missing, though {NAME} names it: {AGAIN}")
        if hashlib.sha256(side_files.read(directory, name)).hexdigest() != digests[name]:
            raise ArtifactError(
                f"{name} is damaged or was changed: its checksum is not that of {NAME}: {AGAIN}"
            )


def matches(directory: Path, digests: Mapping[str, str], name: str) -> bool:
    """Return True if a file has the checksum of the list. Raises ArtifactError if it cannot be read."""
    path = side_files.checked(directory, name)
    try:
        return of_file(path) == digests.get(name)
    except OSError as error:
        raise ArtifactError(f"{name} cannot be read: {error.strerror}") from error
