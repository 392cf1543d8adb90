"""What every command keeps to: results on stdout, messages on stderr, exit codes 0, 1 and 2."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from artifacts import tiny
from conftest import Result, Run

import littlefoot
from littlefoot import artifact, cli
from littlefoot.artifact import checkpoint
from littlefoot.errors import CheckpointError, LittlefootError
from littlefoot.runtime import saturation
from littlefoot.system import version

COMMANDS = [
    *("transcribe", "align", "eval", "graft", "manifest", "bench", "quantize", "shrink", "train", "label"),
    *("analyze", "export", "push", "serve", "info", "doctor", "demo", "lm"),
]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return artifact.save(tiny(), tmp_path / "model")


def test_help_lists_every_command(run: Run) -> None:
    result = run("--help")
    assert result.code == 0
    listed = re.findall(r"^  ([a-z]+) ", result.out.partition("Commands:")[2], re.MULTILINE)
    assert listed == COMMANDS


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    result = run(command, "--help")
    assert result.code == 0
    assert f"littlefoot {command}" in result.out
    assert not result.err


@pytest.mark.parametrize(("commit", "shown"), [(None, ""), ("0123456789", " (0123456789)")])
def test_the_version_is_the_package_s_with_its_commit(
    run: Run, monkeypatch: pytest.MonkeyPatch, commit: str | None, shown: str
) -> None:
    monkeypatch.setattr(version, "commit", lambda: commit)
    assert run("--version") == (0, f"littlefoot {littlefoot.__version__}{shown}\n", "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("unknown",),
        ("info", "--unknown"),
        ("transcribe",),
        ("quantize", "model"),
        ("quantize", "a", "b", "-o", "c"),
    ],
)
def test_wrong_usage_is_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert not result.out
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("transcribe", "model", "a.wav", "--format", "doc"),
        ("transcribe", "model", "a.wav", "b.wav", "--format", "srt"),
        ("quantize", "model", "-o", "out", "--bits", "7"),
        ("export", "model", "-o", "out", "--to", "tflite"),
    ],
)
def test_an_impossible_setting_is_exit_code_2(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert_one_message(result)


@pytest.mark.parametrize(
    "arguments",
    [
        ("info", "nowhere"),
        ("transcribe", "nowhere", "a.wav"),
        ("quantize", "nowhere", "-o", "out"),
        ("export", "nowhere", "-o", "out"),
        ("eval", "nowhere", "nowhere.tsv"),
    ],
)
def test_a_failed_input_is_exit_code_1_and_one_line(run: Run, arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.code == 1
    assert "nowhere" in result.err
    assert_one_message(result)


def assert_one_message(result: Result) -> None:
    assert not result.out
    assert result.err.startswith("littlefoot: ")
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("arguments", [("--debug", "info", "nowhere"), ("info", "nowhere", "--debug")])
def test_debug_shows_the_traceback(monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]) -> None:
    monkeypatch.setattr(sys, "argv", ["littlefoot", *arguments])
    with pytest.raises(CheckpointError):
        cli.main()


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/out"), "[Errno 13] Permission denied: '/out'"),
        (KeyError("a bug"), "unexpected KeyError: 'a bug': a fault of littlefoot; --debug shows where"),
    ],
)
def test_even_a_fault_shows_no_traceback(
    run: Run, monkeypatch: pytest.MonkeyPatch, error: Exception, message: str
) -> None:
    def fail(*arguments: object) -> None:
        raise error

    monkeypatch.setattr(checkpoint, "load_from", fail)
    assert run("info", "model") == (1, "", f"littlefoot: {message}\n")


def test_a_reader_that_leaves_early_is_no_error(model: Path) -> None:
    command = f"{sys.executable} -c 'from littlefoot.cli import main; main()' info {model} | true"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert not done.stderr


# info


def test_info_describes_a_model(run: Run, model: Path) -> None:
    result = run("info", model, "--json")
    assert result.code == 0
    described = json.loads(result.out)
    made = tiny()
    total = sum(weight.nbytes for weight in made.weights.values())
    assert described["name"] == str(model)
    assert described["parameters"] == made.parameters
    assert described["bytes"] == sum(path.stat().st_size for path in model.iterdir())
    assert sum(described["bytes_by_part"].values()) == total
    assert described["bits"] == 32
    assert described["frame_ms"] == 1000 * 5 * 4 / 16_000
    assert described["receptive_field_ms"] == 1000 * (10 + 3 * 5) / 16_000
    assert described["recipe"] == [{"test": {}}]
    assert described["teacher"] is None


def test_info_is_readable_too(run: Run, model: Path) -> None:
    result = run("info", model)
    assert result.code == 0
    assert re.search(r"^frame ms +1\.25$", result.out, re.MULTILINE)
    assert re.search(r"^teacher +-$", result.out, re.MULTILINE)


def test_info_without_a_model_lists_the_bundled_ones(
    run: Run, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "BUNDLED", model.parent)
    listed = json.loads(run("info", "--json").out)
    assert [row["name"] for row in listed] == ["model"]
    assert run("info").out.split()[0] == "model"


def test_info_refuses_a_damaged_model(run: Run, model: Path) -> None:
    (model / "vocab.json").write_text("{")
    result = run("info", model)
    assert result.code == 1
    assert "vocab.json is damaged or was changed" in result.err
    assert_one_message(result)


# doctor


def test_doctor_names_what_is_there(run: Run) -> None:
    result = run("doctor", "--json")
    report: dict[str, Any] = json.loads(result.out)
    assert result.code == 0
    assert report["littlefoot"] == littlefoot.__version__
    assert "openvino" in report["engines"]
    assert all(report["packages"].values())
    assert report["threads"] >= 1


@pytest.mark.parametrize("saturates", [True, False])
def test_doctor_says_what_becomes_of_8_bits(
    saturates: bool, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(saturation, "may_saturate", lambda: saturates)
    assert json.loads(run("doctor", "--json").out)["openvino_weight_bits"] == (7 if saturates else 8)
    assert ("without VNNI OpenVINO gets 7 of each weight" in run("doctor").out) is saturates


def test_doctor_knows_every_dependency() -> None:
    from littlefoot.cli.doctor import CORE, EXTRAS

    project = tomllib.loads((Path(littlefoot.__file__).parents[1] / "pyproject.toml").read_text())["project"]

    def names(declared: list[str]) -> set[str]:
        found = {re.split(r"[<>=;\s]", line)[0] for line in declared}
        return {name for name in found if not name.startswith("littlefoot[")}

    assert names(project["dependencies"]) == set(CORE)
    extras = project["optional-dependencies"]
    of_the_project = {"dev", "docs", "standard"}  # the last one is three of the others
    assert set(extras) - of_the_project == set(EXTRAS)
    for extra, (packages, _) in EXTRAS.items():
        assert names(extras[extra]) == set(packages)


def test_doctor_says_how_to_get_what_is_missing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib import metadata

    there = metadata.version

    def version(package: str) -> str:
        if package in ("accelerate", "soxr"):
            raise metadata.PackageNotFoundError
        return there(package)

    monkeypatch.setattr(metadata, "version", version)
    result = run("doctor")
    assert result.code == 1
    assert "pip install 'littlefoot[train]' for littlefoot train" in result.out
    assert "missing: soxr" in result.err


def test_the_package_offers_load() -> None:
    with pytest.raises(LittlefootError, match="nowhere"):
        littlefoot.load("nowhere")
    assert {"__version__", "load"} <= set(littlefoot.__all__)
