"""Read lists of recordings with their texts: TSV, JSON lines or LibriSpeech folders.

A TSV has a header line naming at least ``id path seconds speaker split text``, in any order;
``reference``, ``disagreement``, ``confidence`` and ``slots`` are optional, further columns are ignored;
there is no quoting. JSON lines have the same keys. Paths are relative to the manifest. ``seconds`` may be
empty if it is unknown.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
import numpy.typing as npt

from littlefoot.audio.folders import recordings
from littlefoot.errors import ManifestError

Integers = npt.NDArray[np.int64]

_REQUIRED = ("id", "path", "seconds", "speaker", "split", "text")


@dataclass(frozen=True)
class Utterance:
    """One recording of a manifest. The file may not exist."""

    id: str
    path: Path
    seconds: float | None
    """Length according to the manifest; None if it has none."""
    speaker: str
    split: str
    """Usually train, dev or test."""
    text: str
    disagreement: float | None = None
    """Mean pairwise word error rate among the recognisers that voted on a pseudo-label; 0: they agreed."""
    confidence: float | None = None
    """Confidence of the recogniser that wrote the text (``littlefoot label``), 0..1."""
    slots: str | None = None
    """Meaning of a spoken command, as JSON."""
    reference: str | None = None
    """Origin of the text: ``exact`` if people wrote it, ``pseudo`` if recognisers did; None if the manifest
    does not name it."""
    set_name: str = ""
    """Name of the manifest's folder."""

    @property
    def pseudo_labelled(self) -> bool:
        """Return True if recognisers wrote the text, so that errors against it are disagreement.

        Without ``reference``, a text with a disagreement or a confidence counts as theirs.
        """
        if self.reference is not None:
            return self.reference == "pseudo"
        return self.disagreement is not None or self.confidence is not None


Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def read(paths: Paths, split: str | None = None, exact: Sequence[str] = ()) -> list[Utterance]:
    """Read one manifest or several, in the order given.

    Args:
        paths: each a TSV or JSON-lines file, a folder that holds ``manifest.tsv``, a folder of such folders,
            or a LibriSpeech folder (``SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`` with FLAC files, from
            any level down).
        split: keep only this split; it must occur in at least one of the manifests.
        exact: names of sets whose texts people wrote, whatever their manifests state.

    Raises:
        ManifestError: a manifest is missing, malformed or empty, or none has the split or a set of ``exact``.
    """
    utterances = [utterance for path in _each(paths) for _, _, utterance in _rows(path)]
    sets = {utterance.set_name for utterance in utterances}
    for name in exact:
        if name not in sets:
            raise ManifestError(
                f"no manifest's folder is called '{name}': choose one of: {', '.join(sorted(sets))}"
            )
    utterances = [replace(row, reference="exact") if row.set_name in exact else row for row in utterances]
    if split is None:
        return utterances
    chosen = [utterance for utterance in utterances if utterance.split == split]
    if not chosen:
        present = ", ".join(sorted({utterance.split for utterance in utterances})) or "none"
        names = ", ".join(str(path) for path in _each(paths))
        raise ManifestError(f"{names}: no utterance is in split '{split}': choose one of: {present}")
    return chosen


def is_bare(path: str | os.PathLike[str]) -> bool:
    """Return True for a folder with recordings, but with neither a manifest nor LibriSpeech transcripts."""
    folder = Path(path)
    return (
        folder.is_dir()
        and not (folder / "manifest.tsv").is_file()
        and not _sets(folder)
        and not any(folder.rglob("*.trans.txt"))
        and any(recordings(folder))
    )


def index(paths: Paths) -> Corpus:
    """Read manifests as ``read`` does, but keep rows on the disk, for lists that are too long for memory.

    Raises:
        ManifestError: as ``read``; the whole of every manifest is checked.
    """
    files: dict[_File, int] = {}
    splits: dict[str, int] = {}
    columns = array("L"), array("Q"), array("L")
    for path in _each(paths):
        for file, offset, utterance in _rows(path):
            columns[0].append(files.setdefault(file, len(files)))
            columns[1].append(offset)
            columns[2].append(splits.setdefault(utterance.split, len(splits)))
    return Corpus(list(files), list(splits), *(np.array(column, np.int64) for column in columns))


