"""Corpora of all formats become manifests; what cannot be used is counted, and the rest is kept."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from conftest import Run

from littlefoot.audio import manifest, reading
from littlefoot.audio.manifest import Utterance
from littlefoot.corpora import tables
from littlefoot.corpora.rows import Faults, split_name, split_of
from littlefoot.corpora.write import Summary, write
from littlefoot.errors import ConfigError, ManifestError

RATE = 16_000


def ramp(seconds: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Samples that differ, so that a segment shows from where it was cut."""
    return (np.arange(round(seconds * RATE)) % 20_000 / 32_768).astype(np.float32)


def clip(seconds: float = 0.1, form: str = "WAV", rate: int = RATE) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, ramp(seconds), rate, format=form, subtype="PCM_16")
    return file.getvalue()


def made(tmp_path: Path, *corpora: Path, **options: Any) -> tuple[dict[str, Utterance], Summary]:
    """The rows of the manifest by id, and the summary."""
    summary = write(corpora, tmp_path / "out", **options)
    return {row.id: row for row in manifest.read(tmp_path / "out")}, summary


# Parquet and Arrow


def table(count: int = 3, **columns: list[Any]) -> pa.Table:
    content = {
        "audio": [{"bytes": clip(0.1 + 0.1 * i), "path": f"{i}.wav"} for i in range(count)],
        "sentence": [f"TEXT {i}" for i in range(count)],
        "speaker_id": [100 + i for i in range(count)],
    }
    return pa.table({**content, **columns})


