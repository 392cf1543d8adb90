"""Write a corpus as a folder with ``manifest.tsv`` and the audio files that had none of their own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from littlefoot.corpora import sources
from littlefoot.corpora.recordings import Recordings
from littlefoot.corpora.rows import Faults, Row
from littlefoot.errors import ConfigError, ManifestError
from littlefoot.system import atomic, outputs

_HEADER = ("id", "path", "seconds", "speaker", "split", "text")


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
) -> Summary:
    """Write the rows of corpora to a folder, which appears when it is complete.

    The rows are read as a stream. Recordings that are files stay where they are; those in shards, and the
    segments of recordings, are written below ``out``.

    Args:
        named: columns of tables by role, as for ``rows.columns``.
        split: the split of all rows, instead of the corpus's own.
        progress: gets the number of rows that are written.

    Raises:
        ConfigError: ``out`` exists, without ``overwrite``.
        ManifestError: as ``sources.rows``; or no row could be used.
        LittlefootError: the folder cannot be written.
    """
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} exists already: choose another folder, or add --overwrite")
    with outputs.writing(out, "check the disk and the rights"), atomic.directory(out) as folder:
        writing = _Writing(folder, Summary(str(out / "manifest.tsv")), split)
        with (folder / "manifest.tsv").open("w", encoding="utf-8", newline="\n") as file:
            file.write("\t".join(_HEADER) + "\n")
            for corpus in corpora:
                for cells in writing.cells(corpus, named or {}):
                    file.write("\t".join(cells) + "\n")
                    progress(writing.summary.rows)
        summary = writing.finish()
        if not summary.rows:
            reasons = "; ".join(summary.warnings) or "it has no rows"
            names = ", ".join(map(str, corpora))
            raise ManifestError(f"{names}: nothing can be used ({reasons}): check the download")
    return summary


class _Writing:
    """The rows of corpora on their way to a manifest."""

    def __init__(self, folder: Path, summary: Summary, split: str | None) -> None:
        self._folder, self.summary, self._split = folder, summary, split
        self._faults, self._warnings = Faults(), Faults()
        self._recordings = Recordings(folder / "audio", self._faults)
        self._ids: Counter[int] = Counter()  # uses of an id, by its hash
        self._speakers: dict[tuple[Path, str], str] = {}  # the first split of each
        self._shared: set[tuple[Path, str]] = set()

    def cells(self, corpus: Path, named: Mapping[str, str]) -> Iterator[list[str]]:
        """Yield the lines of the manifest for a corpus."""
        for row, path, seconds in self._recordings.of(sources.rows(corpus, named, self._faults)):
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
                _cell(row.speaker),
                _cell(split),
                _cell(row.text),
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
