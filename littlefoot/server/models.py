"""Hold the models of a server, and load each on its first request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from littlefoot.artifact import artifact, checkpoint, sizes
from littlefoot.artifact.json_files import read_json
from littlefoot.audio import SAMPLE_RATE
from littlefoot.decode.beam import BeamDecoder
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.network.config import ModelConfig
from littlefoot.runtime.frames import WindowedFrames
from littlefoot.runtime.recognizer import Recognizer
from littlefoot.server.errors import ApiError, invalid

log = logging.getLogger("littlefoot.server")

_WARM_UP_SECONDS = 5.0
_MOST_LANGUAGES = 4
"""Languages for which MMS models are loaded besides their own; another takes the place of one not in use."""


@dataclass
class Model:
    """A model that clients may request."""

    name: str
    """Name in requests."""
    source: str
    bytes: int
    """Bytes of the files (``sizes.disk_bytes``)."""
    streams: bool
    """Whether the model was made for streaming; others simulate it."""
    latency_ms: float
    """Latency of live streams, without the time for computing."""
    modified: int
    """Time of the last change, in seconds since 1970."""
    languages: frozenset[str] = field(default=frozenset(), repr=False)
    """Languages that requests may name: those of an MMS model with adapters."""
    language: str | None = None
    """The one that it is loaded for; None: the model's own."""
    recognizer: Recognizer | None = None
    decoder: BeamDecoder | None = None
    audio_seconds: float = 0.0
    """Seconds of the recordings so far, with one of noise after loading."""
    compute_seconds: float = 0.0
    loading: asyncio.Task[None] | None = field(default=None, repr=False)
    users: int = 0
    """Number of recordings and streams that it is computing."""
    used: float = 0.0
    """Time of its last use, by the monotonic clock."""

    @property
    def times_real_time(self) -> float | None:
        """Return the speed so far; None before the model is loaded."""
        return self.audio_seconds / self.compute_seconds if self.compute_seconds else None

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the model loaded inside of the context."""
        self.users += 1
        try:
            yield
        finally:
            self.give_back()

    def give_back(self) -> None:
        """End a use that ``users`` counts."""
        self.users -= 1
        self.used = time.monotonic()

    def describe(self) -> dict[str, Any]:
        """Describe the model as in OpenAI's list, with a section ``littlefoot``."""
        speed = self.times_real_time
        return {
            "id": self.name,
            "object": "model",
            "created": self.modified,
            "owned_by": "littlefoot",
            "littlefoot": {
                "bytes": self.bytes,
                "loaded": self.recognizer is not None,
                "streams": self.streams,
                "latency_ms": round(self.latency_ms, 1),
                "x_realtime": None if speed is None else round(speed, 1),
            },
        }