def test_parquet_shards_keep_splits_texts_and_speakers(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    (folder / "data").mkdir(parents=True)
    pq.write_table(table(), folder / "data" / "train.clean.100-00000-of-00001.parquet", row_group_size=2)
    pq.write_table(table(1, speaker_id=[7]), folder / "data" / "validation-00000-of-00001.parquet")
    rows, summary = made(tmp_path, folder)
    assert [(row.split, row.text, row.speaker, row.seconds) for row in rows.values()] == [
        ("train-clean-100", "TEXT 0", "100", 0.1),
        ("train-clean-100", "TEXT 1", "101", 0.2),
        ("train-clean-100", "TEXT 2", "102", 0.3),
        ("dev", "TEXT 0", "7", 0.1),
    ]
    assert [row.path.read_bytes() for row in rows.values()][:2] == [clip(0.1), clip(0.2)]
    assert summary.splits == {"train-clean-100": 3, "dev": 1}
    assert not summary.warnings


def test_a_missing_column_is_an_error_that_names_those_that_exist(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    pq.write_table(table().rename_columns(["audio", "words", "speaker_id"]), path)
    with pytest.raises(ManifestError, match=r"no column for the text .* only audio, words, speaker_id: name"):
        write([path], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ManifestError, match="no column 'spoken': choose from audio, words"):
        write([path], tmp_path / "out", {"text": "spoken"})
    rows, _ = made(tmp_path, path, named={"text": "words"})
    assert [row.text for row in rows.values()] == ["TEXT 0", "TEXT 1", "TEXT 2"]
    rows, summary = made(tmp_path, path, named={"text": ""}, overwrite=True)
    assert summary.without_text == 3


def test_a_shard_that_is_cut_off_is_counted_and_the_others_are_read(tmp_path: Path) -> None:
    for number in range(3):
        pq.write_table(table(1, speaker_id=[number]), tmp_path / f"train-0000{number}.parquet")
    broken = tmp_path / "train-00001.parquet"
    broken.write_bytes(broken.read_bytes()[:-30])
    rows, summary = made(tmp_path, tmp_path)
    assert [row.speaker for row in rows.values()] == ["0", "2"]
    assert summary.left_out == {"shards that are damaged or cut off": 1}
    assert "train-00001.parquet after 0 rows" in summary.warnings[0]


def test_rows_without_a_readable_recording_are_counted(tmp_path: Path) -> None:
    audio = [{"bytes": clip(), "path": None}, {"bytes": None, "path": None}, {"bytes": b"text", "path": "a"}]
    audio.append({"bytes": None, "path": "gone.wav"})
    columns = {"audio": audio, "sentence": list("ABCD"), "speaker_id": [None] * 4}
    pq.write_table(pa.table(columns), tmp_path / "test.parquet")
    rows, summary = made(tmp_path, tmp_path / "test.parquet")
    assert [row.text for row in rows.values()] == ["A"]
    assert summary.left_out == {
        "rows without a recording": 1,
        "recordings that cannot be read": 1,
        "recordings that are missing": 1,
    }


def test_parquet_is_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    """The group of rows is 40 MB, its pages of 16 rows are 1.6 MB."""
    noise = np.random.default_rng(0).bytes(100_000)
    audio = [noise[i:] + noise[:i] for i in range(400)]
    content = pa.table({"audio": audio, "text": ["A"] * 400})
    pq.write_table(content, tmp_path / "train.parquet", compression="none", write_batch_size=16)
    del content
    before = pa.total_allocated_bytes()
    most = 0
    for row in tables.parquet(tmp_path / "train.parquet", {}, Faults()):
        assert isinstance(row.audio, bytes)
        most = max(most, pa.total_allocated_bytes() - before)
    assert 0 < most < 16_000_000


def save_to_disk(folder: Path, content: pa.Table, split: str) -> Path:
    """As ``datasets.Dataset.save_to_disk`` does: Arrow streams and their names."""
    folder.mkdir(parents=True)
    with pa.ipc.new_stream(folder / "data-00000-of-00001.arrow", content.schema) as file:
        file.write_table(content, max_chunksize=2)
    files = [{"filename": "data-00000-of-00001.arrow"}]
    state = {"_data_files": files, "_split": split, "_indices_data_files": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder / "data-00000-of-00001.arrow"


def test_a_saved_data_set_of_hugging_face(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    save_to_disk(corpus / "train", table(), "train")
    cut = save_to_disk(corpus / "validation", table(4, speaker_id=[1, 2, 3, 4]), "validation")
    cut.write_bytes(cut.read_bytes()[:-5000])
    (corpus / "dataset_dict.json").write_text('{"splits": ["train", "validation"]}')
    rows, summary = made(tmp_path, corpus)
    assert [row.split for row in rows.values()] == ["train"] * 3 + ["dev"] * 2
    assert summary.left_out == {"shards that are damaged or cut off": 1}
    rows, _ = made(tmp_path, corpus / "train", overwrite=True)
    assert [row.text for row in rows.values()] == ["TEXT 0", "TEXT 1", "TEXT 2"]


# webdataset


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as shard:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            shard.addfile(member, io.BytesIO(content))
    return path


def samples(first: int, count: int) -> dict[str, bytes]:
    return {
        f"set/{number}.{suffix}": content
        for number in range(first, first + count)
        for suffix, content in {
            "flac": clip(form="FLAC"),
            "json": json.dumps({"speaker": f"s{number}", "text": "NO"}).encode(),
            "txt": f"TEXT {number}\n".encode(),
            "cls": b"3",
        }.items()
    }


def test_tar_shards(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    tar(folder / "train-000000.tar", samples(0, 2))
    tar(folder / "dev-000000.tar.gz", samples(2, 1))
    rows, summary = made(tmp_path, folder)
    assert [(row.id, row.split, row.text, row.speaker) for row in rows.values()] == [
        ("set/2", "dev", "TEXT 2", "s2"),
        ("set/0", "train", "TEXT 0", "s0"),
        ("set/1", "train", "TEXT 1", "s1"),
    ]
    assert not summary.warnings


@pytest.mark.parametrize("suffix", ["tar", "tar.gz"])
@pytest.mark.parametrize("kept", [0.4, 0.7, 0.9])
def test_a_tar_shard_that_is_cut_off_gives_what_precedes_the_cut(
    tmp_path: Path, suffix: str, kept: float
) -> None:
    noise = np.random.default_rng(1).integers(-9000, 9000, 4 * RATE).astype(np.int16)
    files = {}
    for number in range(4):
        file = io.BytesIO()
        soundfile.write(file, noise[number * RATE :][:RATE], RATE, format="WAV")
        files |= {f"{number}.wav": file.getvalue(), f"{number}.txt": b"A"}
    path = tar(tmp_path / f"train-0.{suffix}", files)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * 4 * 2 * RATE)])
    rows, summary = made(tmp_path, path)
    assert 1 <= len(rows) < 4
    assert summary.left_out == {"shards that are damaged or cut off": 1}


def test_a_tar_shard_that_ends_between_two_files_is_cut_off_too(tmp_path: Path) -> None:
    """Nothing shows whether the last utterance before the cut is complete, so it is left out."""
    path = tar(tmp_path / "train-0.tar", samples(0, 3))
    with tarfile.open(path) as shard:
        border = shard.getmembers()[7].offset
    path.write_bytes(path.read_bytes()[:border])
    rows, summary = made(tmp_path, path)
    assert list(rows) == ["set/0"]
    assert summary.left_out == {"shards that are damaged or cut off": 1}


def test_utterances_of_a_shard_that_lack_something_are_counted(tmp_path: Path) -> None:
    files = {"a.txt": b"A", "b.wav": clip(), "b.json": b"{", "c.wav": clip(), "c.txt": "Ü".encode("latin-1")}
    path = tar(tmp_path / "train-0.tar", {**files, "d.wav": clip(), "d.json": b'{"text": "D", "id": "x"}'})
    rows, summary = made(tmp_path, path)
    assert [(row.id, row.text) for row in rows.values()] == [("x", "D")]
    assert summary.left_out == {
        "utterances without a recording": 1,
        "utterances with unreadable texts": 2,
    }


# lhotse


def recording(path: Path, **more: Any) -> dict[str, Any]:
    source = {"type": "file", "channels": [0, 1], "source": str(path)}
    facts = {"sampling_rate": RATE, "num_samples": 3 * RATE, "duration": 3.0}
    return {"id": "rec", "sources": [source], **facts, **more}


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([ramp(3.0), -ramp(3.0)], axis=1), RATE, subtype="PCM_16")
    return path


def jsonl(path: Path, *rows: Any) -> Path:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(content))
    return path


