"""Run models in OpenVINO, the default engine: compile them for this processor, and cache the result."""

from __future__ import annotations

import functools
import math
import queue
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import EngineError, MissingExtraError
from littlefoot.runtime import cache
from littlefoot.runtime.protocols import Array, Backend, Engine, EngineSettings, Part, StreamEngine
from littlefoot.runtime.saturation import may_saturate, narrowed
from littlefoot.runtime.stream_state import VALID, WAVEFORM
from littlefoot.system import machine
from littlefoot.system.extras import imported

if TYPE_CHECKING:
    from littlefoot.runtime.graph import Graph

_KEPT_SHAPES = 256
"""Number of shapes of each kind of operation whose code OpenVINO keeps. With its default of 5000, a process
takes a fifth more memory after many recordings, and is hardly faster."""
_STEPS_PER_DOUBLING = 8
_PADDED_SECONDS = 20.02
"""One of the lengths to which recordings are padded: a window, plus a margin for rounding to frames."""


class OpenVINO(Backend):
    """The backend of OpenVINO."""

    name = package = "openvino"
    precisions = ("auto", "f32", "bf16")

    def rank(self, artifact: Artifact) -> int:
        """Return the highest rank, except for scales determined at run time: OpenVINO computes their products
        in floating point.
        """
        quantization = artifact.config.littlefoot.quantization
        dynamic = quantization is not None and quantization.mode == "dynamic"
        return 0 if dynamic else 2

    def create(self, artifact: Artifact, settings: EngineSettings, part: Part = "whole") -> OpenVINOEngine:
        part = "padded" if part == "whole" else part
        precision, compiled = self._compiled(artifact, settings, part)
        return OpenVINOEngine(artifact, compiled, precision, settings.parallel, part)

    def create_stream(self, artifact: Artifact, settings: EngineSettings) -> OpenVINOStreamEngine:
        _, compiled = self._compiled(artifact, settings, "chunk")
        return OpenVINOStreamEngine(compiled, settings.parallel, artifact.config.feature_stride)

    def _compiled(self, artifact: Artifact, settings: EngineSettings, part: Part) -> tuple[str, Any]:
        """Return the precision and the compiled model, from the cache if it is there."""
        if not self.installed():
            raise MissingExtraError("the engine openvino", "openvino", "openvino")
        core = openvino_core()
        capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        options = _options(artifact, settings, "BF16" in capabilities)
        precision = str(options["INFERENCE_PRECISION_HINT"])
        if not settings.cached:
            return precision, _compile(artifact, options, part)
        device = core.get_property("CPU", "FULL_DEVICE_NAME")
        capabilities = sorted([*capabilities, *(["SATURATES"] if may_saturate() else [])])
        key = cache.key(
            artifact, self.package, device=device, capabilities=capabilities, part=part, **options
        )
        return precision, _from_cache(artifact, options, part, f"{key}.blob")


def _options(artifact: Artifact, settings: EngineSettings, has_bf16: bool) -> dict[str, Any]:
    """Return the properties of a compiled model. Raises EngineError if the processor has no bfloat16."""
    precision, threads, cores = settings.precision, settings.threads, machine.threads()
    if precision == "bf16" and not has_bf16:
        raise EngineError("precision bf16: this processor has no bfloat16 instructions, use f32")
    if precision == "auto":
        precision = "bf16" if artifact.config.littlefoot.quantization is not None and has_bf16 else "f32"
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # OpenVINO pins threads to the first cores, so a second process would compete for the same ones.
        "ENABLE_CPU_PINNING": threads >= cores,
        "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_SHAPES,
    }
    if settings.parallel > 1:
        options["NUM_STREAMS"] = settings.parallel
    return options


def padded_length(samples: int, at_least: int = 0) -> int:
    """Round a number of samples up to one of few lengths, each 9 % longer than the one before.

    OpenVINO prepares code for each new length, which for an 8-bit model takes many times as long as
    computing. The windows of a long recording have one of these lengths.
    """
    longest = _PADDED_SECONDS * SAMPLE_RATE
    steps = math.floor(_STEPS_PER_DOUBLING * math.log2(longest / max(samples, at_least, 1)) + 1e-9)
    return math.ceil(longest * 2 ** (-steps / _STEPS_PER_DOUBLING))


