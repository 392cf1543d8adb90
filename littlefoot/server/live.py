"""Serve live speech, ``/v1/live``: PCM in and text out, over a WebSocket. docs/serve.md has the protocol."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from littlefoot.audio import SAMPLE_RATE, formats, pcm
from littlefoot.runtime.stream import Partial, Stream
from littlefoot.server.errors import ApiError, invalid
from littlefoot.server.models import Model
from littlefoot.server.service import Service, bearer, is_unicode

MESSAGE_BYTES = 1_000_000
"""Bytes of the longest message, 31 s of audio."""

_PIECE_BYTES = 2 * SAMPLE_RATE // 2
"""Half a second of audio, after which the next stream has its turn."""

# RFC 6455, section 7.4.1, and IANA's registry
_GOING_AWAY, _UNSUPPORTED, _INVALID, _POLICY, _INTERNAL, _LATER = 1001, 1003, 1007, 1008, 1011, 1013
_CODES = {
    400: _INVALID,
    401: _POLICY,
    404: _POLICY,
    408: _POLICY,
    413: _POLICY,
    415: _UNSUPPORTED,
    429: _LATER,
}


async def live(websocket: WebSocket) -> None:
    """Serve one live stream, from its handshake to its end."""
    await open_connection(websocket, lambda connection, service: _Session(connection, service).run())


async def open_connection(
    websocket: WebSocket, serve: Callable[[Connection, Service], Awaitable[None]]
) -> None:
    """Accept a WebSocket as a live stream, serve it, and close it; what is refused gets the reason."""
    service: Service = websocket.app.state.service
    try:
        service.check_origin(websocket.headers)
    except ApiError as error:
        await websocket.send_denial_response(error.response())
        return
    await websocket.accept()
    connection = Connection(websocket, service)
    try:
        with service.stream():
            await serve(connection, service)
        await connection.close(_GOING_AWAY if service.ending.is_set() else 1000)
    except ApiError as error:
        await connection.refuse(error)
    except (WebSocketDisconnect, TimeoutError):
        pass  # the client is gone, or does not read
    except Exception:
        await connection.refuse(ApiError(500, "the server failed: see its log", "server_error"))
        raise


class Connection:
    """A connection whose messages have time limits in both directions."""

    def __init__(self, websocket: WebSocket, service: Service) -> None:
        self._websocket, self._idle = websocket, service.limits.idle_seconds
        self._received = service.received
        self.headers, self.query = websocket.headers, websocket.query_params

    async def receive(self) -> dict[str, Any] | bytes | None:
        """Receive JSON or bytes; None when the server stops. Raises ApiError, WebSocketDisconnect."""
        message = await self._received(self._websocket.receive())
        return None if message is None else _parsed(message)

    async def send(self, **content: Any) -> None:
        """Send a JSON message. Raises TimeoutError, WebSocketDisconnect."""
        text = json.dumps(content, ensure_ascii=False)
        await asyncio.wait_for(self._websocket.send_text(text), self._idle)

    async def refuse(self, error: ApiError) -> None:
        """Send the reason, and close."""
        try:
            await self.send(type="error", **error.body)
            await self.close(_CODES.get(error.status, _INTERNAL), error.code)
        except (WebSocketDisconnect, TimeoutError):
            pass

    async def close(self, code: int, reason: str = "") -> None:
        await asyncio.wait_for(self._websocket.close(code, reason), self._idle)


def _parsed(message: Any) -> dict[str, Any] | bytes:
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    if (data := message.get("bytes")) is not None:
        return bytes(data)
    try:
        content = json.loads(message["text"])
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict) or not isinstance(content.get("type"), str):
        raise ApiError(400, "a text message must be a JSON object with a type", "invalid_message")
    if not is_unicode(json.dumps(content, ensure_ascii=False)):
        raise ApiError(400, "a text message must be Unicode: it has half a character", "invalid_message")
    return content


class _Session:
    """The exchange of messages on an open connection."""

    def __init__(self, connection: Connection, service: Service) -> None:
        self._connection, self._service = connection, service
        self._received = 0  # bytes
        self._text = ""  # text of the last partial message

    async def run(self) -> None:
        """Serve the connection. Raises ApiError, WebSocketDisconnect, TimeoutError."""
        model, stream = await self._start()
        with model.in_use():
            try:
                async with asyncio.timeout(self._service.limits.audio_seconds):
                    await self._listen(model, stream)
            except TimeoutError:
                raise self._too_long() from None
            await self._tell(await self._compute(model, stream.finish))
        await self._connection.send(type="done", duration=round(self._seconds, 3))

    async def _start(self) -> tuple[Model, Stream]:
        message = await self._connection.receive()
        if not isinstance(message, dict) or message["type"] != "start":
            if message is None:
                raise ApiError(503, "the server stops", "stopping")
            raise ApiError(415, 'the first message must be {"type": "start"}', "no_start")
        key = message.get("api_key")
        self._service.check_key(key if isinstance(key, str) else bearer(self._connection.headers))
        if message.get("rate", SAMPLE_RATE) != SAMPLE_RATE:
            raise invalid(f"rate must be {SAMPLE_RATE}: resample the audio first", "rate")
        name = message.get("model")
        if name is not None and not isinstance(name, str):
            raise invalid("model must be a name", "model")
        model = self._service.models.find(name)
        recognizer = await self._service.models.ready(model)
        stream = recognizer.stream(decoder=model.decoder)
        await self._connection.send(
            type="ready",
            model=model.name,
            rate=SAMPLE_RATE,
            streams=model.streams,
            latency_ms=round(1000 * stream.latency_seconds, 1),
        )
        return model, stream

    async def _listen(self, model: Model, stream: Stream) -> None:
        left = b""
        while True:
            message = await self._connection.receive()
            if message is None:
                return
            if isinstance(message, dict):
                if message["type"] == "stop":
                    return
                raise ApiError(400, "after start, send PCM or stop", "invalid_message", "type")
            if not self._received and formats.is_file(message):
                raise ApiError(
                    415, "this is a file, not raw PCM: send 16-bit little-endian samples", "no_pcm"
                )
            self._received += len(message)
            if self._seconds > self._service.limits.audio_seconds:
                raise self._too_long()
            data = left + message
            whole = len(data) // 2 * 2
            left = data[whole:]
            for begin in range(0, whole, _PIECE_BYTES):
                samples = pcm.from_bytes(data[begin : min(begin + _PIECE_BYTES, whole)])
                await self._tell(await self._compute(model, stream.feed, samples))

    @property
    def _seconds(self) -> float:
        return self._received / 2 / SAMPLE_RATE

    def _too_long(self) -> ApiError:
        limit = self._service.limits.audio_seconds
        return ApiError(413, f"the stream is longer than {limit:g} s: open another", "audio_too_long")

    async def _compute(self, model: Model, function: Any, *samples: Any) -> Partial:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        partial: Partial = await loop.run_in_executor(self._service.live_threads, function, *samples)
        seconds = sum(map(len, samples)) / SAMPLE_RATE
        self._service.metrics.recognised(model.name, "live", seconds, time.monotonic() - began)
        return partial

    async def _tell(self, partial: Partial) -> None:
        audio = round(self._seconds, 3)
        for segment in partial.final:
            start, end = round(segment.start, 3), round(segment.end, 3)
            await self._connection.send(type="final", start=start, end=end, text=segment.text, audio=audio)
        if partial.text != self._text or partial.final:
            self._text = partial.text
            await self._connection.send(type="partial", text=partial.text, audio=audio)
