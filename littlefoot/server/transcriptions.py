"""Serve ``POST /v1/audio/transcriptions`` of OpenAI's API."""

from __future__ import annotations

import asyncio
import json
import math
import time
import zlib
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from threading import Event
from typing import Any, BinaryIO, TypeVar, cast

from starlette.datastructures import FormData
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from littlefoot.audio import reading
from littlefoot.errors import AudioError
from littlefoot.runtime.recognizer import Recognizer
from littlefoot.server import uploads
from littlefoot.server.errors import ApiError, invalid
from littlefoot.server.models import Model
from littlefoot.server.service import Service
from littlefoot.transcript.results import Segment, Transcription, Word
from littlefoot.transcript.writers import WRITERS

FORMATS = ("json", "text", "srt", "verbose_json", "vtt")
GRANULARITIES = ("word", "segment")

Result = TypeVar("Result")


@dataclass(frozen=True)
class Query:
    """The fields of a request, without the recording."""

    model: str | None
    response_format: str
    granularities: tuple[str, ...]
    stream: bool
    language: str | None
    logprobs: bool = False


def read_query(form: FormData) -> Query:
    """Read the fields of a form. ``prompt``, ``temperature`` and unknown fields have no effect.

    Raises ApiError 400 that names the field.
    """
    form_at = str(form.get("response_format") or "json")
    if form_at not in FORMATS:
        raise _refused("response_format", form_at, f"one of {', '.join(FORMATS)}")
    granularities = tuple(
        str(value)
        for name in ("timestamp_granularities[]", "timestamp_granularities")
        for value in form.getlist(name)
    )
    for value in granularities:
        if value not in GRANULARITIES:
            raise _refused("timestamp_granularities", value, "word or segment")
    if granularities and form_at != "verbose_json":
        raise invalid("timestamp_granularities needs response_format verbose_json", "timestamp_granularities")
    stream = str(form.get("stream") or "false").lower()
    if stream not in ("true", "false", "1", "0"):
        raise _refused("stream", stream, "true or false")
    if stream in ("true", "1") and form_at in ("srt", "vtt"):
        raise invalid(f"stream needs response_format json, text or verbose_json, not {form_at}", "stream")
    include = [str(value) for name in ("include[]", "include") for value in form.getlist(name)]
    for value in include:
        if value != "logprobs":
            raise _refused("include", value, "logprobs")
    if include and form_at != "json":
        raise invalid("include needs response_format json", "include")
    _check_temperature(str(form.get("temperature") or "0"))
    model, language = form.get("model"), form.get("language")
    return Query(
        str(model) if model else None,
        form_at,
        granularities or ("segment",),
        stream in ("true", "1"),
        str(language)[:50] if language else None,
        bool(include),
    )


def _check_temperature(given: str) -> None:
    try:
        value = float(given)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise _refused("temperature", given, "a number from 0 to 1")


def _refused(name: str, value: str, wanted: str) -> ApiError:
    return invalid(f"{name} must be {wanted}, not {value[:50]!a}", name)


async def transcribe(request: Request) -> Response:
    """Answer one request."""
    service: Service = request.app.state.service
    deadline = asyncio.get_running_loop().time() + service.limits.total_seconds
    service.jobs.refuse_if_full()  # before the recording is sent
    try:
        async with asyncio.timeout_at(deadline):
            form = await uploads.read_form(request, service.limits)
            job = None
            try:
                query = read_query(form)
                model = service.models.find(query.model, query.language)
                recording = uploads.recording(form)
                recognizer = await service.models.ready(model)
                job = _Job(service, model, recognizer, recording)
            finally:
                if job is None:
                    await form.close()
            if query.stream:
                return await _streamed(request, job, query, deadline)
            result = await _while_connected(request, job.run())
            return _response(result, query, job.separator)
    except TimeoutError:
        raise _too_late(service) from None


class _Job:
    """A recording that is recognised in a thread."""

    def __init__(
        self, service: Service, model: Model, recognizer: Recognizer, recording: uploads.Recording
    ) -> None:
        self._service, self._model = service, model
        self._recognizer, self._recording = recognizer, recording
        self.separator = recognizer.vocabulary.separator

    async def run(self, heard: Callable[[list[Word]], None] | None = None) -> Transcription:
        """
        Args:
            heard: called in the thread with the words that are complete.

        Raises:
            ApiError: 400 if it is not a recording, 413 if it is too long, 429.
        """
        began = time.monotonic()
        waited = 0.0

        def work(stop: Event) -> Transcription:
            nonlocal waited
            waited = time.monotonic() - began
            return self._recognise(stop, heard)

        self._model.users += 1
        result = await self._service.jobs.run(work, self._ended)
        seconds = time.monotonic() - began - waited
        self._model.audio_seconds += result.duration
        self._model.compute_seconds += seconds
        self._service.metrics.recognised(self._model.name, "file", result.duration, seconds)
        return result

    def _ended(self) -> None:
        self._recording.close()
        self._model.give_back()

    def _recognise(self, stop: Event, heard: Callable[[list[Word]], None] | None) -> Transcription:
        limit = self._service.limits.audio_seconds

        def check(seconds: float, words: list[Word]) -> None:
            if stop.is_set():
                raise _Stopped
            if seconds > limit:
                raise _too_long(limit)
            if heard is not None and words:
                heard(words)

        source = reading.Untrusted(cast(BinaryIO, self._recording))
        try:
            if reading.duration(source, limit=limit) > limit:
                raise _too_long(limit)
            return self._recognizer.transcribe(source, self._model.decoder, heard=check)
        except AudioError as error:
            raise ApiError(400, str(error), "invalid_audio", "file") from error


