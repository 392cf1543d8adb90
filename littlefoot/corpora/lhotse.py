"""Read lhotse's manifests: supervisions with their recordings, or cuts, as JSON lines that may be compressed.

The files are plain JSON (Żelasko et al. 2021, "Lhotse: a speech data representation library"); the package
lhotse would add PyTorch-sized dependencies for ``json.loads``. Supervisions are streamed; of the recordings
the paths are in memory. Cuts that mix or change sound, and features without recordings, are counted.
``shar`` reads cuts whose recordings are in tar files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from littlefoot.corpora.jsonl import objects
from littlefoot.corpora.rows import Faults, Row, UnusableError, resolved, split_name
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
            for where, cut in objects(file, faults):
                try:
                    yield from cut_rows(cut, _audio(cut.get("recording"), file.parent), split, where)
                except UnusableError as error:
                    faults.add_error(error, where)
            continue
        if not _recordings(file).is_file():
            raise ManifestError(f"{file}: needs {_recordings(file).name} beside it, with the recordings")
        recordings = {str(each.get("id")): each for _, each in objects(_recordings(file), faults)}
        for where, supervision in objects(file, faults):
            recording = recordings.get(str(supervision.get("recording_id")))
            if recording is None:
                faults.add("supervisions of recordings that are not listed", where)
                continue
            try:
                yield _supervised(supervision, recording, _audio(recording, file.parent), 0.0, split, where)
            except UnusableError as error:
                faults.add_error(error, where)


def _kind(path: Path) -> str:
    match = _FILE.fullmatch(path.name)
    return match[1] if match else ""


def _recordings(supervisions: Path) -> Path:
    return supervisions.with_name(supervisions.name.replace("supervisions", "recordings"))


def _audio(recording: Any, folder: Path) -> Path:
    """Return the file of a recording. Raises UnusableError if it has none, or is not used as it is."""
    if not isinstance(recording, dict):
        raise UnusableError("cuts that are mixed, padded or without a recording")
    if recording.get("transforms"):
        raise UnusableError("recordings whose speed, level or rate lhotse changes")
    try:
        (source,) = recording["sources"]
        if source["type"] != "file":
            raise UnusableError("recordings that are commands or addresses")
        return resolved(source["source"], folder)
    except (KeyError, TypeError, ValueError) as error:
        raise _lacking(error) from error


def cut_rows(cut: Mapping[str, Any], audio: Path | bytes, split: str, where: str) -> Iterator[Row]:
    """Yield the utterances of a cut with its recording. Raises UnusableError if the cut lacks something."""
    if cut.get("type", "MonoCut") not in ("MonoCut", "MultiCut"):
        raise UnusableError("cuts that are mixed, padded or without a recording")
    whole = {**cut, "start": 0.0, "text": ""}
    supervisions = cut.get("supervisions") or [whole]
    if not isinstance(supervisions, list):
        raise UnusableError("objects that lack something", "its supervisions are not a list")
    for supervision in supervisions:
        yield _supervised(supervision, cut["recording"], audio, cut.get("start", 0.0), split, where)


def _supervised(
    supervision: Mapping[str, Any],
    recording: Mapping[str, Any],
    audio: Path | bytes,
    offset: float,
    split: str,
    where: str,
) -> Row:
    """Return the utterance of a supervision whose start is relative to an offset in a recording."""
    try:
        channels, channel = recording["sources"][0]["channels"], supervision.get("channel", 0)
        channel = channel[0] if isinstance(channel, list) else channel
        start, length = offset + float(supervision["start"]), float(supervision["duration"])
        whole = start <= 0.001 and abs(length - float(recording["duration"])) < 0.01
        return Row(
            audio=audio,
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
        raise _lacking(error) from error


def _lacking(error: Exception) -> UnusableError:
    return UnusableError("objects that lack something", repr(error))
