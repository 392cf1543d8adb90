"""Folders of recordings with a table of them, as Hugging Face's ``audiofolder`` reads."""

from __future__ import annotations

import csv
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Run
from test_corpora import clip, made
from test_kaldi import left_out

from littlefoot.corpora.audiofolder import audiofolder
from littlefoot.corpora.rows import Faults
from littlefoot.corpora.write import write
from littlefoot.errors import ManifestError


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)


def folder(corpus: Path, suffix: str, texts: str = "transcription") -> Path:
    """A corpus with a table for each split."""
    for split, count in (("train", 2), ("validation", 1), ("test", 1)):
        rows = []
        for number in range(count):
            file = corpus / split / "clips" / f"{number}.wav"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(clip(0.1 * (number + 1)))
            text = f'{split}, "{number}"\nüber'
            rows.append({"file_name": f"clips/{number}.wav", texts: text, "speaker_id": split})
        table(corpus / split / f"metadata.{suffix}", rows)
    return corpus


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_table_for_each_split(tmp_path: Path, suffix: str) -> None:
    corpus = folder(tmp_path / "corpus", suffix)
    rows, summary = made(tmp_path, corpus)
    assert summary.warnings == []
    assert [(row.split, row.text, row.speaker, row.seconds) for row in rows.values()] == [
        ("test", 'test, "0" über', "test", 0.1),
        ("train", 'train, "0" über', "train", 0.1),
        ("train", 'train, "1" über', "train", 0.2),
        ("dev", 'validation, "0" über', "validation", 0.1),
    ]
    assert {row.path.parent for row in rows.values()} == {
        corpus / split / "clips" for split in ("train", "validation", "test")
    }
    rows, _ = made(tmp_path, corpus / "validation" / f"metadata.{suffix}", overwrite=True)
    assert [row.split for row in rows.values()] == ["dev"]


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_column_of_any_name_has_the_text(tmp_path: Path, suffix: str) -> None:
    corpus = folder(tmp_path / "corpus", suffix, texts="what people said")
    with pytest.raises(
        ManifestError, match=r"no column for the text .* only file_name, what people said, spea"
    ):
        write([corpus], tmp_path / "out")
    rows, _ = made(tmp_path, corpus, named={"text": "what people said"})
    assert next(row.text for row in rows.values()) == 'test, "0" über'
    with pytest.raises(ManifestError, match="no column 'words': choose from file_name, what people said"):
        write([corpus], tmp_path / "other", {"text": "words"})


def test_one_table_for_folders_of_splits(tmp_path: Path) -> None:
    """The column split precedes the folders, and file_name other columns with paths."""
    rows = []
    for name in ("train/a.wav", "val/b.wav", "c.wav", "test/d.wav"):
        file = tmp_path / "corpus" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(clip())
        rows.append({"path": "where it was.mp3", "file_name": name, "text": name, "id": Path(name).stem})
    table(tmp_path / "corpus" / "metadata.csv", rows)
    found, _ = made(tmp_path, tmp_path / "corpus")
    assert {key: row.split for key, row in found.items()} == {
        "a": "train",
        "b": "dev",
        "c": "train",
        "d": "test",
    }
    rows[0]["split"] = "validation"
    table(tmp_path / "corpus" / "metadata.csv", [{"split": "", **row} for row in rows])
    found, _ = made(tmp_path, tmp_path / "corpus", overwrite=True)
    assert {key: row.split for key, row in found.items()} == {
        "a": "dev",
        "b": "dev",
        "c": "train",
        "d": "test",
    }


