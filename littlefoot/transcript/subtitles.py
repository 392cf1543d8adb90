"""Divide a transcription into the cues of subtitles, for SRT and WebVTT."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from littlefoot.errors import ConfigError
from littlefoot.transcript.results import Segment, Transcription, Word
from littlefoot.transcript.segments import (
    CUE_SECONDS,
    LINE_CHARACTERS,
    Limits,
    Piece,
    groups,
    pieces,
    width,
    wrap,
)


@dataclass(frozen=True)
class Layout:
    """Limits on a cue. The defaults are those usual with broadcasters and streaming services."""

    line_characters: int = LINE_CHARACTERS
    """Longest line in characters; wide ones count double."""
    lines: int = 2
    seconds: float = CUE_SECONDS
    """Longest time that a cue is shown."""
    least_seconds: float = 1.0
    """Shortest time that a cue is shown, unless the next one begins earlier."""
    pause: float = 0.6
    """Shortest gap between words that ends a cue, in seconds."""

    def __post_init__(self) -> None:
        if self.line_characters < 1 or self.lines < 1 or not self.seconds > 0:
            raise ConfigError(
                f"subtitles of {self.lines} lines of {self.line_characters} characters for {self.seconds} s "
                "are impossible: all must be positive"
            )


class Cue(NamedTuple):
    """Lines that are shown together from ``start`` to ``end``, in seconds."""

    start: float
    end: float
    lines: list[str]
    speaker: str | None = None


def cues(transcription: Transcription, layout: Layout | None = None, named: bool = False) -> list[Cue]:
    """Divide a transcription into cues at pauses and between words; lines of a cue are about equally long.

    Cues of the same speaker do not overlap. A word that is longer than a line or a cue is cut at its
    characters. If the transcription has no word times, the words of a segment divide its time in proportion
    to their characters. With ``named`` each cue begins with its speaker, if there is one.
    """
    layout = layout or Layout()
    words = transcription.words or [word for segment in transcription.segments for word in sharing(segment)]
    speakers = sorted({word.speaker for word in words if word.speaker is not None})
    if not speakers:
        return _cues(words, transcription.text, transcription.duration, layout)
    found: list[Cue] = []
    for speaker in speakers:
        name = f"{speaker}: " if named else ""
        own = replace(layout, line_characters=max(1, layout.line_characters - len(name)))
        spoken = [word for word in words if word.speaker == speaker]
        found += [
            cue._replace(lines=[name + cue.lines[0], *cue.lines[1:]], speaker=speaker)
            for cue in _cues(spoken, None, transcription.duration, own)
        ]
    return sorted(found, key=lambda cue: cue.start)


def _cues(words: Sequence[Word], text: str | None, duration: float, layout: Layout) -> list[Cue]:
    """Return the cues of one speaker. ``text`` provides the text between words; if None, spaces."""
    limits = Limits(layout.line_characters, layout.lines, layout.seconds, layout.pause)
    found = [
        Cue(group[0].start, group[-1].end, _lines(group, layout))
        for group in groups(pieces(words, " ", limits, text), limits)
    ]
    ends = [cue.start for cue in found[1:]] + [max(duration, cue.end) for cue in found[-1:]]
    longest = max(layout.seconds, layout.least_seconds)
    return [
        cue._replace(
            end=max(cue.start, min(max(cue.end, cue.start + layout.least_seconds), end, cue.start + longest))
        )
        for cue, end in zip(found, ends, strict=True)
    ]


def _lines(words: Sequence[Piece], layout: Layout) -> list[str]:
    """Wrap words into as few lines as possible, and make the longest as short as possible."""
    lines = wrap(words, layout.line_characters)
    if len(lines) == 1:
        return lines
    longest = max(map(width, lines))
    while len(narrower := wrap(words, longest - 1)) == len(lines) and max(map(width, narrower)) < longest:
        lines, longest = narrower, max(map(width, narrower))
    return lines


def sharing(segment: Segment) -> list[Word]:
    """Return the words of a segment, which divide its time in proportion to their characters."""
    words = []
    texts = segment.text.split()
    total = sum(len(text) + 1 for text in texts)
    at = 0
    for text in texts:
        begin, at = at, at + len(text) + 1
        start, end = (segment.start + (segment.end - segment.start) * part / total for part in (begin, at))
        words.append(Word(text, start, end, 0.0, segment.speaker))
    return words
