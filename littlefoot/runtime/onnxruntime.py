"""Run models in ONNX Runtime: on machines without OpenVINO, and with scales determined at run time."""

from __future__ import annotations

from typing import Any

import numpy as np

from littlefoot.artifact import Artifact
from littlefoot.errors import EngineError, MissingExtraError
from littlefoot.runtime.protocols import Array, Backend, Engine, EngineSettings, Part, StreamEngine
from littlefoot.runtime.saturation import may_saturate

_CUDA = "CUDAExecutionProvider"
_GET_CUDA = (
    "pip uninstall onnxruntime, then pip install 'onnxruntime-gpu[cuda,cudnn]', on a machine with a driver of"
    " NVIDIA's; --device cpu works without"
)


class ONNXRuntime(Backend):
    """The backend of ONNX Runtime. It stores nothing on disk, because a session starts without compiling."""

    name = package = "onnxruntime"
    devices = ("cpu", "cuda")

    def rank(self, artifact: Artifact) -> int:
        return 1

    def create(self, artifact: Artifact, settings: EngineSettings, part: Part = "whole") -> ONNXRuntimeEngine:
        return ONNXRuntimeEngine(Session(self, artifact, settings, part))

    def create_stream(self, artifact: Artifact, settings: EngineSettings) -> Session:
        return Session(self, artifact, settings, "chunk")


class Session(StreamEngine):
    """A session of ONNX Runtime, and the weights whose memory it shares."""

    def __init__(
        self, backend: ONNXRuntime, artifact: Artifact, settings: EngineSettings, part: Part
    ) -> None:
        if not backend.installed():
            raise MissingExtraError("the engine onnxruntime", "onnxruntime", "onnxruntime")
        import onnxruntime

        from littlefoot.runtime import graph

        providers = ["CPUExecutionProvider"]
        if settings.device == "cuda":
            providers.insert(0, _CUDA)
            if _CUDA not in onnxruntime.get_available_providers():
                raise EngineError(
                    f"device cuda: ONNX Runtime is installed for the processor only: {_GET_CUDA}"
                )
        options = onnxruntime.SessionOptions()
        # Each concurrent run uses this number of threads.
        options.intra_op_num_threads = max(1, settings.threads // settings.parallel)
        options.log_severity_level = 3
        network = graph.build_part(artifact, part)
        self._weights = network.large  # must live as long as the session
        model = network.external()
        if may_saturate():
            options.add_session_config_entry("session.x64quantprecision", "1")  # the exact way
            graph.spell_out_zero_points(model)
            graph.separate_uses(model, self._weights)
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)
        try:
            self._session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=providers
            )
        except Exception as error:  # its exceptions share no base class of their own
            raise EngineError(f"ONNX Runtime refused the model: {error}") from error
        if self._session.get_providers()[0] != providers[0]:  # it uses the processor instead
            raise EngineError(
                f"device cuda: ONNX Runtime finds no graphics card that it can use: {_GET_CUDA}"
            )

    def run(self, value: Array) -> list[Array]:
        """Run a network with a single input; return all outputs."""
        return self.step({self._session.get_inputs()[0].name: value})

    def step(self, inputs: dict[str, Any]) -> list[Array]:
        outputs: list[Array] = self._session.run(None, inputs)
        return outputs


class ONNXRuntimeEngine(Engine):
    """A model, or a part of one, in a session."""

    name = "onnxruntime"

    def __init__(self, session: Session) -> None:
        self._session = session

    def run(self, waveform: Array) -> Array:
        (logits,) = self._session.run(waveform[None])
        return np.asarray(logits[0], dtype=np.float32)
