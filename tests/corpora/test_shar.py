"""lhotse's Shar directories: cuts as JSON lines beside tar files of their recordings."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from test_corpora import RATE, clip, jsonl, made, ramp, tar
from test_kaldi import left_out

from littlefoot.audio import reading
from littlefoot.corpora.rows import Faults
from littlefoot.corpora.shar import shar


def cut(name: str, *supervisions: dict[str, Any], seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    """A cut as ``SharWriter`` leaves it: it begins at 0, and its recording has no source."""
    cut = {"id": name, "start": 0, "duration": seconds, "channel": 0, "type": "MonoCut"}
    return {**cut, "supervisions": list(supervisions), "recording": facts(name, seconds), **more}


def facts(name: str, seconds: float = 1.0, channels: tuple[int, ...] = (0,)) -> dict[str, Any]:
    source = {"type": "shar", "channels": list(channels), "source": ""}
    return {
        "id": f"rec-{name}",
        "sources": [source],
        "sampling_rate": RATE,
        "num_samples": round(seconds * RATE),
        "duration": seconds,
        "channel_ids": list(channels),
    }


def supervision(name: str, start: float = 0.0, seconds: float = 1.0, **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "recording_id": "rec",
        "start": start,
        "duration": seconds,
        "channel": 0,
        "text": name.upper(),
        "speaker": f"of-{name}",
        **more,
    }


def recordings(*names: str, seconds: float = 1.0) -> dict[str, bytes]:
    """The files of a tar file in lhotse's order."""
    return {
        file: content
        for name in names
        for file, content in {
            f"{name}.flac": clip(seconds, "FLAC"),
            f"{name}.json": json.dumps(facts(name, seconds)).encode(),
        }.items()
    }


