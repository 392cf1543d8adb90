"""Engines that run an artifact's graph: OpenVINO, the default, and ONNX Runtime."""

from __future__ import annotations

import functools
import math
import queue
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import ConfigError, EngineError, MissingExtraError
from littlefoot.runtime import cache
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.protocols import Array, Engine, StreamEngine
from littlefoot.runtime.saturation import may_saturate, narrowed
from littlefoot.runtime.stream_state import VALID, WAVEFORM
from littlefoot.system import machine

if TYPE_CHECKING:
    from littlefoot.runtime.graph import Graph
    from littlefoot.runtime.native.front_end import FrontEnd

PRECISIONS = ("auto", "f32", "bf16")
ENGINES = ("auto", "openvino", "onnxruntime")

_KEPT_SHAPES = 256
"""OpenVINO keeps what it prepared for so many shapes of each kind of operation; with its default of 5000 the
memory that a process takes after many recordings is a fifth higher, and little is gained."""
_STEPS_PER_DOUBLING = 8
_PADDED_SECONDS = 20.02
"""One of the lengths to which recordings are padded: a window, and what rounding to frames may add."""
Part = Literal["whole", "padded", "features", "embedding", "chunk"]
"""What of a network an engine runs: all of it, all of it for padded recordings, the front end, what is
between that and the first Transformer block, or a stream's chunk."""


def create(
    artifact: Artifact,
    name: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    cached: bool = True,
    parallel: int = 1,
    kernels: str | None = None,
) -> Engine:
    """The engine ``name`` with the artifact loaded.

    Args:
        name: ``openvino``, ``onnxruntime``, or ``auto``: whichever is the fastest for the artifact, which may
            be the native kernels alone.
        threads: processor threads, all by default.
        precision: of what is not quantized. ``f32``, ``bf16`` (OpenVINO, on processors that have it), or
            ``auto``: bf16 for a quantized artifact where the processor has it, f32 otherwise.
        cached: keep the compiled model on disk; not worth it for a model that is tried once.
        parallel: how many runs are computed side by side; they share the threads.
        kernels: what runs a Transformer whose weights are packed (``littlefoot.runtime.native``): ``auto``, a
            set of kernels by name, or ``off``, which expands them to 8 bits; None: ``$LITTLEFOOT_KERNELS``,
            or auto.

    Raises:
        ConfigError: an unknown precision.
        EngineError: an unknown name, a precision that the engine or processor does not have, kernels that
            cannot run here, OpenVINO is not installed, or the engine refused the model.
        MissingExtraError: ONNX Runtime is not installed.
    """
    if precision not in PRECISIONS:
        raise ConfigError(f"precision '{precision}' is unknown: use one of {', '.join(PRECISIONS)}")
    if name not in ENGINES:
        raise EngineError(f"engine '{name}' is unknown: use {', '.join(ENGINES[:-1])} or {ENGINES[-1]}")
    if threads is not None and threads < 1:
        raise ConfigError(f"threads must be at least 1, not {threads}: leave it out for all")
    threads, kernels = threads or machine.threads(), native.chosen(kernels)
    program = native.program(artifact, kernels, threads)
    if program is None and (name, kernels) == ("auto", "auto") and precision != "bf16":
        exact = native.eight_bits(artifact, threads)
        if exact is not None:
            return exact
    name = _best_engine(artifact) if name == "auto" else name
    if program is None:
        return _engine(artifact, name, threads, precision, cached, parallel, "whole")
    features: Engine | FrontEnd | None = native.front_end(artifact, program.kernels, threads)
    if features is None:
        whole = _engine(artifact, name, threads, precision, cached, parallel, "features")
        features = native.SlicedFrontEnd(whole, artifact.config)
    embedding = None
    if not program.embeds:
        embedding = _engine(artifact, name, threads, precision, cached, parallel, "embedding")
    return native.NativeEngine(features, embedding, program)


def _engine(
    artifact: Artifact, name: str, threads: int, precision: str, cached: bool, parallel: int, part: Part
) -> Engine:
    if name == "openvino":
        return OpenVINOEngine(artifact, threads, precision, cached, parallel, part)
    if name == "onnxruntime":
        if precision == "bf16":
            raise EngineError("precision bf16: onnxruntime computes in f32, use that or the engine openvino")
        return ONNXRuntimeEngine(artifact, threads, parallel, part)
    raise AssertionError(f"{name} is not one of ENGINES")


