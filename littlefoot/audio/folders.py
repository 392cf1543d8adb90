"""Find recordings in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from littlefoot.audio.formats import SUFFIXES


def recordings(folder: Path) -> Iterator[Path]:
    """Yield the recordings in a folder and its folders, in no order; hidden ones are left out."""
    for directory, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(directory) / name
