"""Run a model on the native kernels; an engine runs the parts of a packed one that they do not support.

The kernels are installed with the extra ``native``. ``docs/native.md`` describes how they work, with figures.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import numpy as np

from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import packed_layers
from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import ConfigError, EngineError
from littlefoot.network.config import ModelConfig
from littlefoot.runtime.choices import Work
from littlefoot.runtime.native.front_end import FrontEnd
from littlefoot.runtime.native.program import Program
from littlefoot.runtime.native.unsupported import UnsupportedError
from littlefoot.runtime.protocols import Array, Engine, EngineSettings, Part
from littlefoot.runtime.saturation import may_saturate

log = logging.getLogger("littlefoot")

NATIVE = "native"
"""Name of the kernels as an engine."""

KERNELS = ("auto", "off", "amx", "avx512bf16", "avx512", "avx2", "neon", "scalar")

AHEAD = frozenset({"amx", "avx512bf16"})
"""Kernels that run models of 8 bits faster than engines do on processors that have them."""

SLICE = SAMPLE_RATE // 2
"""Samples of a slice, for a front end that an engine runs."""


def chosen(kernels: str | None) -> str:
    """Return the argument if it is not None, or else ``$LITTLEFOOT_KERNELS``, or else ``auto``.

    Raises EngineError for an unknown name.
    """
    name = kernels or os.environ.get("LITTLEFOOT_KERNELS") or "auto"
    if name not in KERNELS:
        raise EngineError(f"kernels '{name}' are unknown: use one of {', '.join(KERNELS)}")
    return name


def available() -> list[str]:
    """List the installed sets of kernels that this processor can run, the fastest first."""
    if find_spec("littlefoot_native") is None:
        return []
    import littlefoot_native

    return list(littlefoot_native.available())


def create(
    artifact: Artifact,
    name: str,
    settings: EngineSettings,
    kernels: str,
    load: Callable[[Part], Engine],
    alone: bool,
) -> NativeEngine | None:
    """Load an artifact into the kernels, or return None if an engine should run it.

    Args:
        name: name of the requested engine, ``native`` or ``auto``.
        kernels: the result of ``chosen``.
        load: function that creates an engine for a part that the kernels do not support.
        alone: whether no engine is installed, or none is wanted.

    Raises EngineError if kernels requested by name cannot run here.
    """
    program = packed_program(artifact, kernels, settings.threads)
    if program is None:
        free = name in ("auto", NATIVE) and kernels == "auto" and settings.precision != "bf16"
        return whole(artifact, settings.threads) if free and (alone or preferred(artifact)) else None
    features: Engine | None = front_end(artifact, program)
    if features is None:
        features = SlicedFrontEnd(load("features"), artifact.config)
    made = NativeEngine(features, None if program.embeds else load("embedding"), program)
    _warn_of_ignored(made, name, settings.precision)
    return made


def _warn_of_ignored(made: NativeEngine, name: str, precision: str) -> None:
    """Warn if the requested engine or precision has no effect."""
    import littlefoot_native

    remedy = "LITTLEFOOT_KERNELS=off expands packed weights to 8 bits for an engine"
    if name not in ("auto", NATIVE) and made.name != name:
        log.warning("the engine %s is not used: native kernels run the whole model (%s)", name, remedy)
    computed = "bf16" if littlefoot_native.has_bfloat16(made.kernels) else "f32"
    if precision not in ("auto", computed):
        log.warning(
            "precision %s has no effect on attention: the native kernels %s compute it in %s (%s)",
            *(precision, made.kernels, computed, remedy),
        )


def packed_program(artifact: Artifact, kernels: str, threads: int) -> Program | None:
    """Create a program of the Transformer and the head of an artifact with packed weights.

    Return None if the artifact has no packed weights, or if the kernels cannot run it. In the second case the
    engine expands the weights to 8 bits, and a warning with the reason is logged.

    Args:
        kernels: the result of ``chosen``.

    Raises EngineError if kernels requested by name cannot run here.
    """
    if kernels == "off" or not packed_layers(artifact.weights):
        return None
    found = available()
    wanted = (found[0] if found else "scalar") if kernels == "auto" else kernels
    reason = None
    if not found:
        reason = "the native kernels are not installed: pip install 'littlefoot[native]'"
    elif wanted not in found:
        reason = f"this processor does not have the instructions of the kernels '{wanted}'"
    elif kernels == "auto" and wanted == "scalar":
        reason = "this processor lacks the instructions that make few bits fast"
    else:
        try:
            return Program(artifact, wanted, threads)
        except UnsupportedError as error:
            reason = f"the native kernels do not support {error}"
    if kernels != "auto":
        raise EngineError(f"kernels '{kernels}': {reason}")
    log.warning("packed weights are expanded to 8 bits: %s", reason)
    return None


def preferred(artifact: Artifact, work: Work = "recordings") -> bool:
    """Return True if the kernels run an artifact though engines are installed and none was measured: packed
    weights, 8 bits in streams, and 8 bits on processors where engines are slower (``AHEAD``) or have no
    instructions for 8-bit products.
    """
    best = next(iter(available()), "scalar")
    if best == "scalar":
        return False
    quantization = artifact.config.littlefoot.quantization
    static = quantization is not None and quantization.mode == "static"
    fast = work == "streams" or best in AHEAD or may_saturate()
    return bool(packed_layers(artifact.weights)) or (static and fast)


def whole(artifact: Artifact, threads: int) -> NativeEngine | None:
    """Load an artifact in 8 bits or in floating point into the kernels; None if they do not run all of it."""
    kernels = fastest(artifact)
    if kernels is None:
        return None
    try:
        program = Program(artifact, kernels, threads)
    except UnsupportedError:
        return None
    features = front_end(artifact, program) if program.embeds else None
    return None if features is None else NativeEngine(features, None, program)


def fastest(artifact: Artifact) -> str | None:
    """Return the fastest kernels that this processor can run, or None without the package.

    Models in floating point are exact to float32, so kernels with attention in bfloat16 do not count.
    """
    found = available()
    if artifact.config.littlefoot.quantization is None and found:
        import littlefoot_native

        found = [name for name in found if not littlefoot_native.has_bfloat16(name)]
    return found[0] if found else None


def obstacle(artifact: Artifact) -> str:
    """Return the reason for which the kernels alone do not run an artifact."""
    kernels = fastest(artifact)
    if kernels is None:
        return "neither are the native kernels (pip install 'littlefoot[native]')"
    try:
        FrontEnd(artifact, Program(artifact, kernels, 1))
    except UnsupportedError as error:
        return f"the native kernels do not have {error}"
    return "the native kernels are not used with these settings"


def create_stream(artifact: Artifact, threads: int) -> NativeStreams | None:
    """Load a streaming model for its chunks; None if the kernels cannot run it."""
    from littlefoot.runtime.native import model_file

    kernels = fastest(artifact)
    try:
        return (
            None
            if kernels is None
            else NativeStreams(model_file.encode(artifact, "stream"), threads, kernels)
        )
    except ConfigError:
        return None


def front_end(artifact: Artifact, program: Program) -> FrontEnd | None:
    """Create the front end before a program; None if an engine has to run it."""
    try:
        return FrontEnd(artifact, program)
    except UnsupportedError:
        return None


class NativeEngine(Engine):
    """A model on the kernels: a front end, and a program of the other layers.

    An engine runs the positional convolution if the program does not support it. A native front end and its
    program share their threads and a lock, so threads that call ``run`` take turns, whatever number of
    concurrent runs the settings allow.
    """

    def __init__(self, features: Engine, embedding: Engine | None, program: Program) -> None:
        self.name, self.kernels = (embedding or features).name, program.kernels
        self.features, self.embedding, self._program = features, embedding, program

    def run(self, waveform: Array) -> Array:
        x = self.features.run(waveform)
        if self.embedding is not None:
            x = self.embedding.run(x)
        return self._program.run(x)


class NativeStreams:
    """A streaming model whose chunks the kernels compute; liblittlefoot's code.

    Chunks of streams that threads feed at the same time are computed side by side, so that the weights are
    read once for all of them. The threads wait meanwhile, without Python's lock. A stream's logits do not
    depend on the others.
    """

    def __init__(self, content: bytes, threads: int, kernels: str = "auto") -> None:
        """Take a model file's content (``littlefoot.runtime.native.model_file``)."""
        import littlefoot_native

        self._model = littlefoot_native.LiveModel(content, threads, kernels)

    @property
    def most_at_once(self) -> int:
        """Return the largest number of chunks that were computed side by side so far."""
        return int(self._model.most_at_once)

    def frames(self, chunk_frames: int) -> NativeFrames:
        """Begin a stream that decides ``chunk_frames`` frames at once."""
        return NativeFrames(self._model.frames(chunk_frames))


