"""What all tests share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest

from littlefoot import cli


@pytest.fixture(autouse=True)
def cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Compiled models go to a cache of the test's own, empty at first."""
    directory = tmp_path / "littlefoot-cache"
    monkeypatch.setenv("LITTLEFOOT_CACHE", str(directory))
    return directory


class Result(NamedTuple):
    """What a command leaves behind."""

    code: int
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *arguments: str | Path) -> Result: ...


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Call the command line in this process."""

    def call(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["littlefoot", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        code = stopped.value.code
        return Result(0 if code is None else int(code), *capsys.readouterr())

    return call
