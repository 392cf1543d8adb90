"""Recognise the format of a corpus, and read it with the reader of that format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from littlefoot.corpora import audiofolder, downloads, kaldi, lhotse, shar, tables, tars
from littlefoot.corpora.rows import Faults, Row
from littlefoot.errors import ManifestError


def rows(path: Path, named: Mapping[str, str], faults: Faults, run_commands: bool = False) -> Iterator[Row]:
    """Yield the rows of a corpus in any format that is read.

    Args:
        path: a file or a folder.
        named: columns of tables by role, as for ``rows.columns``.
        faults: counts of what could not be used.
        run_commands: whether the commands in a directory of Kaldi are run.

    Raises:
        ManifestError: the path is missing or in none of the formats, or a table lacks a column.
        MissingExtraError: the format's package is not installed.
    """
    if not path.exists():
        raise ManifestError(f"{path}: there is no such file or folder: check the path")
    if path.is_file() and audiofolder.files(path):
        return audiofolder.audiofolder(path, named, faults)
    if _is(path, ".parquet"):
        return tables.parquet(path, named, faults)
    if _is(path, ".arrow") or any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        return tables.datasets(path, named, faults)
    if _is(path, ".tar", ".tgz", ".tar.gz"):
        return tars.webdataset(path, named, faults)
    if (path / "wav.scp").is_file() or kaldi.directories(path):
        return kaldi.kaldi(path, faults, run_commands)
    if downloads.common_voice_files(path):
        return downloads.common_voice(path, faults)
    if shar.files(path):
        return shar.shar(path, faults)
    if lhotse.files(path):
        return lhotse.lhotse(path, faults)
    if path.is_dir() and not (path / "manifest.tsv").is_file():
        # the order is that of the search; each stops at the first file
        if any(each.name != audiofolder.PARQUET for each in path.rglob("*.parquet")):
            return tables.parquet(path, named, faults)
        if next(path.rglob("*.arrow"), None):
            return tables.datasets(path, named, faults)
        if any(next(path.rglob(pattern), None) for pattern in tars.SHARDS):
            return tars.webdataset(path, named, faults)
        if audiofolder.files(path):
            return audiofolder.audiofolder(path, named, faults)
        if not next(path.rglob("*.trans.txt"), None) and not next(path.glob("*/manifest.tsv"), None):
            raise ManifestError(
                f"{path}: holds no corpus that is read: Parquet, a saved data set of Hugging Face, tar "
                "shards, Kaldi, lhotse, an audiofolder, Common Voice, LibriSpeech or a manifest.tsv"
            )
    return downloads.listed(path)


def _is(path: Path, *suffixes: str) -> bool:
    return path.is_file() and path.name.lower().endswith(suffixes)
