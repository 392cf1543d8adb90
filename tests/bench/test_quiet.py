"""Speeds are not measured beside other programs, unless they are asked for."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from littlefoot.bench import quiet
from littlefoot.system import machine

pytestmark = pytest.mark.skipif(not quiet.STATISTICS.exists(), reason="this system does not tell")


def statistics(*busy: int) -> str:
    """/proc/stat with so many hundredths of a second of user time on each processor."""
    rows = [f"cpu{number} {ticks} 0 0 100000 7 0 0 0 5 0" for number, ticks in enumerate(busy)]
    return "\n".join([f"cpu {sum(busy)} 0 0 0 0 0 0 0 0 0", *rows, "intr 1 2"])


@pytest.fixture
def two_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file instead of /proc/stat, on a machine with two processors."""
    path = tmp_path / "stat"
    path.write_text(statistics(100, 100), encoding="ascii")
    monkeypatch.setattr(quiet, "STATISTICS", path)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1})
    return path


def passing(monkeypatch: pytest.MonkeyPatch, path: Path, *states: str) -> None:
    """Let a second pass at each sleep, after which the file is the next of these."""
    clock = {"now": 0.0}
    left = list(states)

    def sleep(seconds: float) -> None:
        clock["now"] += 1.0
        path.write_text(left.pop(0), encoding="ascii")

    monkeypatch.setattr(quiet.time, "sleep", sleep)
    monkeypatch.setattr(quiet.time, "perf_counter", lambda: clock["now"])
    monkeypatch.setattr(quiet.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(quiet.time, "process_time", lambda: 0.0)


def test_the_share_is_of_the_threads_of_this_process(
    two_processors: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passing(monkeypatch, two_processors, statistics(150, 100))
    assert quiet.others() == pytest.approx(0.25)  # 0.5 of 2 processor seconds
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {1})
    passing(monkeypatch, two_processors, statistics(250, 200))
    assert quiet.others() == pytest.approx(1.0)


def test_it_waits_until_they_have_ended(two_processors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    passing(monkeypatch, two_processors, statistics(200, 150), statistics(205, 150))
    assert quiet.wait() == pytest.approx(0.025)


def test_it_gives_up_and_names_the_remedy(two_processors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "PATIENCE", 2.5)
    passing(monkeypatch, two_processors, *(statistics(100 + 100 * second, 100) for second in range(1, 5)))
    with pytest.raises(quiet.BusyError, match=r"1\.0 of 2 processor threads.*--busy"):
        quiet.wait()


def test_an_unknown_system_is_measured_without_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quiet, "STATISTICS", tmp_path / "none")
    monkeypatch.setattr(quiet, "WINDOW", 0.0)
    assert quiet.wait() is None


def test_a_program_that_computes_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = subprocess.Popen([sys.executable, "-c", "print(flush=True)\nwhile True: pass"], stdout=-1)
    try:
        assert busy.stdout is not None
        busy.stdout.readline()
        monkeypatch.setattr(quiet, "WINDOW", 0.3)
        found = quiet.others()
        assert found is not None
        assert found > 0.05 / machine.threads()
    finally:
        busy.kill()
        busy.communicate()
