"""What all tests share."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

import pytest
from artifacts import talkative, tiny
from families import speechlike
from filelock import FileLock
from tones import learned, write_set

from littlefoot import artifact, cli
from littlefoot.artifact import Artifact


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifest of a set in the language of ``tones``."""
    return write_set(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def teacher(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A model that knows the tones."""
    return learned_once("teacher", tones, tmp_path_factory)


@pytest.fixture(scope="session")
def deep_teacher(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """One of four layers."""
    return learned_once("deep", tones, tmp_path_factory, num_hidden_layers=4)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model that predicts letters for ``speechlike(1.0)``, saved as ``tiny``."""
    return artifact.save(talkative(tiny(), speechlike(1.0)), tmp_path_factory.mktemp("models") / "tiny")


def learned_once(
    name: str, tones: Path, tmp_path_factory: pytest.TempPathFactory, **changes: int
) -> Artifact:
    """Train a model, or load what another worker of pytest-xdist has trained."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent  # which the workers share
    with FileLock(folder / f"{name}.lock"):
        if (folder / name / "model").exists():
            return artifact.load(folder / name / "model")
        return learned(tones, folder / name, **changes)


@pytest.fixture(autouse=True)
def cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Compiled models go to a cache of the test's own, empty at first."""
    directory = tmp_path / "littlefoot-cache"
    monkeypatch.setenv("LITTLEFOOT_CACHE", str(directory))
    return directory


def heed_interrupts() -> None:
    """For a new process: what was started in the background may have been told to ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


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