def _best_engine(artifact: Artifact) -> str:
    """OpenVINO is the fastest, but for scales found at run time, of which it makes float products."""
    quantization = artifact.config.littlefoot.quantization
    dynamic = quantization is not None and quantization.mode == "dynamic"
    if find_spec("openvino") is None or (dynamic and find_spec("onnxruntime")):
        return "onnxruntime"
    return "openvino"


def padded_length(samples: int, at_least: int = 0) -> int:
    """So many samples, rounded up to one of few lengths, each 9 % longer than the one before.

    OpenVINO prepares code for each length that it meets: for a model in 8 bits that takes many times as long
    as computing. A window of a long recording has one of the lengths.
    """
    longest = _PADDED_SECONDS * SAMPLE_RATE
    steps = math.floor(_STEPS_PER_DOUBLING * math.log2(longest / max(samples, at_least, 1)) + 1e-9)
    return math.ceil(longest * 2 ** (-steps / _STEPS_PER_DOUBLING))


class OpenVINOEngine:
    """Compiled by OpenVINO for this processor, and kept in the cache.

    Recordings are padded to ``padded_length``, and the network told their own, which changes nothing else.
    The front end never computes a single frame: OpenVINO 2026.4 computes 8-bit convolutions of some shapes
    wrong then.
    """

    name = "openvino"
    kernels = "none"

    def __init__(
        self,
        artifact: Artifact,
        threads: int | None,
        precision: str,
        cached: bool = True,
        parallel: int = 1,
        part: Part = "whole",
    ) -> None:
        part = "padded" if part == "whole" else part
        self.precision, compiled = _openvino(artifact, threads, precision, cached, part, parallel)
        self._requests = _Requests(compiled, parallel)
        self._config, self._part = artifact.config, part
        self._begun: set[int] = set()  # requests

    def run(self, waveform: Array) -> Array:
        samples = self._config.receptive_field + self._config.stride
        two_frames = (2, *waveform.shape[1:]) if self._part == "embedding" else (samples,)
        with self._requests.one() as request:
            if id(request) not in self._begun and len(waveform) < two_frames[0]:
                # When a model's first run has one frame, OpenVINO 2026.4 computes later, longer ones wrong.
                request.infer(self._inputs(np.zeros(two_frames, np.float32)))
            self._begun.add(id(request))
            if self._part == "features" and self._config.frames(len(waveform)) == 1:
                return self._one_frame(request, waveform)
            result = request.infer(self._inputs(waveform), share_inputs=True)[0]
            return np.array(result[0], dtype=np.float32)

    def _one_frame(self, request: Any, waveform: Array) -> Array:
        """The front end's only frame, computed beside another of silence; a norm over time would hear it."""
        if self._config.feat_extract_norm != "group":
            waveform = np.pad(waveform, (0, self._config.stride))
        return np.array(request.infer(self._inputs(waveform))[0][0, :1], dtype=np.float32)

    def _inputs(self, waveform: Array) -> list[Array] | dict[str, npt.NDArray[Any]]:
        if self._part != "padded":
            return [waveform[None]]
        two_frames = self._config.receptive_field + self._config.stride
        padded = np.zeros((1, padded_length(len(waveform), two_frames)), np.float32)
        padded[0, : len(waveform)] = waveform
        return {"waveform": padded, "lengths": np.array([len(waveform)], np.int64)}


class _Requests:
    """Infer requests of a compiled model. Each runs once at a time: threads take one, or wait for it."""

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


def _openvino(
    artifact: Artifact,
    threads: int | None,
    precision: str,
    cached: bool,
    part: Part,
    parallel: int = 1,
) -> tuple[str, Any]:
    """The precision chosen, and the compiled model."""
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
        precision = "bf16" if artifact.config.littlefoot.quantization is not None and has_bf16 else "f32"
    cores = machine.threads()
    options: dict[str, Any] = {
        "INFERENCE_PRECISION_HINT": precision,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads or cores,
        # Threads are pinned to the first cores: those of a second process would be to the same ones.
        "ENABLE_CPU_PINNING": (threads or cores) >= cores,
        "CPU_RUNTIME_CACHE_CAPACITY": _KEPT_SHAPES,
    }
    if parallel > 1:
        options["NUM_STREAMS"] = parallel
    if not cached:
        return precision, _compile(artifact, options, part)
    device = core.get_property("CPU", "FULL_DEVICE_NAME")
    capabilities = sorted([*capabilities, *(["SATURATES"] if may_saturate() else [])])
    key = cache.key(artifact, device=device, capabilities=capabilities, part=part, **options)
    return precision, _from_cache(artifact, options, part, f"{key}.blob")


