"""Define the utterances that readers of corpora yield, their columns, and the faults that are counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from littlefoot.errors import ManifestError

NOT_UTF8 = "rows that are not UTF-8 text"
CUT_OFF = "shards that are damaged or cut off"
MOST_BYTES = 1 << 30
"""Bytes of the largest recording that is read from a shard or an archive: one is in memory at a time."""
ROLES: Mapping[str, tuple[str, ...]] = {
    "audio": ("audio", "file", "path", "file_name", "filename", "wav", "speech"),
    "text": ("text", "sentence", "transcription", "transcript", "normalized_text", "raw_text"),
    "speaker": ("speaker_id", "speaker", "client_id", "spk_id"),
    "id": ("id", "utterance_id", "utt_id", "segment_id", "audio_id", "key"),
    "split": ("split",),
}
"""Names of columns that are taken for each role unless you name another; the first that exists counts."""

_SPLITS = {
    "train": "train",
    "training": "train",
    "dev": "dev",
    "development": "dev",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "test": "test",
    "testing": "test",
    "eval": "test",
}


@dataclass(frozen=True)
class Row:
    """An utterance of a corpus, a whole recording or a segment of one."""

    audio: Path | bytes
    """The recording: a file that stays where it is, or the bytes of a file from a shard."""
    split: str
    text: str = ""
    speaker: str = ""
    id: str = ""
    """Empty if the corpus gives none."""
    seconds: float | None = None
    """Length of the utterance; None if the corpus does not give it."""
    start: float = 0.0
    """Seconds from the beginning of the recording to that of the segment."""
    end: float | None = None
    """Seconds to the end of the segment; None: the end of the recording."""
    channel: int | None = None
    """The channel of a recording with several, from 1."""
    where: str = ""
    """Position of the row in its file, for messages."""

    @property
    def is_segment(self) -> bool:
        """Return True if the row needs a file of its own."""
        return self.start > 0 or self.end is not None or self.channel is not None


class UnusableError(Exception):
    """A row that cannot be used, for a reason of this kind."""

    def __init__(self, kind: str, detail: str = "") -> None:
        super().__init__(kind)
        self.kind, self.detail = kind, detail


@dataclass
class Faults:
    """Counts of rows that could not be used, each kind with its first example."""

    record: Callable[[str, str], None] = lambda kind, where: None
    """Function that gets the kind and the position of every fault."""
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, where: str) -> None:
        """Count a fault of a kind, such as "segments beyond their recording", at a position."""
        self.counts[kind] += 1
        self.examples.setdefault(kind, where)
        self.record(kind, where)

    def add_error(self, error: UnusableError, where: str) -> None:
        """Count the fault that an error states, at a position."""
        self.add(error.kind, f"{where}: {error.detail}" if error.detail else where)

    def lines(self) -> list[str]:
        """Describe each kind in a line."""
        return [f"{count} {kind}, such as {self.examples[kind]}" for kind, count in self.counts.items()]


def split_name(name: str) -> str:
    """Return a split's name in littlefoot's form: ``validation.clean`` becomes ``dev-clean``.

    Names that begin like no common split are kept.
    """
    first, *rest = re.split(r"[._\-\s]+", name.strip())
    known = _SPLITS.get(first.lower())
    return "-".join([known, *rest]) if known else name


def split_of(path: Path, root: Path) -> str:
    """Return the split that the name of a shard, or of a folder between it and ``root``, begins with.

    ``train.clean.100-00003-of-00027.parquet`` gives ``train-clean-100``; where no name has a split, the
    result is ``train``.
    """
    parts = path.relative_to(root).parts if path != root else (path.name,)
    return _first_split(unnumbered(parts[-1]), *reversed(parts[:-1]))


def split_of_folder(folder: Path, root: Path) -> str:
    """Return the split that the name of a folder, of one between it and ``root``, or of ``root`` begins with.

    The nearest counts; where none has a split, or the folder is elsewhere, the result is ``train``.
    """
    inside = folder.relative_to(root).parts if folder.is_relative_to(root) else ()
    return _first_split(*reversed(inside), root.absolute().name)


def _first_split(*names: str) -> str:
    for name in map(split_name, names):
        if name.split("-")[0] in _SPLITS.values():
            return name
    return "train"


def unnumbered(name: str) -> str:
    """Return the name of a shard without its suffixes and numbers."""
    stem = re.sub(r"(\.(parquet|arrow|tar|tgz|gz|jsonl))+$", "", name)
    return re.sub(r"[-_.]\d{3,}(-of-\d+)?$|[-_]\d+$", "", stem)


def resolved(name: str, folder: Path) -> Path:
    """Return the path in a Kaldi or lhotse file: relative to the working directory, or else to its folder."""
    path = Path(name)
    return path if path.is_absolute() or path.exists() else folder / path


def is_utf8(cell: str) -> bool:
    """Return False for a cell with bytes that are not UTF-8.

    Surrogates stand for these in a file that is opened with ``errors="surrogateescape"``, so that a row with
    some leaves the others alone.
    """
    return not any("\udc80" <= letter <= "\udcff" for letter in cell)


def columns(present: Sequence[str], named: Mapping[str, str], where: str) -> dict[str, str]:
    """Return the column of each role that a table has.

    Args:
        present: names of the table's columns.
        named: columns that the user chose, by role; an empty name says that there is none.
        where: the table, for messages.

    Raises:
        ManifestError: a chosen column, or every column for the audio or the text, is missing.
    """
    found = {}
    for role, usual in ROLES.items():
        if role in named:
            if named[role] and named[role] not in present:
                raise ManifestError(
                    f"{where}: has no column '{named[role]}': choose from {', '.join(present)}"
                )
            found[role] = named[role]
        else:
            found[role] = next((name for name in usual if name in present), "")
    for role in ("audio", "text"):
        if not found[role] and (role == "audio" or role not in named):
            remedy = ", or --column text= if it has no texts" if role == "text" else ""
            raise ManifestError(
                f"{where}: has no column for the {role} ({', '.join(ROLES[role])}), only"
                f" {', '.join(present)}: name it with --column {role}=NAME{remedy}"
            )
    return {role: name for role, name in found.items() if name}
