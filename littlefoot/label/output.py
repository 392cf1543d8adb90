"""Write the directory of a job: its description, its finished shards, and finally the manifest.

``job.json``         the settings that a resumed job must repeat (``job.describe``), and the rows of a shard
``recordings.jsonl`` the recordings in folders without a manifest
``shards/N.jsonl``   the labels of shard N, one row on each line, in order: complete or absent
``manifest.tsv``     all rows that have a text
``summary.json``     the counts of the job
``.lock``            locked by the process that writes
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TextIO

from filelock import FileLock, Timeout

from littlefoot.audio.folders import recordings
from littlefoot.audio.manifest import Utterance
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.label.job import SHARD_ROWS, Archive, Job, Label
from littlefoot.system import atomic, outputs
from littlefoot.system.amounts import in_bytes

JOB, SHARDS, MANIFEST, SUMMARY = "job.json", "shards", "manifest.tsv", "summary.json"
RECORDINGS = "recordings.jsonl"
LOCK = ".lock"

ROW_BYTES = 800
"""Bytes of a row in its shard and the manifest, for the check of the disk before the start."""

_MEANING = {
    "model": "model",
    "model_sha256": "model",
    "rows": "number of recordings",
    "manifest_sha256": "list of recordings",
    "split": "split",
}


@dataclass
class Counts:
    """Counts of the rows by their results."""

    rows: int = 0
    labelled: int = 0
    """Rows in the manifest."""
    empty: int = 0
    """Rows in the manifest without a word."""
    below_confidence: int = 0
    """Rows left out of the manifest, with a lower confidence or without a word."""
    failed: int = 0
    seconds: float = 0.0
    """Seconds of speech in the manifest."""
    mean_confidence: float | None = None
    """Mean confidence of the rows in the manifest that have words."""
    failures: list[str] = field(default_factory=list)
    """Recordings that failed, with the reasons."""


class Output:
    """The directory of one job, which one process at a time may write."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def check(self) -> None:
        """Refuse a directory that cannot be written to, without creating it. Raises LittlefootError."""
        if self.directory.exists() and not self.directory.is_dir():
            raise LittlefootError(f"{self.directory} is a file: choose another output")
        outputs.check_folder(self.directory)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Create the directory if it is missing, and lock it for this process while the block runs.

        Raises LittlefootError if it contains something other than a job, if another process works in it, or
        if it cannot be written to.
        """
        lock = FileLock(self.directory / LOCK, blocking=False)
        try:
            self._prepare()
            lock.acquire()  # the system releases it with its process, however that ends
            self._remove_unfinished()
        except Timeout:
            raise LittlefootError(
                f"{self.directory}: another process writes labels to it: wait, or choose another output"
            ) from None
        except OSError as error:
            raise self._refused(error) from error
        try:
            yield
        finally:
            lock.release()

    def shard_rows(self, description: dict[str, Any], wanted: int | None) -> int:
        """Return the rows of a shard: those of the job that is there, or of a new one.

        Raises LittlefootError if the directory contains another job, or if its disk is too full.
        """
        path = self.directory / JOB
        try:
            return (
                self._resumed(path, description, wanted) if path.exists() else self._new(description, wanted)
            )
        except OSError as error:
            raise self._refused(error) from error

    def _new(self, description: dict[str, Any], wanted: int | None) -> int:
        needed = ROW_BYTES * description["rows"]
        free = shutil.disk_usage(self.directory).free
        if free < needed:
            raise LittlefootError(
                f"{self.directory}: the labels may take {in_bytes(needed)}, but {in_bytes(free)} are free: "
                "make room, or choose another output"
            )
        return wanted or SHARD_ROWS

    def _resumed(self, path: Path, description: dict[str, Any], wanted: int | None) -> int:
        there = _read_object(path)
        for name, value in description.items():
            place = name in ("model", "model_origin")  # it may change, the model's output may not
            if not place and there.get(name) != value:
                raise LittlefootError(
                    f"{self.directory} contains another job ({_difference(name, there, description)}): choose"
                    " another output, or remove the directory"
                )
        rows = int(there["shard_rows"])
        if wanted not in (None, rows):
            raise ConfigError(
                f"--shard-rows {wanted}: the job in {self.directory} was begun with {rows}: leave the"
                " option out to resume it"
            )
        return rows

    def begin(self, description: dict[str, Any], shard_rows: int) -> None:
        """Write the description of the job, if it is a new one. Raises LittlefootError."""
        path = self.directory / JOB
        if path.exists():
            return
        found = {**description, "shard_rows": shard_rows}
        try:
            _write(path, json.dumps(found, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise self._refused(error) from error

    def _prepare(self) -> None:
        """Create the directory. Raises LittlefootError if it contains something other than a job."""
        self.directory.mkdir(parents=True, exist_ok=True)
        there = {path.name for path in self.directory.iterdir() if not path.name.startswith(".")}
        shards = self.directory / SHARDS
        if JOB not in there and (there - {SHARDS, RECORDINGS} or (shards.is_dir() and any(shards.iterdir()))):
            raise LittlefootError(
                f"{self.directory} is not empty and contains no labelling job: choose another output"
            )
        shards.mkdir(exist_ok=True)

    def _remove_unfinished(self) -> None:
        """Remove the partial files of a process that was killed."""
        for name in (JOB, RECORDINGS, MANIFEST, SUMMARY, f"{SHARDS}/*.jsonl"):
            place = self.directory / name
            for half in place.parent.glob(f".{place.name}.*"):
                half.unlink()

    def _refused(self, error: OSError) -> LittlefootError:
        return LittlefootError(
            f"{self.directory}: cannot be written to ({error.strerror or error}): finished shards are kept;"
            " free some space or correct the permissions, and run the same command again"
        )

    def list_recordings(self, folders: Sequence[Path]) -> Path:
        """Write a manifest of all recordings in folders without one. Raises LittlefootError."""
        lines = []
        for folder in folders:
            found = sorted(recordings(folder))
            stems = Counter(path.with_suffix("") for path in found)
            for path in found:
                named = path.with_suffix("") if stems[path.with_suffix("")] == 1 else path
                name = named.relative_to(folder).as_posix()
                row = {
                    "id": f"{folder.absolute().name}/{name}" if len(folders) > 1 else name,
                    "path": str(path.absolute()),
                }
                lines.append(
                    json.dumps({**row, "seconds": None, "speaker": "", "split": "train", "text": ""}) + "\n"
                )
        try:
            _write(self.directory / RECORDINGS, "".join(lines))
        except OSError as error:
            raise self._refused(error) from error
        return self.directory / RECORDINGS

    def write(self, job: Job, shard: int, labels: Sequence[Label]) -> None:
        """Save a shard; new labels replace saved ones of the same rows. Raises LittlefootError."""
        rows = {label.row: label for label in [*(self.read(job, shard) or []), *labels]}
        lines = [_line(rows[row]) for row in job.rows(shard)]
        try:
            _write(self._path(shard), "".join(lines))
        except OSError as error:
            raise self._refused(error) from error

    def read(self, job: Job, shard: int) -> list[Label] | None:
        """Read the labels of a shard; None if it is absent or damaged."""
        try:
            lines = self._path(shard).read_text(encoding="utf-8").splitlines()
            rows = zip(job.rows(shard), lines, strict=True)
            labels = [Label(row, **json.loads(line)) for row, line in rows]
        except (OSError, ValueError, TypeError):
            return None
        same = all(label.id == it.id for label, it in zip(labels, job.utterances(shard), strict=True))
        return labels if same else None

    def _path(self, shard: int) -> Path:
        return self.directory / SHARDS / f"{shard:06d}.jsonl"

    def finish(self, job: Job, archive: Archive, min_confidence: float) -> Counts:
        """Write the manifest of all shards. Raises LittlefootError."""
        counts = Counts()
        try:
            with (
                atomic.file(self.directory / MANIFEST) as temporary,
                temporary.open("w", encoding="utf-8", newline="\n") as file,
            ):
                self._write_manifest(file, job, archive, min_confidence, counts)
        except OSError as error:
            raise self._refused(error) from error
        return counts

    def _write_manifest(
        self, file: TextIO, job: Job, archive: Archive, min_confidence: float, counts: Counts
    ) -> None:
        columns = ["id", "path", "seconds", "speaker", "split", "text", "confidence"]
        file.write("\t".join(columns + ["slots"] * archive.slots) + "\n")
        confidences = 0.0
        for shard in range(job.shards):
            labels = self.read(job, shard)
            if labels is None:
                raise LittlefootError(
                    f"{self._path(shard)} was damaged or removed since it was written: run the same command"
                    " again"
                )
            for label, utterance in zip(labels, job.utterances(shard), strict=True):
                counts.rows += 1
                if label.error is not None:
                    counts.failed += 1
                    counts.failures.append(f"{label.id}: {label.error}")
                elif (label.confidence or 0.0) < min_confidence:
                    counts.below_confidence += 1
                else:
                    cells = _cells(archive.new_id(utterance), utterance, label)
                    file.write("\t".join(cells + [_cell(utterance.slots or "")] * archive.slots) + "\n")
                    counts.labelled += 1
                    counts.seconds += label.seconds or 0.0
                    counts.empty += not label.text
                    confidences += label.confidence or 0.0
        heard = counts.labelled - counts.empty
        counts.mean_confidence = round(confidences / heard, 4) if heard else None

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Save the counts of the job. Raises LittlefootError."""
        try:
            _write(self.directory / SUMMARY, json.dumps(summary, indent=2, ensure_ascii=False) + "\n")
        except OSError as error:
            raise self._refused(error) from error