@functools.cache
def openvino_core() -> Any:
    """The process's one ``openvino.Core``.

    Each core gives the process a stack for signal handlers, which AMX needs, and takes it back at its
    end. Of two cores that overlap and end in the order in which they began, the second puts back the stack of
    the first, which is gone: the next signal, Ctrl-C for one, is then a segmentation fault.
    """
    import openvino

    return openvino.Core()


def _from_cache(artifact: Artifact, options: dict[str, Any], part: Part, entry: str) -> Any:
    """The compiled model, from the cache where it is there."""
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


def _network(artifact: Artifact, part: Part) -> Graph:
    from littlefoot.runtime import graph

    build: dict[Part, Callable[[Artifact], Graph]] = {
        "whole": graph.build,
        "padded": graph.build_padded,
        "features": graph.build_features,
        "embedding": graph.build_embedding,
        "chunk": graph.build_stream,
    }
    return build[part](artifact)


def _compile(artifact: Artifact, options: dict[str, Any], part: Part) -> Any:
    if may_saturate():
        artifact = replace(artifact, weights=narrowed(artifact.weights))
    network = _network(artifact, part)
    try:
        return openvino_core().compile_model(openvino_model(network), "CPU", options)
    except RuntimeError as error:
        raise EngineError(f"OpenVINO refused the model: {error}") from error


def observe(network: Graph, clips: Iterable[Array]) -> Iterator[dict[str, Array]]:
    """Run clips (T,) through a graph built with ``observe`` or ``hidden``; yields those outputs by name."""
    options = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino_core().compile_model(openvino_model(network), "CPU", options)
    for clip in clips:
        results = compiled(clip[None])
        yield {name: results[name] for name in network.hidden or network.observed}


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
    kernels = "none"

    def __init__(
        self, artifact: Artifact, threads: int | None, parallel: int = 1, part: Part = "whole"
    ) -> None:
        self._session = _Session(artifact, threads, part, parallel)

    def run(self, waveform: Array) -> Array:
        (logits,) = self._session.run(waveform[None])
        return np.asarray(logits[0], dtype=np.float32)


class _Session:
    """ONNX Runtime's session, and the weights whose memory it shares."""

    def __init__(self, artifact: Artifact, threads: int | None, part: Part, parallel: int = 1) -> None:
        if find_spec("onnxruntime") is None:
            raise MissingExtraError("the engine onnxruntime", "onnxruntime", "onnxruntime")
        import onnxruntime

        from littlefoot.runtime import graph

        options = onnxruntime.SessionOptions()
        # Every run that is under way takes so many, however many there are.
        options.intra_op_num_threads = max(1, (threads or machine.threads()) // parallel)
        options.log_severity_level = 3
        network = _network(artifact, part)
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
                model.SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # its exceptions share no base class of their own
            raise EngineError(f"ONNX Runtime refused the model: {error}") from error

    def run(self, value: Array) -> list[Array]:
        """The only input -> all outputs."""
        return self.step({self._session.get_inputs()[0].name: value})

    def step(self, inputs: dict[str, Any]) -> list[Array]:
        outputs: list[Array] = self._session.run(None, inputs)
        return outputs


def create_stream(
    artifact: Artifact,
    name: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    parallel: int = 1,
    cached: bool = True,
) -> StreamEngine:
    """As ``create``, for the chunks of a streaming model."""
    name = _best_engine(artifact) if name == "auto" else name
    if name == "openvino":
        compiled = _openvino(artifact, threads, precision, cached, "chunk", parallel)[1]
        return _OpenVINOStreamEngine(compiled, parallel, artifact.config.stride)
    if name == "onnxruntime":
        return _Session(artifact, threads, "chunk", parallel)
    raise EngineError(f"engine '{name}' is unknown: use auto, openvino or onnxruntime")


class _OpenVINOStreamEngine:
    """As ``OpenVINOEngine``: a chunk of one frame is computed beside another of silence."""

    def __init__(self, compiled: Any, parallel: int, stride: int) -> None:
        self._requests, self._stride = _Requests(compiled, parallel), stride
        self._names = [entry.get_any_name() for entry in compiled.outputs]

    def step(self, inputs: dict[str, Any]) -> list[Array]:
        if inputs[VALID].shape[1] == 1:
            inputs = {**inputs, WAVEFORM: np.pad(inputs[WAVEFORM], ((0, 0), (0, self._stride)))}
        with self._requests.one() as request:
            results = request.infer(inputs, share_inputs=True)
            return [np.array(results[name]) for name in self._names]
