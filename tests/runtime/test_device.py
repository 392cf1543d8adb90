"""A graphics card, by ONNX Runtime: the same logits where there is one, a clear error where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from artifacts import tiny

from littlefoot.errors import ConfigError, EngineError
from littlefoot.runtime.registry import create

onnxruntime = pytest.importorskip("onnxruntime")
AVAILABLE = onnxruntime.get_available_providers()
CUDA = "CUDAExecutionProvider"


@pytest.mark.skipif(CUDA not in AVAILABLE, reason="needs onnxruntime-gpu, and a card of NVIDIA's")
def test_the_card_gives_the_processor_s_logits() -> None:
    waveform = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    expected = create(tiny(), "onnxruntime").run(waveform)
    found = create(tiny(), "onnxruntime", device="cuda").run(waveform)
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.skipif(CUDA in AVAILABLE, reason="onnxruntime-gpu is installed")
def test_without_the_provider_the_package_is_named() -> None:
    with pytest.raises(EngineError, match=r"installed for the processor only.*onnxruntime-gpu"):
        create(tiny(), "onnxruntime", device="cuda")


def test_a_provider_that_finds_no_card_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def __init__(self, *arguments: object, **named: object) -> None:
            pass

        def get_providers(self) -> list[str]:
            return ["CPUExecutionProvider"]

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    with pytest.raises(EngineError, match="finds no graphics card"):
        create(tiny(), "onnxruntime", device="cuda")


@pytest.mark.parametrize(
    ("engine", "device", "message"),
    [
        ("openvino", "cuda", "the engine openvino does not use it, take onnxruntime"),
        ("auto", "cuda", "the engine auto does not use it, take onnxruntime"),
        ("onnxruntime", "tpu", "device 'tpu' is unknown: use cpu or cuda"),
    ],
)
def test_a_device_that_an_engine_does_not_have_is_refused(engine: str, device: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        create(tiny(), engine, device=device)
