"""Write a corpus as a folder with ``manifest.tsv`` and the audio files that had none of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from littlefoot.corpora import sources
from littlefoot.corpora.recordings import Recordings
from littlefoot.corpora.rows import Faults, Row
from littlefoot.errors import ConfigError, ManifestError
from littlefoot.system import atomic, outputs

_HEADER = ("id", "path", "seconds", "speaker", "split", "text")
LEFT_OUT = "left-out.tsv"
"""File with the reason and the position of each row that was left out, where there is one."""


@dataclass
class Summary:
    """The contents of a manifest, and the rows that were left out of it."""

    manifest: str
    rows: int = 0
    seconds: float = 0.0
    """Seconds of the rows whose length is known."""
    splits: Counter[str] = field(default_factory=Counter)
    """Rows by split."""
    speakers: int = 0
    without_text: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Counts by reason."""
    warnings: list[str] = field(default_factory=list)
    """Rows that were left out or may be wrong, each kind with an example."""

    def to_dict(self) -> dict[str, Any]:
        """Return the summary for JSON."""
        return {**vars(self), "seconds": round(self.seconds, 3)}


def write(
    corpora: Sequence[Path],
    out: Path,
    named: Mapping[str, str] | None = None,
    split: str | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda rows: None,
    run_commands: bool = False,
) -> Summary:
    """Write the rows of corpora to a folder, which appears when it is complete.

    The rows are read as a stream. Recordings that are files stay where they are; those in shards, and the
    segments of recordings, are written below ``out``.

    Args:
        named: columns of tables by role, as for ``rows.columns``.
        split: the split of all rows, instead of the corpus's own.
        progress: gets the number of rows that are written.
        run_commands: whether the commands in directories of Kaldi are run.

    Raises:
        ConfigError: ``out`` exists, without ``overwrite``, or is a file.
        ManifestError: as ``sources.rows``; or no row could be used.
        LittlefootError: the folder cannot be written.
    """
    if out.exists() and not out.is_dir():
        raise ConfigError(f"{out} is a file: choose another output")
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists already: choose another folder, or add --overwrite")
    outputs.check_writable(out)
    with outputs.writing(out, "check the disk and the rights"), atomic.directory(out) as folder:
        with _table(folder / LEFT_OUT, ("reason", "where")) as left_out:
            writing = _Writing(folder, Summary(str(out / "manifest.tsv")), split, left_out)
            with _table(folder / "manifest.tsv", _HEADER) as add:
                for corpus in corpora:
                    for cells in writing.cells(corpus, named or {}, run_commands):
                        add(*cells)
                        progress(writing.summary.rows)
        summary = writing.finish()
        if not summary.left_out:
            (folder / LEFT_OUT).unlink()
        if not summary.rows:
            reasons = "; ".join(summary.warnings) or "it has no rows"
            names = ", ".join(map(str, corpora))
            raise ManifestError(f"{names}: nothing can be used ({reasons}): check the download")
    return summary


@contextmanager
def _table(path: Path, header: Sequence[str]) -> Iterator[Callable[..., None]]:
    """Open a tab-separated file, and return a function that adds a row of cells."""
    with path.open("w", encoding="utf-8", newline="\n") as file:

        def add(*cells: str) -> None:
            file.write("\t".join(map(_cell, cells)) + "\n")

        add(*header)
        yield add


class _Writing:
    """The rows of corpora on their way to a manifest."""

    def __init__(
        self, folder: Path, summary: Summary, split: str | None, left_out: Callable[[str, str], None]
    ) -> None:
        self._folder, self.summary, self._split = folder, summary, split
        self._faults, self._warnings = Faults(left_out), Faults()
        self._recordings = Recordings(folder / "audio", self._faults)
        self._ids: Counter[int] = Counter()  # uses of an id, by its hash
        self._speakers: dict[tuple[Path, str], str] = {}  # the first split of each
        self._shared: set[tuple[Path, str]] = set()

    def cells(self, corpus: Path, named: Mapping[str, str], run_commands: bool) -> Iterator[list[str]]:
        """Yield the lines of the manifest for a corpus."""
        rows = sources.rows(corpus, named, self._faults, run_commands)
        for row, path, seconds in self._recordings.of(rows):
            shown = str(path.relative_to(self._folder)) if path.is_relative_to(self._folder) else str(path)
            if _cell(shown) != shown:
                self._faults.add("paths with tabs or line breaks", f"{row.where}: {shown!r}")
                continue
            split = self._split or row.split
            self._count(corpus, row, split, seconds or 0.0)
            yield [
                self._id(row, split),
                shown,
                f"{seconds:.3f}" if seconds else "",
                row.speaker,
                split,
                row.text,
            ]

    def _count(self, corpus: Path, row: Row, split: str, seconds: float) -> None:
        self.summary.rows += 1
        self.summary.seconds += seconds
        self.summary.splits[split] += 1
        self.summary.without_text += not row.text.strip()
        speaker = corpus, row.speaker
        if row.speaker and self._speakers.setdefault(speaker, split) != split and speaker not in self._shared:
            self._shared.add(speaker)
            first = self._speakers[speaker]
            self._warnings.add("speakers are in several splits", f"{row.speaker} in {first} and {split}")

    def _id(self, row: Row, split: str) -> str:
        """Return an id that no other row has."""
        identifier = _cell(row.id) or f"{split}-{self.summary.rows:07d}"
        uses = self._ids[hash(identifier)]
        self._ids[hash(identifier)] += 1
        if not uses:
            return identifier
        self._warnings.add("ids occurred before, and got a number", f"{row.where}: {identifier}")
        return self._id(replace(row, id=f"{identifier}-{uses + 1}"), split)

    def finish(self) -> Summary:
        """Return the summary of all rows."""
        self.summary.speakers = len(self._speakers)
        self.summary.left_out = self._faults.counts
        self.summary.warnings = [f"left out: {line}" for line in self._faults.lines()]
        self.summary.warnings += self._warnings.lines()
        return self.summary


def _cell(text: str) -> str:
    """Return a text without tabs and line breaks."""
    return " ".join(text.encode("utf-8", "replace").decode("utf-8").split())
