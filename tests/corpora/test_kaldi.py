"""Kaldi's data directories: files, segments, positions in archives, and commands, which are not run."""

from __future__ import annotations

import csv
import shlex
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Run
from test_corpora import RATE, clip, made, ramp

from littlefoot.audio import reading
from littlefoot.corpora.write import write
from littlefoot.errors import ManifestError


def kaldi(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True)
    soundfile.write(folder / "rec.wav", ramp(3.0), RATE, subtype="PCM_16")
    for name, content in {"wav.scp": f"rec1 {folder / 'rec.wav'}\n", **files}.items():
        (folder / name).write_text(content)
    return folder


def left_out(tmp_path: Path) -> list[tuple[str, str]]:
    """The reason and the position of each row that was left out, of files in the directory of Kaldi."""
    with (tmp_path / "out" / "left-out.tsv").open(newline="") as file:
        return [(row["reason"], row["where"]) for row in csv.DictReader(file, delimiter="\t")]


def test_a_directory_of_kaldi_with_segments(tmp_path: Path) -> None:
    folder = kaldi(
        tmp_path / "data" / "dev_clean",
        segments="u2 rec1 1.5 3.2\nu1 rec1 0.25 1.0\nu3 rec1 2.9 4.5\n"
        "u4 rec1 2 1\nu5 rec9 0 1\nu6 rec1 2.5 -1\nu7 rec1 0 inf\nu8 rec1 0 1 0 0\n",
        text="u1 GOOD MORNING\nu2 HOW ARE\tYOU\n",
        utt2spk="u1 ann\nu2 ben\n",
    )
    rows, summary = made(tmp_path, folder.parent)
    assert {row.id: (row.split, row.text, row.speaker, row.seconds) for row in rows.values()} == {
        "u1": ("dev-clean", "GOOD MORNING", "ann", 0.75),
        "u2": ("dev-clean", "HOW ARE YOU", "ben", 1.5),  # 0.2 s beyond the end are allowed
        "u6": ("dev-clean", "", "", 0.5),
    }
    assert summary.left_out.total() == 5
    assert sorted(left_out(tmp_path), key=lambda row: row[1]) == [
        ("segments beyond their recording", f"{folder}/segments, line 3"),
        ("segments that end before they start", f"{folder}/segments, line 4"),
        ("segments of recordings that wav.scp lacks", f"{folder}/segments, line 5: rec9"),
        ("segments with impossible times", f"{folder}/segments, line 7"),
        ("segments that are no recording, start and end", f"{folder}/segments, line 8"),
    ]
    cut = reading.read(rows["u1"].path)
    np.testing.assert_allclose(cut, ramp(3.0)[4000:16_000], atol=1e-4)


def test_a_segment_of_one_channel(tmp_path: Path) -> None:
    """As in Kaldi, channels of ``segments`` count from 0."""
    folder = kaldi(tmp_path / "train", segments="a rec1 0.5 1 0\nb rec1 0.5 1 1\nc rec1 0.5 1 7\n")
    soundfile.write(folder / "rec.wav", np.stack([ramp(3.0), -ramp(3.0)], axis=1), RATE, subtype="PCM_16")
    rows, summary = made(tmp_path, folder)
    for name, sign in (("a", 1), ("b", -1)):
        np.testing.assert_allclose(reading.read(rows[name].path), sign * ramp(3.0)[8000:16_000], atol=1e-4)
    assert summary.left_out == {"recordings that cannot be read": 1}


def archive(path: Path, **recordings: bytes) -> dict[str, str]:
    """Write recordings behind their keys; return the entry of each in ``wav.scp``."""
    entries = {}
    with path.open("wb") as file:
        for key, content in recordings.items():
            file.write(f"{key} ".encode())
            entries[key] = f"{path}:{file.tell()}"
            file.write(content)
    return entries


def audio(content: bytes) -> bytes:
    """As kaldiio writes a recording of any format: a word, and its length in as few bytes as hold it."""
    digits = (len(content).bit_length() + 7) // 8
    return b"AUDIO" + bytes([digits]) + len(content).to_bytes(digits, "little") + content


def test_recordings_in_archives(tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "train", text="a A\nb B\n", segments="a r1 0.1 0.3\nb r2 0 -1\nc r1 0.3 0.4\n")
    entries = archive(folder / "wav.ark", r1=clip(0.5), r2=audio(clip(0.25, "FLAC")))
    entries["r2"] = "wav.ark:" + entries["r2"].rpartition(":")[2]  # relative to the directory
    (folder / "wav.scp").write_text("".join(f"{key} {entry}\n" for key, entry in entries.items()))
    rows, summary = made(tmp_path, folder)
    assert summary.left_out == {}
    assert not (tmp_path / "out" / "left-out.tsv").exists()
    assert {key: (row.text, row.seconds) for key, row in rows.items()} == {
        "a": ("A", 0.2),
        "c": ("", 0.1),
        "b": ("B", 0.25),
    }
    np.testing.assert_allclose(reading.read(rows["a"].path), ramp(0.5)[1600:4800], atol=1e-4)
    np.testing.assert_allclose(reading.read(rows["b"].path), ramp(0.25), atol=1e-4)


