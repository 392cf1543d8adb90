"""Write recognised words as people read them: case, full stops, or what a punctuation model makes of them.

Sentence case is a plain rule, not a model. A pause of SENTENCE_PAUSE seconds, and the end of the recording,
end a sentence, which gets a full stop; its first letter is upper case and all others are lower case. So names
and the English word I are lower case, and there are no commas. A punctuation model does better: ``restyle``
takes any function of words.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise

from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.transcript.results import Alternative, Transcription, Word
from littlefoot.transcript.segments import Limits, width

CASES = ("lower", "upper", "sentence")
SENTENCE_PAUSE = Limits.pause
"""Seconds between two words that end a sentence: those that end a segment."""

Punctuate = Callable[[list[str]], Sequence[str]]
"""A function of the words of one speaker, as recognised, in order. It returns as many words, each with the
punctuation before and after it and in its case."""

MARKS = re.compile(r"[.!?\u2026\u3002\uff01\uff1f\u0964\u061f]+[\"')\]\u201d\u2019\u00bb\u300d\u300f]*$")
"""The end of a word that ends a sentence."""


def restyle(
    transcription: Transcription, case: str | None = None, punctuate: Punctuate | None = None
) -> Transcription:
    """Write a transcription in another case, or with the punctuation of a function.

    Args:
        transcription: with words; its text and segments are written anew, its times stay.
        case: ``lower``, ``upper``, ``sentence`` (see above), or None to leave it.
        punctuate: a punctuation model. Its words are taken before ``lower`` or ``upper``.

    Raises:
        ConfigError: the case is unknown, or ``sentence`` with a punctuation model, which decides that.
        LittlefootError: ``punctuate`` returns another number of words.
    """
    check(case, punctuate is not None)
    if case is None and punctuate is None:
        return transcription
    pairs: list[tuple[Word, Word]] = []
    waiting: dict[str | None, list[tuple[Word, Word]]] = {}
    for speaker in dict.fromkeys(word.speaker for word in transcription.words):
        own = [word for word in transcription.words if word.speaker == speaker]
        waiting[speaker] = list(zip(own, _styled(own, case, punctuate), strict=True))
        pairs += waiting[speaker]
    pairs.sort(key=lambda pair: pair[0].start)  # as it was: words are in order of time
    segments = [
        replace(segment, text=_rewritten(segment.text, waiting.get(segment.speaker, [])))
        for segment in transcription.segments
    ]
    if any(segment.speaker for segment in segments):
        text = " ".join(segment.text for segment in segments)
    else:
        text = _rewritten(transcription.text, list(pairs))
    return replace(
        transcription,
        text=text,
        segments=segments,
        words=[new for _, new in pairs],
        alternatives=[
            Alternative(_cased(each.text, case), each.score) for each in transcription.alternatives
        ],
    )


def check(case: str | None, punctuated: bool) -> None:
    """Raise ConfigError for settings that ``restyle`` refuses."""
    if case is not None and case not in CASES:
        raise ConfigError(f"case '{case}' is unknown: use one of {', '.join(CASES)}")
    if case == "sentence" and punctuated:
        raise ConfigError("the punctuation model determines the sentences: leave the case 'sentence' out")


def find_punctuate(name: str) -> Punctuate:
    """Import a function by its name, ``package.module:function``. Raises ConfigError if there is none."""
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"punctuation model '{name}': {error}: give a function as package.module:function"
        ) from error
    if not callable(found):
        raise ConfigError(
            f"punctuation model '{name}': is not a function: give one that takes a list of words"
        )
    made: Punctuate = found
    return made


def _styled(words: list[Word], case: str | None, punctuate: Punctuate | None) -> list[Word]:
    """Return the words of one speaker in their new form."""
    if punctuate is not None:
        try:
            texts = [str(text) for text in punctuate([word.word for word in words])]
        except Exception as error:  # it is not a part of littlefoot
            raise LittlefootError(
                f"the punctuation model failed ({type(error).__name__}: {error}): it must take a list of"
                " words, and return one for each"
            ) from error
        if len(texts) != len(words):
            raise LittlefootError(
                f"the punctuation model returned {len(texts)} words for {len(words)}:"
                " it must return one for each"
            )
        words = [
            replace(word, word=text, letters=(), ends=MARKS.search(text) is not None)
            for word, text in zip(words, texts, strict=True)
        ]
    words = [_changed(word, lambda text: _cased(text, case)) for word in words]
    if case != "sentence":
        return words
    ends = [later.start - word.end >= SENTENCE_PAUSE for word, later in pairwise(words)] + [True]
    found: list[Word] = []
    begins = True
    for word, last in zip(words, ends, strict=False):
        if begins:
            word = _changed(word, _capitalised, first_only=True)
        marked = MARKS.search(word.word) is not None
        found.append(_ended(word) if last and not marked else replace(word, ends=marked))
        begins = last or marked
    return found


def _cased(text: str, case: str | None) -> str:
    if case is None:
        return text
    return text.upper() if case == "upper" else text.lower()


def _capitalised(text: str) -> str:
    """Write the first letter, which punctuation may precede, in upper case."""
    for place, character in enumerate(text):
        if character.isalpha():
            return text[:place] + character.upper() + text[place + 1 :]
    return text


def _changed(word: Word, change: Callable[[str], str], first_only: bool = False) -> Word:
    """Apply a change to a word and to the texts of its characters, or the first of them."""
    letters = tuple(
        (text if place and first_only else change(text), start, end)
        for place, (text, start, end) in enumerate(word.letters)
    )
    return replace(word, word=change(word.word), letters=letters)


def _ended(word: Word) -> Word:
    """Add a full stop, in the form of the word's script."""
    stop = "\u3002" if width(word.word) > len(word.word) else "."
    letters = word.letters
    if letters:
        letters = (*letters[:-1], (letters[-1][0] + stop, *letters[-1][1:]))
    return replace(word, word=word.word + stop, letters=letters, ends=True)


def _rewritten(text: str, pairs: list[tuple[Word, Word]]) -> str:
    """Replace the words of a text in order; those that it contains are removed from ``pairs``."""
    written, at = "", 0
    while pairs:
        old, new = pairs[0]
        place = text.find(old.word, at)
        if place < 0 or text[at:place].strip():
            break
        written += text[at:place] + new.word
        at = place + len(old.word)
        del pairs[0]
    return written + text[at:]
