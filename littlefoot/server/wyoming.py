"""Serve the Wyoming protocol, by which Home Assistant and its satellites ask for transcripts.

An event is a line of JSON, then data and a payload of the lengths that the line states
(https://github.com/OHF-Voice/wyoming). The events are those of the package ``wyoming``; they are read here,
because the package's reader keeps whatever length a client states.

The protocol has no keys. Its first line is JSON, so that a page which makes a browser send a request here is
refused at its first byte.
"""

from __future__ import annotations

import asyncio
import json
import logging
from contextlib import suppress
from typing import Any

from wyoming.asr import Transcribe, Transcript, TranscriptChunk, TranscriptStart, TranscriptStop
from wyoming.audio import AudioChunk, AudioStart, AudioStop
from wyoming.error import Error
from wyoming.event import Event, async_write_event
from wyoming.info import AsrModel, AsrProgram, Attribution, Describe, Info
from wyoming.ping import Ping, Pong

from littlefoot import __version__
from littlefoot.server.errors import ApiError, invalid
from littlefoot.server.live import MESSAGE_BYTES
from littlefoot.server.models import Model
from littlefoot.server.service import Service
from littlefoot.server.utterances import PcmFormat, Utterance

log = logging.getLogger("littlefoot.server")

LINE_BYTES = 65_536
"""Bytes of the longest line, and of the longest data behind it."""


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service: Service) -> None:
    """Serve one connection, which counts as a live stream, to its end."""
    door = _Door(reader, writer, service)
    try:
        with service.stream():
            await door.run()
    except ApiError as error:
        await door.refuse(error)
    except (ConnectionError, TimeoutError, asyncio.IncompleteReadError):
        pass  # the client is gone, or does not read
    except Exception:
        log.exception("a Wyoming connection failed")
        await door.refuse(ApiError(500, "the server failed: see its log", "server_error"))
    finally:
        writer.close()


class _Door:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, service: Service) -> None:
        self._reader, self._writer, self._service = reader, writer, service
        self._idle = service.limits.idle_seconds
        self._wanted = Transcribe()
        self._utterance: Utterance | None = None
        self._segments: list[str] = []

    async def run(self) -> None:
        """Answer events until the client ends or the server stops. Raises ApiError and errors of sockets."""
        try:
            async with asyncio.timeout(self._service.limits.audio_seconds):
                while (event := await self._next()) is not None:
                    await self._answer(event)
        finally:
            self._forget()

    async def refuse(self, error: ApiError) -> None:
        """Send the reason."""
        with suppress(ConnectionError, TimeoutError):
            await self._send(Error(error.message, error.code).event())

    async def _next(self) -> Event | None:
        """Receive an event; None at the end. Raises ApiError, also when the server stops."""
        event = await self._service.received(_read(self._reader))
        if event is None and self._service.ending.is_set():
            raise ApiError(503, "the server stops: try again later", "stopping")
        return event

    async def _answer(self, event: Event) -> None:
        if Describe.is_type(event.type):
            await self._send(self._info().event())
        elif Ping.is_type(event.type):
            await self._send(Pong(text=_text(event.data.get("text"))).event())
        elif Transcribe.is_type(event.type):
            self._wanted = Transcribe(_text(event.data.get("name")), _text(event.data.get("language")))
            self._service.models.find(self._wanted.name)  # a wrong name is refused before the audio
        elif AudioStart.is_type(event.type):
            await self._begin(event)
        elif AudioChunk.is_type(event.type):
            await self._hear(event)
        elif AudioStop.is_type(event.type):
            await self._end()
        # The protocol asks programs to skip events that they do not have.

    async def _begin(self, event: Event) -> None:
        self._forget()
        model = self._service.models.find(self._wanted.name)
        self._utterance = await Utterance.begin(self._service, model, _format(event))
        self._segments = []
        if self._utterance.live:
            await self._send(TranscriptStart(language=self._wanted.language).event())

    async def _hear(self, event: Event) -> None:
        if self._utterance is None:  # satellites may leave the start out
            await self._begin(event)
        assert self._utterance is not None
        if _format(event) != self._utterance.format:
            raise invalid("an audio-chunk has another format than its audio-start")
        await self._tell(await self._utterance.feed(event.payload or b""))

    async def _end(self) -> None:
        if self._utterance is None:
            raise ApiError(400, "audio-stop came before any audio", "invalid_message")
        live, last = self._utterance.live, await self._utterance.finish()
        await self._tell(last)
        text = self._utterance.separator.join(self._segments)
        await self._send(Transcript(text, language=self._wanted.language).event())
        if live:
            await self._send(TranscriptStop().event())
        self._forget()

    async def _tell(self, segments: list[str]) -> None:
        """Send segments that do not change any more; a live client puts their chunks together."""
        assert self._utterance is not None
        for segment in segments:
            between = self._utterance.separator if self._segments else ""
            self._segments.append(segment)
            if self._utterance.live:
                await self._send(TranscriptChunk(between + segment).event())

    def _forget(self) -> None:
        if self._utterance is not None:
            self._utterance.close()
            self._utterance = None

    async def _send(self, event: Event) -> None:
        """Raises TimeoutError where the client does not read."""
        await asyncio.wait_for(async_write_event(event, self._writer), self._idle)

    def _info(self) -> Info:
        credit = Attribution("littlefoot", "")
        models = [_described(model, self._service.languages, credit) for model in self._service.models.all()]
        return Info(
            asr=[
                AsrProgram(
                    name="littlefoot",
                    attribution=credit,
                    installed=True,
                    description="Small wav2vec 2.0-family speech recognisers",
                    version=__version__,
                    models=models,
                    supports_transcript_streaming=any(model.streams for model in self._service.models.all()),
                )
            ]
        )


