"""Group words into segments: lines of subtitles."""

from collections.abc import Iterator, Sequence

from littlefoot.results import Segment, Word

PAUSE_SECONDS = 0.6
"""A gap between words of this length or more starts a new segment."""
MAX_SECONDS = 10.0
MAX_CHARACTERS = 84
"""Two lines of 42, the usual limit of subtitles."""


def segments(words: Sequence[Word], separator: str = " ") -> list[Segment]:
    """Group words into segments that end at pauses and stay within what can be shown and read at once.

    Args:
        words: in order of time.
        separator: what stands between words in the text (see ``littlefoot.decode.spans.separator``).

    Returns:
        Segments of at most MAX_SECONDS and MAX_CHARACTERS, unless a single word is longer.
    """
    return [
        Segment(group[0].start, group[-1].end, separator.join(word.word for word in group))
        for group in _groups(words, len(separator))
    ]


def _groups(words: Sequence[Word], gap: int) -> Iterator[list[Word]]:
    group: list[Word] = []
    characters = 0
    for word in words:
        if group and (
            word.start - group[-1].end >= PAUSE_SECONDS
            or word.end - group[0].start > MAX_SECONDS
            or characters + gap + len(word.word) > MAX_CHARACTERS
        ):
            yield group
            group = []
        characters = characters + gap + len(word.word) if group else len(word.word)
        group.append(word)
    if group:
        yield group