class Corpus(Sequence[Utterance]):
    """The utterances of manifests, of which only the positions are in memory: 24 bytes each.

    Processes may share it: every access opens the manifest anew.
    """

    def __init__(
        self, files: list[_File], splits: list[str], file: Integers, offset: Integers, split: Integers
    ) -> None:
        self._files, self._splits = files, splits
        self._file, self._offset, self._split = file, offset, split

    def __len__(self) -> int:
        return len(self._offset)

    @overload
    def __getitem__(self, index: int) -> Utterance: ...
    @overload
    def __getitem__(self, index: slice) -> Corpus: ...
    def __getitem__(self, index: int | slice) -> Utterance | Corpus:
        if isinstance(index, slice):
            return self._chosen(index)
        file = self._files[int(self._file[index])]
        with file.path.open("rb") as stream:
            return file.row(stream, int(self._offset[index]))

    def __iter__(self) -> Iterator[Utterance]:
        for first, last in _runs(self._file):
            file = self._files[int(self._file[first])]
            with file.path.open("rb") as stream:
                for offset in self._offset[first:last]:
                    yield file.row(stream, int(offset))

    def of_split(self, split: str) -> Corpus:
        """Return the rows of one split; LibriSpeech's names, such as ``train-clean-100``, count as
        ``train``.
        """
        wanted = [name == split or name.startswith(split + "-") for name in self._splits]
        return self._chosen(np.flatnonzero(np.array(wanted, np.bool_)[self._split]))

    def _chosen(self, rows: slice | Integers) -> Corpus:
        return Corpus(self._files, self._splits, self._file[rows], self._offset[rows], self._split[rows])


def _runs(values: Integers) -> Iterator[tuple[int, int]]:
    """Find where runs of the same value begin and end."""
    borders = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return ((first, last) for first, last in itertools.pairwise(borders) if last > first)


def _each(paths: Paths) -> list[Path]:
    given = [paths] if isinstance(paths, str | os.PathLike) else paths
    return [manifest for path in given for manifest in _sets(Path(path)) or [Path(path)]]


def _sets(folder: Path) -> list[Path]:
    """List the folders with a ``manifest.tsv`` in a folder that has none itself."""
    if not folder.is_dir() or (folder / "manifest.tsv").is_file():
        return []
    return sorted(path.parent for path in folder.glob("*/manifest.tsv"))


Row = tuple["_File", int, Utterance]


def _rows(path: Path) -> Iterator[Row]:
    """Yield the rows of one manifest, each with its file and its position there. Ids must be unique."""
    hashes = array("q")
    try:
        for file in _files(path):
            for offset, _, utterance in file.rows():
                hashes.append(hash(utterance.id))
                yield file, offset, utterance
        repeated, counts = np.unique(np.array(hashes, np.int64), return_counts=True)
        _refuse_repeated_ids(path, set(repeated[counts > 1].tolist()))
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ManifestError(
            f"{path}: cannot be read ({error}): check the path and its permissions"
        ) from error
    if not hashes:
        raise ManifestError(f"{path}: holds no utterances: add at least one line after the header")


def _refuse_repeated_ids(path: Path, hashes: set[int]) -> None:
    seen: dict[str, str] = {}
    for file in _files(path) if hashes else ():
        for _, number, utterance in file.rows():
            where = f"{file.path}, line {number}"
            if utterance.id in seen:
                raise ManifestError(
                    f"{where}: the id '{utterance.id}' was already used at {seen[utterance.id]}:"
                    " ids must be unique in a manifest"
                )
            if hash(utterance.id) in hashes:
                seen[utterance.id] = where


def _files(path: Path) -> list[_File]:
    """List the files of a manifest."""
    if path.is_dir():
        if not (path / "manifest.tsv").is_file():
            return _librispeech(path)
        path = path / "manifest.tsv"
    first = next(_lines(path), None)
    if first is None:
        raise ManifestError(f"{path}: is empty: a manifest starts with the header {' '.join(_REQUIRED)}")
    _, number, line = first
    set_name = path.absolute().parent.name
    if line.lstrip().startswith("{"):
        return [_JSONLines(path, set_name)]
    columns = tuple(line.split("\t"))
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise ManifestError(
            f"{path}, line {number}: the header lacks {', '.join(missing)}:"
            f" it must name, separated by tabs, {' '.join(_REQUIRED)}"
        )
    return [_Table(path, set_name, columns)]


def _lines(path: Path) -> Iterator[tuple[int, int, str]]:
    """Yield the offset in bytes, number and text of each line that is not blank."""
    offset = 0
    with path.open("rb") as file:
        for number, data in enumerate(file, start=1):
            if line := _line(data, f"{path}, line {number}", first=not offset):
                yield offset, number, line
            offset += len(data)


def _line(data: bytes, where: str, first: bool) -> str:
    """Return the text of a line without its end; empty for a blank line."""
    # Only line feeds end a line: str.splitlines would also split at characters that a text may hold.
    try:
        line = data.decode("utf-8-sig" if first else "utf-8").removesuffix("\n").rstrip("\r")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{where}: is not UTF-8 text: save the manifest as UTF-8") from error
    return line if line.strip() else ""


