"""Suggest the name that a misspelt one was probably meant to be."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return " (did you mean 'NAME'?)" with the closest known name, or "" if none is close.

    >>> suggestion("bigfot", ["bigfoot", "lowbit"])
    " (did you mean 'bigfoot'?)"
    """
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.7)
    return f" (did you mean '{close[0]}'?)" if close else ""