def test_a_folder_of_shar_directories(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    for split, first in (("train-clean", 0), ("dev", 4)):
        (corpus / split).mkdir(parents=True)
        for shard in range(2):
            names = [f"s/{first + 2 * shard + number}" for number in range(2)]
            jsonl(
                corpus / split / f"cuts.{shard:06d}.jsonl.gz",
                *(cut(name, supervision(f"u{name}")) for name in names),
            )
            tar(corpus / split / f"recording.{shard:06d}.tar", recordings(*names))
            tar(corpus / split / f"features.{shard:06d}.tar", {f"{names[0]}.llc": b"1"})
    rows, summary = made(tmp_path, corpus)
    assert summary.left_out == {}
    assert summary.splits == {"train-clean": 4, "dev": 4}
    assert {(row.id, row.split, row.text, row.speaker, row.seconds) for row in rows.values()} >= {
        ("us/0", "train-clean", "US/0", "of-us/0", 1.0),
        ("us/7", "dev", "US/7", "of-us/7", 1.0),
    }
    assert rows["us/0"].path.read_bytes() == clip(1.0, "FLAC")
    rows, _ = made(tmp_path, corpus / "dev", overwrite=True)
    assert {row.split for row in rows.values()} == {"dev"}
    rows, _ = made(tmp_path, corpus / "dev" / "cuts.000001.jsonl.gz", overwrite=True)
    assert list(rows) == ["us/6", "us/7"]


def test_supervisions_channels_and_cuts_without_shards_of_their_own(tmp_path: Path) -> None:
    """``shard_size=None`` writes files without numbers."""
    folder = tmp_path / "test"
    folder.mkdir()
    two = supervision("b", 0.5, 0.25, channel=3)
    jsonl(folder / "cuts.jsonl.gz", cut("x", supervision("a", 0.25, 0.5), two, type="MultiCut"), cut("y"))
    soundfile.write(tmp_path / "x.wav", np.stack([ramp(1), -ramp(1)], axis=1), RATE, subtype="PCM_16")
    files = {
        "x.wav": (tmp_path / "x.wav").read_bytes(),
        "x.json": json.dumps(facts("x", 1.0, (0, 3))).encode(),
    }
    tar(folder / "recording.tar", {**files, **recordings("y")})
    rows, summary = made(tmp_path, folder)
    assert summary.left_out == {}
    assert {key: (row.text, row.seconds, row.split) for key, row in rows.items()} == {
        "a": ("A", 0.5, "test"),
        "b": ("B", 0.25, "test"),
        "y": ("", 1.0, "test"),
    }
    np.testing.assert_allclose(reading.read(rows["b"].path), -ramp(1)[8000:12_000], atol=1e-4)


def test_cuts_and_recordings_that_do_not_fit(tmp_path: Path) -> None:
    """The tar file lacks b, has nothing for d, and is longer than the cuts; line 3 is damaged."""
    folder = tmp_path / "train"
    folder.mkdir()
    files = recordings("a", "damaged", "c", "e", "f", "left")
    files |= {"d.nodata": b"", "d.nometa": b""}
    order = ["a", "damaged", "c", "d", "e", "f", "left"]
    files = {name: files[name] for key in order for name in files if name.startswith(f"{key}.")}
    whole = supervision("u")
    lines = [json.dumps(cut(name, {**whole, "id": name})) for name in "abcdef"]
    lines[5] = json.dumps(cut("f", whole, type="MixedCut"))
    lines.insert(2, "{damaged")
    lines.append(json.dumps(cut("g", supervisions=7)))
    (folder / "cuts.000000.jsonl.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    # b is not in the tar file, so that "damaged" waits for it; then the damaged line takes its recording
    tar(folder / "recording.000000.tar", files)
    jsonl(folder / "cuts.000001.jsonl.gz", cut("z"))
    rows, _ = made(tmp_path, folder)
    assert list(rows) == ["a", "c", "e"]
    table = folder / "cuts.000000.jsonl.gz"
    assert sorted(left_out(tmp_path), key=lambda row: row[1]) == [
        ("cuts without a recording in their shard", f"{table}, line 2: recording.000000.tar has damaged"),
        ("lines that are no JSON objects", f"{table}, line 3"),
        ("cuts without a recording in their shard", f"{table}, line 5"),
        ("cuts that are mixed, padded or without a recording", f"{table}, line 7"),
        ("cuts without a recording in their shard", f"{table}, line 8: recording.000000.tar has left"),
        (
            "shards of cuts without the tar file of their recordings",
            str(folder / "cuts.000001.jsonl.gz"),
        ),
    ]


def test_a_shard_that_is_cut_off(tmp_path: Path) -> None:
    folder = tmp_path / "train"
    folder.mkdir()
    for shard, names in enumerate(("abc", "def")):
        jsonl(folder / f"cuts.{shard:06d}.jsonl.gz", *map(cut, names))
        tar(folder / f"recording.{shard:06d}.tar", recordings(*names))
    path = folder / "recording.000000.tar"
    path.write_bytes(path.read_bytes()[:-20_000])
    rows, summary = made(tmp_path, folder)
    assert list(rows)[-3:] == ["d", "e", "f"]
    assert 1 <= len(rows) < 6
    assert summary.left_out["shards that are damaged or cut off"] == 1
    assert summary.left_out["cuts without a recording in their shard"] == 6 - len(rows)


@pytest.mark.parametrize("form", ["wav", "flac"])
def test_shards_that_lhotse_wrote(tmp_path: Path, form: str) -> None:
    lhotse = pytest.importorskip("lhotse", reason="pip install lhotse: it writes the shards")
    soundfile.write(tmp_path / "long.wav", ramp(3.0), RATE, subtype="PCM_16")
    recording = lhotse.Recording.from_file(tmp_path / "long.wav")
    segments = [
        lhotse.SupervisionSegment(
            f"s{number}", recording.id, number * 0.7, 0.6, text=f"T {number}", speaker="ann"
        )
        for number in range(4)
    ]
    whole = lhotse.MonoCut("whole", 0, 3.0, 0, segments, recording=recording)
    cuts = [*whole.trim_to_supervisions(), lhotse.MonoCut("none", 0.5, 2.0, 0, [], recording=recording)]
    folder = tmp_path / "dev"
    folder.mkdir()
    lhotse.CutSet.from_cuts(cuts).to_shar(folder, fields={"recording": form}, shard_size=2)
    rows, summary = made(tmp_path, folder)
    assert summary.left_out == {}
    found = list(lhotse.CutSet.from_shar(in_dir=folder))
    assert len(rows) == len(found) == 5
    for (name, row), theirs in zip(rows.items(), found, strict=True):
        supervision = theirs.supervisions[0] if theirs.supervisions else None
        assert name == (supervision.id if supervision else theirs.id)
        assert row.text == (supervision.text if supervision else "")
        assert row.split == "dev"
        np.testing.assert_allclose(reading.read(row.path), theirs.load_audio()[0], atol=1e-4)


def test_a_shard_is_read_as_a_stream(tmp_path: Path) -> None:
    """The tar file has 13 MB, a recording 64 kB."""
    names = [f"c{number}" for number in range(200)]
    content = clip(2.0)
    files = {}
    for name in names:
        files |= {f"{name}.wav": content, f"{name}.json": json.dumps(facts(name, 2.0)).encode()}
    tar(tmp_path / "recording.000000.tar", files)
    jsonl(tmp_path / "cuts.000000.jsonl.gz", *(cut(name, seconds=2.0) for name in names))
    tracemalloc.start()
    assert sum(isinstance(row.audio, bytes) for row in shar(tmp_path, Faults())) == 200
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert most < 2_000_000
