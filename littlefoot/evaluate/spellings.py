"""References with several spellings: ``I {want to / wanna} go {uh / } home``.

The alternatives stand in braces, with a slash between two spaces; one may be empty. Of each group the
spelling counts with which the whole text has the fewest word errors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from littlefoot.evaluate.normalizers import Normalize

_GROUP = re.compile(r"\{([^{}]*\s/[^{}]*|[^{}]*/\s[^{}]*)\}")
_OR = re.compile(r"\s+/\s*|\s*/\s+")

Way = tuple[int, tuple[str, ...]]
"""Word errors up to a word of the hypothesis, and the spellings that were chosen."""


def chosen(reference: str, hypothesis: str, normalize: Normalize) -> str:
    """Return the reference in the spelling that is closest to the hypothesis, by its normalised words.

    The Levenshtein distance is computed over the graph of all spellings, which takes O(R H) steps for R words
    in all alternatives and H in the hypothesis.
    """
    parts = _GROUP.split(reference)  # plain text and groups in turn
    if len(parts) == 1:
        return reference
    words = normalize(hypothesis).split()
    ways: list[Way] = [(errors, ()) for errors in range(len(words) + 1)]
    for place, part in enumerate(parts):
        spellings = _OR.split(part) if place % 2 else [part]
        reached = [_after(ways, spelling, normalize(spelling).split(), words) for spelling in spellings]
        ways = [min(several, key=lambda way: way[0]) for several in zip(*reached, strict=True)]
    return " ".join(spelling.strip() for spelling in ways[-1][1] if spelling.strip())


def _after(ways: list[Way], spelling: str, added: Sequence[str], words: Sequence[str]) -> list[Way]:
    """Return the ways after a spelling, whose words are ``added``, up to each word of the hypothesis."""
    for word in added:
        following = [(ways[0][0] + 1, ways[0][1])]
        for place, said in enumerate(words):
            candidates = (
                (ways[place][0] + (word != said), ways[place][1]),
                (ways[place + 1][0] + 1, ways[place + 1][1]),
                (following[place][0] + 1, following[place][1]),
            )
            following.append(min(candidates, key=lambda way: way[0]))
        ways = following
    return [(errors, (*spellings, spelling)) for errors, spellings in ways]