class OpenVINOEngine(Engine):
    """A compiled model, or a part of one.

    Recordings are padded to ``padded_length``. Their own length is an input of the network, so the logits do
    not change. The front end never computes a single frame, for which OpenVINO 2026.4 computes 8-bit
    convolutions of some shapes wrong.
    """

    name = "openvino"

    def __init__(self, artifact: Artifact, compiled: Any, precision: str, parallel: int, part: Part) -> None:
        self.precision, self._requests = precision, _Requests(compiled, parallel)
        self._config, self._part = artifact.config, part
        self._begun: set[int] = set()  # requests

    def run(self, waveform: Array) -> Array:
        samples = self._config.shortest + self._config.squeeze_factor * self._config.stride
        two_frames = (2, *waveform.shape[1:]) if self._part == "embedding" else (samples,)
        with self._requests.one() as request:
            if id(request) not in self._begun and len(waveform) < two_frames[0]:
                # When a model's first run has one frame, OpenVINO 2026.4 computes later, longer ones wrong.
                request.infer(self._inputs(np.zeros(two_frames, np.float32)))
            self._begun.add(id(request))
            if self._part == "features" and self._config.feature_frames(len(waveform)) == 1:
                return self._one_frame(request, waveform)
            result = request.infer(self._inputs(waveform), share_inputs=True)[0]
            return np.array(result[0], dtype=np.float32)

    def _one_frame(self, request: Any, waveform: Array) -> Array:
        """Compute a single frame of the front end beside a frame of silence.

        A norm over time would include the silence, so it is not added there.
        """
        if not self._config.norm_over_time:
            waveform = np.pad(waveform, (0, self._config.feature_stride))
        return np.array(request.infer(self._inputs(waveform))[0][0, :1], dtype=np.float32)

    def _inputs(self, waveform: Array) -> list[Array] | dict[str, npt.NDArray[Any]]:
        if self._part != "padded":
            return [waveform[None]]
        two_frames = self._config.shortest + self._config.squeeze_factor * self._config.stride
        padded = np.zeros((1, padded_length(len(waveform), two_frames)), np.float32)
        padded[0, : len(waveform)] = waveform
        return {"waveform": padded, "lengths": np.array([len(waveform)], np.int64)}


class OpenVINOStreamEngine(StreamEngine):
    """A compiled streaming model. A chunk of one frame is computed beside a frame of silence, as in
    ``OpenVINOEngine``.
    """

    def __init__(self, compiled: Any, parallel: int, stride: int) -> None:
        self._requests, self._stride = _Requests(compiled, parallel), stride
        self._names = [entry.get_any_name() for entry in compiled.outputs]

    def step(self, inputs: dict[str, Any]) -> list[Array]:
        if inputs[VALID].shape[1] == 1:
            inputs = {**inputs, WAVEFORM: np.pad(inputs[WAVEFORM], ((0, 0), (0, self._stride)))}
        with self._requests.one() as request:
            results = request.infer(inputs, share_inputs=True)
            return [np.array(results[name]) for name in self._names]


class _Requests:
    """The infer requests of a compiled model. Each serves one thread at a time; other threads wait."""

    def __init__(self, compiled: Any, count: int) -> None:
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for _ in range(count):
            self._free.put(compiled.create_infer_request())

    @contextmanager
    def one(self) -> Iterator[Any]:
        request = self._free.get()
        try:
            yield request
        finally:
            self._free.put(request)


@functools.cache
def openvino_core() -> Any:
    """Return the only ``openvino.Core`` of the process.

    Each core installs a stack for signal handlers, which AMX needs, and restores the previous one at its end.
    If two cores overlap and end in the order in which they began, the second restores the stack of the first,
    which is freed: the next signal, such as Ctrl-C, is then a segmentation fault.
    """
    return imported("openvino", "running a network in OpenVINO", "openvino").Core()


def _from_cache(artifact: Artifact, options: dict[str, Any], part: Part, entry: str) -> Any:
    """Load a compiled model from the cache, or compile and store it."""
    import openvino

    if (blob := cache.load(entry)) is not None:
        try:
            compiled = openvino_core().import_model(openvino.Tensor(blob, shared_memory=True), "CPU", options)
            cache.release(entry)
            return compiled
        except RuntimeError:  # written by another build of the engine
            cache.discard(entry)
    compiled = _compile(artifact, options, part)
    cache.store(entry, compiled.export_model().getvalue())
    return compiled


def _compile(artifact: Artifact, options: dict[str, Any], part: Part) -> Any:
    from littlefoot.runtime.graph import build_part

    if may_saturate():
        artifact = replace(artifact, weights=narrowed(artifact.weights))
    network = build_part(artifact, part)
    try:
        return openvino_core().compile_model(openvino_model(network), "CPU", options)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO refused the model: {error}") from error


def observe(network: Graph, clips: Iterable[Array]) -> Iterator[dict[str, Array]]:
    """Run clips (T,) through a graph built with ``observe`` or ``hidden``; yield those outputs by name."""
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino_core().compile_model(openvino_model(network), "CPU", options)
    for clip in clips:
        results = compiled(clip[None])
        yield {name: results[name] for name in network.hidden or network.observed}


def openvino_model(network: Graph) -> Any:
    """Convert a graph to an OpenVINO model that shares the memory of the weights."""
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
