"""Read folders of recordings with a table, as ``audiofolder`` of Hugging Face's ``datasets`` does.

The table is ``metadata.csv``, ``metadata.jsonl`` or ``metadata.parquet``, in the folder or in those of its
splits; its column ``file_name`` has the recordings' paths, relative to it
(https://huggingface.co/docs/datasets/audio_dataset).
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from littlefoot.corpora import tables
from littlefoot.corpora.jsonl import objects
from littlefoot.corpora.rows import (
    CUT_OFF,
    NOT_UTF8,
    Faults,
    Row,
    columns,
    is_utf8,
    split_name,
    split_of_folder,
)
from littlefoot.errors import ManifestError

PARQUET = "metadata.parquet"
_NAMES = ("metadata.csv", "metadata.jsonl", PARQUET)
_ROWS_WITH_COLUMNS = 100
"""Rows of JSON whose keys are the columns; an object may lack some."""


def files(path: Path) -> list[Path]:
    """List the tables in a folder, at any depth; or the table that is named.

    Raises ManifestError if a folder has two.
    """
    if path.is_file():
        return [path] if path.name in _NAMES else []
    found = sorted(path.rglob("metadata.*"))
    found = [each for each in found if each.name in _NAMES]
    for first, second in itertools.pairwise(found):
        if first.parent == second.parent:
            raise ManifestError(f"{first.parent}: has {first.name} and {second.name}: name one of them")
    return found


def audiofolder(path: Path, named: Mapping[str, str], faults: Faults) -> Iterator[Row]:
    """Yield the rows of all tables. The nearest folder of a recording that is named as a split gives it.

    Raises:
        ManifestError: a table lacks a column, or a folder has two tables.
        MissingExtraError: a table is Parquet, and pyarrow is not installed.
    """
    root = path.parent if path.is_file() else path
    named = {"audio": "file_name", **named}
    for table in files(path):
        rows = (
            tables.parquet_file(table, "", named, faults)
            if table.name == PARQUET
            else _rows(table, named, faults)
        )
        for row in rows:
            folder = row.audio.parent if isinstance(row.audio, Path) else table.parent
            yield replace(row, split=row.split or split_of_folder(folder, root))


def _rows(table: Path, named: Mapping[str, str], faults: Faults) -> Iterator[Row]:
    records = _csv_records(table, faults) if table.suffix == ".csv" else objects(table, faults)
    first = list(itertools.islice(records, _ROWS_WITH_COLUMNS))
    if not first:
        return
    chosen = columns(list(dict.fromkeys(key for _, record in first for key in record)), named, str(table))
    for where, record in itertools.chain(first, records):
        values = {role: record.get(name) for role, name in chosen.items()}
        text = {role: "" if value is None else str(value) for role, value in values.items()}
        if not text["audio"]:
            faults.add("rows without a recording", where)
            continue
        yield Row(
            audio=table.parent / text["audio"],
            split=split_name(text.get("split", "")),
            text=text.get("text", ""),
            speaker=text.get("speaker", ""),
            id=text.get("id", ""),
            where=where,
        )


def _csv_records(table: Path, faults: Faults) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the position and the cells of each row; count rows that are damaged."""
    try:
        with table.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            while True:
                try:
                    record = next(reader, None)
                except csv.Error as error:
                    faults.add(
                        "rows with misplaced quotes", f"{table}, line {reader.reader.line_num} ({error})"
                    )
                    continue
                where = f"{table}, line {reader.line_num}"
                if record is None:
                    return
                if None in record or None in record.values():
                    faults.add("rows with more or fewer cells than the header", where)
                elif not all(map(is_utf8, record.values())):
                    faults.add(NOT_UTF8, where)
                else:
                    yield where, record
    except OSError as error:
        faults.add(CUT_OFF, f"{table} ({error})")
