"""Read JSON lines, which may be compressed with gzip."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from littlefoot.corpora.rows import CUT_OFF, Faults


def objects(path: Path, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the position and the object of each line; count lines that hold none."""
    yield from ((where, content) for where, content in lines(path, faults) if content is not None)


def lines(path: Path, faults: Faults) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Yield the position and the object of each line that is not blank; None for one that holds no object.

    Such lines are counted, and so is a file that is damaged or cut off, after the lines that it gives.
    """
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rb") as file:
            for number, line in enumerate(file, start=1):
                if line.isspace():
                    continue
                where = f"{path}, line {number}"
                try:
                    content = json.loads(line)
                except (ValueError, RecursionError):  # ValueError also if it is not UTF-8
                    content = None
                if not isinstance(content, dict):
                    faults.add("lines that are no JSON objects", where)
                    content = None
                yield where, content
    except (OSError, EOFError, zlib.error) as error:
        faults.add(CUT_OFF, f"{path} after {number} lines ({error})")
