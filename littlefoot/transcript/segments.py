"""Group words into segments, which end at pauses and are short enough to be read at once.

Scripts without spaces have words, or what stands between two pauses, that are longer than a line: those are
cut at characters. Wide characters (Chinese, Japanese, Korean) count double, as they are shown.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from littlefoot.transcript.results import Segment, Word

LINE_CHARACTERS, CUE_SECONDS = 42, 7.0
"""Default limits of a cue, in characters and seconds (``littlefoot.transcript.subtitles``)."""

_UNSPACED = ("THAI ", "LAO ", "KHMER ", "MYANMAR ", "TIBETAN ", "JAVANESE ", "BALINESE ")
"""Scripts besides those of wide characters."""


@dataclass(frozen=True)
class Limits:
    """Limits on a group of words."""

    characters: int = 84
    """Longest line of the text, in characters; wide ones count double."""
    lines: int = 1
    seconds: float = 10.0
    """Longest time from the beginning of the first word to the end of the last."""
    pause: float = 0.6
    """Shortest gap between words that ends a group, in seconds."""


class Piece(NamedTuple):
    """A word, or a character of a long one."""

    text: str
    start: float
    end: float
    before: str
    """Text between this piece and the one before."""
    ends: bool = False
    """Whether a sentence ends with it."""


def segments(words: Sequence[Word], separator: str = " ", text: str | None = None) -> list[Segment]:
    """Group words into segments that end at pauses and stay within ``Limits``.

    Args:
        words: in order of time.
        separator: text between words (see ``Vocabulary.separator``).
        text: the text that the words form, if they are not all joined by the separator.

    Returns:
        Segments within the limits, unless a single word is longer (but see ``cut``).
    """
    found = pieces(words, separator, None, text)
    return [
        Segment(group[0].start, group[-1].end, joined(group), speaker=words[0].speaker)
        for group in groups(found, Limits())
    ]


def cut(words: Sequence[Word]) -> list[Word]:
    """Replace words that are longer than a line or a cue by their characters, in scripts without spaces."""
    found: list[Word] = []
    for word in words:
        long = width(word.word) > LINE_CHARACTERS or word.end - word.start > CUE_SECONDS
        if word.letters and long and _is_unspaced(word.word):
            letters = [
                replace(word, word=text, start=start, end=end, letters=(), ends=False)
                for text, start, end in word.letters
            ]
            found += [*letters[:-1], replace(letters[-1], ends=word.ends)]
        else:
            found.append(word)
    return found


def _is_unspaced(text: str) -> bool:
    """Return True if most characters are of scripts without spaces between words."""
    of_them = sum(
        unicodedata.east_asian_width(character) in ("W", "F")
        or unicodedata.name(character, "").startswith(_UNSPACED)
        for character in text
    )
    return 2 * of_them > len(text)


def width(text: str) -> int:
    """Count the columns of a text: two for wide characters, none for combining marks."""
    return sum(
        0
        if unicodedata.category(character) in ("Mn", "Me", "Cf")
        else 2
        if unicodedata.east_asian_width(character) in ("W", "F")
        else 1
        for character in text
    )


def pieces(
    words: Sequence[Word], separator: str, limits: Limits | None, text: str | None = None
) -> list[Piece]:
    """Return the words with the text before each; words beyond the limits, if given, are cut at characters.

    ``text`` is the text that the words form; if None, the separator joins them.
    """
    found: list[Piece] = []
    at = 0
    for word in words:
        before = separator
        if text is not None and (place := text.find(word.word, at)) >= 0:
            if not text[at:place].strip():
                before = text[at:place]
            at = place + len(word.word)
        if limits is not None and (
            width(word.word) > limits.characters or word.end - word.start > limits.seconds
        ):
            characters = list(_characters(word, before))
            found += [*characters[:-1], characters[-1]._replace(ends=word.ends)]
        else:
            found.append(Piece(word.word, word.start, word.end, before, word.ends))
    return found


def _characters(word: Word, before: str) -> Iterator[Piece]:
    """Yield the characters of a word with their marks. Without own times they divide the word's evenly."""
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
    """Join pieces to a text."""
    return group[0].text + "".join(piece.before + piece.text for piece in group[1:])


def groups(words: Sequence[Piece], limits: Limits) -> Iterator[list[Piece]]:
    """Yield the words of each segment. One that gets too long ends at the longest gap in its second half."""
    group: list[Piece] = []
    for word in words:
        if group and (group[-1].ends or word.start - group[-1].end >= limits.pause):
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
    """Fill lines with at most ``characters`` columns each, unless a single piece is wider."""
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
    """Return the number of words before the longest gap in the second half; of equal gaps the last."""
    starts = [*(word.start for word in group[1:]), following.start]
    gaps = [start - word.end for word, start in zip(group, starts, strict=True)]
    half = (len(group) - 1) // 2
    return max(range(half, len(group)), key=lambda i: (round(gaps[i], 2), i)) + 1