def test_supervisions_of_lhotse(tmp_path: Path, stereo: Path) -> None:
    folder = tmp_path / "manifests"
    folder.mkdir()
    jsonl(folder / "calls_recordings_train.jsonl.gz", recording(stereo))
    supervision = {"id": "s1", "recording_id": "rec", "start": 0.5, "duration": 1.0, "text": "HI"}
    jsonl(
        folder / "calls_supervisions_train.jsonl.gz",
        {**supervision, "channel": 1, "speaker": "ann"},
        {**supervision, "id": "s2", "recording_id": "other"},
        ["no object"],
        {"id": "s3", "recording_id": "rec"},
        {**supervision, "id": ["s4"], "channel": 0, "start": -1},
        {**supervision, "duration": float("nan")},
    )
    rows, summary = made(tmp_path, folder)
    assert [(row.id, row.split, row.text, row.speaker, row.seconds) for row in rows.values()] == [
        ("s1", "train", "HI", "ann", 1.0)
    ]
    np.testing.assert_allclose(reading.read(rows["s1"].path), -ramp(3.0)[8000:24_000], atol=1e-4)
    assert summary.left_out == {
        "supervisions of recordings that are not listed": 1,
        "lines that are no JSON objects": 1,
        "objects that lack something": 1,
        "segments with impossible times": 2,
    }


def test_cuts_of_lhotse(tmp_path: Path, stereo: Path) -> None:
    supervision = {
        "id": "s1",
        "recording_id": "rec",
        "start": 0.25,
        "duration": 0.5,
        "channel": 0,
        "text": "A",
    }
    cut = {"id": "c", "start": 1.0, "duration": 1.0, "channel": 0, "type": "MonoCut"}
    cut |= {"recording": recording(stereo), "supervisions": [supervision]}
    changed = {**cut, "recording": recording(stereo, transforms=[{"name": "Speed"}])}
    path = jsonl(tmp_path / "cuts_dev-clean.jsonl.gz", cut, changed, {**cut, "type": "MixedCut"})
    content = path.read_bytes()
    rows, summary = made(tmp_path, path)
    assert (rows["s1"].split, rows["s1"].text, rows["s1"].seconds) == ("dev-clean", "A", 0.5)
    np.testing.assert_allclose(reading.read(rows["s1"].path), ramp(3.0)[20_000:28_000], atol=1e-4)
    assert summary.left_out.total() == 2
    path.write_bytes(content[:-4])
    _, summary = made(tmp_path, path, overwrite=True)
    assert summary.left_out["shards that are damaged or cut off"] == 1


# Downloads


def test_common_voice_as_it_is_downloaded(tmp_path: Path) -> None:
    folder = tmp_path / "cv-corpus" / "en"
    (folder / "clips").mkdir(parents=True)
    header = "client_id\tpath\tsentence\tup_votes\n"
    for split, client in (("train", "aa"), ("dev", "bb"), ("validated", "cc")):
        (folder / f"{split}.tsv").write_text(f'{header}{client}\t{split}.mp3\tSay "hello\t2\n')
        soundfile.write(folder / "clips" / f"{split}.mp3", ramp(0.5), RATE)
    (folder / "test.tsv").write_text(
        f"{header}dd\tgone.mp3\tGone\t2\nee\t\tNone\t1\nff\tx.mp3\tü\t1\n", "latin-1"
    )
    (folder / "clip_durations.tsv").write_text("clip\tduration[ms]\ntrain.mp3\t512\n")
    rows, summary = made(tmp_path, tmp_path / "cv-corpus")
    assert [(row.id, row.split, row.speaker, row.text) for row in rows.values()] == [
        ("train", "train", "aa", 'Say "hello'),
        ("dev", "dev", "bb", 'Say "hello'),
    ]
    assert rows["train"].seconds == 0.512
    assert rows["train"].path == folder / "clips" / "train.mp3"
    assert summary.left_out == {
        "recordings that are missing": 1,
        "rows without a recording": 1,
        "rows that are not UTF-8 text": 1,
    }
    rows, _ = made(tmp_path, folder / "validated.tsv", split="train", overwrite=True)
    assert [(row.id, row.split) for row in rows.values()] == [("validated", "train")]


