"""What killed processes leave behind is removed by the next one, and nothing else is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from littlefoot.system import atomic

KINDS = {"directory": atomic.directory, "file": atomic.file}


def at_work(kind: str, target: Path) -> subprocess.Popen[str]:
    """A process that is writing ``target``, and does not come to an end."""
    code = (
        "import sys, time; from pathlib import Path; from littlefoot.system import atomic\n"
        f"with atomic.{kind}(Path({str(target)!r})): print('begun', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def write(kind: str, target: Path) -> None:
    with KINDS[kind](target) as temporary:
        (temporary / "new" if kind == "directory" else temporary).write_text("new")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_killed_process_left_is_removed_by_the_next(kind: str, tmp_path: Path) -> None:
    target = tmp_path / "out[1]"  # no pattern
    process = at_work(kind, target)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert len(names(tmp_path)) == 1
    write(kind, target)
    assert names(tmp_path) == ["out[1]"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_another_process_is_writing_is_left_alone(kind: str, tmp_path: Path) -> None:
    process = at_work(kind, tmp_path / "out")
    (its,) = tmp_path.iterdir()
    write(kind, tmp_path / "out")
    assert its.exists()
    process.kill()
    process.communicate()
    write(kind, tmp_path / "out")
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_files_of_others_stay(kind: str, tmp_path: Path) -> None:
    others = [".out.settings", ".out", ".out.big.abcdefgh.txt", ".output.abcdefgh.unfinished"]
    for name in others:
        (tmp_path / name).write_text("mine")
    write(kind, tmp_path / "out")
    assert names(tmp_path) == sorted([*others, "out"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_system_without_locks_keeps_what_is_left(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody could tell whether it is still written."""
    fcntl = pytest.importorskip("fcntl")

    def refuse(descriptor: int, operation: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = tmp_path / ".out.abcdefgh.unfinished"
    left.write_text("half")
    write(kind, tmp_path / "out")
    assert names(tmp_path) == [left.name, "out"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_leaves_nothing(kind: str, tmp_path: Path) -> None:
    writing: AbstractContextManager[Path] = KINDS[kind](tmp_path / "out")
    with pytest.raises(RuntimeError), writing:
        raise RuntimeError
    assert names(tmp_path) == []