class NativeFrames:
    """Frames of a stream (``littlefoot.runtime.frames.Frames``)."""

    def __init__(self, frames: Any) -> None:
        self._frames, self.latency_seconds = frames, float(frames.latency)

    def feed(self, samples: Array) -> Array:
        logits: Array = self._frames.feed(np.require(samples, np.float32, ("C", "ALIGNED")))
        return logits

    def finish(self) -> Array:
        logits: Array = self._frames.finish()
        return logits


class SlicedFrontEnd(Engine):
    """A front end that an engine runs slice by slice.

    The intermediate values of half a second fit in the cache, while those of an hour do not fit in memory.
    """

    def __init__(self, features: Engine, config: ModelConfig) -> None:
        self.name, self.features, self._config = features.name, features, config
        self._slice = None if config.norm_over_time else max(1, round(SLICE / config.feature_stride))

    def run(self, waveform: Array) -> Array:
        """Compute features (F, C) of a waveform (T,)."""
        stride, frames = self._config.feature_stride, self._config.feature_frames(len(waveform))
        if self._slice is None or frames <= self._slice:
            return self.features.run(waveform)
        slices = [
            waveform[
                first * stride : (min(first + self._slice, frames) - 1) * stride
                + self._config.receptive_field
            ]
            for first in range(0, frames, self._slice)
        ]
        return np.concatenate([self.features.run(part) for part in slices])
