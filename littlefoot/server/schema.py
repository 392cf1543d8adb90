"""Describe the transcription request for ``/openapi.json``, because its form is read by own code."""

from typing import Any

from littlefoot.server.transcriptions import FORMATS, GRANULARITIES

_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
            },
        }
    },
}
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": description, "content": {"application/json": {"schema": _ERROR}}}
    for status, description in (("4XX", "The request is refused."), ("5XX", "The server cannot answer now."))
}
"""Refusals of every path of the API."""

ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "As response_format and stream ask for.",
        "content": {"application/json": {}, "text/plain": {}, "text/event-stream": {}},
    },
    **REFUSALS,
}

TRANSCRIPTION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "The recording."},
                        "model": {
                            "type": "string",
                            "description": "A name of /v1/models; the first without.",
                        },
                        "response_format": {"type": "string", "enum": list(FORMATS), "default": "json"},
                        "timestamp_granularities[]": {
                            "type": "array",
                            "items": {"type": "string", "enum": list(GRANULARITIES)},
                            "description": "With verbose_json.",
                        },
                        "include[]": {
                            "type": "array",
                            "items": {"type": "string", "enum": ["logprobs"]},
                            "description": "With json.",
                        },
                        "stream": {"type": "boolean", "default": False},
                        "language": {"type": "string", "description": "Repeated in the answer."},
                        "prompt": {"type": "string", "description": "Accepted, and without effect."},
                        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
                    },
                }
            }
        },
    }
}
