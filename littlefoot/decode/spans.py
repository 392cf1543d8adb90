"""Token spans: what greedy decoding and forced alignment agree on, and the words made from them.

Times follow one rule. A token's span is the frames that an alignment gives to it, blanks excluded. A word
starts with the first frame of its first character. CTC models spike: they show the last character of a word
well before the sound of it is over, and the word delimiter about when it is. So a word ends where the
delimiter begins, or END_SECONDS after its last character where none follows within DELIMITER_SECONDS. Its
confidence is the geometric mean of the posteriors of its characters over their frames.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from littlefoot.errors import EngineError
from littlefoot.transcript.results import Word

DELIMITER_SECONDS = 0.2
"""A delimiter that comes later, or was put into a pause, does not tell where the word ended."""
END_SECONDS = 0.08
"""How long the sound of a last character goes on (RESULTS.md, section Decoding)."""

_SPECIAL = re.compile(r"<[^<>]+>|\[[^\[\]]+\]")


class TokenSet(Protocol):
    """What decoding needs of a vocabulary (``littlefoot.artifact.vocabulary.Vocabulary``)."""

    @property
    def tokens(self) -> tuple[str, ...]: ...

    @property
    def blank(self) -> int: ...

    @property
    def word_delimiter(self) -> str: ...


@dataclass(frozen=True)
class Spans:
    """N tokens in order, with the frames they occupy; each field has shape (N,)."""

    tokens: NDArray[np.int64]
    """Index into the vocabulary."""
    starts: NDArray[np.int64]
    """First frame."""
    ends: NDArray[np.int64]
    """Last frame + 1."""
    log_posteriors: NDArray[np.float64]
    """Sum over the frames of the natural logarithm of the token's posterior."""
    frames: int
    """Of the whole, with those of no token."""

    def first(self, count: int) -> "Spans":
        """Only the first tokens."""
        fields = self.starts[:count], self.ends[:count], self.log_posteriors[:count]
        return Spans(self.tokens[:count], *fields, self.frames)


def checked(logits: NDArray[np.floating], vocabulary: TokenSet) -> NDArray[np.floating]:
    """The logits themselves, if they have shape (F, V), V tokens, and a finite maximum in every frame.

    Raises:
        EngineError: they have not.
    """
    size = len(vocabulary.tokens)
    if logits.ndim != 2 or logits.shape[1] != size:
        raise EngineError(
            f"logits of shape {logits.shape} do not fit a vocabulary of {size} tokens:"
            f" expected (frames, {size}); the model and its vocab.json do not belong together"
        )
    if not np.isfinite(logits.max(axis=1)).all():
        raise EngineError("the logits hold NaN or infinite values: the model or its quantization is broken")
    return logits


def log_softmax(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    """(F, V) natural logarithms of the posteriors of logits (F, V)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result


def separator(vocabulary: TokenSet) -> str:
    """What stands between words in a text: a space, or nothing if the vocabulary has no word delimiter."""
    return " " if vocabulary.word_delimiter in vocabulary.tokens else ""


def is_special(token: str) -> bool:
    """Whether a token stands for no text, such as ``<s>``, ``<unk>`` or ``[PAD]``."""
    return _SPECIAL.fullmatch(token) is not None


def text(tokens: Iterable[int], vocabulary: TokenSet) -> str:
    """The text of ``words``, of tokens whose repetitions and blanks are already gone."""
    found: list[str] = []
    word = ""
    for token in (vocabulary.tokens[index] for index in tokens):
        if token == vocabulary.word_delimiter:
            found += [word] if word else []
            word = ""
        elif not is_special(token):
            word += token
    return " ".join([*found, word] if word else found)


def words(spans: Spans, vocabulary: TokenSet, frame_seconds: float, offset: float = 0.0) -> list[Word]:
    """Join tokens into words at the word delimiter; without one (Chinese, say) every token is a word.

    Args:
        spans: as decoded or aligned; special tokens are skipped.
        vocabulary: of the tokens.
        frame_seconds: duration of a frame.
        offset: seconds added to all times.
    """
    delimiter = vocabulary.word_delimiter
    delimited = delimiter in vocabulary.tokens
    result: list[Word] = []
    open_word: list[int] = []  # indices into spans

    def close(following: int | None) -> None:
        """``following``: index of the delimiter, or of the next token where there are none."""
        if not open_word:
            return
        first, last = open_word[0], open_word[-1]
        after = spans.frames if following is None else spans.starts[following]
        silence = float(after - spans.ends[last]) * frame_seconds
        tells = following is not None and delimited and silence <= DELIMITER_SECONDS
        frames = (spans.ends[open_word] - spans.starts[open_word]).sum()
        result.append(
            Word(
                word="".join(vocabulary.tokens[spans.tokens[i]] for i in open_word),
                start=offset + float(spans.starts[first]) * frame_seconds,
                end=offset
                + float(spans.ends[last]) * frame_seconds
                + (silence if tells else min(END_SECONDS, silence)),
                confidence=float(np.exp(spans.log_posteriors[open_word].sum() / frames)),
            )
        )
        open_word.clear()

    for i, token in enumerate(vocabulary.tokens[index] for index in spans.tokens):
        if token == delimiter:
            close(i)
        elif not is_special(token):
            if not delimited:
                close(i)
            open_word.append(i)
    close(None)
    return result
