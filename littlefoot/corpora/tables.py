"""Read Parquet shards, and the Arrow files of directories that Hugging Face's ``datasets`` saved.

Both hold one column for the recording, as a structure of the file's ``bytes`` and ``path``, as bytes alone or
as a path. pyarrow reads them a few rows at a time, so memory grows neither with a file nor with the groups of
rows in it. A page of Parquet, up to 1024 rows as usually written, is in memory as a whole. ``datasets``
itself is not needed, because it stores plain Arrow and Parquet files.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeAlias

from littlefoot.corpora.rows import CUT_OFF, Faults, Row, columns, split_name, split_of, unnumbered
from littlefoot.errors import ManifestError, MissingExtraError

_Opened: TypeAlias = tuple[list[str], Callable[[list[str]], Iterator[Any]]]
"""The names of a file's columns, and a function from chosen names to pyarrow's batches of rows."""

_BATCH_ROWS = 32
_BUFFER_BYTES = 1 << 20
"""Bytes of each column that are read at a time; without it a whole group of rows would be."""


def parquet(path: Path, named: Mapping[str, str], faults: Faults) -> Iterator[Row]:
    """Yield the rows of a Parquet file, or of all Parquet files in a folder.

    Damaged shards are counted, with the rows that they still give.

    Raises:
        ManifestError: a shard lacks a column.
        MissingExtraError: pyarrow is not installed.
    """
    for shard in [path] if path.is_file() else sorted(path.rglob("*.parquet")):
        yield from parquet_file(shard, split_of(shard, path), named, faults)


def parquet_file(path: Path, split: str, named: Mapping[str, str], faults: Faults) -> Iterator[Row]:
    """Yield the rows of one Parquet file, whose rows without a split have this one. Raises as ``parquet``."""
    yield from _rows(path, _parquet_batches, split, named, faults)


def datasets(path: Path, named: Mapping[str, str], faults: Faults) -> Iterator[Row]:
    """Yield the rows of a directory that ``save_to_disk`` wrote, of a cached data set, or of one Arrow file.

    Raises as ``parquet``.
    """
    if path.is_file():
        yield from _rows(path, _arrow_batches, split_of(path, path), named, faults)
        return
    if (path / "dataset_dict.json").is_file():
        for split in _described(path / "dataset_dict.json").get("splits", []):
            yield from _saved(path / split, split_name(split), named, faults)
    elif (path / "state.json").is_file():
        yield from _saved(path, None, named, faults)
    else:
        # a cache names its files DATA_SET-SPLIT-00000-of-00002.arrow, and results of map() cache-*.arrow
        for shard in sorted(path.rglob("*.arrow")):
            if not shard.name.startswith("cache-"):
                split = split_name(unnumbered(shard.name).rpartition("-")[2])
                yield from _rows(shard, _arrow_batches, split, named, faults)


def _saved(folder: Path, split: str | None, named: Mapping[str, str], faults: Faults) -> Iterator[Row]:
    state = _described(folder / "state.json")
    split = split or split_name(state.get("_split") or "train")
    if state.get("_indices_data_files"):
        raise ManifestError(
            f"{folder}: is a selection of another data set's rows: save it with flatten_indices()"
        )
    try:
        shards = [folder / Path(file["filename"]).name for file in state["_data_files"]]
    except (KeyError, TypeError) as error:
        raise ManifestError(f"{folder}: state.json lists no files: save the data set again") from error
    for shard in shards:
        yield from _rows(shard, _arrow_batches, split, named, faults)


def _described(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read ({error}): fetch or save the data set again") from error
    if not isinstance(content, dict):
        raise ManifestError(f"{path}: is not a JSON object: fetch or save the data set again")
    return content


@contextmanager
def _parquet_batches(path: Path) -> Iterator[_Opened]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False) as file:
        yield (
            file.schema_arrow.names,
            lambda chosen: file.iter_batches(_BATCH_ROWS, columns=chosen, use_threads=False),
        )


@contextmanager
def _arrow_batches(path: Path) -> Iterator[_Opened]:
    import pyarrow.ipc

    with pyarrow.memory_map(str(path)) as source, pyarrow.ipc.open_stream(source) as stream:

        def batches(chosen: list[str]) -> Iterator[Any]:
            for batch in stream:
                slim = batch.select(chosen)
                yield from (slim.slice(first, _BATCH_ROWS) for first in range(0, len(slim), _BATCH_ROWS))

        yield stream.schema.names, batches


def _rows(
    shard: Path,
    batches: Callable[[Path], AbstractContextManager[_Opened]],
    split: str,
    named: Mapping[str, str],
    faults: Faults,
) -> Iterator[Row]:
    try:
        from pyarrow import ArrowException
    except ImportError as error:
        raise MissingExtraError(f"{shard}: reading it", "pyarrow", "data") from error
    number = 0
    try:
        with batches(shard) as (names, of):
            chosen = columns(names, named, str(shard))
            for batch in of(list(dict.fromkeys(chosen.values()))):
                for record in batch.to_pylist():
                    number += 1
                    cells = {role: record[name] for role, name in chosen.items()}
                    yield from _row(cells, shard, number, split, faults)
    except (OSError, ArrowException, UnicodeDecodeError) as error:
        faults.add(CUT_OFF, f"{shard} after {number} rows ({str(error).splitlines()[0]})")


def _row(cells: dict[str, Any], shard: Path, number: int, split: str, faults: Faults) -> Iterator[Row]:
    where = f"{shard}, row {number}"
    audio = cells.pop("audio")
    if isinstance(audio, dict):
        audio = audio.get("bytes") or audio.get("path")
    if isinstance(audio, str) and audio:
        audio = shard.parent / audio
    if not isinstance(audio, bytes | Path):
        faults.add("rows without a recording", where)
        return
    text = {role: "" if value is None else str(value) for role, value in cells.items()}
    yield Row(
        audio=audio,
        split=split_name(text.get("split", "")) or split,
        text=text.get("text", ""),
        speaker=text.get("speaker", ""),
        id=text.get("id", ""),
        where=where,
    )
