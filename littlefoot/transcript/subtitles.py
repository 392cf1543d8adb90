"""Divide a transcription into the cues of subtitles, for SRT and WebVTT."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from littlefoot.errors import ConfigError
from littlefoot.transcript.results import Transcription, Word
from littlefoot.transcript.segments import Limits, groups, wrap


@dataclass(frozen=True)
class Layout:
    """Limits on a cue. The defaults are those usual with broadcasters and streaming services."""

    line_characters: int = 42
    lines: int = 2
    seconds: float = 7.0
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


def cues(transcription: Transcription, layout: Layout | None = None) -> list[Cue]:
    """Divide a transcription into cues at pauses and between words; lines of a cue are about equally long.

    Cues do not overlap. A word that is longer than a line has a line of its own; a word that takes longer
    than ``layout.seconds`` is shown for its whole duration. If the transcription has no word times, the words of a
    segment divide its time in proportion to their characters.
    """
    layout = layout or Layout()
    separator = " " if " " in transcription.text or len(transcription.words) <= 1 else ""
    words = transcription.words or _words(transcription)
    limits = Limits(layout.line_characters, layout.lines, layout.seconds, layout.pause)
    found = [
        Cue(group[0].start, group[-1].end, _lines([word.word for word in group], separator, layout))
        for group in groups(words, separator, limits)
    ]
    ends = [cue.start for cue in found[1:]] + [max(transcription.duration, cue.end) for cue in found[-1:]]
    return [
        cue._replace(end=max(cue.start, min(max(cue.end, cue.start + layout.least_seconds), end)))
        for cue, end in zip(found, ends, strict=True)
    ]


def _lines(words: Sequence[str], separator: str, layout: Layout) -> list[str]:
    """Wrap words into as few lines as possible, and make the longest as short as possible."""
    lines = wrap(words, separator, layout.line_characters)
    if len(lines) == 1:
        return lines
    width = max(map(len, lines))
    while (
        len(narrower := wrap(words, separator, width - 1)) == len(lines) and max(map(len, narrower)) < width
    ):
        lines, width = narrower, max(map(len, narrower))
    return lines


def _words(transcription: Transcription) -> list[Word]:
    words = []
    for segment in transcription.segments:
        texts = segment.text.split()
        total = sum(len(text) + 1 for text in texts)
        at = 0
        for text in texts:
            begin, at = at, at + len(text) + 1
            start, end = (
                segment.start + (segment.end - segment.start) * part / total for part in (begin, at)
            )
            words.append(Word(text, start, end, 0.0))
    return words