def test_librispeech_as_it_is_downloaded(tmp_path: Path) -> None:
    for split, speaker in (("train-clean-100", "19"), ("test-clean", "61")):
        chapter = tmp_path / "LibriSpeech" / split / speaker / "7"
        chapter.mkdir(parents=True)
        (chapter / f"{speaker}-7.trans.txt").write_text(f"{speaker}-7-0 GOOD\n{speaker}-7-1 GONE\n")
        soundfile.write(chapter / f"{speaker}-7-0.flac", ramp(0.25), RATE)
    rows, summary = made(tmp_path, tmp_path / "LibriSpeech")
    assert sorted((row.id, row.split, row.speaker, row.seconds) for row in rows.values()) == [
        ("19-7-0", "train-clean-100", "19", 0.25),
        ("61-7-0", "test-clean", "61", 0.25),
    ]
    assert summary.left_out == {"recordings that are missing": 2}


# All formats


def test_a_speaker_in_two_splits_and_a_repeated_id_are_warnings(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for split in ("train", "test"):
        content = table(2, speaker_id=["ann", split], id=["1", "2"])
        pq.write_table(content, folder / f"{split}.parquet")
    rows, summary = made(tmp_path, folder)
    assert list(rows) == ["1", "2", "1-2", "2-2"]
    assert summary.warnings == [
        "1 speakers are in several splits, such as ann in test and train",
        f"2 ids occurred before, and got a number, such as {folder / 'train.parquet'}, row 1: 1",
    ]
    assert summary.left_out == {}


def test_a_folder_of_nothing_and_an_output_that_exists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ManifestError, match="holds no corpus that is read: Parquet"):
        write([tmp_path / "empty"], tmp_path / "out")
    with pytest.raises(ManifestError, match="no such file or folder"):
        write([tmp_path / "missing"], tmp_path / "out")
    with pytest.raises(ConfigError, match="exists already"):
        write([tmp_path], tmp_path / "empty")
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="is a file"):
        write([tmp_path], tmp_path / "file", overwrite=True)
    tar(tmp_path / "train.tar", {"a.txt": b"A"})
    with pytest.raises(ManifestError, match=r"nothing can be used \(left out: 1 utterances without a"):
        write([tmp_path / "train.tar"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00001-of-00003.parquet", "train"),
        ("train_000123.tar", "train"),
        ("validation.clean-00000-of-00001.parquet", "dev-clean"),
        ("clean/test/0000.parquet", "test"),
        ("default/train/0000.parquet", "train"),
        ("part-00001.parquet", "train"),
        ("valid/part-00001.parquet", "dev"),
    ],
)
def test_names_of_shards_and_folders_have_the_split(name: str, split: str) -> None:
    assert split_of(Path("corpus") / name, Path("corpus")) == split


def test_names_of_splits() -> None:
    assert [split_name(name) for name in ("dev_clean", "val", "train.360", "validated", "")] == [
        "dev-clean",
        "dev",
        "train-360",
        "validated",
        "",
    ]


def test_the_command(tmp_path: Path, run: Run) -> None:
    content = table(2).rename_columns(["audio", "words", "speaker_id"])
    pq.write_table(content, tmp_path / "train.parquet")
    result = run("manifest", tmp_path / "train.parquet", "-o", tmp_path / "out", "--column", "text=words")
    assert result.code == 0, result.err
    assert "rows          2, 0.00 h (train 2)" in result.out
    result = run("manifest", tmp_path / "train.parquet", "-o", tmp_path / "out2", "--column", "words")
    assert result.code == 2
    assert "is not ROLE=NAME" in result.err
    tar(tmp_path / "test-0.tar", {"a.txt": b"A", "b.wav": clip(), "b.txt": b"B"})
    result = run("manifest", tmp_path / "test-0.tar", "-o", tmp_path / "out3", "--json")
    assert result.code == 1
    assert json.loads(result.out)["left_out"] == {"utterances without a recording": 1}
    assert "left out: 1 utterances without a recording, such as" in result.err
