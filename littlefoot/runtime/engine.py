"""Engines that run an artifact's graph: OpenVINO, the default, and ONNX Runtime."""

from __future__ import annotations

import functools
import os
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.errors import ConfigError, EngineError, MissingExtraError
from littlefoot.runtime import cache

if TYPE_CHECKING:
    from littlefoot.runtime.graph import Graph

Array = npt.NDArray[np.float32]

PRECISIONS = ("auto", "f32", "bf16")


class Engine(Protocol):
    """Runs one model."""

    name: str

    def run(self, waveform: Array) -> Array:
        """Prepared waveform (T,) float32 -> logits (F, V) float32."""


def create(
    artifact: Artifact,
    name: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    cached: bool = True,
) -> Engine:
    """The engine ``name`` with the artifact loaded.

    Args:
        name: ``openvino``, ``onnxruntime``, or ``auto``: whichever is the faster for the artifact.
        threads: processor threads, all by default.
        precision: of what is not quantized. ``f32``, ``bf16`` (OpenVINO, on processors that have it), or
            ``auto``: bf16 for a quantized artifact where the processor has it, f32 otherwise.
        cached: keep the compiled model on disk; not worth it for a model that is tried once.

    Raises:
        ConfigError: an unknown precision.
        EngineError: an unknown name, a precision that the engine or processor does not have, OpenVINO is
            not installed, or the engine refused the model.
        MissingExtraError: ONNX Runtime is not installed.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision '{precision}' is unknown: use one of {', '.join(PRECISIONS)}")
    if name == "auto":
        name = _best_engine(artifact)
    if name == "openvino":
        return OpenVINOEngine(artifact, threads, precision, cached)
    if name == "onnxruntime":
        if precision == "bf16":
            raise EngineError("precision bf16: onnxruntime computes in f32, use that or the engine openvino")
        return ONNXRuntimeEngine(artifact, threads)
    raise EngineError(f"engine '{name}' is unknown: use auto, openvino or onnxruntime")


def _best_engine(artifact: Artifact) -> str:
    """OpenVINO is the fastest, but for scales found at run time, of which it makes float products."""
    dynamic = artifact.config.littlefoot.get("quantization", {}).get("mode") == "dynamic"
    if find_spec("openvino") is None or (dynamic and find_spec("onnxruntime")):
        return "onnxruntime"
    return "openvino"


class OpenVINOEngine:
    """Compiled by OpenVINO for this processor, and kept in the cache."""

    name = "openvino"

    def __init__(self, artifact: Artifact, threads: int | None, precision: str, cached: bool = True) -> None:
        if find_spec("openvino") is None:
            raise EngineError(
                "the engine openvino is not installed: install it with: pip install openvino, "
                "or use the engine onnxruntime"
            )
        core = openvino_core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        has_bf16 = "BF16" in capabilities
        if precision == "bf16" and not has_bf16:
            raise EngineError("precision bf16: this processor has no bfloat16 instructions, use f32")
        if precision == "auto":
            precision = "bf16" if "quantization" in artifact.config.littlefoot and has_bf16 else "f32"
        self.precision = precision
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads or len(os.sched_getaffinity(0)),
        }
        if cached:
            device = core.get_property("CPU", "FULL_DEVICE_NAME")
            key = cache.key(artifact, device=device, capabilities=sorted(capabilities), **options)
            compiled = _from_cache(artifact, options, f"{key}.blob")
        else:
            compiled = _compile(artifact, options)
        self._request = compiled.create_infer_request()
        self._two_frames = artifact.config.receptive_field + artifact.config.stride  # samples
        self._begun = False

    def run(self, waveform: Array) -> Array:
        if not self._begun and len(waveform) < self._two_frames:
            # When a model's first run has one frame, OpenVINO 2026.4 computes later, longer ones wrong.
            self._request.infer([np.zeros((1, self._two_frames), np.float32)])
        self._begun = True
        result = self._request.infer([waveform[None]], share_inputs=True)[0]
        return np.array(result[0], dtype=np.float32)


@functools.cache
def openvino_core() -> Any:
    """The process's one ``openvino.Core``.

    Each core gives the process a stack for signal handlers, which AMX needs, and takes it back at its
    end. Of two cores that overlap and end in the order in which they began, the second puts back the stack of
    the first, which is gone: the next signal, Ctrl-C for one, is then a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _from_cache(artifact: Artifact, options: dict[str, Any], entry: str) -> Any:
    """The compiled model, from the cache where it is there."""
    import openvino

    if (blob := cache.load(entry)) is not None:
        try:
            return openvino_core().import_model(openvino.Tensor(blob, shared_memory=True), "CPU", options)
        except RuntimeError:  # written by another build of the engine
            cache.discard(entry)
    compiled = _compile(artifact, options)
    cache.store(entry, compiled.export_model().getvalue())
    return compiled


def _compile(artifact: Artifact, options: dict[str, Any]) -> Any:
    from littlefoot.runtime import graph

    try:
        return openvino_core().compile_model(openvino_model(graph.build(artifact)), "CPU", options)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO refused the model: {error}") from error


def observe(network: Graph, clips: Iterable[Array]) -> Iterator[dict[str, Array]]:
    """Run clips (T,) through a graph built with ``observe``; yields the tensors that its layers read."""
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino_core().compile_model(openvino_model(network), "CPU", options)
    for clip in clips:
        results = compiled(clip[None])
        yield {name: results[name] for name in network.observed}


def openvino_model(network: Graph) -> Any:
    """A graph as an OpenVINO model that shares the weights' memory."""
    import openvino

    model = openvino_core().read_model(network.skeleton().SerializeToString())
    large = network.large
    for parameter in model.get_parameters():
        name = parameter.get_friendly_name()
        if name in large:
            constant = openvino.opset13.constant(large[name], shared_memory=True, name=name)
            parameter.output(0).replace(constant.output(0))
            model.remove_parameter(parameter)
    model.validate_nodes_and_infer_types()
    return model


class ONNXRuntimeEngine:
    """Run by ONNX Runtime, for where OpenVINO is not available."""

    name = "onnxruntime"

    def __init__(self, artifact: Artifact, threads: int | None) -> None:
        if find_spec("onnxruntime") is None:
            raise MissingExtraError("the engine onnxruntime", "onnxruntime", "onnxruntime")
        import onnxruntime

        from littlefoot.runtime import graph

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        network = graph.build(artifact)
        self._weights = network.large  # shared with the session, must live as long
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._weights.values()]
        options.add_external_initializers(list(self._weights), values)
        try:
            self._session = onnxruntime.InferenceSession(
                network.external().SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base class of their own
            raise EngineError(f"ONNX Runtime refused the model: {error}") from error

    def run(self, waveform: Array) -> Array:
        (logits,) = self._session.run(["logits"], {"waveform": waveform[None]})
        return np.asarray(logits[0], dtype=np.float32)
