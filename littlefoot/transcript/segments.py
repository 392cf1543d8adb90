"""Group words into segments: what is said in one go, and can be shown and read at once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from littlefoot.transcript.results import Segment, Word


@dataclass(frozen=True)
class Limits:
    """Where a group of words must end."""

    characters: int = 84
    """In a line of its text."""
    lines: int = 1
    seconds: float = 10.0
    """From the beginning of its first word to the end of its last."""
    pause: float = 0.6
    """A gap between words of so many seconds or more."""


def segments(words: Sequence[Word], separator: str = " ", limits: Limits | None = None) -> list[Segment]:
    """Group words into segments that end at pauses and stay within limits.

    Args:
        words: in order of time.
        separator: what stands between words in the text (see ``littlefoot.decode.spans.separator``).
        limits: the defaults where None.

    Returns:
        Segments within the limits, unless a single word is longer.
    """
    return [
        Segment(group[0].start, group[-1].end, separator.join(word.word for word in group))
        for group in groups(words, separator, limits or Limits())
    ]


def groups(words: Sequence[Word], separator: str, limits: Limits) -> Iterator[list[Word]]:
    """The words of each segment. A group that becomes too long ends at the longest gap in its second half."""
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
    """Lines of at most so many characters, unless a single word is longer; each as long as it can be."""
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
    """How many words come before the longest gap, the last of equal ones; half of the words at least."""
    starts = [*(word.start for word in group[1:]), following.start]
    gaps = [start - word.end for word, start in zip(group, starts, strict=True)]
    half = (len(group) - 1) // 2
    return max(range(half, len(group)), key=lambda i: (round(gaps[i], 2), i)) + 1