def _described(model: Model, languages: tuple[str, ...], credit: Attribution) -> AsrModel:
    return AsrModel(
        name=model.name,
        attribution=credit,
        installed=True,
        description=f"{model.bytes / 1e6:.1f} MB",
        version=None,
        languages=list(languages),
    )


async def _read(reader: asyncio.StreamReader) -> Event | None:
    """Read one event; None at the end of the connection.

    Raises ApiError for one that is malformed or too large, IncompleteReadError for one that is cut off.
    """
    try:
        line = await reader.readline()
    except ValueError:
        raise _malformed(f"its line is longer than {LINE_BYTES} bytes") from None
    if not line:
        return None
    head = _parsed(line)
    kind = head.get("type")
    if not isinstance(kind, str):
        raise _malformed("it has no type")
    data = head.get("data") or {}
    if length := _length(head, "data_length", LINE_BYTES):
        data = {**data, **_parsed(await reader.readexactly(length))} if isinstance(data, dict) else None
    if not isinstance(data, dict):
        raise _malformed("its data is not a JSON object")
    payload = None
    if length := _length(head, "payload_length", MESSAGE_BYTES):
        payload = await reader.readexactly(length)
    return Event(kind, data, payload)


def _parsed(text: bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise _malformed("it is not a JSON object")
    return content


def _length(head: dict[str, Any], name: str, most: int) -> int:
    length = head.get(name) or 0
    if type(length) is not int or not 0 <= length <= most:
        raise _malformed(f"its {name} must be 0 to {most}")
    return length


def _malformed(reason: str) -> ApiError:
    return ApiError(400, f"this is not an event of the Wyoming protocol: {reason}", "invalid_message")


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _format(event: Event) -> PcmFormat:
    values = [event.data.get(name) for name in ("rate", "width", "channels")]
    numbers = [value for value in values if type(value) is int]
    if len(numbers) < 3:
        raise invalid(f"{event.type} needs rate, width and channels, whole numbers")
    return PcmFormat(*numbers)
