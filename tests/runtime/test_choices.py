"""The engine that ``auto`` takes: by a measurement that is stored, or by a rule without one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from artifacts import tiny
from families import RELATIVE_TYPE

from littlefoot import artifact as artifacts_of
from littlefoot.artifact import Artifact
from littlefoot.errors import EngineError
from littlefoot.runtime import cache, choices, measuring, registry
from littlefoot.runtime.choices import Choice
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.protocols import EngineSettings
from littlefoot.runtime.recognizer import load_with
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.system import machine

ONE = EngineSettings(threads=1)


def choice_of(engine: str, settings: EngineSettings = ONE) -> Choice:
    times = {"openvino": 2.0, "onnxruntime": 1.0}
    context = choices.context(settings, "recordings")
    return Choice(engine, "openvino", times, "tiny", "recordings", "2026-11-29", context)


def engine_of(model: Artifact, **settings: object) -> str:
    return registry.create(model, threads=1, cached=False, **settings).name  # type: ignore[arg-type]


# What is stored


def test_auto_takes_what_was_measured_for_the_model_and_nothing_else() -> None:
    model = tiny()
    assert engine_of(model) == "openvino"
    choices.store(model, choice_of("onnxruntime"))
    assert engine_of(model) == "onnxruntime"
    assert engine_of(model, precision="f32") == "openvino"
    assert engine_of(tiny(seed=1)) == "openvino"
    assert registry.create(model, threads=2, cached=False).name == "openvino"
    assert engine_of(model, name="openvino") == "openvino"


@pytest.mark.parametrize("change", ["processor", "version"])
def test_a_choice_of_another_machine_or_version_is_not_used(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny()
    choices.store(model, choice_of("onnxruntime"))
    assert choices.current() == [choice_of("onnxruntime")]
    if change == "processor":
        monkeypatch.setattr(machine, "processor", lambda: "another")
    else:
        monkeypatch.setattr(machine, "package_version", lambda package: "another")
    assert choices.current() == []
    assert choices.known(model, ONE, "recordings") is None


@pytest.mark.parametrize("content", [b"", b"{}", b'{"engine": "openvino"}', b"[1]", b"\xff"])
def test_a_damaged_choice_is_ignored(content: bytes) -> None:
    model = tiny()
    choices.store(model, choice_of("onnxruntime"))
    (name,) = cache.names(choices.SUFFIX)
    cache.store(name, content)
    assert choices.current() == []
    assert engine_of(model) == "openvino"


def test_a_cache_that_cannot_be_written_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LITTLEFOOT_CACHE", str(tmp_path / "file"))
    choices.store(tiny(), choice_of("onnxruntime"))
    assert engine_of(tiny()) == "openvino"


def test_a_changed_copy_of_a_loaded_model_has_another_digest(tmp_path: Path) -> None:
    loaded = artifacts_of.load(artifacts_of.save(tiny(), tmp_path / "tiny"))
    name = next(iter(loaded.weights))
    other = replace(loaded, weights={**loaded.weights, name: loaded.weights[name] + 1})
    same = replace(loaded, weights=dict(loaded.weights))
    assert len({loaded.weights_digest, other.weights_digest, same.weights_digest}) == 3
    assert same.weights_digest == tiny().weights_digest


# What is measured


def clocked(milliseconds: dict[str, list[float]]) -> tuple[dict[str, Callable[[], None]], list[float]]:
    """Functions that take so long in each of their runs, the last time again and again, and their clock."""
    now = [0.0]

    def runner(times: list[float]) -> Callable[[], None]:
        left = list(times)

        def run() -> None:
            now[0] += (left.pop(0) if len(left) > 1 else left[0]) / 1000

        return run

    return {name: runner(times) for name, times in milliseconds.items()}, now


def test_engines_take_turns_for_a_second_and_first_runs_do_not_count() -> None:
    runners, now = clocked({"a": [900, 50], "b": [500, 40]})
    times = choices.race(runners, lambda: now[0])
    assert {name: round(max(values), 6) for name, values in times.items()} == {"a": 0.05, "b": 0.04}
    assert len(times["a"]) == len(times["b"]) == 12
    assert now[0] < 3


def test_a_hopeless_engine_takes_part_in_no_round() -> None:
    runners, now = clocked({"a": [50], "b": [500], "c": [60]})
    times = choices.race(runners, lambda: now[0])
    assert times["b"] == pytest.approx([0.5])
    assert len(times["a"]) > 5


def test_a_measurement_ends_on_a_busy_machine() -> None:
    runners, now = clocked({"a": [4000], "b": [4000]})
    assert len(choices.race(runners, lambda: now[0])["a"]) == 1


def test_another_engine_must_be_clearly_faster_and_most_of_the_time() -> None:
    assert choices.decide({"rule": [1.0] * 4, "b": [0.97] * 4}, "rule") == ("rule", True)
    assert choices.decide({"rule": [1.0] * 4, "b": [0.9] * 4}, "rule") == ("b", True)
    assert choices.decide({"rule": [1.0] * 4, "b": [1.1] * 4}, "rule") == ("rule", True)
    assert choices.decide({"rule": [1.0, 1.0, 0.5, 1.0], "b": [0.5, 0.5, 1.0, 1.2]}, "rule") == (
        "rule",
        False,
    )
    assert choices.decide({"rule": [2.0], "b": [0.9] * 4, "c": [1.0] * 4}, "rule") == ("b", True)


def test_long_work_measures_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    artifacts_of.save(tiny(), tmp_path / "tiny")
    monkeypatch.setattr(choices, "SECONDS", 0.0)
    made: list[str] = []
    create_named = registry.create_named

    def noted(model: Artifact, settings: EngineSettings, name: str) -> object:
        made.append(name)
        return create_named(model, settings, name)

    monkeypatch.setattr(registry, "create_named", noted)
    monkeypatch.setattr(choices, "decide", lambda times, rule: ("onnxruntime", True))
    options = LoadOptions(threads=1, measure=True)
    specification = Specification(str(tmp_path / "tiny"), options)
    assert load_with(specification).engine.name == "onnxruntime"
    kernels = ["native"] if native.available() else []
    assert made == [*kernels, "openvino", "onnxruntime", "onnxruntime"]
    (choice,) = choices.current()
    assert set(choice.milliseconds) == {*kernels, "openvino", "onnxruntime"}
    made.clear()
    assert load_with(specification).engine.name == "onnxruntime"
    assert load_with(replace(specification, options=LoadOptions(threads=1))).engine.name == "onnxruntime"
    assert made == ["onnxruntime", "onnxruntime"]


def test_nothing_is_measured_for_a_named_engine_or_without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "race", lambda runners: pytest.fail("engines were measured"))
    measuring.ensure(tiny(), LoadOptions("onnxruntime", 1), "tiny")
    monkeypatch.setattr(machine, "available_memory", lambda: 1000)
    assert measuring.measure(tiny(), ONE, "tiny") is None


def test_an_uncertain_measurement_is_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "SECONDS", 0.0)
    monkeypatch.setattr(choices, "decide", lambda times, rule: (rule, False))
    choice = measuring.measure(tiny(), ONE, "tiny")
    assert choice is not None
    assert choice.engine == "openvino"
    assert "too busy" in str(choice)
    assert choices.current() == []


def test_the_kernels_do_not_run_every_model_by_name() -> None:
    with pytest.raises(EngineError, match="the engine native does not run this model"):
        registry.create(tiny(model_type=RELATIVE_TYPE), "native")


def test_doctor_shows_what_was_chosen_and_why(
    tmp_path: Path, run: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    artifacts_of.save(tiny(), tmp_path / "tiny")
    monkeypatch.setattr(choices, "SECONDS", 0.0)
    monkeypatch.setattr(choices, "decide", lambda times, rule: ("onnxruntime", True))
    (measured,) = json.loads(run("doctor", tmp_path / "tiny", "--threads", "1", "--json").out)  # type: ignore[attr-defined]
    assert measured["engine"] == "onnxruntime"
    assert set(measured["milliseconds"]) >= {"openvino", "onnxruntime"}
    assert json.loads(run("doctor", "--json").out)["choices"] == [measured]  # type: ignore[attr-defined]
    shown = run("doctor").out  # type: ignore[attr-defined]
    assert f"{tmp_path / 'tiny'}, recordings, threads 1: onnxruntime" in shown