def test_entries_of_archives_that_hold_no_recording(tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "train")
    features = b"\0BFM \4" + struct.pack("<i", 1) + b"\4" + struct.pack("<i", 1) + bytes(4)
    endless = b"RIFF" + b"\xff" * 4 + clip()[8:]  # as programs write that do not know the end
    entries = archive(folder / "wav.ark", a=clip(), b=features, c=endless, d=b"", e=clip()[:-10])
    entries |= {"f": "gone.ark:5", "g": f"{entries['a']}[0:10]", "h": f"{folder / 'wav.ark'}:99999999"}
    lines = [f"{key} {entry}".encode() for key, entry in entries.items()]
    (folder / "wav.scp").write_bytes(b"\n".join([*lines, b"\xff\xfe x.wav", b"lonely"]))
    rows, _ = made(tmp_path, folder)
    assert list(rows) == ["a"]
    assert [(reason.split(":")[0], where.partition(": ")[0]) for reason, where in left_out(tmp_path)] == [
        ("rows that are not UTF-8 text", f"{folder}/wav.scp, line 9"),
        *(
            (reason, f"{folder}/wav.scp, line {line}")
            for line, reason in enumerate(
                (
                    "positions in archives with no recording, such as features or a wrong offset",
                    "recordings in archives with no length, or of more than 1 GB",
                    "positions in archives with no recording, such as features or a wrong offset",
                    "recordings in archives that are cut off",
                    "archives that cannot be read",
                    "ranges of rows in archives, which are features, not recordings",
                    "positions in archives with no recording, such as features or a wrong offset",
                ),
                start=2,
            )
        ),
        ("recordings that are missing", f"{folder}/wav.scp, line 10"),
    ]


def test_commands_of_kaldi_are_not_run(tmp_path: Path) -> None:
    sentinel = tmp_path / "sentinel"
    folder = kaldi(tmp_path / "train")
    plain = folder / "rec.wav"
    entries = (
        f"a cat {plain} |\nb flac -c -d -s rec.wav |\nc touch {sentinel} |\nd sox {plain} -t wav - speed 2 |"
    )
    (folder / "wav.scp").write_text(entries)
    (folder / "text").write_text("a A\nb B\n")
    rows, summary = made(tmp_path, folder)
    assert {row.id: row.path for row in rows.values()} == {"a": plain, "b": plain}
    assert summary.left_out.total() == 2
    (warning,) = summary.warnings
    assert "not run because they could do anything: convert the recordings to files, or add --run" in warning
    assert f"such as {folder / 'wav.scp'}, line 3: touch {sentinel}" in warning
    assert not sentinel.exists()


def test_commands_of_a_trusted_corpus_are_run(tmp_path: Path, run: Run) -> None:
    program = "import sys; sys.stdout.buffer.write(open(sys.argv[1], 'rb').read())"
    folder = kaldi(tmp_path / "train", segments="u1 rec1 0.5 1.0\nu2 rec2 0 1\nu3 rec3 0 1\n")
    command = f"{sys.executable} -c {shlex.quote(program)} {folder / 'rec.wav'} |"
    (folder / "wav.scp").write_text(f"rec1 {command}\nrec2 echo unreadable >&2; false |\nrec3 true |\n")
    result = run("manifest", folder, "-o", tmp_path / "out", "--run-commands")
    assert result.code == 1
    assert f"left out      2, listed in {tmp_path / 'out' / 'left-out.tsv'}" in result.out
    (line,) = (tmp_path / "out" / "manifest.tsv").read_text().splitlines()[1:]
    path = tmp_path / "out" / line.split("\t")[1]
    np.testing.assert_allclose(reading.read(path), ramp(3.0)[8000:16_000], atol=1e-4)
    assert left_out(tmp_path) == [
        (
            "commands that failed",
            f"{folder}/wav.scp, line 2: echo unreadable >&2; false (exit code 1: unreadable)",
        ),
        ("commands that failed", f"{folder}/wav.scp, line 3: true (exit code 0: it wrote nothing)"),
    ]


def test_a_directory_of_commands_only_names_the_remedy(tmp_path: Path) -> None:
    folder = kaldi(tmp_path / "train", **{"wav.scp": "a sph2pipe -f wav a.sph |\n"})
    with pytest.raises(ManifestError, match=r"nothing can be used .*convert the recordings to files"):
        write([folder], tmp_path / "out")


@pytest.mark.parametrize("options", [{}, {"write_function": "soundfile", "write_kwargs": {"format": "flac"}}])
def test_archives_that_kaldiio_wrote(tmp_path: Path, options: dict[str, object]) -> None:
    kaldiio = pytest.importorskip("kaldiio", reason="pip install kaldiio: it writes the archives")
    folder = kaldi(tmp_path / "train", segments="u1 b 0.05 0.15\nu2 a 0 -1\n")
    waves = {key: (RATE, (ramp(0.2) * 32_768 * sign).astype(np.int16)) for key, sign in (("a", 1), ("b", -1))}
    kaldiio.save_ark(str(folder / "wav.ark"), waves, scp=str(folder / "wav.scp"), **options)
    rows, summary = made(tmp_path, folder)
    assert summary.left_out == {}
    expected = kaldiio.load_scp(str(folder / "wav.scp"), segments=str(folder / "segments"))
    for name, row in rows.items():
        rate, samples = expected[name]
        samples = samples / 32_768 if samples.dtype == np.int16 else samples
        assert rate == RATE
        np.testing.assert_allclose(reading.read(row.path), samples, atol=1e-4)
