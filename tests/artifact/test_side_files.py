"""A model's directory may come from anywhere: nothing outside of it is read, and nothing takes all memory."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from artifacts import tiny

from littlefoot import artifact
from littlefoot.artifact import checkpoint, companions, hub, safetensors_io, side_files
from littlefoot.errors import ArtifactError, CheckpointError, LittlefootError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    return artifact.save(tiny(), tmp_path / "artifact")


@pytest.fixture
def foreign(saved: Path) -> Path:
    """A checkpoint as others write it."""
    values = json.loads((saved / "config.json").read_text())
    del values["littlefoot"]
    (saved / "config.json").write_text(json.dumps(values))
    (saved / "littlefoot.sha256").unlink()
    return saved


def pipe(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def link(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_text('{"secret": 1}')
    path.symlink_to(outside)


def circle(path: Path) -> None:
    path.symlink_to(path.name)


def directory(path: Path) -> None:
    path.mkdir()


def listening(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, contextlib.chdir(path.parent):
        server.bind(path.name)  # long paths are refused


def huge(path: Path) -> None:
    path.touch()
    os.truncate(path, side_files.LIMIT + 1)


SIDE = ("config.json", "vocab.json", "preprocessor_config.json", "tokenizer_config.json")
KINDS = (pipe, device, link, circle, directory, listening)


@pytest.mark.parametrize("kind", [*KINDS, huge])
@pytest.mark.parametrize("name", SIDE)
def test_what_is_no_file_of_the_directory_is_refused_by_name(
    foreign: Path, name: str, kind: Callable[[Path], None]
) -> None:
    (foreign / name).unlink()
    kind(foreign / name)
    if kind is circle and name in SIDE[2:]:  # as good as missing, and these may be
        checkpoint.load(foreign)
        return
    with pytest.raises(LittlefootError, match=name):
        checkpoint.load(foreign)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["model.safetensors", "vocab.json"])
def test_so_it_is_in_an_artifact(saved: Path, name: str, kind: Callable[[Path], None]) -> None:
    (saved / name).unlink()
    kind(saved / name)
    with pytest.raises(ArtifactError, match=name):
        artifact.load(saved)


def test_a_card_that_is_a_link_to_elsewhere_is_not_published(saved: Path) -> None:
    (saved / "README.md").unlink()
    link(saved / "README.md")
    with pytest.raises(ArtifactError, match=r"README\.md is a link to .*outside"):
        hub.push(saved, "anna/tiny")


def test_a_link_within_the_directory_is_followed(foreign: Path) -> None:
    (foreign / "vocab.json").rename(foreign / "tokens.json")
    (foreign / "vocab.json").symlink_to("tokens.json")
    assert checkpoint.load(foreign).vocabulary == tiny().vocabulary


def test_a_snapshot_of_the_hugging_face_cache_links_to_its_blobs(foreign: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--anna--tiny"
    snapshot, blobs = repository / "snapshots" / "0123abcd", repository / "blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    for number, path in enumerate(sorted(foreign.iterdir())):
        path.rename(blobs / str(number))
        (snapshot / path.name).symlink_to(f"../../blobs/{number}")
    np.testing.assert_array_equal(
        checkpoint.load(snapshot).weights["lm_head.bias"], tiny().weights["lm_head.bias"]
    )
    (snapshot / "language_model").mkdir()
    (blobs / "lm").write_text("no model\n")
    (snapshot / "language_model" / "a.arpa").symlink_to("../../../blobs/lm")
    assert companions.locate(snapshot).path.name == "a.arpa"
    blob = (snapshot / "config.json").resolve()
    blob.unlink()
    blob.symlink_to("/etc/hostname")
    with pytest.raises(CheckpointError, match=r"config\.json is a link to /etc/hostname"):
        checkpoint.load(snapshot)


@pytest.mark.parametrize(
    "shard", ["../model.safetensors", "/etc/hostname", "a/b.safetensors", "", "..", "a\0b"]
)
def test_shards_lie_in_the_directory(foreign: Path, shard: str) -> None:
    (foreign / "model.safetensors").rename(foreign.parent / "model.safetensors")
    index = {"weight_map": dict.fromkeys(tiny().weights, shard)}
    (foreign / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="lie in its directory"):
        checkpoint.load(foreign)


# Tensors


def header(entries: dict[str, tuple[int, int]], size: int) -> bytes:
    """A file of bytes, whose tensors lie at these places."""
    text = json.dumps(
        {
            name: {"dtype": "U8", "shape": [end - start], "data_offsets": [start, end]}
            for name, (start, end) in entries.items()
        }
    ).encode()
    return struct.pack("<Q", len(text)) + text + bytes(size)


@pytest.mark.parametrize(
    ("entries", "size", "message"),
    [
        ({"a": (0, 8), "b": (4, 12)}, 12, "tensors overlap"),
        ({"a": (0, 8), "b": (0, 8)}, 8, "tensors overlap"),
        ({"a": (0, 8), "b": (9, 12)}, 12, "bytes between tensors"),
        ({"a": (4, 8)}, 8, "bytes between tensors"),
        ({"a": (0, 8)}, 9, "the tensors have 8 bytes, and the file 9"),
    ],
)
def test_tensors_fill_the_file_one_behind_the_other(
    tmp_path: Path, entries: dict[str, tuple[int, int]], size: int, message: str
) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(header({"a": (0, 3), "none": (3, 3), "b": (3, 9)}, 9))
    assert sorted(safetensors_io.read(path)[0]) == ["a", "b", "none"]
    path.write_bytes(header(entries, size))
    with pytest.raises(CheckpointError, match=message):
        safetensors_io.read(path)


def test_json_that_is_nested_too_deeply_is_refused(saved: Path, foreign: Path) -> None:
    for depth in (100, 900, 200_000):
        deep = '{"littlefoot":' + "[" * depth + "]" * depth + "}"
        for name in SIDE:
            content = (saved / name).read_bytes()
            (saved / name).write_text(deep)
            with pytest.raises(LittlefootError, match=name):
                checkpoint.load(saved)
            (saved / name).write_bytes(content)
