"""What ``/openapi.json`` says of the transcription request, whose form is read by hand."""

from typing import Any

from littlefoot.server.transcriptions import FORMATS, GRANULARITIES

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
