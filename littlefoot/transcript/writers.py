"""Write transcriptions as text: one function per format, and ``WRITERS`` to find them by name.

Each takes a transcription, the name of its recording (None if it has none) and the layout of subtitles,
which most formats ignore. It returns the text to print, which ends with a line break unless it is empty.
"""

import json
import re
from collections.abc import Iterable
from pathlib import PurePath
from typing import Protocol

from littlefoot.transcript.results import Transcription, Word
from littlefoot.transcript.subtitles import Layout, cues


class Writer(Protocol):
    """A function that writes a transcription in one format."""

    def __call__(
        self, transcription: Transcription, file: str | None = None, layout: Layout | None = None
    ) -> str: ...


def text(transcription: Transcription, file: str | None = None, layout: Layout | None = None) -> str:
    """Write the bare text on one line; an empty line if there is no speech."""
    return transcription.text + "\n"


def to_json(transcription: Transcription, file: str | None = None, layout: Layout | None = None) -> str:
    """Write a JSON object: file, text, duration, segments and words; times in seconds to the millisecond.

    Words of an alignment contain their characters. If there are alternatives, they follow with their scores.
    The object is on one line, so that several recordings form JSON lines.
    """
    segments = [
        {
            "start": round(segment.start, 3),
            "end": round(segment.end, 3),
            "text": segment.text,
            **({"speaker": segment.speaker} if segment.speaker else {}),
        }
        for segment in transcription.segments
    ]
    words = [
        {
            "word": word.word,
            "start": round(word.start, 3),
            "end": round(word.end, 3),
            "confidence": round(word.confidence, 4),
            **({"speaker": word.speaker} if word.speaker else {}),
            **({"characters": _characters(word)} if transcription.aligned else {}),
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


def srt(transcription: Transcription, file: str | None = None, layout: Layout | None = None) -> str:
    """Write SubRip subtitles: numbered cues; an empty file if there is no speech."""
    return "\n".join(
        f"{number}\n{_time(cue.start, ',')} --> {_time(cue.end, ',')}\n"
        + "".join(f"{line}\n" for line in cue.lines)
        for number, cue in enumerate(cues(transcription, layout, named=True), start=1)
    )


def vtt(transcription: Transcription, file: str | None = None, layout: Layout | None = None) -> str:
    """Write WebVTT subtitles (W3C, section 4); only the header if there is no speech."""
    import html

    return "WEBVTT\n" + "".join(
        f"\n{_time(cue.start, '.')} --> {_time(cue.end, '.')}\n"
        + (f"<v {cue.speaker}>" if cue.speaker else "")
        + "".join(f"{html.escape(line, quote=False)}\n" for line in cue.lines)
        for cue in cues(transcription, layout)
    )


def tsv(transcription: Transcription, file: str | None = None, layout: Layout | None = None) -> str:
    """Write a table of the segments with a header: start and end in milliseconds, text."""
    rows = (
        f"{round(1000 * segment.start)}\t{round(1000 * segment.end)}\t{' '.join(segment.text.split())}\n"
        for segment in transcription.segments
    )
    return "start\tend\ttext\n" + "".join(rows)


def ctm(transcription: Transcription, file: str | None = None, layout: Layout | None = None) -> str:
    """Write NIST's table of words: recording, channel, start and duration in seconds, word, confidence.

    The recording is the file's name without folders and suffix; white space becomes an underscore.
    """
    name = re.sub(r"\s+", "_", PurePath(file).stem if file else "") or "recording"
    rows = []
    for word in transcription.words:
        channel = (word.speaker or "1").replace(" ", "_")
        length = word.end - word.start
        spoken = "_".join(word.word.split())
        rows.append(f"{name} {channel} {word.start:.3f} {length:.3f} {spoken} {word.confidence:.4f}\n")
    return "".join(rows)


def textgrid(transcription: Transcription, file: str | None = None, layout: Layout | None = None) -> str:
    """Write a TextGrid of Praat, in its long form: tiers of segments, words and, if aligned, characters.

    Each speaker has separate tiers. A tier's intervals fill the recording; those without speech are empty.
    What begins before the interval before it has ended begins there.
    """
    tiers: dict[str, list[tuple[float, float, str]]] = {}
    several = any(segment.speaker for segment in transcription.segments)
    for speaker in sorted({segment.speaker or "" for segment in transcription.segments}) or [""]:
        prefix = f"{speaker} " if several else ""
        words = [word for word in transcription.words if (word.speaker or "") == speaker]
        tiers[f"{prefix}segments"] = [
            (segment.start, segment.end, segment.text)
            for segment in transcription.segments
            if (segment.speaker or "") == speaker
        ]
        tiers[f"{prefix}words"] = [(word.start, word.end, word.word) for word in words]
        if transcription.aligned:
            tiers[f"{prefix}characters"] = [
                (start, end, character) for word in words for character, start, end in word.letters
            ]
    end = max([transcription.duration, *(span[1] for spans in tiers.values() for span in spans)])
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0", f"xmax = {end:.6f}"]
    lines += ["tiers? <exists>", f"size = {len(tiers)}", "item []:"]
    for number, (name, spans) in enumerate(tiers.items(), start=1):
        intervals = _filled(spans, end)
        lines += [f"    item [{number}]:", '        class = "IntervalTier"', f'        name = "{name}"']
        lines += ["        xmin = 0", f"        xmax = {end:.6f}"]
        lines += [f"        intervals: size = {len(intervals)}"]
        for place, (start, stop, label) in enumerate(intervals, start=1):
            quoted = label.replace('"', '""')
            lines += [f"        intervals [{place}]:", f"            xmin = {start:.6f}"]
            lines += [f"            xmax = {stop:.6f}", f'            text = "{quoted}"']
    return "\n".join(lines) + "\n"


WRITERS: dict[str, Writer] = {
    "text": text,
    "json": to_json,
    "srt": srt,
    "vtt": vtt,
    "tsv": tsv,
    "ctm": ctm,
    "textgrid": textgrid,
}
"""Writers by the name of their format on the command line."""


def _characters(word: Word) -> list[dict[str, object]]:
    return [
        {"character": character, "start": round(start, 3), "end": round(end, 3)}
        for character, start, end in word.letters
    ]


def _filled(spans: Iterable[tuple[float, float, str]], end: float) -> list[tuple[float, float, str]]:
    """Return intervals without gap or overlap from 0 to ``end``; empty ones are left out."""
    found: list[tuple[float, float, str]] = []
    at = 0.0
    for start, stop, label in sorted(spans, key=lambda span: span[0]):
        if start > at:
            found.append((at, start, ""))
        if (start := max(start, at)) < stop:
            found.append((start, stop, label))
        at = max(at, stop)
    return [*found, (at, end, "")] if at < end else found


def _time(seconds: float, point: str) -> str:
    """Format a time as HH:MM:SS and milliseconds, rounded; hours may have more than two digits."""
    rest, milliseconds = divmod(round(seconds * 1000), 1000)
    rest, second = divmod(rest, 60)
    hour, minute = divmod(rest, 60)
    return f"{hour:02}:{minute:02}:{second:02}{point}{milliseconds:03}"
