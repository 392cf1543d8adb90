"""Spell words and phrases of users in the tokens of an alphabet."""

from collections.abc import Iterator
from pathlib import Path

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.errors import LittlefootError


def spell(phrase: str, vocabulary: Vocabulary) -> list[int] | None:
    """Return the tokens of a phrase, with the word delimiter between words, or None if some are missing.

    The spelling uses the alphabet's case and Unicode form. Without a word delimiter spaces do not count.
    """
    joined = phrase if vocabulary.separator else "".join(phrase.split())
    tokens, missing = vocabulary.spell(joined)
    return None if missing else tokens


def lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text file that are not blank, with their numbers.

    Raises:
        LittlefootError: the file cannot be read, is not UTF-8 text, or all lines are blank.
    """
    empty = True
    try:
        with Path(path).open("rb") as file:
            for number, raw in enumerate(file, start=1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").strip("\r\n")
                except UnicodeDecodeError as error:
                    raise LittlefootError(
                        f"{path}, line {number}: is not UTF-8 text: save the file as UTF-8"
                    ) from error
                if line.strip():
                    empty = False
                    yield number, line
    except OSError as error:
        raise LittlefootError(
            f"{path}: cannot be read ({error}): check the path and its permissions"
        ) from error
    if empty:
        raise LittlefootError(f"{path}: is empty: write one entry on each line")
