"""An output that cannot be written is refused before the work, whatever is wrong with its place."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Run

from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.system import outputs

CHECKS = [outputs.check_new, outputs.check_file, outputs.check_writable, outputs.check_folder]
needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="/proc is a folder that nobody may write to")


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No byte can be written to a file, though files can be made."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("check", CHECKS)
def test_a_place_that_can_be_written_to_is_accepted_and_left_empty(
    check: Callable[[Path], None], tmp_path: Path
) -> None:
    check(tmp_path / "deep" / "below" / "out")
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
    assert not (tmp_path / "deep" / "below" / "out").exists()


@pytest.mark.parametrize("check", CHECKS)
def test_a_path_below_a_file_is_refused(check: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LittlefootError, match=r"file/out cannot be written \(.*: choose another output"):
        check(tmp_path / "file" / "out")


@needs_proc
@pytest.mark.parametrize("check", CHECKS)
def test_a_folder_that_nobody_may_write_to_is_refused(check: Callable[[Path], None]) -> None:
    with pytest.raises(LittlefootError, match="/proc/out cannot be written"):
        check(Path("/proc/out"))


@pytest.mark.usefixtures("full_disk")
@pytest.mark.parametrize("check", CHECKS)
def test_a_full_disk_is_refused(check: Callable[[Path], None], tmp_path: Path) -> None:
    with pytest.raises(LittlefootError, match=os.strerror(errno.EFBIG)):
        check(tmp_path / "out")


def test_a_folder_is_no_file_and_nothing_is_replaced(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder: name a file"):
        outputs.check_file(tmp_path)
    with pytest.raises(LittlefootError, match="exists: choose another output"):
        outputs.check_new(tmp_path)
    outputs.check_folder(tmp_path)


@needs_proc
@pytest.mark.parametrize(
    "command",
    [
        ("align", "NOWHERE", "talk.wav", "text", "-o", "/proc/out"),
        ("analyze", "NOWHERE", "--plot", "/proc/out.svg"),
        ("bench", "NOWHERE", "--json", "/proc/out"),
        ("export", "NOWHERE", "--to", "onnx", "-o", "/proc/out"),
        ("export", "NOWHERE", "--to", "web", "-o", "/proc/out"),
        ("graft", "NOWHERE", "--data", "NOWHERE", "-o", "/proc/out"),
        ("label", "NOWHERE", "NOWHERE", "-o", "/proc/out"),
        ("lm", "build", "NOWHERE", "-o", "/proc/out"),
        ("lm", "mix", "NOWHERE", "-o", "/proc/out"),
        ("manifest", "NOWHERE", "-o", "/proc/out"),
        ("quantize", "NOWHERE", "-o", "/proc/out"),
        ("shrink", "NOWHERE", "--target", "1MB", "--data", "NOWHERE", "-o", "/proc/out"),
        ("transcribe", "NOWHERE", "talk.wav", "-o", "/proc/out"),
    ],
    ids=" ".join,
)
def test_every_command_refuses_it_before_it_reads_a_model_or_data(run: Run, command: tuple[str, ...]) -> None:
    """The model and the data do not exist, and the error is about the output."""
    done = run(*command)
    assert done.code == 1
    assert "/proc/out" in done.err
    assert "cannot be written (" in done.err
