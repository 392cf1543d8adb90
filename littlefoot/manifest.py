"""Lists of recordings with their texts: TSV, JSON lines or a LibriSpeech folder.

A TSV has a header line naming at least ``id path seconds speaker split text``, in any order;
``disagreement`` and ``slots`` are optional, further columns are ignored; there is no quoting. JSON
lines have the same keys. Paths are relative to the manifest. ``seconds`` may be empty where it is not
known.
"""

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from littlefoot.errors import ManifestError

_REQUIRED = ("id", "path", "seconds", "speaker", "split", "text")


@dataclass(frozen=True)
class Utterance:
    """One recording of a manifest. Whether the file exists is for its reader to find out."""

    id: str
    path: Path
    seconds: float | None
    """Length as the manifest states it; None where it does not."""
    speaker: str
    split: str
    """Usually train, dev or test."""
    text: str
    disagreement: float | None = None
    """Mean pairwise word error rate among the recognisers that voted on a pseudo-label; 0: they agreed."""
    slots: str | None = None
    """What was meant, as JSON, for sets of spoken commands."""
    set_name: str = ""
    """Name of the manifest's folder."""


def read(
    paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], split: str | None = None
) -> list[Utterance]:
    """Read one manifest or several, in the order given.

    Args:
        paths: each a TSV or JSON-lines file, a folder that holds ``manifest.tsv``, or a LibriSpeech folder
            (``SPLIT/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt`` with FLAC files, from any level down).
        split: keep only this split; it must occur in at least one of the manifests.

    Raises:
        ManifestError: a manifest is missing, malformed or empty, or none has the split.
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    utterances = [utterance for path in paths for utterance in _read_one(Path(path))]
    if split is None:
        return utterances
    chosen = [utterance for utterance in utterances if utterance.split == split]
    if not chosen:
        present = ", ".join(sorted({utterance.split for utterance in utterances})) or "none"
        names = ", ".join(str(path) for path in paths)
        raise ManifestError(f"{names}: no utterance is in split '{split}': choose one of: {present}")
    return chosen


def _read_one(path: Path) -> list[Utterance]:
    try:
        if path.is_dir() and not (path / "manifest.tsv").is_file():
            rows = _librispeech(path)
        else:
            rows = _file(path / "manifest.tsv" if path.is_dir() else path)
        utterances = []
        seen: dict[str, str] = {}
        for where, utterance in rows:
            if utterance.id in seen:
                raise ManifestError(
                    f"{where}: the id '{utterance.id}' was already used at {seen[utterance.id]}:"
                    " ids must be unique in a manifest"
                )
            seen[utterance.id] = where
            utterances.append(utterance)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise ManifestError(f"{path}: cannot be read ({error}): check the path and its rights") from error
    if not utterances:
        raise ManifestError(f"{path}: holds no utterances: add at least one line after the header")
    return utterances


def _text(path: Path) -> str:
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ManifestError(f"{path}, line {line}: is not UTF-8 text: save the manifest as UTF-8") from error


def _lines(path: Path) -> list[tuple[int, str]]:
    # Only line feeds end a line: str.splitlines would also split at characters that a text may hold.
    lines = enumerate(_text(path).split("\n"), start=1)
    return [(number, line.rstrip("\r")) for number, line in lines if line.strip()]


def _file(path: Path) -> Iterator[tuple[str, Utterance]]:
    lines = _lines(path)
    if not lines:
        raise ManifestError(f"{path}: is empty: a manifest starts with the header {' '.join(_REQUIRED)}")
    return _jsonl(path, lines) if lines[0][1].lstrip().startswith("{") else _tsv(path, lines)


def _tsv(path: Path, lines: list[tuple[int, str]]) -> Iterator[tuple[str, Utterance]]:
    columns = lines[0][1].split("\t")
    missing = [name for name in _REQUIRED if name not in columns]
    if missing:
        raise ManifestError(
            f"{path}, line {lines[0][0]}: the header lacks {', '.join(missing)}:"
            f" it must name, separated by tabs, {' '.join(_REQUIRED)}"
        )
    for number, line in lines[1:]:
        fields = line.split("\t")
        where = f"{path}, line {number}"
        if len(fields) != len(columns):
            raise ManifestError(
                f"{where}: has {len(fields)} fields, the header {len(columns)}:"
                " separate fields by single tabs and keep tabs out of the text"
            )
        yield where, _utterance(dict(zip(columns, fields, strict=True)), path, where)


def _jsonl(path: Path, lines: list[tuple[int, str]]) -> Iterator[tuple[str, Utterance]]:
    for number, line in lines:
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ManifestError(f"{where}: is not JSON ({error}): write one object per line") from error
        if not isinstance(row, dict):
            raise ManifestError(f"{where}: is not a JSON object: write one object per line")
        missing = [name for name in _REQUIRED if name not in row]
        if missing:
            raise ManifestError(f"{where}: lacks {', '.join(missing)}")
        yield where, _utterance(row, path, where)


def _utterance(row: Mapping[str, object], manifest: Path, where: str) -> Utterance:
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
        raise ManifestError(f"{where}: seconds is 0: leave it empty where the length is not known")
    slots = row.get("slots")
    return Utterance(
        id=text("id"),
        path=manifest.parent / text("path"),
        seconds=seconds,
        speaker=text("speaker"),
        split=text("split"),
        text=text("text"),
        disagreement=_number(row, "disagreement", where),
        # JSON lines may hold the slots as an object rather than as text.
        slots=slots or None if isinstance(slots, str) or slots is None else json.dumps(slots),
        set_name=manifest.absolute().parent.name,
    )


def _number(row: Mapping[str, object], name: str, where: str) -> float | None:
    """A finite number that is not negative; None where it is absent, null or empty."""
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


def _librispeech(folder: Path) -> Iterator[tuple[str, Utterance]]:
    """Rows of all transcripts below a folder; each line is an id, a space and the text."""
    transcripts = sorted(folder.rglob("*.trans.txt"))
    if not transcripts:
        raise ManifestError(
            f"{folder}: holds neither manifest.tsv nor LibriSpeech transcripts (*.trans.txt): name a manifest"
        )
    for transcript in transcripts:
        speaker = transcript.absolute().parent.parent
        for number, line in _lines(transcript):
            where = f"{transcript}, line {number}"
            identifier, _, text = line.partition(" ")
            if not identifier:
                raise ManifestError(f"{where}: starts with a space: it must be an id, a space and the text")
            yield (
                where,
                Utterance(
                    id=identifier,
                    path=transcript.parent / f"{identifier}.flac",
                    seconds=None,
                    speaker=speaker.name,
                    split=speaker.parent.name,
                    text=text,
                    set_name=folder.absolute().name,
                ),
            )
