"""Measure which engine is the fastest for a model on this machine.

The engines take turns on three seconds of noise for about a second (``choices.race``). The network computes
the same for noise as for speech. For streams, several are fed at the same time, as a server does it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import LittlefootError
from littlefoot.runtime import choices, registry
from littlefoot.runtime.choices import Choice, Work
from littlefoot.runtime.native import engine as native
from littlefoot.runtime.protocols import Array, EngineSettings
from littlefoot.runtime.specification import LoadOptions
from littlefoot.system import machine

log = logging.getLogger("littlefoot")

AUDIO_SECONDS = 3.0
STREAMS = 8
"""Streams that are fed at the same time."""

_MEMORY = 3.0
"""Multiple of the weights' bytes that an engine may take while it is loaded."""


def measure(
    artifact: Artifact, settings: EngineSettings, model: str, work: Work = "recordings"
) -> Choice | None:
    """Measure the engines that run a model with these settings, and store the fastest.

    Args:
        model: name under which ``littlefoot doctor`` shows the choice.
        work: ``streams`` for the chunks of a streaming model.

    Returns:
        None if there is nothing to choose: one engine runs the model, or memory does not suffice for all.
    """
    names = registry.candidates(settings)
    needed = _MEMORY * len(names) * sum(value.nbytes for value in artifact.weights.values())
    free = machine.available_memory()
    if len(names) < 2 or (free is not None and needed > free):
        return None
    load = _recordings if work == "recordings" else _streams
    runners: dict[str, Callable[[], object]] = {}
    for name in names:
        try:
            runners[name] = load(artifact, settings, name)
        except LittlefootError as error:  # such as a layer that the engine does not have
            log.info("the engine %s takes no part in the measurement: %s", name, error)
    if len(runners) < 2:
        return None
    rule = registry.rule(artifact, work, list(runners))
    times = choices.race(runners)
    engine, certain = choices.decide(times, rule)
    medians = {name: round(1000 * float(np.median(values)), 3) for name, values in times.items()}
    today = time.strftime("%Y-%m-%d")
    context = choices.context(settings, work)
    choice = Choice(engine, rule, medians, model, work, today, context, certain)
    log.info("%s: %s for %s (%s)", model, engine, work, choice.reason)
    if certain:
        choices.store(artifact, choice)
    return choice


def ensure(artifact: Artifact, options: LoadOptions, model: str) -> None:
    """Measure what ``auto`` will choose for these options, unless it is known."""
    if (options.engine, native.chosen(options.kernels), options.device) != ("auto", "auto", "cpu"):
        return
    settings = registry.checked("auto", options.threads, options.precision, parallel=options.parallel)
    for work in works(artifact):
        if choices.known(artifact, settings, work) is None:
            measure(artifact, settings, model, work)


def measure_model(model: str, threads: int | None, precision: str) -> list[Choice]:
    """Load a model and measure its engines for every kind of work.

    Raises the errors of ``littlefoot.load``.
    """
    artifact = checkpoint.load(model)
    settings = registry.checked("auto", threads, precision)
    measured = [measure(artifact, settings, model, work) for work in works(artifact)]
    return [choice for choice in measured if choice is not None]


def works(artifact: Artifact) -> list[Work]:
    """Return the kinds of work that a model does."""
    return ["recordings", "streams"] if artifact.config.chunk_frames else ["recordings"]


def _recordings(artifact: Artifact, settings: EngineSettings, name: str) -> Callable[[], object]:
    engine = registry.create_named(artifact, settings, name)
    clips = [_noise(seed) for seed in range(settings.parallel)]
    if settings.parallel == 1:
        return partial(engine.run, clips[0])
    pool = ThreadPoolExecutor(settings.parallel)
    return lambda: list(pool.map(engine.run, clips))


def _streams(artifact: Artifact, settings: EngineSettings, name: str) -> Callable[[], object]:
    engine = registry.create_stream(artifact, name, settings.threads, settings.precision, settings.parallel)
    streams = [registry.begin_stream(artifact.config, engine) for _ in range(STREAMS)]
    clips = [_noise(seed) for seed in range(STREAMS)]
    pool = ThreadPoolExecutor(STREAMS)
    return lambda: list(pool.map(lambda stream, clip: stream.feed(clip), streams, clips))


def _noise(seed: int) -> Array:
    count = round(AUDIO_SECONDS * SAMPLE_RATE)
    return (0.1 * np.random.default_rng(seed).standard_normal(count)).astype(np.float32)
