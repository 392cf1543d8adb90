"""Find the recordings of ``littlefoot transcribe``: files, folders, patterns, standard input."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from littlefoot.audio import folders, formats
from littlefoot.errors import AudioError, ConfigError
from littlefoot.runtime.transcriber import STANDARD_INPUT


class Recording(NamedTuple):
    """A recording to transcribe."""

    name: str
    """The path, or STANDARD_INPUT."""
    output: Path
    """Path of the text in the output directory, without the suffix of the format."""


def expand(names: list[str]) -> tuple[list[Recording], list[AudioError]]:
    """Return the recordings that ``names`` stand for, each once, and the names that match nothing.

    A folder stands for all recordings in it and its subfolders, which keep their relative paths in the output
    directory. A pattern (``*``, ``?``, ``[]``, ``**`` for any folders) that the shell has left stands for the
    files that it matches.
    """
    found: dict[str, Recording] = {}
    problems = []
    for name in names:
        try:
            for recording in _recordings(name):
                found.setdefault(recording.name, recording)
        except AudioError as error:
            problems.append(error)
    return list(found.values()), problems


def _recordings(name: str) -> Iterator[Recording]:
    if name == STANDARD_INPUT:
        yield Recording(name, Path("stdin"))
    elif os.path.isdir(name):
        paths = sorted(folders.recordings(Path(name)))
        if not paths and os.path.exists(os.path.join(name, "config.json")):
            raise AudioError(
                f"{name}: is a model, not a recording: the model comes first, recordings after it"
            )
        if not paths:
            raise AudioError(
                f"{name}: the folder holds no recordings: names that end in one of"
                f" {', '.join(formats.SUFFIXES)}"
            )
        for path in paths:
            yield Recording(str(path), path.relative_to(name).with_suffix(""))
    elif glob.has_magic(name) and not os.path.lexists(name):
        matches = sorted(match for match in glob.glob(name, recursive=True) if os.path.isfile(match))
        if not matches:
            raise AudioError(f"{name}: there is no file like this: check the pattern")
        for match in matches:
            yield Recording(match, Path(Path(match).stem))
    else:
        yield Recording(name, Path(Path(name).stem))


def refuse_collisions(recordings: list[Recording], suffix: str) -> None:
    """Refuse recordings whose transcriptions would replace each other. Raises ConfigError."""
    written: dict[Path, str] = {}
    for recording in recordings:
        if (other := written.get(recording.output)) is not None:
            raise ConfigError(
                f"{other} and {recording.name} would both be written to {recording.output}{suffix}: "
                "transcribe them into different directories"
            )
        written[recording.output] = recording.name
