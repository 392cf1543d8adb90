"""Register the engines, and choose among them.

``auto`` takes the engine that was measured to be the fastest for the model on this machine (``choices``).
Without a measurement it takes the one of the highest rank, or the native kernels where they are preferred.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NoReturn

from littlefoot.artifact import Artifact
from littlefoot.errors import ConfigError, EngineError
from littlefoot.network.config import ModelConfig
from littlefoot.runtime import choices
from littlefoot.runtime.choices import Work
from littlefoot.runtime.frames import ChunkedFrames, Frames
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.native.engine import NATIVE
from littlefoot.runtime.onnxruntime import ONNXRuntime
from littlefoot.runtime.openvino import OpenVINO
from littlefoot.runtime.protocols import Backend, Engine, EngineSettings, Part, StreamEngine
from littlefoot.system import machine

BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (OpenVINO(), ONNXRuntime())}
"""Every engine by its name. A new engine is a module with a ``Backend``, and an entry here."""
MOST_THREADS = 1024
"""Largest number of threads, which is that of the native kernels."""


def create(
    artifact: Artifact,
    name: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    cached: bool = True,
    parallel: int = 1,
    kernels: str | None = None,
    device: str = "cpu",
) -> Engine:
    """Load an artifact into an engine.

    Args:
        name: a key of ``BACKENDS``, ``native`` for the native kernels, or ``auto``, see above. The kernels
            run packed weights under any name. If the engine or the precision then has no effect, a warning is
            logged.
        threads: processor threads; all by default.
        precision: precision of the layers that are not quantized: ``f32``, ``bf16`` (OpenVINO, on processors
            that have it), or ``auto``, which is bf16 for a quantized artifact on such a processor, and f32
            otherwise.
        cached: store the compiled model on disk. This is not worthwhile for a model that is used once.
        parallel: number of runs that are computed at the same time; they share the threads.
        kernels: kernels for a Transformer whose weights are packed (``littlefoot.runtime.native``): ``auto``,
            a set of kernels by name, or ``off``, which expands the weights to 8 bits. The default is
            ``$LITTLEFOOT_KERNELS``, or else ``auto``.
        device: ``cpu``, or another of the ``devices`` of the engine; the kernels run on the processor only.

    Raises:
        ConfigError: the name or the precision is unknown, the engine does not have the device, or the number
            of threads is impossible.
        EngineError: the engine or processor does not have the precision, the kernels
            cannot run here, the engine refused the model, or neither an engine nor kernels that could run it
            are installed.
        MissingExtraError: the engine of this name is not installed.
    """
    settings = checked(name, threads, precision, cached, parallel, device)
    chosen = native.chosen(kernels)
    if (name, chosen, device) == ("auto", "auto", "cpu"):
        choice = choices.known(artifact, settings, "recordings")
        if choice is not None:
            return create_named(artifact, settings, choice.engine)
    return _create(artifact, settings, name, chosen)


def create_named(artifact: Artifact, settings: EngineSettings, name: str) -> Engine:
    """Load an artifact into the native kernels or an engine, which expands packed weights to 8 bits.

    Raises the errors of ``create``.
    """
    return _create(artifact, settings, name, "auto" if name == NATIVE else "off")


def _create(artifact: Artifact, settings: EngineSettings, name: str, kernels: str) -> Engine:
    load = partial(_load, artifact, "auto" if name == NATIVE else name, settings)
    if settings.device != "cpu":
        return load("whole")
    made = native.create(artifact, name, settings, kernels, load, alone=name == NATIVE or not installed())
    if made is None and name == NATIVE:
        raise EngineError(f"the engine native does not run this model: {native.obstacle(artifact)}")
    return made or load("whole")


def create_stream(
    artifact: Artifact,
    name: str = "auto",
    threads: int | None = None,
    precision: str = "auto",
    parallel: int = 1,
    cached: bool = True,
    device: str = "cpu",
) -> StreamEngine | native.NativeStreams:
    """Load a streaming model, which runs chunk by chunk. Arguments and errors are those of ``create``.

    If no engine is installed, the native kernels run it.
    """
    settings = checked(name, threads, precision, cached, parallel, device)
    if name == "auto" and device == "cpu" and (choice := choices.known(artifact, settings, "streams")):
        name = choice.engine
    if name == NATIVE:
        made = native.create_stream(artifact, settings.threads)
        if made is None:
            raise EngineError(f"the engine native does not run this model live: {native.obstacle(artifact)}")
        return made
    if name == "auto" and not installed():
        return native.create_stream(artifact, settings.threads) or _without_engine(artifact)
    names = candidates(settings) if (name, device) == ("auto", "cpu") else []
    preferred = NATIVE in names and rule(artifact, "streams", names) == NATIVE
    if preferred and (made := native.create_stream(artifact, settings.threads)):
        return made
    return _backend(artifact, name, settings).create_stream(artifact, settings)


def begin_stream(config: ModelConfig, engine: StreamEngine | native.NativeStreams) -> Frames:
    """Begin a stream of a model that ``create_stream`` loaded, in chunks of ``config.chunk_frames``."""
    if isinstance(engine, native.NativeStreams):
        return engine.frames(config.chunk_frames)
    return ChunkedFrames(config, engine)


def installed() -> list[str]:
    """Return the names of the installed engines."""
    return [name for name, backend in BACKENDS.items() if backend.installed()]


def candidates(settings: EngineSettings) -> list[str]:
    """Return the names of the engines that may run a model with these settings."""
    names = [name for name in installed() if settings.precision in BACKENDS[name].precisions]
    return [NATIVE, *names] if native.available() and settings.precision != "bf16" else names


def rule(artifact: Artifact, work: Work, names: Sequence[str]) -> str:
    """Return the one of several engines that ``auto`` takes without a measurement."""
    backends = [name for name in names if name != NATIVE]
    if NATIVE in names and (not backends or native.preferred(artifact, work)):
        return NATIVE
    return max(backends, key=lambda name: BACKENDS[name].rank(artifact))


def checked(
    name: str,
    threads: int | None,
    precision: str,
    cached: bool = True,
    parallel: int = 1,
    device: str = "cpu",
) -> EngineSettings:
    """Return the settings of an engine. Raises ConfigError and EngineError as ``create``."""
    known = list(dict.fromkeys(entry for backend in BACKENDS.values() for entry in backend.precisions))
    if precision not in known:
        raise ConfigError(f"precision '{precision}' is unknown: use one of {', '.join(known)}")
    if name not in ("auto", NATIVE, *BACKENDS):
        *names, last = "auto", NATIVE, *BACKENDS
        raise ConfigError(f"engine '{name}' is unknown: use {', '.join(names)} or {last}")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise ConfigError(
            f"threads must be from 1 to {MOST_THREADS}, not {threads}: leave the option out to use all"
        )
    able = [each for each, backend in BACKENDS.items() if device in backend.devices]
    if not able:
        devices = list(dict.fromkeys(each for backend in BACKENDS.values() for each in backend.devices))
        raise ConfigError(f"device '{device}' is unknown: use {' or '.join(devices)}")
    if device != "cpu" and name not in able:
        raise ConfigError(f"device {device}: the engine {name} does not use it, take {' or '.join(able)}")
    return EngineSettings(threads or machine.threads(), precision, cached, parallel, device)


def _backend(artifact: Artifact, name: str, settings: EngineSettings) -> Backend:
    """Return the engine of this name, or the best one. Raises EngineError if it lacks the precision."""
    backend = BACKENDS[_best(artifact) if name == "auto" else name]
    if settings.precision not in backend.precisions:
        others = [other.name for other in BACKENDS.values() if settings.precision in other.precisions]
        raise EngineError(
            f"precision {settings.precision}: {backend.name} computes in {backend.precisions[-1]}: use that "
            f"precision, or the engine {' or '.join(others)}"
        )
    return backend


def _best(artifact: Artifact) -> str:
    """Return the installed engine of the highest rank."""
    return max(installed(), key=lambda name: BACKENDS[name].rank(artifact))


def _without_engine(artifact: Artifact) -> NoReturn:
    raise EngineError(
        f"no engine is installed, and {native.obstacle(artifact)}: install one with: "
        "pip install 'littlefoot[openvino]'"
    )


def _load(artifact: Artifact, name: str, settings: EngineSettings, part: Part) -> Engine:
    if name == "auto" and not installed():
        _without_engine(artifact)
    return _backend(artifact, name, settings).create(artifact, settings, part)