@dataclass(frozen=True)
class _File:
    """A file with an utterance on each line."""

    path: Path
    set_name: str

    def rows(self) -> Iterator[tuple[int, int, Utterance]]:
        """Yield the offset in bytes and line number of each utterance, and the utterance."""
        for offset, number, line in _lines(self.path):
            yield offset, number, self.parse(line, f"{self.path}, line {number}")

    def row(self, stream: BinaryIO, offset: int) -> Utterance:
        """Read the utterance at an offset of the opened file."""
        stream.seek(offset)
        where = f"{self.path}, byte {offset} (was it changed since?)"
        return self.parse(_line(stream.readline(), where, first=not offset), where)

    def parse(self, line: str, where: str) -> Utterance:
        """Parse a line. Raises ManifestError that names ``where`` for a malformed one."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Table(_File):
    columns: tuple[str, ...]

    def rows(self) -> Iterator[tuple[int, int, Utterance]]:
        lines = _lines(self.path)
        next(lines)  # the header
        for offset, number, line in lines:
            yield offset, number, self.parse(line, f"{self.path}, line {number}")

    def parse(self, line: str, where: str) -> Utterance:
        fields = line.split("\t")
        if len(fields) != len(self.columns):
            raise ManifestError(
                f"{where}: has {len(fields)} fields, the header {len(self.columns)}:"
                " separate fields by single tabs and keep tabs out of the text"
            )
        return _utterance(dict(zip(self.columns, fields, strict=True)), self, where)


@dataclass(frozen=True)
class _JSONLines(_File):
    def parse(self, line: str, where: str) -> Utterance:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{where}: is not JSON ({error}): write one object per line") from error
        if not isinstance(row, dict):
            raise ManifestError(f"{where}: is not a JSON object: write one object per line")
        missing = [name for name in _REQUIRED if name not in row]
        if missing:
            raise ManifestError(f"{where}: lacks {', '.join(missing)}")
        return _utterance(row, self, where)


@dataclass(frozen=True)
class _Transcript(_File):
    """A chapter of LibriSpeech: each line is an id, a space and the text."""

    def parse(self, line: str, where: str) -> Utterance:
        identifier, _, text = line.partition(" ")
        if not identifier:
            raise ManifestError(f"{where}: starts with a space: it must be an id, a space and the text")
        speaker = self.path.absolute().parent.parent
        return Utterance(
            id=identifier,
            path=self.path.parent / f"{identifier}.flac",
            seconds=None,
            speaker=speaker.name,
            split=speaker.parent.name,
            text=text,
            set_name=self.set_name,
        )


def _librispeech(folder: Path) -> list[_File]:
    transcripts = sorted(folder.rglob("*.trans.txt"))
    if not transcripts:
        raise ManifestError(
            f"{folder}: holds neither manifest.tsv, itself or in its folders, nor LibriSpeech transcripts "
            "(*.trans.txt): name a manifest"
        )
    return [_Transcript(path, folder.absolute().name) for path in transcripts]


def _utterance(row: Mapping[str, object], file: _File, where: str) -> Utterance:
    def text(name: str) -> str:
        value = row[name]
        if not isinstance(value, str):
            raise ManifestError(f"{where}: {name} is {value!r:.80}: it must be text")
        return value

    for name in ("id", "path"):
        if not text(name).strip():
            raise ManifestError(f"{where}: {name} is empty: every utterance needs one")
    seconds = _number(row, "seconds", where)
    if seconds == 0:
        raise ManifestError(f"{where}: seconds is 0: leave it empty if the length is not known")
    reference = row.get("reference") or None
    if reference not in (None, "exact", "pseudo"):
        raise ManifestError(f"{where}: reference is {reference!r:.80}: it must be exact, pseudo or empty")
    slots = row.get("slots")
    return Utterance(
        id=text("id"),
        path=file.path.parent / text("path"),
        seconds=seconds,
        speaker=text("speaker"),
        split=text("split"),
        text=text("text"),
        disagreement=_number(row, "disagreement", where),
        confidence=_number(row, "confidence", where),
        # in JSON lines the slots may be an object rather than text
        slots=slots or None if isinstance(slots, str) or slots is None else json.dumps(slots),
        reference=None if reference is None else str(reference),
        set_name=file.set_name,
    )


def _number(row: Mapping[str, object], name: str, where: str) -> float | None:
    """Return a finite number that is not negative; None if it is absent, null or empty."""
    value = row.get(name)
    if value is None or value == "":
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not (math.isfinite(number) and number >= 0):
        raise ManifestError(f"{where}: {name} is {value!r:.80}: it must be a number such as 2.5")
    return number
