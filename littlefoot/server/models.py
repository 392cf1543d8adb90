"""Hold the models of a server, and load each on its first request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from littlefoot.artifact import artifact, checkpoint
from littlefoot.artifact.json_files import read_json
from littlefoot.audio import SAMPLE_RATE
from littlefoot.decode.beam import BeamDecoder
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.network.config import ModelConfig
from littlefoot.runtime.frames import WindowedFrames
from littlefoot.runtime.recognizer import Recognizer
from littlefoot.server.errors import ApiError

log = logging.getLogger("littlefoot.server")

_WARM_UP_SECONDS = 5.0


@dataclass
class Model:
    """A model that clients may request."""

    name: str
    """Name in requests."""
    source: str
    bytes: int
    """Bytes of the files of weights."""
    streams: bool
    """Whether the model was made for streaming; others simulate it."""
    latency_ms: float
    """Latency of live streams, without the time for computing."""
    modified: int
    """Time of the last change, in seconds since 1970."""
    recognizer: Recognizer | None = None
    decoder: BeamDecoder | None = None
    audio_seconds: float = 0.0
    """Seconds of the recordings so far, with one of noise after loading."""
    compute_seconds: float = 0.0
    loading: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def times_real_time(self) -> float | None:
        """Return the speed so far; None before the model is loaded."""
        return self.audio_seconds / self.compute_seconds if self.compute_seconds else None

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
        load: Callable[[str], Recognizer],
        decoder: Callable[[Recognizer], BeamDecoder | None] | None = None,
    ) -> None:
        """
        Args:
            sources: bundled names, directories or Hub ids; ``NAME=SOURCE`` gives another name.
            load: function that loads a recognizer from a source.
            decoder: function that makes the decoder of a recognizer; greedy by default.

        Raises:
            LittlefootError: a model does not exist.
            ConfigError: two have one name.
        """
        self._load, self._decoder = load, decoder
        self._models: dict[str, Model] = {}
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

    def find(self, name: str | None) -> Model:
        """Find a model by name, the first without a name. Raises ApiError 404."""
        if not name:
            return self.all()[0]
        if name not in self._models:
            known = ", ".join(self._models)
            raise ApiError(
                404, f"there is no model '{name[:100]}' here, only {known}", "model_not_found", "model"
            )
        return self._models[name]

    async def ready(self, model: Model) -> Recognizer:
        """Load a model if it is not loaded. Raises ApiError 503 if that fails; the next request tries
        again.
        """
        while model.recognizer is None:
            if model.loading is None:
                model.loading = asyncio.create_task(self._load_in_thread(model))
            await asyncio.shield(model.loading)  # it continues if the client disconnects
        return model.recognizer

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

    def _load_now(self, model: Model) -> tuple[Recognizer, BeamDecoder | None, float, float]:
        """Load the recognizer and its decoder, and time a second run on noise: seconds of audio and of
        computing.
        """
        began = time.monotonic()
        recognizer = self._load(model.source)
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
    weights = sorted(directory.glob("model*.safetensors")) or sorted(directory.glob("pytorch_model*.bin"))
    streams, latency = False, 1000 * (WindowedFrames.HOP + WindowedFrames.RIGHT)
    if artifact.is_artifact(directory):
        config = ModelConfig.from_dict(read_json(directory / artifact.CONFIG))
        if config.algorithmic_latency_ms is not None:
            streams, latency = True, config.algorithmic_latency_ms
    return Model(
        name,
        source,
        sum(path.stat().st_size for path in weights),
        streams,
        latency,
        int(max((path.stat().st_mtime for path in weights), default=0)),
    )
