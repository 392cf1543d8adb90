"""Read folders as they are downloaded: Common Voice, LibriSpeech, and what ``audio.manifest`` reads."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from littlefoot.audio import manifest
from littlefoot.corpora.rows import NOT_UTF8, Faults, Row, is_utf8, split_name
from littlefoot.errors import ManifestError

_SPLITS = ("train.tsv", "dev.tsv", "test.tsv")
_COLUMNS = ("client_id", "path", "sentence")
DURATIONS = "clip_durations.tsv"


def common_voice_files(path: Path) -> list[Path]:
    """List the tables of a Common Voice folder, of a language or of several; or the table that is named.

    Tables are those of the splits train, dev and test; others, such as ``validated.tsv``, are read if they
    are named.
    """
    if path.is_file():
        return [path] if path.suffix == ".tsv" and (path.parent / "clips").is_dir() else []
    folders = [path] if (path / "clips").is_dir() else sorted(each.parent for each in path.glob("*/clips"))
    return [folder / name for folder in folders for name in _SPLITS if (folder / name).is_file()]


def common_voice(path: Path, faults: Faults) -> Iterator[Row]:
    """Yield the rows of a Common Voice folder. Raises ManifestError for a table without its columns."""
    for table in common_voice_files(path):
        lengths = _lengths(table.with_name(DURATIONS), faults)
        for number, cells in _table(table, _COLUMNS, faults):
            where = f"{table}, line {number}"
            if not cells["path"]:
                faults.add("rows without a recording", where)
                continue
            yield Row(
                audio=table.parent / "clips" / cells["path"],
                split=split_name(table.stem),
                text=cells["sentence"],
                speaker=cells["client_id"],
                id=Path(cells["path"]).stem,
                seconds=lengths.get(cells["path"]),
                where=where,
            )


def _lengths(path: Path, faults: Faults) -> dict[str, float]:
    """Return the seconds of each clip, where the download has a table of them (in milliseconds)."""
    if not path.is_file():
        return {}
    return {
        cells["clip"]: float(cells["duration[ms]"]) / 1000
        for _, cells in _table(path, ("clip", "duration[ms]"), faults)
        if cells["duration[ms]"].replace(".", "", 1).isdecimal()
    }


def _table(path: Path, needed: tuple[str, ...], faults: Faults) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line number and cells of each row, missing ones empty; count rows not in UTF-8."""
    try:
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
            if missing := [name for name in needed if name not in (reader.fieldnames or ())]:
                raise ManifestError(
                    f"{path}: lacks the column {', '.join(missing)} of a Common Voice table: fetch it again"
                )
            for cells in reader:
                if all(is_utf8(cells[name]) for name in needed):
                    yield reader.line_num, cells
                else:
                    faults.add(NOT_UTF8, f"{path}, line {reader.line_num}")
    except (OSError, csv.Error) as error:
        raise ManifestError(f"{path}: cannot be read ({error}): fetch it again") from error


def listed(path: Path) -> Iterator[Row]:
    """Yield the rows of a LibriSpeech folder or of a manifest. Raises ManifestError as ``manifest.read``."""
    for row in manifest.index(path):
        yield Row(
            audio=row.path,
            split=split_name(row.split),
            text=row.text,
            speaker=row.speaker,
            id=row.id,
            seconds=row.seconds,
            where=f"{path}, {row.id}",
        )
