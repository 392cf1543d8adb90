"""Read lhotse's manifests: supervisions with their recordings, or cuts, as JSON lines that may be compressed.

The files are plain JSON (Żelasko et al. 2021, "Lhotse: a speech data representation library"); the package
lhotse would add PyTorch-sized dependencies for ``json.loads``. Supervisions are streamed; of the recordings
the paths are in memory. Cuts that mix or change sound, and features without recordings, are counted.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from littlefoot.corpora.rows import Faults, Row, resolved, split_name
from littlefoot.corpora.tables import CUT_OFF
from littlefoot.errors import ManifestError

_FILE = re.compile(r"(?:.*[_-])?(cuts|supervisions|recordings)(?:[_-](.+?))?\.jsonl(?:\.gz)?")


def files(path: Path) -> list[Path]:
    """List the files of supervisions in a folder, or else those of cuts; or the file that is named."""
    if path.is_file():
        return [path] if _kind(path) in ("cuts", "supervisions") else []
    found = sorted(each for each in path.iterdir() if _kind(each))
    supervisions = [each for each in found if _kind(each) == "supervisions" and _recordings(each).is_file()]
    return supervisions or [each for each in found if _kind(each) == "cuts"]


def lhotse(path: Path, faults: Faults) -> Iterator[Row]:
    """Yield an utterance for each supervision. The end of a file's name, after ``cuts_``, is the split.

    Raises ManifestError if supervisions come without the file of their recordings.
    """
    for file in files(path):
        match = _FILE.fullmatch(file.name)
        split = split_name(match[2]) if match and match[2] else "train"
        if _kind(file) == "cuts":
            for where, cut in _objects(file, faults):
                yield from _counted(_cut(cut, split, where), faults)
            continue
        if not _recordings(file).is_file():
            raise ManifestError(f"{file}: needs {_recordings(file).name} beside it, with the recordings")
        recordings = {str(each.get("id")): each for _, each in _objects(_recordings(file), faults)}
        for where, supervision in _objects(file, faults):
            recording = recordings.get(str(supervision.get("recording_id")))
            if recording is None:
                faults.add("supervisions of recordings that are not listed", where)
            else:
                yield from _counted(_supervised(supervision, recording, 0.0, split, where), faults)


def _kind(path: Path) -> str:
    match = _FILE.fullmatch(path.name)
    return match[1] if match else ""


def _recordings(supervisions: Path) -> Path:
    return supervisions.with_name(supervisions.name.replace("supervisions", "recordings"))


def _objects(path: Path, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each line's position and object."""
    opened = gzip.open if path.suffix == ".gz" else open
    number = 0
    try:
        with opened(path, "rt", encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path}, line {number}"
                try:
                    content = json.loads(line)
                except (ValueError, RecursionError):
                    content = None
                if isinstance(content, dict):
                    yield where, content
                else:
                    faults.add("lines that are no JSON objects", where)
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        faults.add(CUT_OFF, f"{path} after {number} lines ({error})")


def _counted(rows: Iterator[Row], faults: Faults) -> Iterator[Row]:
    """Yield the rows of an object; count an object that lacks something."""
    try:
        yield from rows
    except _UnusableError as error:
        faults.add(error.kind, error.where)


class _UnusableError(Exception):
    """An object that is not read."""

    def __init__(self, kind: str, where: str) -> None:
        super().__init__(kind)
        self.kind, self.where = kind, where


def _cut(cut: Mapping[str, Any], split: str, where: str) -> Iterator[Row]:
    if cut.get("type", "MonoCut") not in ("MonoCut", "MultiCut") or "recording" not in cut:
        raise _UnusableError("cuts that are mixed, padded or without a recording", where)
    whole = {**cut, "start": 0.0, "text": ""}
    for supervision in cut.get("supervisions") or [whole]:
        yield from _supervised(supervision, cut["recording"], cut.get("start", 0.0), split, where)


def _supervised(
    supervision: Mapping[str, Any], recording: Mapping[str, Any], offset: float, split: str, where: str
) -> Iterator[Row]:
    """Yield a supervision whose start is relative to an offset in a recording."""
    try:
        if recording.get("transforms"):
            raise _UnusableError("recordings whose speed, level or rate lhotse changes", where)
        (source,) = recording["sources"]
        if source["type"] != "file":
            raise _UnusableError("recordings that are commands or addresses", where)
        channels, channel = source["channels"], supervision.get("channel", 0)
        channel = channel[0] if isinstance(channel, list) else channel
        start, length = offset + float(supervision["start"]), float(supervision["duration"])
        whole = start <= 0.001 and abs(length - float(recording["duration"])) < 0.01
        yield Row(
            audio=resolved(source["source"], Path(where).parent),
            split=split,
            text=str(supervision.get("text") or ""),
            speaker=str(supervision.get("speaker") or ""),
            id=str(supervision["id"]),
            seconds=length,
            start=0.0 if whole else start,
            end=None if whole else start + length,
            channel=channels.index(channel) + 1 if len(channels) > 1 else None,
            where=where,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _UnusableError("objects that lack something", f"{where} ({error!r})") from error
