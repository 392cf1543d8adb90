"""A text as people write it, and the tokens by which it is aligned.

Its words keep their numbers, punctuation and case. What the model's alphabet has of a word is spelled in its
tokens, as in training. Of the rest, what is spoken (digits, letters of other alphabets, signs such as % and
&) is aligned as a star, which stands for any speech, and punctuation takes no time. A word ``*`` is a star
too: speech that the text lacks.
"""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.align import STAR
from littlefoot.decode.spans import Spans, word_end
from littlefoot.errors import ConfigError, TextError
from littlefoot.transcript.results import Segment, Word
from littlefoot.transcript.style import MARKS

log = logging.getLogger("littlefoot")

STARS = ("written", "ends", "sentences")
"""Positions of stars: only those in the text, also before and after it, or also between its sentences."""
SENTENCES = ("marks", "lines")
"""Ends of sentences besides blank lines: full stops, question and exclamation marks; or the ends of lines."""

_SPOKEN = ("L", "N", "Sc", "Sm")  # categories of Unicode: letters, numbers, currencies, mathematical signs
_SPOKEN_SIGNS = "&%@#\u00a7\u2030\u00b0"
_DIVIDING_SIGNS = "/_"  # as in ``evaluate.metrics.normalize_text``, besides dashes

Parts = list[tuple[str, list[int]]]
"""Characters of a word, each with its tokens; those that take no time have none."""


@dataclass
class _Unit:
    """A word, a character where the script has no words, or a star of the text, which has no text."""

    parts: Parts
    before: str = " "
    """Text between this unit and the one before."""
    ends: bool = False
    """Whether a sentence ends with it."""
    places: list[range] = field(default_factory=list)
    """Indices of the tokens of each part in those of the whole text."""

    @property
    def text(self) -> str:
        return "".join(part for part, _ in self.parts)

    @property
    def tokens(self) -> list[int]:
        return [token for _, tokens in self.parts for token in tokens]


class KnownText:
    """A text to align, in words and tokens."""

    def __init__(
        self, text: str, vocabulary: Vocabulary, stars: str = "written", sentences: str = "marks"
    ) -> None:
        """Divide a text into words and sentences, and spell it.

        Args:
            text: of any length.
            vocabulary: of the model.
            stars: one of STARS.
            sentences: one of SENTENCES.

        Raises:
            ConfigError: ``stars`` or ``sentences`` is unknown.
            TextError: the text has no words, or no character of the model's alphabet.
        """
        for name, value, known in (("stars", stars, STARS), ("sentences", sentences, SENTENCES)):
            if value not in known:
                raise ConfigError(f"{name}: '{value}' is unknown: use one of {', '.join(known)}")
        self._vocabulary = vocabulary
        units = _units(text, vocabulary, sentences)
        self._words = [unit for unit in units if unit.text]
        _check(text, self._words, vocabulary)
        if stars == "sentences":
            units = [each for unit in units for each in ([unit, _star()] if unit.ends else [unit])]
        if stars != "written":
            units = [_star(), *units, _star()]
        self.tokens = _join(units, vocabulary.delimiter)
        """(N,) the text in tokens, with stars."""

    def words(self, spans: Spans, frame_seconds: float) -> list[Word]:
        """Return the words with the times of the aligned tokens; stars of the text are none."""
        return [self._word(unit, spans, frame_seconds) for unit in self._words]

    def sentences(self, words: Sequence[Word]) -> list[Segment]:
        """Return the sentences of ``words``, which are those of this text."""
        found: list[Segment] = []
        text = ""
        for unit, word in zip(self._words, words, strict=True):
            start, text = (found.pop().start, text + unit.before) if text else (word.start, "")
            text += unit.text
            found.append(Segment(start, word.end, text))
            if unit.ends:
                text = ""
        return found

    @property
    def text(self) -> str:
        """Return the text, with single spaces and without stars."""
        return "".join(unit.before + unit.text for unit in self._words)[len(self._words[0].before) :]

    def _word(self, unit: _Unit, spans: Spans, frame_seconds: float) -> Word:
        delimiter = self._vocabulary.delimiter
        letters: list[tuple[str, float, float]] = []
        confirmed: list[int] = []  # tokens that count for the confidence
        for (part, tokens), places in zip(unit.parts, unit.places, strict=True):
            if tokens and tokens != [delimiter]:
                start, end = spans.starts[places[0]], spans.ends[places[-1]]
                letters.append((part, float(start) * frame_seconds, float(end) * frame_seconds))
                confirmed += places if tokens != [STAR] else []
            elif letters:
                letters[-1] = (letters[-1][0] + part, *letters[-1][1:])
        head = unit.text[: len(unit.text) - len("".join(part for part, _, _ in letters))]
        letters[0] = (head + letters[0][0], *letters[0][1:])
        last = max(places[-1] for places in unit.places if places)
        following = last + 1 if last + 1 < len(spans.tokens) else None
        apart = following is not None and spans.tokens[following] in (delimiter, STAR)
        frames = (spans.ends[confirmed] - spans.starts[confirmed]).sum()
        return Word(
            word=unit.text,
            start=letters[0][1],
            end=word_end(spans, last, following, apart, frame_seconds),
            confidence=float(np.exp(spans.log_posteriors[confirmed].sum() / frames)) if confirmed else 0.0,
            letters=tuple(letters),
            ends=unit.ends,
        )


