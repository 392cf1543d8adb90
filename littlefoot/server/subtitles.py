"""Write the subtitles of segments that a client sends, by the rules of all other subtitles."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel, Field, ValidationError
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from littlefoot.server.errors import ApiError, invalid
from littlefoot.transcript.results import Segment, Transcription, Word
from littlefoot.transcript.subtitles import sharing
from littlefoot.transcript.writers import WRITERS

FORMATS = ("srt", "vtt")
_MOST_BYTES = 10_000_000


class _Timed(BaseModel):
    start: float = Field(ge=0, le=1e6)
    end: float = Field(ge=0, le=1e6)
    text: str


class _Segment(_Timed):
    words: list[_Timed] = []


class _Wanted(BaseModel):
    segments: list[_Segment]
    duration: float = Field(0.0, ge=0, le=1e6)
    format: str = "srt"


async def subtitles(request: Request) -> Response:
    """Write SRT or WebVTT for segments. If they have words, the words' times make it more exact.

    The body is ``{"segments": [{"start", "end", "text", "words"}], "format"}``.

    Raises ApiError: 400 for another body, 408 for one that stalls, 413 for more than 10 MB.
    """
    try:
        async with asyncio.timeout(request.app.state.service.limits.idle_seconds):
            body = await _body(request)
    except TimeoutError:
        raise ApiError(408, "the segments did not come in time: send them again", "upload_timeout") from None
    try:
        wanted = _Wanted.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the body"
        raise ApiError(400, f"{place}: {first['msg']}", "invalid_value", place) from error
    if wanted.format not in FORMATS:
        raise invalid(f"format must be one of {', '.join(FORMATS)}", "format")
    return PlainTextResponse(await asyncio.to_thread(_written, wanted))


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > _MOST_BYTES:
            raise ApiError(413, "segments of more than 10 MB: send them in parts", "too_large", "segments")
    return bytes(body)


def _written(wanted: _Wanted) -> str:
    segments = [Segment(each.start, each.end, each.text) for each in wanted.segments]
    words: list[Word] = []
    for given, segment in zip(wanted.segments, segments, strict=True):
        own = [Word(word.text, word.start, word.end, 1.0) for word in given.words if word.text]
        words += own or sharing(segment)
    text = " ".join(segment.text for segment in segments)
    duration = max([wanted.duration, *(segment.end for segment in segments)])
    return WRITERS[wanted.format](Transcription(text, segments, words, duration), None)
