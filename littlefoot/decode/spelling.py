"""Words and phrases that users give, in the tokens of an alphabet."""

from collections.abc import Iterator
from pathlib import Path

from littlefoot.decode.spans import TokenSet, separator
from littlefoot.errors import LittlefootError


def spell(phrase: str, vocabulary: TokenSet) -> list[int] | None:
    """The tokens of a phrase, one for each character, with the word delimiter between words.

    As it stands, or else in upper or lower case, whichever the alphabet has; None where it has neither.
    """
    index = {token: number for number, token in enumerate(vocabulary.tokens)}
    between = vocabulary.word_delimiter if separator(vocabulary) else ""
    for form in (phrase, phrase.upper(), phrase.lower()):
        spelled = between.join(form.split())
        if all(character in index for character in spelled):
            return [index[character] for character in spelled]
    return None


def lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """The lines of a text file that are not blank, with their numbers.

    Raises:
        LittlefootError: it cannot be read, is not UTF-8 text, or all lines are blank.
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
        raise LittlefootError(f"{path}: cannot be read ({error}): check the path and its rights") from error
    if empty:
        raise LittlefootError(f"{path}: is empty: write one entry on each line")
