"""Help that helps: progress of long work without a terminal, suggestions, completion, the commit."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from artifacts import noise, tiny
from conftest import Run

from littlefoot.cli.progress import bar, recordings
from littlefoot.compress import acceptance
from littlefoot.system import progress, version
from littlefoot.system.amounts import in_time
from littlefoot.system.progress import Pace, tracked


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which the test sets."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step of some work is reported."""
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.0)
    monkeypatch.setattr(progress, "SECONDS", 0.0)


def test_a_line_comes_now_and_then_with_the_time_left(clock: list[float]) -> None:
    lines: list[str] = []
    pace = Pace("labelling", 100, lines.append)
    for seconds in range(101):
        clock[0] = 100.0 + seconds
        pace.update(seconds)
    assert lines == [
        "labelling: 10 of 100, about 90 s left",
        "labelling: 40 of 100, about 60 s left",
        "labelling: 70 of 100, about 30 s left",
    ]


def test_short_work_is_silent(clock: list[float]) -> None:
    lines: list[str] = []
    assert list(tracked("abc", 3, "short", lines.append)) == ["a", "b", "c"]
    assert not lines


def test_an_item_is_done_when_the_next_is_taken(clock: list[float]) -> None:
    lines: list[str] = []
    for _ in tracked(range(4), 4, "items", lines.append):
        clock[0] += 15
    assert lines == ["items: 1 of 4, about 45 s left", "items: 3 of 4, about 15 s left"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (119, "119 s"), (120, "2 min"), (7100, "118 min"), (9000, "2.5 h")]
)
def test_durations_have_units(seconds: float, text: str) -> None:
    assert in_time(seconds) == text


@pytest.mark.usefixtures("impatient")
def test_bars_are_lines_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    with bar("measuring", 4) as advance:
        advance(1)
    printed = capsys.readouterr()
    assert not printed.out
    assert printed.err.startswith("littlefoot: measuring: 1 of 4, about ")


@pytest.mark.usefixtures("impatient")
def test_recordings_are_counted_by_their_sizes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = []
    for index, size in enumerate((300, 100)):
        names.append(str(tmp_path / f"{index}"))
        Path(names[-1]).write_bytes(bytes(size))
    with recordings(names) as meter:
        meter.ended(0)
    assert "transcribing: 1/2 recordings, 75 %, about " in capsys.readouterr().err


@pytest.mark.usefixtures("impatient")
def test_the_acceptance_check_reports_its_clips() -> None:
    lines: list[str] = []
    acceptance.run(tiny(), [noise(2000), noise(3000)], "f32", lines.append)
    assert [line.partition(",")[0] for line in lines] == ["running the model: 1 of 2"]


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("transcibe", "x"), "transcribe"),
        (("quantize", "x", "-o", "y", "--calibrat", "z"), "--calibrate"),
        (("info", "littlefoot-eng"), "'littlefoot-en'"),
        (("shrink", "littlefoot-en", "-o", "NOWHERE", "--recipe", "bigfot"), "'bigfoot'"),
    ],
)
def test_misspelt_names_get_a_suggestion(run: Run, arguments: tuple[str, ...], meant: str) -> None:
    result = run(*arguments)
    assert result.code in (1, 2)
    assert re.search(r"did you mean|possible options", result.err, re.IGNORECASE)
    assert meant in result.err


def test_a_name_that_resembles_none_gets_no_suggestion(run: Run) -> None:
    assert "did you mean" not in run("info", "xyz").err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_there_for_every_shell(shell: str) -> None:
    from typer.completion import get_completion_script

    script = get_completion_script(prog_name="littlefoot", complete_var="_LITTLEFOOT_COMPLETE", shell=shell)
    assert "_LITTLEFOOT_COMPLETE" in script


def test_commands_are_completed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_LITTLEFOOT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "littlefoot trans")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert run().out.split() == ["transcribe"]


def test_a_clone_tells_its_commit(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet")
    (tmp_path / "file").write_text("a")
    git("add", "file")
    git("commit", "--quiet", "--message", "one")
    known = git("rev-parse", "HEAD")[:10]
    assert version.commit(tmp_path) == known
    (tmp_path / "file").write_text("b")
    assert version.commit(tmp_path) == f"{known}+"


@pytest.mark.parametrize(
    ("record", "known"),
    [
        ('{"url": "x", "vcs_info": {"vcs": "git", "commit_id": "0123456789abcdef"}}', "0123456789"),
        ('{"url": "file:///x", "dir_info": {}}', None),
        (None, None),
        ("[]", None),
    ],
)
def test_a_package_from_a_repository_tells_its_commit(
    record: str | None, known: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Distribution:
        def read_text(self, name: str) -> str | None:
            return record

    monkeypatch.setattr(version.metadata, "distribution", lambda name: Distribution())
    assert version.commit(tmp_path) == known
