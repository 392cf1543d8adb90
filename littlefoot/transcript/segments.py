"""Group words into segments: what is said in one go, and can be shown and read at once.

Scripts without spaces have words, or what stands between two pauses, that are longer than a line: those are
cut at characters. Wide characters (Chinese, Japanese, Korean) count double, as they are shown.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from littlefoot.transcript.results import Segment, Word

LINE_CHARACTERS, CUE_SECONDS = 42, 7.0
"""What is shown at once by default (``littlefoot.transcript.subtitles``)."""


@dataclass(frozen=True)
class Limits:
    """Where a group of words must end."""

    characters: int = 84
    """In a line of its text; wide ones count double."""
    lines: int = 1
    seconds: float = 10.0
    """From the beginning of its first word to the end of its last."""
    pause: float = 0.6
    """A gap between words of so many seconds or more."""


class Piece(NamedTuple):
    """A word, or a character of a long one."""

    text: str
    start: float
    end: float
    before: str
    """What stands between it and the one before."""


def segments(
    words: Sequence[Word], separator: str = " ", limits: Limits | None = None, text: str | None = None
) -> list[Segment]:
    """Group words into segments that end at pauses and stay within limits.

    Args:
        words: in order of time.
        separator: what stands between words in the text (see ``Vocabulary.separator``).
        limits: the defaults where None.
        text: that the words make up, where it has not the separator between all of them.

    Returns:
        Segments within the limits.
    """
    limits = limits or Limits()
    found = pieces(words, separator, limits, text)
    return [
        Segment(group[0].start, group[-1].end, joined(group), speaker=words[0].speaker)
        for group in groups(found, limits)
    ]


def cut(words: Sequence[Word]) -> list[Word]:
    """The words, but characters in the place of those that are longer than a line or a cue."""
    found: list[Word] = []
    for word in words:
        if word.letters and (width(word.word) > LINE_CHARACTERS or word.end - word.start > CUE_SECONDS):
            found += [
                replace(word, word=text, start=start, end=end, letters=())
                for text, start, end in word.letters
            ]
        else:
            found.append(word)
    return found


def width(text: str) -> int:
    """Columns that a text takes: wide characters two, marks on other characters none."""
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(character) in ("W", "F")
        else 1
        for character in text
    )


def pieces(words: Sequence[Word], separator: str, limits: Limits, text: str | None = None) -> list[Piece]:
    """The words with what stands before each; those beyond the limits cut at characters.

    ``text``: that they make up; None: they stand with the separator between them.
    """
    found: list[Piece] = []
    at = 0
    for word in words:
        before = separator
        if text is not None and (place := text.find(word.word, at)) >= 0:
            if not text[at:place].strip():
                before = text[at:place]
            at = place + len(word.word)
        if width(word.word) > limits.characters or word.end - word.start > limits.seconds:
            found += _characters(word, before)
        else:
            found.append(Piece(word.word, word.start, word.end, before))
    return found


def _characters(word: Word, before: str) -> Iterator[Piece]:
    """The characters of a word, with the marks on them; without times of their own they share the word's."""
    letters: Sequence[tuple[str, float, float]] = word.letters
    if not letters:
        texts: list[str] = []
        for character in word.word:
            if texts and unicodedata.category(character).startswith("M"):
                texts[-1] += character
            else:
                texts.append(character)
        each = (word.end - word.start) / len(texts)
        letters = [
            (text, word.start + each * place, word.start + each * (place + 1))
            for place, text in enumerate(texts)
        ]
    for place, (text, start, end) in enumerate(letters):
        yield Piece(text, start, end, "" if place else before)


def joined(group: Sequence[Piece]) -> str:
    """The text of pieces."""
    return group[0].text + "".join(piece.before + piece.text for piece in group[1:])


def groups(words: Sequence[Piece], limits: Limits) -> Iterator[list[Piece]]:
    """The words of each segment. A group that becomes too long ends at the longest gap in its second half."""
    group: list[Piece] = []
    for word in words:
        if group and word.start - group[-1].end >= limits.pause:
            yield group
            group = []
        while group and not _fits([*group, word], limits):
            end = _gap(group, word)
            yield group[:end]
            group = group[end:]
        group.append(word)
    if group:
        yield group


def wrap(words: Sequence[Piece], characters: int) -> list[str]:
    """Lines of at most so many characters, unless a single one is wider; each as long as it can be."""
    lines: list[str] = []
    for word in words:
        if lines and width(lines[-1]) + width(word.before) + width(word.text) <= characters:
            lines[-1] += word.before + word.text
        else:
            lines.append(word.text)
    return lines


def _fits(group: Sequence[Piece], limits: Limits) -> bool:
    if group[-1].end - group[0].start > limits.seconds:
        return False
    return len(wrap(group, limits.characters)) <= limits.lines


def _gap(group: Sequence[Piece], following: Piece) -> int:
    """How many words come before the longest gap, the last of equal ones; half of the words at least."""
    starts = [*(word.start for word in group[1:]), following.start]
    gaps = [start - word.end for word, start in zip(group, starts, strict=True)]
    half = (len(group) - 1) // 2
    return max(range(half, len(group)), key=lambda i: (round(gaps[i], 2), i)) + 1