def _cells(identifier: str, utterance: Utterance, label: Label) -> list[str]:
    return [
        identifier,
        str(utterance.path),  # the archive's manifest had absolute paths
        f"{label.seconds:.3f}" if label.seconds else "",
        _cell(utterance.speaker),
        _cell(utterance.split),
        _cell(label.text),
        "" if label.confidence is None else f"{label.confidence:.4f}",
    ]


def _cell(text: str) -> str:
    """Return a text without tabs and line breaks."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())


def _line(label: Label) -> str:
    known = {name: value for name, value in asdict(label).items() if value is not None and name != "row"}
    return json.dumps(known) + "\n"  # ASCII, so that no character is taken for the end of a line


def _difference(name: str, there: dict[str, Any], here: dict[str, Any]) -> str:
    if name == "decoding":
        before, now = there.get("decoding") or {}, here["decoding"]
        changed = [key for key in {**now, **before} if before.get(key) != now.get(key)]
        return f"other decoding options: {', '.join(changed)}"
    if name == "model_sha256":
        return f"another model: {there.get('model')}, now {here['model']}"
    if name == "rows" or name == "split":
        return f"another {_MEANING[name]}: {there.get(name)}, now {here[name]}"
    return f"another {_MEANING[name]}"


def _read_object(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("shard_rows"), int):
            return found
    except ValueError:
        pass
    raise LittlefootError(f"{path} is damaged: choose another output, or remove its directory")


def _write(path: Path, text: str) -> None:
    with atomic.file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
