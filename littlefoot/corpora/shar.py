"""Read lhotse's Shar directories: shards of cuts as JSON lines, each beside a tar file of their recordings.

``cuts.000000.jsonl.gz`` has a cut on each line, and ``recording.000000.tar`` has, in the same order, its
audio file ``ID.flac`` and the facts of it in ``ID.json`` (``lhotse.shar.writers.SharWriter``). Recordings
begin and end with their cuts. Both files are read as streams; the recording of one cut is in memory. lhotse
itself is not needed: it would add PyTorch to read JSON and tar files.
"""

from __future__ import annotations

import json
import re
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from littlefoot.corpora.jsonl import lines
from littlefoot.corpora.lhotse import cut_rows
from littlefoot.corpora.rows import CUT_OFF, Faults, Row, UnusableError, split_of_folder
from littlefoot.corpora.tars import members

_CUTS = re.compile(r"cuts(\.\d+)?\.jsonl(\.gz)?")
_ABSENT = "cuts without a recording in their shard"


def files(path: Path) -> list[Path]:
    """List the files of cuts in a Shar directory, or in those of a folder; or the file that is named.

    A single file of cuts without a number is one only with recordings beside it: ``lhotse`` reads others.
    """
    found = [path] if path.is_file() else sorted([*path.glob("cuts.*"), *path.glob("*/cuts.*")])
    return [each for each in found if (match := _CUTS.fullmatch(each.name)) and (match[1] or _tar(each))]


def shar(path: Path, faults: Faults) -> Iterator[Row]:
    """Yield an utterance for each supervision of each cut. The nearest folder named as a split gives it."""
    root = path.parent if path.is_file() else path
    for cuts in files(path):
        if tar := _tar(cuts):
            yield from _shard(cuts, tar, split_of_folder(cuts.parent, root), faults)
        else:
            faults.add("shards of cuts without the tar file of their recordings", str(cuts))


def _tar(cuts: Path) -> Path | None:
    """Return the tar file with the recordings of a file of cuts; None if there is none."""
    match = _CUTS.fullmatch(cuts.name)
    names = [f"recording{match[1] or ''}.tar{suffix}" for suffix in ("", ".gz")] if match else []
    return next((tar for name in names if (tar := cuts.with_name(name)).is_file()), None)


class _Recording(NamedTuple):
    cut: str
    audio: bytes
    facts: dict[str, Any] | None
    """The recording as lhotse describes it; None if the cut has none."""


def _shard(cuts: Path, tar: Path, split: str, faults: Faults) -> Iterator[Row]:
    recordings = _recordings(tar, faults)
    recording = next(recordings, None)
    for where, cut in lines(cuts, faults):
        if cut is None:
            recording = next(recordings, None)  # that of a damaged line
            continue
        if recording is None or recording.cut != cut.get("id"):
            # it may belong to the next cut
            faults.add(_ABSENT, f"{where}: {tar.name} has {recording.cut if recording else 'no more'}")
            continue
        try:
            if recording.facts is None:
                raise UnusableError(_ABSENT)
            yield from cut_rows({**cut, "recording": recording.facts}, recording.audio, split, where)
        except UnusableError as error:
            faults.add_error(error, where)
        recording = next(recordings, None)


def _recordings(tar: Path, faults: Faults) -> Iterator[_Recording]:
    """Yield what a tar file has for each cut; count a damaged one after what it gives."""
    number, audio = 0, b""
    try:
        for name, read in members(tar, faults):
            if name.suffix not in (".json", ".nometa"):
                audio = read()  # precedes the facts
                continue
            number += 1
            facts = None if name.suffix == ".nometa" else json.loads(read())
            yield _Recording(str(name.with_suffix("")), audio, facts)
    except (tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        faults.add(CUT_OFF, f"{tar} after {number} recordings ({error})")