class Models:
    """All models of a server by name; the first is the default."""

    def __init__(
        self,
        sources: Sequence[str],
        load: Callable[..., Recognizer],
        decoder: Callable[[Recognizer], BeamDecoder | None] | None = None,
    ) -> None:
        """
        Args:
            sources: bundled names, directories or Hub ids; ``NAME=SOURCE`` gives another name.
            load: function that loads a recognizer from a source, for a ``language`` if a request names one.
            decoder: function that makes the decoder of a recognizer; greedy by default.

        Raises:
            LittlefootError: a model does not exist.
            ConfigError: two have one name.
        """
        self._load, self._decoder = load, decoder
        self._models: dict[str, Model] = {}
        self.in_languages: dict[tuple[str, str], Model] = {}
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="littlefoot-load")
        for given in sources:
            model = _find(given)
            if model.name in self._models:
                raise ConfigError(
                    f"two models are called '{model.name}': name one of them otherwise, NAME={model.source}"
                )
            self._models[model.name] = model

    def all(self) -> list[Model]:
        """List the models in their given order."""
        return list(self._models.values())

    def find(self, name: str | None, language: str | None = None) -> Model:
        """Find a model by name, the first without a name; an MMS model for a language if one is given.

        Raises ApiError 404, 400 for a language that an MMS model does not have, 429.
        """
        if not name:
            name = next(iter(self._models))
        if name not in self._models:
            known = ", ".join(self._models)
            raise ApiError(
                404, f"there is no model '{name[:100]}' here, only {known}", "model_not_found", "model"
            )
        model = self._models[name]
        return self._in_language(model, language) if language and model.languages else model

    def _in_language(self, model: Model, language: str) -> Model:
        if language not in model.languages:
            known = f"{len(model.languages)}, such as {', '.join(sorted(model.languages)[:8])}"
            raise invalid(f"'{model.name}' has no language {language[:50]!a}: it has {known}", "language")
        loaded, key = self.in_languages, (model.name, language)
        if key not in loaded:
            if len(loaded) >= _MOST_LANGUAGES:
                free = [each for each, other in loaded.items() if not other.users and other.loading is None]
                if not free:
                    message = f"{len(loaded)} other languages are in use: try again later"
                    raise ApiError(429, message, "too_many_languages", "language", 10)
                del loaded[min(free, key=lambda each: loaded[each].used)]
            loaded[key] = Model(
                *(model.name, model.source, model.bytes, model.streams, model.latency_ms, model.modified),
                language=language,
                used=time.monotonic(),
            )
        return loaded[key]

    async def ready(self, model: Model) -> Recognizer:
        """Load a model if it is not loaded. Raises ApiError 503 if that fails; the next request tries
        again.
        """
        model.used = time.monotonic()
        while model.recognizer is None:
            if model.loading is None:
                model.loading = asyncio.create_task(self._load_in_thread(model))
            await asyncio.shield(model.loading)  # it continues if the client disconnects
        return model.recognizer

    def unload_idle(self, seconds: float) -> None:
        """Release the memory of models that were not used for a time; the next request loads them."""
        for model in [*self.all(), *self.in_languages.values()]:
            if model.recognizer is None or model.users or time.monotonic() - model.used < seconds:
                continue
            model.recognizer = model.decoder = None
            log.info("unloaded %s, which was idle for %g s", model.name, seconds)

    def close(self) -> None:
        """Stop loading models."""
        self._loader.shutdown(wait=False, cancel_futures=True)

    async def _load_in_thread(self, model: Model) -> None:
        loop = asyncio.get_running_loop()
        try:
            loaded = await loop.run_in_executor(self._loader, self._load_now, model)
        except LittlefootError as error:
            log.error("the model %s cannot be loaded: %s", model.name, error)
            message = f"the model '{model.name}' cannot be loaded: see the server's log"
            raise ApiError(503, message, "model_unavailable", "model") from error
        finally:
            model.loading = None
        model.recognizer, model.decoder, model.audio_seconds, model.compute_seconds = loaded
        model.used = time.monotonic()

    def _load_now(self, model: Model) -> tuple[Recognizer, BeamDecoder | None, float, float]:
        """Load the recognizer and its decoder, and time a second run on noise: seconds of audio and of
        computing.
        """
        began = time.monotonic()
        named = {"language": model.language} if model.language else {}
        recognizer = self._load(model.source, **named)
        decoder = None if self._decoder is None else self._decoder(recognizer)
        noise = 0.01 * np.random.default_rng(0).standard_normal(round(_WARM_UP_SECONDS * SAMPLE_RATE))
        recognizer.transcribe(noise.astype(np.float32), decoder)
        recognizer.stream(decoder=decoder).feed(noise[:1])
        log.info("loaded %s in %.1f s", model.name, time.monotonic() - began)
        began = time.monotonic()
        recognizer.transcribe(noise.astype(np.float32), decoder)
        return recognizer, decoder, _WARM_UP_SECONDS, time.monotonic() - began


def _find(given: str) -> Model:
    """Describe a model without loading it."""
    name, equals, source = given.partition("=")
    if not equals or "/" in name:  # a path may hold an equals sign
        name, source = "", given
    directory = checkpoint.locate(source)
    if not name:
        name = directory.resolve().name if Path(source).is_dir() else source
    files = [path.stat() for path in sizes.stored_files(directory)]
    streams, latency = False, 1000 * (WindowedFrames.HOP + WindowedFrames.RIGHT)
    if artifact.is_artifact(directory):
        config = ModelConfig.from_dict(read_json(directory / artifact.CONFIG))
        if config.algorithmic_latency_ms is not None:
            streams, latency = True, config.algorithmic_latency_ms
    return Model(
        name,
        source,
        sum(file.st_size for file in files),
        streams,
        latency,
        int(max((file.st_mtime for file in files), default=0)),
        _languages(directory),
    )


def _languages(directory: Path) -> frozenset[str]:
    """Return the languages that an MMS checkpoint has adapters for."""
    if artifact.is_artifact(directory) or not read_json(directory / artifact.CONFIG).get("adapter_attn_dim"):
        return frozenset()
    return frozenset(
        path.name.removeprefix("adapter.").removesuffix(".safetensors")
        for path in directory.glob("adapter.*.safetensors")
    )