class _Stopped(Exception):  # noqa: N818
    """Raised in a job whose result is no longer needed."""


def _too_long(limit: float) -> ApiError:
    return ApiError(
        413, f"the recording is longer than {limit:g} s: send it in parts", "audio_too_long", "file"
    )


def _too_late(service: Service) -> ApiError:
    seconds = service.limits.total_seconds
    return ApiError(503, f"this took longer than {seconds:g} s: send less at once", "timeout", None, 60)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result, or cancel the work if the client disconnects first.

    Raises ClientDisconnect.
    """
    task, gone = asyncio.create_task(work), asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        for each in (task, gone):
            each.cancel()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _response(result: Transcription, query: Query, separator: str) -> Response:
    if query.response_format == "json":
        body: dict[str, Any] = {"text": result.text, "usage": _usage(result)}
        if query.logprobs:
            body["logprobs"] = _logprobs(result.words, separator, begins=True)
        return JSONResponse(body)
    if query.response_format == "verbose_json":
        return JSONResponse(_verbose(result, query))
    return PlainTextResponse(WRITERS[query.response_format](result, None))


def _logprobs(words: list[Word], separator: str, begins: bool) -> list[dict[str, Any]]:
    """Return OpenAI's list of tokens, which are words here: put together they are the text.

    ``logprob`` is the logarithm of the product of the posteriors of a word's characters, whose geometric mean
    is the confidence.
    """
    tokens = []
    for number, word in enumerate(words):
        token = word.word if begins and number == 0 else separator + word.word
        logprob = len(word.word) * math.log(max(word.confidence, 1e-10))
        tokens.append({"token": token, "logprob": round(logprob, 4), "bytes": list(token.encode())})
    return tokens


def _usage(result: Transcription) -> dict[str, Any]:
    return {"type": "duration", "seconds": math.ceil(result.duration)}


def _verbose(result: Transcription, query: Query) -> dict[str, Any]:
    body: dict[str, Any] = {
        "task": "transcribe",
        "language": query.language or "unknown",
        "duration": round(result.duration, 3),
        "text": result.text,
        "usage": _usage(result),
    }
    if "segment" in query.granularities:
        body["segments"] = [
            _segment(number, segment, result.words) for number, segment in enumerate(result.segments)
        ]
    if "word" in query.granularities:
        body["words"] = [
            {
                "word": word.word,
                "start": round(word.start, 3),
                "end": round(word.end, 3),
                "confidence": round(word.confidence, 4),
            }
            for word in result.words
        ]
    return body


def _segment(number: int, segment: Segment, words: list[Word]) -> dict[str, Any]:
    """Return a segment with all keys of OpenAI's segments.

    ``tokens``, ``seek``, ``temperature`` and ``no_speech_prob`` are specific to Whisper, and empty here.
    """
    inside = [word for word in words if segment.start <= word.start < segment.end]
    logs = [math.log(max(word.confidence, 1e-10)) for word in inside]
    text = segment.text.encode()
    return {
        "id": number,
        "seek": 0,
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "text": segment.text,
        "tokens": [],
        "temperature": 0.0,
        "avg_logprob": round(sum(logs) / max(len(logs), 1), 4),
        "compression_ratio": round(len(text) / max(len(zlib.compress(text)), 1), 3),
        "no_speech_prob": 0.0,
    }


async def _streamed(request: Request, job: _Job, query: Query, deadline: float) -> Response:
    """Send server-sent events. A failure before the first one is an ordinary response."""
    loop = asyncio.get_running_loop()
    heard: asyncio.Queue[list[Word] | None] = asyncio.Queue()  # None: the job has ended

    def from_thread(words: list[Word]) -> None:
        loop.call_soon_threadsafe(heard.put_nowait, words)

    task = asyncio.create_task(job.run(from_thread))
    task.add_done_callback(lambda _: heard.put_nowait(None))
    try:
        first = await _while_connected(request, heard.get())
        if first is None:
            task.result()  # raises the error of the job
    except BaseException:
        task.cancel()
        raise
    return StreamingResponse(
        _events(job, query, deadline, heard, first, task), media_type="text/event-stream"
    )


async def _events(
    job: _Job,
    query: Query,
    deadline: float,
    heard: asyncio.Queue[list[Word] | None],
    words: list[Word] | None,
    task: asyncio.Task[Transcription],
) -> AsyncIterator[str]:
    sent = ""
    try:
        try:
            while words is not None:
                delta = job.separator.join(word.word for word in words)
                delta = job.separator + delta if sent else delta
                event: dict[str, Any] = {"type": "transcript.text.delta", "delta": delta}
                if query.logprobs:
                    event["logprobs"] = _logprobs(words, job.separator, begins=not sent)
                sent += delta
                event["seconds"] = round(words[-1].end, 3) if words else 0.0
                yield _event(event)
                async with asyncio.timeout_at(deadline):
                    words = await heard.get()
            result = task.result()
        except TimeoutError:
            error = ApiError(503, "this took too long: send less at once", "timeout")
            yield _event(error.body)
            return
        except ApiError as error:
            yield _event(error.body)
            return
        if rest := result.text[len(sent) :]:
            until = round(result.duration, 3)
            yield _event({"type": "transcript.text.delta", "delta": rest, "seconds": until})
        done: dict[str, Any] = {"type": "transcript.text.done", "text": result.text, "usage": _usage(result)}
        if query.logprobs:
            done["logprobs"] = _logprobs(result.words, job.separator, begins=True)
        if query.response_format == "verbose_json":
            done = {**_verbose(result, query), **done}
        yield _event(done)
        yield "data: [DONE]\n\n"
    finally:
        task.cancel()


def _event(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
