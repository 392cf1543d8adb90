"""Transcriptions as text: one function per format, and ``WRITERS`` to find them by name.

Each takes a transcription and the name of its recording (None where it has none) and returns what to
print, ended by a line break unless it is empty.
"""

import html
import json
from collections.abc import Callable

from littlefoot.results import Transcription


def text(transcription: Transcription, file: str | None = None) -> str:
    """The bare text on one line; an empty line if nothing was said."""
    return transcription.text + "\n"


def to_json(transcription: Transcription, file: str | None = None) -> str:
    """One JSON object: file, text, duration, segments and words; times in seconds to the millisecond.

    And alternatives, where there are some, with their scores.
    It stands on one line, so that several recordings make JSON lines.
    """
    segments = [
        {"start": round(segment.start, 3), "end": round(segment.end, 3), "text": segment.text}
        for segment in transcription.segments
    ]
    words = [
        {
            "word": word.word,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence, 4),
        }
        for word in transcription.words
    ]
    record = {
        "file": file,
        "text": transcription.text,
        "duration": round(transcription.duration, 3),
        "segments": segments,
        "words": words,
    }
    if transcription.alternatives:
        record["alternatives"] = [
            {"text": each.text, "score": round(each.score, 4)} for each in transcription.alternatives
        ]
    return json.dumps(record, ensure_ascii=False) + "\n"


def srt(transcription: Transcription, file: str | None = None) -> str:
    """SubRip subtitles: numbered cues; an empty file if nothing was said."""
    return "\n".join(
        f"{number}\n{_time(segment.start, ',')} --> {_time(segment.end, ',')}\n{segment.text}\n"
        for number, segment in enumerate(transcription.segments, start=1)
    )


def vtt(transcription: Transcription, file: str | None = None) -> str:
    """WebVTT subtitles (W3C, section 4); only the header if nothing was said."""
    cues = (
        f"\n{_time(segment.start, '.')} --> {_time(segment.end, '.')}\n"
        f"{html.escape(segment.text, quote=False)}\n"
        for segment in transcription.segments
    )
    return "WEBVTT\n" + "".join(cues)


WRITERS: dict[str, Callable[[Transcription, str | None], str]] = {
    "text": text,
    "json": to_json,
    "srt": srt,
    "vtt": vtt,
}
"""Format name, as on the command line, to writer."""


def _time(seconds: float, point: str) -> str:
    """HH:MM:SS and milliseconds, rounded; hours grow beyond two digits."""
    rest, milliseconds = divmod(round(seconds * 1000), 1000)
    rest, second = divmod(rest, 60)
    hour, minute = divmod(rest, 60)
    return f"{hour:02}:{minute:02}:{second:02}{point}{milliseconds:03}"