def _star() -> _Unit:
    return _Unit([("", [STAR])])


def _units(text: str, vocabulary: Vocabulary, sentences: str) -> list[_Unit]:
    """Divide a text into its units. Punctuation that stands alone belongs to the word before it."""
    whole = bool(vocabulary.separator)
    units: list[_Unit] = []
    silent: Parts = []  # at the beginning of the text
    written: _Unit | None = None
    for line in text.splitlines():
        for word in line.split():
            if word == "*":
                units.append(_star())
                continue
            before = " "
            for parts in _groups(_spell(word, vocabulary), whole):
                if any(tokens for _, tokens in parts):
                    written = _Unit(silent + parts, before)
                    units.append(written)
                    silent = []
                elif written is not None:
                    written.parts += [(before + parts[0][0], []), *parts[1:]]
                else:
                    silent += [*parts, (" ", [])]
                before = ""
        if written is not None and (sentences == "lines" or not line.strip()):
            written.ends = True
    for unit in units:
        unit.ends |= sentences == "marks" and MARKS.search(unit.text) is not None
    return units


def _groups(parts: Parts, whole: bool) -> list[Parts]:
    """Keep a word, or divide it into characters with the punctuation after each."""
    if whole:
        return [parts]
    groups: list[Parts] = []
    for part in parts:
        if groups and (not part[1] or not any(tokens for _, tokens in groups[-1])):
            groups[-1].append(part)
        else:
            groups.append([part])
    return groups


def _spell(word: str, vocabulary: Vocabulary) -> Parts:
    """Spell a word. Where a dash or slash divides it, the model's word delimiter stands."""
    parts: Parts = []
    delimiter = [vocabulary.delimiter]
    spelled = -1  # index of the last part with a token of its own
    for part, found in vocabulary.pieces(word):
        tokens = found
        if not found and _is_spoken(part):
            tokens = [STAR]
        elif not found and vocabulary.delimiter >= 0 and _is_dividing(part):
            tokens = delimiter
        if tokens == [STAR] and spelled >= 0 and parts[spelled][1] == [STAR]:  # one star for 2.50 and 1-2
            parts[spelled:] = [("".join(text for text, _ in parts[spelled:]) + part, [STAR])]
            continue
        parts.append((part, tokens))
        if tokens and tokens != delimiter:
            spelled = len(parts) - 1
    before: list[int] = []
    for place, (part, tokens) in enumerate(parts):  # one delimiter, and only between two spelled parts
        if tokens == delimiter:
            after = next((found for _, found in parts[place + 1 :] if found and found != delimiter), [])
            if before in ([], [STAR]) or after in ([], [STAR]):
                parts[place] = (part, [])
            before = []
        elif tokens:
            before = tokens
    return parts


def _is_spoken(part: str) -> bool:
    return part in _SPOKEN_SIGNS or unicodedata.category(part).startswith(_SPOKEN)


def _is_dividing(part: str) -> bool:
    return part in _DIVIDING_SIGNS or unicodedata.category(part) == "Pd"


def _check(text: str, words: Sequence[_Unit], vocabulary: Vocabulary) -> None:
    """Refuse a text that cannot be aligned, and tell of characters that the alphabet lacks."""
    if not words:
        raise TextError("the text to align has no words: give what is spoken in the recording")
    tokens = {token for unit in words for token in unit.tokens} - {STAR, vocabulary.delimiter}
    if not tokens:
        letters = " ".join(token for token in vocabulary.written if token)[:80]
        raise TextError(
            f"the text to align, '{text.strip()[:40]}', has no character of the model's alphabet ({letters}):"
            " give it in the model's language, with numbers in words"
        )
    lacking = sorted({part for unit in words for part, tokens in unit.parts if tokens == [STAR]})
    if lacking:
        log.warning(
            "the model's alphabet lacks %s: they get the time between their neighbours; spell them in letters"
            " for exact times and a confidence",
            ", ".join(lacking[:10]) + (" ..." if len(lacking) > 10 else ""),
        )


def _join(units: Sequence[_Unit], delimiter: int) -> list[int]:
    """Join the tokens of units, and let each unit know which are its own.

    The word delimiter stands between words and between stars, not between both: a star includes it.
    """
    tokens: list[int] = []
    for unit in units:
        own = unit.tokens
        if not unit.text and tokens[-1:] == [STAR]:  # one star is enough
            continue
        if tokens and delimiter >= 0 and (tokens[-1] == STAR) == (own[0] == STAR):
            tokens.append(delimiter)
        for _, found in unit.parts:
            unit.places.append(range(len(tokens), len(tokens) + len(found)))
            tokens += found
    return tokens


def read_text(path: str | Path) -> str:
    """Read a text file in UTF-8, with or without a byte order mark.

    Raises:
        TextError: the file cannot be read, is not text, or is in another encoding.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TextError(
            f"{path}: cannot be read ({error.strerror}): check the path and its permissions"
        ) from error
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise TextError(f"{path}: is text in UTF-16: save it as UTF-8")
    if b"\0" in data:
        raise TextError(f"{path}: is not a text file: give the recording first, then the text")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise TextError(
            f"{path}, line {line}: is not UTF-8 text, perhaps Latin-1 or Windows-1252: save it as UTF-8"
        ) from error
