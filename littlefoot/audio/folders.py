"""Recordings in folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (
    *(".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".au", ".caf", ".sph"),
    *(
        ".m4a",
        ".m4b",
        ".m4v",
        ".mp4",
        ".mov",
        ".3gp",
        ".webm",
        ".mkv",
        ".mka",
        ".aac",
        ".avi",
        ".ts",
        ".m2ts",
    ),
    *(".mpg", ".flv", ".wma", ".wmv", ".amr", ".ac3", ".ape", ".wv", ".spx", ".mp2", ".w64"),
)
"""Of the files that are taken from a folder. Those that are named may be called anything."""


def recordings(folder: Path) -> Iterator[Path]:
    """What is in a folder and its folders, in no order; what is hidden is passed over."""
    for directory, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in files:
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield Path(directory) / name
