"""The registry of engines: what a new one needs, which one is chosen, and what a packed model ignores."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from artifacts import SPECTROGRAMS, few_bits, tiny
from families import RELATIVE_TYPE

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.cli.doctor import examine
from littlefoot.errors import ConfigError, EngineError, MissingExtraError
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.protocols import Array, Backend, Engine, EngineSettings, Part
from littlefoot.runtime.registry import BACKENDS, create, create_stream, rule

installed = pytest.mark.skipif(
    not native.available(), reason="the native kernels are not installed: pip install ./native"
)


class Ones(Engine):
    """Logits of ones, as many as there are samples."""

    name = "ones"

    def run(self, waveform: Array) -> Array:
        return np.ones((len(waveform), 1), np.float32)


class OnesBackend(Backend):
    """An engine with what every engine must have, and no more."""

    name = "ones"
    package = "numpy"

    def create(self, artifact: Artifact, settings: EngineSettings, part: Part = "whole") -> Engine:
        return Ones()


@pytest.fixture
def ones(monkeypatch: pytest.MonkeyPatch) -> OnesBackend:
    backend = OnesBackend()
    monkeypatch.setitem(BACKENDS, "ones", backend)
    return backend


# A new engine


def test_a_new_engine_is_known_by_its_name(ones: OnesBackend) -> None:
    engine = create(tiny(), "ones")
    assert (engine.name, engine.kernels, engine.precision) == ("ones", "none", "f32")
    assert engine.run(np.zeros(5, np.float32)).shape == (5, 1)
    assert "ones" in examine()["engines"]
    with pytest.raises(ConfigError, match="use auto, native, openvino, onnxruntime or ones"):
        create(tiny(), "twos")


def test_a_new_engine_does_not_stream_and_has_f32_by_default(ones: OnesBackend) -> None:
    with pytest.raises(EngineError, match="the engine ones does not run streams"):
        create_stream(tiny(), "ones")
    with pytest.raises(EngineError, match="ones computes in f32: use that precision, or the engine openvino"):
        create(tiny(), "ones", precision="bf16")


def test_auto_takes_the_installed_engine_of_the_highest_rank(
    ones: OnesBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert create(tiny()).name == "openvino"
    monkeypatch.setattr(ones, "rank", lambda artifact: 9, raising=False)
    assert create(tiny()).name == "ones"
    monkeypatch.setattr(ones, "package", "no_such_package", raising=False)
    assert create(tiny()).name == "openvino"


def test_without_any_engine_the_remedy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("littlefoot.runtime.protocols.find_spec", lambda package: None)
    if native.available():
        assert create(tiny()).name == "native"
    with pytest.raises(EngineError, match=r"no engine is installed.*littlefoot\[openvino\]"):
        create(tiny(model_type=RELATIVE_TYPE))
    with pytest.raises(MissingExtraError, match=r"engine openvino needs.*littlefoot\[openvino\]"):
        create(tiny(), "openvino")


def test_a_stream_refuses_a_precision_too() -> None:
    with pytest.raises(EngineError, match="onnxruntime computes in f32"):
        create_stream(tiny(), "onnxruntime", precision="bf16")


# What a packed model ignores


def warnings_of(caplog: pytest.LogCaptureFixture, model: Artifact, *arguments: object) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING, "littlefoot"):
        create(model, *arguments, cached=False)  # type: ignore[arg-type]
    return [record.getMessage() for record in caplog.records]


@installed
def test_an_engine_that_a_packed_model_ignores_is_named(caplog: pytest.LogCaptureFixture) -> None:
    packed = few_bits(2, 8, positions=8, front_end=8)
    (message,) = warnings_of(caplog, packed, "openvino", 1)
    assert message.startswith("the engine openvino is not used: native kernels run the whole model")
    assert "LITTLEFOOT_KERNELS=off" in message
    assert warnings_of(caplog, packed, "auto", 1) == []
    assert warnings_of(caplog, few_bits(2, 8, **SPECTROGRAMS), "openvino", 1) == []  # it runs the front end
    assert warnings_of(caplog, tiny(), "openvino", 1, "f32") == []


@installed
def test_a_precision_that_a_packed_model_ignores_is_named(caplog: pytest.LogCaptureFixture) -> None:
    import littlefoot_native

    packed = few_bits(2, 8, positions=8, front_end=8)
    half = littlefoot_native.has_bfloat16(native.available()[0])
    ignored, computed = ("f32", "bf16") if half else ("bf16", "f32")
    (message,) = warnings_of(caplog, packed, "auto", 1, ignored)
    assert message.startswith(f"precision {ignored} has no effect on attention: the native kernels")
    assert f"compute it in {computed}" in message
    assert warnings_of(caplog, packed, "auto", 1, computed) == []


@installed
@pytest.mark.skipif(native.available()[:1] == ["scalar"], reason="this processor has only scalar kernels")
def test_streams_of_8_bits_run_on_the_kernels_unless_an_engine_was_measured_to_be_faster() -> None:
    names = ["native", "openvino"]
    live = checkpoint.load("littlefoot-en-live")
    assert rule(live, "streams", names) == "native"
    assert rule(tiny(), "streams", names) == "openvino"