def test_damaged_rows_of_csv_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    corpus = tmp_path / "train"
    corpus.mkdir()
    (corpus / "a.wav").write_bytes(clip())
    (corpus / "metadata.csv").write_bytes(
        b"\xef\xbb\xbffile_name,text\r\n"
        b"a.wav,FIRST\r\n"
        b"a.wav\r\n"
        b"a.wav,TOO,MANY\r\n"
        b"a.wav,\xff\xfe\r\n"
        b'a.wav,"MIS"PLACED\r\n'
        b"gone.wav,GONE\r\n"
        b",NO FILE\r\n"
        b"\r\n"
        b'a.wav,"A ""QUOTE"""\r\n'
    )
    rows, summary = made(tmp_path, corpus)
    assert [row.text for row in rows.values()] == ["FIRST", 'A "QUOTE"']
    at = f"{corpus}/metadata.csv, line"
    assert [(reason, where.partition(" (")[0]) for reason, where in left_out(tmp_path)] == [
        ("rows with more or fewer cells than the header", f"{at} 3"),
        ("rows with more or fewer cells than the header", f"{at} 4"),
        ("rows that are not UTF-8 text", f"{at} 5"),
        ("rows with misplaced quotes", f"{at} 6"),
        ("recordings that are missing", f"{at} 7: {corpus}/gone.wav"),
        ("rows without a recording", f"{at} 8"),
    ]
    assert summary.left_out.total() == 6


def test_damaged_rows_of_json_lines_are_named_and_the_others_are_read(tmp_path: Path) -> None:
    corpus = tmp_path / "train"
    corpus.mkdir()
    (corpus / "a.wav").write_bytes(clip())
    (corpus / "b.wav").write_bytes(b"no recording")
    lines = (
        b'{"file_name": "a.wav"}',
        b"{",
        b'["a.wav"]',
        b'{"file_name": "a.wav", "text": "\xff"}',
        b'{"text": "NO FILE"}',
        b'{"file_name": "b.wav", "text": "B"}',
        b'{"file_name": "a.wav", "text": "LAST", "speaker": 7}',
    )
    (corpus / "metadata.jsonl").write_bytes(b"\n".join(lines))
    rows, summary = made(tmp_path, corpus)
    assert [(row.text, row.speaker) for row in rows.values()] == [("", ""), ("LAST", "7")]
    assert summary.without_text == 1
    at = f"{corpus}/metadata.jsonl, line"
    assert [where.partition(": ")[0] for _, where in left_out(tmp_path)] == [f"{at} {n}" for n in range(2, 7)]


def test_two_tables_in_a_folder_are_refused(tmp_path: Path) -> None:
    corpus = folder(tmp_path / "corpus", "csv")
    folder(corpus, "jsonl")
    with pytest.raises(ManifestError, match=r"test: has metadata.csv and metadata.jsonl: name one of them"):
        write([corpus], tmp_path / "out")
    rows, _ = made(tmp_path, corpus / "train" / "metadata.jsonl")
    assert len(rows) == 2


def test_a_long_table_is_read_as_a_stream(tmp_path: Path) -> None:
    rows = [{"file_name": f"{number}.wav", "text": "WORDS " * 20} for number in range(20_000)]
    table(tmp_path / "metadata.csv", rows)
    del rows
    tracemalloc.start()
    assert sum(1 for _ in audiofolder(tmp_path / "metadata.csv", {}, Faults())) == 20_000
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 1_000_000 < (tmp_path / "metadata.csv").stat().st_size


def test_the_command_reads_an_audiofolder(tmp_path: Path, run: Run) -> None:
    corpus = folder(tmp_path / "corpus", "csv", texts="said")
    result = run("manifest", corpus, "-o", tmp_path / "out", "--column", "text=said")
    assert result.code == 0, result.err
    assert "rows          4, 0.00 h (test 1, train 2, dev 1)" in result.out


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_rows_are_those_of_datasets(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets", reason="pip install datasets: it reads the folder too")
    # paths are compared, so that its decoder is not needed
    monkeypatch.setattr(datasets.Audio, "encode_example", lambda self, path: {"bytes": None, "path": path})
    corpus = folder(tmp_path / "corpus", suffix)
    theirs = datasets.load_dataset("audiofolder", data_dir=str(corpus), streaming=True)
    expected = {
        (row["audio"]["path"], "dev" if split == "validation" else split, row["transcription"])
        for split, rows in theirs.items()
        for row in rows.cast_column("audio", datasets.Audio(decode=False))
    }
    rows, _ = made(tmp_path, corpus)
    found = {(str(row.path), row.split, row.text) for row in rows.values()}
    assert found == {(path, split, " ".join(text.split())) for path, split, text in expected}
