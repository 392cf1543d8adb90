"""Serve transcription sessions of OpenAI's realtime API, ``/v1/realtime``.

A client appends PCM to a buffer and commits it; a committed buffer is an item, whose transcript is sent.
Items end where the client commits them: there is no turn detection. docs/serve.md lists the events.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import itertools
import math
import uuid
from typing import Any

from starlette.websockets import WebSocket

from littlefoot.server.errors import ApiError, invalid
from littlefoot.server.live import Connection, open_connection
from littlefoot.server.models import Model
from littlefoot.server.service import Service, bearer
from littlefoot.server.utterances import PcmFormat, Utterance

RATE = 24_000
"""Samples per second of OpenAI's sessions."""


async def realtime(websocket: WebSocket) -> None:
    """Serve one session, from its handshake to its end."""
    await open_connection(websocket, lambda connection, service: _Session(connection, service).run())


class _Session:
    """The exchange of events on an open connection."""

    def __init__(self, connection: Connection, service: Service) -> None:
        self._connection, self._service = connection, service
        self._numbers = itertools.count(1)
        self._id = f"sess_{uuid.uuid4().hex}"
        self._model: Model | None = None
        self._language: str | None = None
        self._format = PcmFormat(RATE)
        self._utterance: Utterance | None = None
        self._item, self._before = "", ""  # ids of this item and of the one before
        self._text, self._bytes = "", 0  # of this item

    async def run(self) -> None:
        """Serve the connection. Raises ApiError, WebSocketDisconnect, TimeoutError."""
        self._service.check_key(bearer(self._connection.headers))
        name = self._connection.query.get("model")
        self._model = self._service.models.find(name)
        await self._send("session.created", session=self._described())
        limit = self._service.limits.audio_seconds
        try:
            async with asyncio.timeout(limit):
                await self._listen()
        except TimeoutError:
            raise ApiError(
                413, f"the session is longer than {limit:g} s: open another", "audio_too_long"
            ) from None
        finally:
            self._forget()

    async def _listen(self) -> None:
        while (event := await self._connection.receive()) is not None:
            if isinstance(event, bytes):
                raise ApiError(415, "events are JSON: send audio in input_audio_buffer.append", "no_event")
            try:
                await self._answer(event)
            except ApiError as error:
                if error.status >= 500:
                    raise
                await self._error(error, event)

    async def _answer(self, event: dict[str, Any]) -> None:
        match event["type"]:
            case "session.update":
                self._update(event.get("session"))
                await self._send("session.updated", session=self._described())
            case "input_audio_buffer.append":
                await self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                await self._commit()
            case "input_audio_buffer.clear":
                self._forget()
                await self._send("input_audio_buffer.cleared")
            case other:
                raise ApiError(400, f"there is no event '{other[:50]}' here", "unknown_event", "type")

    def _update(self, session: Any) -> None:
        """Change the settings. Raises ApiError 400 for an unsupported one, and then changes nothing."""
        given = _section({"session": session}, "session")
        if given.get("type", "transcription") != "transcription":
            raise invalid("sessions are of the type transcription", "session.type")
        audio = _section(_section(given, "audio"), "input")
        if audio.get("turn_detection") is not None:
            raise invalid("there is no turn detection: set it to null, and commit", "turn_detection")
        form, transcription = _section(audio, "format"), _section(audio, "transcription")
        rate, model = form.get("rate", self._format.rate), self._model
        if form.get("type", "audio/pcm") != "audio/pcm" or type(rate) is not int:
            raise invalid("format must be audio/pcm, and rate a number", "format")
        if (name := transcription.get("model")) is not None:
            model = self._service.models.find(name if isinstance(name, str) else repr(name))
        pcm = PcmFormat(rate)
        if self._utterance is not None and (pcm, model) != (self._format, self._model):
            raise invalid("commit or clear the buffer before that changes", "session")
        self._format, self._model = pcm, model
        language = transcription.get("language", self._language)
        self._language = language if isinstance(language, str) else None

    async def _append(self, audio: Any) -> None:
        try:
            data = base64.b64decode(audio, validate=True)
        except (TypeError, ValueError, binascii.Error):
            raise invalid("audio must be base64", "audio") from None
        if self._utterance is None:
            assert self._model is not None
            self._utterance = await Utterance.begin(self._service, self._model, self._format)
            self._item, self._text, self._bytes = f"item_{uuid.uuid4().hex}", "", 0
        self._bytes += len(data)
        await self._tell(await self._utterance.feed(data))

    async def _commit(self) -> None:
        if self._utterance is None:
            raise ApiError(400, "the buffer is empty: append audio first", "input_audio_buffer_commit_empty")
        await self._send(
            "input_audio_buffer.committed", item_id=self._item, previous_item_id=self._before or None
        )
        await self._tell(await self._utterance.finish())
        seconds = self._bytes / 2 / self._format.rate
        await self._send(
            "conversation.item.input_audio_transcription.completed",
            item_id=self._item,
            content_index=0,
            transcript=self._text,
            usage={"type": "duration", "seconds": math.ceil(seconds)},
        )
        self._before = self._item
        self._forget()

    async def _tell(self, segments: list[str]) -> None:
        """Send text that does not change any more."""
        assert self._utterance is not None
        for segment in segments:
            delta = self._utterance.separator + segment if self._text else segment
            self._text += delta
            await self._send(
                "conversation.item.input_audio_transcription.delta",
                item_id=self._item,
                content_index=0,
                delta=delta,
            )

    def _forget(self) -> None:
        if self._utterance is not None:
            self._utterance.close()
            self._utterance = None

    async def _error(self, error: ApiError, event: dict[str, Any]) -> None:
        self._forget()  # what follows belongs to a new item
        given = event.get("event_id")
        body = {**error.body["error"], "event_id": given if isinstance(given, str) else None}
        await self._send("error", error=body)

    async def _send(self, kind: str, **content: Any) -> None:
        await self._connection.send(type=kind, event_id=f"event_{next(self._numbers)}", **content)

    def _described(self) -> dict[str, Any]:
        assert self._model is not None
        return {
            "id": self._id,
            "object": "realtime.transcription_session",
            "type": "transcription",
            "audio": {
                "input": {
                    "format": {"type": "audio/pcm", "rate": self._format.rate},
                    "transcription": {"model": self._model.name, "language": self._language},
                    "turn_detection": None,
                }
            },
        }


def _section(of: dict[str, Any], name: str) -> dict[str, Any]:
    found = of.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise invalid(f"{name} must be an object", name)
    return found
