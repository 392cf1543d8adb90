"""Group words into segments, which end at pauses and are short enough to be read at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from littlefoot.transcript.results import Segment, Word


@dataclass(frozen=True)
class Limits:
    """Limits on a group of words."""

    characters: int = 84
    """Longest line of the text, in characters."""
    lines: int = 1
    seconds: float = 10.0
    """Longest time from the beginning of the first word to the end of the last."""
    pause: float = 0.6
    """Shortest gap between words that ends a group, in seconds."""


def segments(words: Sequence[Word], separator: str = " ", limits: Limits | None = None) -> list[Segment]:
    """Group words into segments that end at pauses and stay within limits.

    Args:
        words: in order of time.
        separator: text between words (see ``littlefoot.decode.spans.separator``).
        limits: the defaults if None.

    Returns:
        Segments within the limits, unless a single word is longer.
    """
    return [
        Segment(group[0].start, group[-1].end, separator.join(word.word for word in group))
        for group in groups(words, separator, limits or Limits())
    ]


def groups(words: Sequence[Word], separator: str, limits: Limits) -> Iterator[list[Word]]:
    """Yield the words of each segment. One that gets too long ends at the longest gap in its second half."""
    group: list[Word] = []
    for word in words:
        if group and word.start - group[-1].end >= limits.pause:
            yield group
            group = []
        while group and not _fits([*group, word], separator, limits):
            end = _gap(group, word)
            yield group[:end]
            group = group[end:]
        group.append(word)
    if group:
        yield group


def wrap(words: Sequence[str], separator: str, characters: int) -> list[str]:
    """Fill lines with at most ``characters`` characters each, unless a single word is longer."""
    lines: list[str] = []
    for word in words:
        if lines and len(lines[-1]) + len(separator) + len(word) <= characters:
            lines[-1] += separator + word
        else:
            lines.append(word)
    return lines


def _fits(group: Sequence[Word], separator: str, limits: Limits) -> bool:
    if group[-1].end - group[0].start > limits.seconds:
        return False
    return len(wrap([word.word for word in group], separator, limits.characters)) <= limits.lines


def _gap(group: Sequence[Word], following: Word) -> int:
    """Return the number of words before the longest gap in the second half; of equal gaps the last."""
    starts = [*(word.start for word in group[1:]), following.start]
    gaps = [start - word.end for word, start in zip(group, starts, strict=True)]
    half = (len(group) - 1) // 2
    return max(range(half, len(group)), key=lambda i: (round(gaps[i], 2), i)) + 1
