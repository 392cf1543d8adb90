"""Spell words in pieces, as SentencePiece's byte-pair encoding does; read and write such alphabets.

A piece that begins with ``BEGIN`` begins a word; others continue it. Which pieces a word has follows from
merges of two neighbours, in their order (Sennrich et al. 2016, section 3.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from littlefoot.artifact.alphabet import Alphabet
from littlefoot.errors import CheckpointError

BEGIN = "\u2581"
"""Character before the pieces that begin a word."""

Merges = tuple[tuple[str, str], ...]

_BYTE = re.compile("<0x[0-9A-F]{2}>")


class Pieces:
    """Tokens for spelling words in pieces. For case and form see ``Alphabet``."""

    def __init__(self, tokens: Mapping[str, int], merges: Merges) -> None:
        """Take the tokens that have text or begin a word.

        Raises CheckpointError for merges that make no token.
        """
        self._index = dict(tokens)
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        if lacking := [left + right for left, right in merges if left + right not in tokens]:
            raise CheckpointError(
                f"vocabulary: merges make {', '.join(map(repr, lacking[:5]))}, which are no tokens: the "
                "files of the tokenizer belong to different models"
            )
        letters = {token: index for token, index in tokens.items() if len(token) == 1 and token != BEGIN}
        self._letters = Alphabet(letters)
        self._tokens = {index: token for token, index in letters.items()}

    def divide(self, word: str) -> list[tuple[str, list[int]]]:
        """Divide a word into parts with their tokens; none for a character that the alphabet lacks."""
        found: list[tuple[str, list[int]]] = []
        run: list[tuple[str, int]] = []  # parts of the word, with their number of letters
        letters: list[str] = []
        beginning = [BEGIN] if BEGIN in self._index else []
        for part, spelled in [*self._letters.pieces(word), ("", [])]:
            if spelled:
                run.append((part, len(spelled)))
                letters += [self._tokens[index] for index in spelled]
                continue
            if run:
                found += self._joined(run, beginning + letters)
                run, letters, beginning = [], [], []
            if part:
                found.append((part, []))
        return found

    def _joined(self, run: Sequence[tuple[str, int]], letters: list[str]) -> list[tuple[str, list[int]]]:
        """Merge letters, and give each part of a text the pieces that end in it."""
        found: list[tuple[str, list[int]]] = []
        parts = iter(run)
        text, tokens = "", list[int]()
        spelled = reached = 0
        for piece in merged(letters, self._ranks):
            tokens.append(self._index[piece])
            spelled += len(piece.removeprefix(BEGIN))
            while reached < spelled:
                part, count = next(parts)
                text, reached = text + part, reached + count
            if text and reached == spelled:
                found.append((text, tokens))
                text, tokens = "", []
        return found


def merged(symbols: Sequence[str], ranks: Mapping[tuple[str, str], int]) -> list[str]:
    """Merge neighbours as long as a pair has a rank: the lowest first, and of equal ones the leftmost."""
    joined = list(symbols)
    while len(joined) > 1:
        pairs = list(pairwise(joined))
        rank, place = min((ranks.get(pair, len(ranks)), place) for place, pair in enumerate(pairs))
        if rank == len(ranks):
            break
        joined[place : place + 2] = [joined[place] + joined[place + 1]]
    return joined


class PieceFile(NamedTuple):
    """The content of ``tokenizer.json``."""

    table: dict[str, Any]
    """Index of each token."""
    merges: Merges
    special: frozenset[str]
    """Tokens without text: those that are added as such, and bytes of characters that have no token."""


def read(content: Mapping[str, Any]) -> PieceFile:
    """Read ``tokenizer.json``.

    Raises CheckpointError for another kind of tokenizer, or a damaged file.
    """
    model = content.get("model")
    kind = model.get("type") if isinstance(model, Mapping) else None
    if not isinstance(model, Mapping) or kind != "BPE":
        raise CheckpointError(
            f"tokenizer.json has a model of type {kind}: only SentencePiece's byte-pair encoding (BPE) is "
            "supported"
        )
    table, added = model.get("vocab"), content.get("added_tokens", [])
    merges = model.get("merges")
    if not (
        isinstance(table, Mapping)
        and isinstance(merges, list)
        and isinstance(added, list)
        and all(isinstance(row, Mapping) for row in added)
        and all(_pair(each) for each in merges)
    ):
        raise CheckpointError(
            "tokenizer.json: vocab must be an object, merges pairs of tokens: it is damaged"
        )
    if not any(str(token).startswith(BEGIN) for token in table):
        raise CheckpointError(
            f"tokenizer.json has no token that begins a word with {BEGIN!r}: only SentencePiece's pieces are "
            "supported"
        )
    index = {**table, **{str(row.get("content")): row.get("id") for row in added}}
    special = {str(row.get("content")) for row in added if row.get("special")}
    special |= set(filter(_BYTE.fullmatch, index))
    return PieceFile(index, tuple(pair for each in merges if (pair := _pair(each))), frozenset(special))


def _pair(merge: Any) -> tuple[str, str] | None:
    """Return the two pieces of a merge, which older files write as one text; None if it is neither."""
    parts = merge.split(" ") if isinstance(merge, str) else merge
    if not isinstance(parts, list) or len(parts) != 2 or not all(isinstance(part, str) for part in parts):
        return None
    return parts[0], parts[1]


def content(tokens: Sequence[str], special: Sequence[str], merges: Merges) -> dict[str, Any]:
    """Return the content of a ``tokenizer.json``, from which ``read`` and transformers make the same."""
    index = {token: place for place, token in enumerate(tokens)}
    space = {"type": "Metaspace", "replacement": BEGIN, "prepend_scheme": "always", "split": True}
    form = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "added_tokens": [{"id": index[token], "content": token, **form} for token in special],
        "pre_tokenizer": space,
        "decoder": space,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>" if "<unk>" in index else None,
            "fuse_unk": True,
            "vocab": index,
            "merges": [list(pair) for pair in merges],
        },
    }
