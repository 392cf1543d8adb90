"""Language models that the beam search can ask: ARPA and compact files, and KenLM's binary files.

Whether a model is one of words or of characters is seen from its tokens: one of characters has the word
delimiter ``|`` among them.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from littlefoot.decode.arpa import read_arpa
from littlefoot.decode.compact import SUFFIX, CompactNGram, is_compact
from littlefoot.decode.ngram import SPECIAL, NGram
from littlefoot.decode.spans import TokenSet, is_special
from littlefoot.errors import ConfigError, LittlefootError, MissingExtraError

DELIMITER = "|"
"""Stands between words in models of characters, whatever the alphabet has there."""

BUNDLED = Path(__file__).parents[1] / "bundled" / "lm"
NAMES = ("en",)
"""Models that have a name; docs/lm.md tells what they are made of."""

_KENLM = b"mmap lm http://kheafield.com/code"
_LN_10 = 2.302585092994046


class LanguageModel(Protocol):
    """``littlefoot.decode.ngram.NGram`` is one. States of equal histories are equal."""

    def begin(self) -> Any:
        """The state before the first token of a sentence, hashable like all states."""

    def step(self, state: Any, token: str) -> tuple[float, Hashable]:
        """The natural logarithm of the probability of a token or ``</s>``, and the state after it."""

    def log_probs(self, state: Any, tokens: Sequence[str]) -> NDArray[np.float64]:
        """(N,) natural logarithms of the probabilities of each of N tokens after a state."""

    def words(self) -> Iterable[tuple[str, float]]:
        """All tokens, with the natural logarithms of their probabilities without history; or none."""

    def __contains__(self, token: str) -> bool:
        """Whether the model knows a token."""


class KenLM:
    """A binary file of KenLM, read by its Python module."""

    def __init__(self, path: str | Path) -> None:
        if find_spec("kenlm") is None:
            raise MissingExtraError(f"{path}: a binary language model", "kenlm", "lm")
        import kenlm

        config = kenlm.Config()
        config.show_progress = False
        try:
            self._model = kenlm.Model(str(path), config)
        except OSError as error:
            raise LittlefootError(f"{path}: KenLM cannot read it ({error}): build the file again") from error
        self._state = kenlm.State

    def begin(self) -> Hashable:
        state: Hashable = self._state()
        self._model.BeginSentenceWrite(state)
        return state

    def step(self, state: Any, token: str) -> tuple[float, Hashable]:
        following: Hashable = self._state()
        return _LN_10 * self._model.BaseScore(state, token, following), following

    def log_probs(self, state: Any, tokens: Sequence[str]) -> NDArray[np.float64]:
        return np.array([self.step(state, token)[0] for token in tokens])

    def words(self) -> Iterable[tuple[str, float]]:
        return ()  # the Python module does not tell them

    def __contains__(self, token: str) -> bool:
        return token in self._model


def load(source: str | Path, vocabulary: TokenSet) -> LanguageModel:
    """Read one of ``NAMES``, an ARPA file, a compact file or a binary file of KenLM for an alphabet.

    Raises:
        LittlefootError: it is missing or damaged.
        ConfigError: it is a model of words that are written in another alphabet.
        MissingExtraError: it is a binary file, and KenLM is not installed.
    """
    path = locate(source)
    try:
        with path.open("rb") as file:
            start = file.read(len(_KENLM))
    except OSError as error:
        raise LittlefootError(f"{path}: cannot be read ({error}): check the path and its rights") from error
    if is_compact(start):
        model: NGram | CompactNGram = CompactNGram(path)
    elif start == _KENLM:
        binary = KenLM(path)
        _refuse_other_case(path, binary, vocabulary)
        return binary
    else:
        model = read_arpa(path)
    if DELIMITER not in model:
        refuse_other_alphabet(path, (t for t in model.tokens if t not in SPECIAL), vocabulary)
    return model


def locate(source: str | Path) -> Path:
    """The file of one of ``NAMES``, or the file itself.

    Raises:
        LittlefootError: there is no such file.
    """
    path = Path(source)
    if str(source) in NAMES:
        path = BUNDLED / f"{source}{SUFFIX}"
        if not path.exists():
            raise LittlefootError(
                f"the language model '{source}' does not come with this installation: make it with"
                f" scripts/english_lm.py (docs/lm.md) as {path}, or give another file"
            )
    elif not path.exists():
        raise LittlefootError(
            f"{source}: neither a file nor the name of a language model ({', '.join(NAMES)}): check the path,"
            " or make one with 'littlefoot lm build'"
        )
    return path


def refuse_other_alphabet(path: str | Path, words: Iterable[str], vocabulary: TokenSet) -> None:
    """Words that cannot be spelled are of no use; if they are more than half, the file was a mistake.

    Raises:
        ConfigError: they are; the message names the characters that most of them need.
    """
    alphabet = set(vocabulary.tokens)
    foreign: Counter[str] = Counter()
    good = bad = 0
    for word in words:
        missing = set(word) - alphabet
        foreign.update(sorted(missing))
        good, bad = good + (not missing), bad + bool(missing)
    if bad > good:
        named = " ".join(repr(character) for character, _ in foreign.most_common(8))
        raise _other_alphabet(
            path, f"{bad} of its {good + bad} words need characters such as {named}", vocabulary
        )


def _refuse_other_case(path: str | Path, model: LanguageModel, vocabulary: TokenSet) -> None:
    """The binary file does not list its words; letters are words of most models, and betray the case."""
    letters = [token for token in vocabulary.tokens if len(token) == 1 and token.swapcase() != token]
    swapped = [letter.swapcase() for letter in letters if letter.swapcase() in model]
    if swapped and not any(letter in model for letter in letters):
        named = " ".join(map(repr, swapped[:8]))
        raise _other_alphabet(path, f"its words are written with {named}", vocabulary)


def _other_alphabet(path: str | Path, what: str, vocabulary: TokenSet) -> ConfigError:
    spelled = [token for token in vocabulary.tokens if not is_special(token)]
    shown = "".join(spelled[:60])
    return ConfigError(
        f"{path}: {what}, which the recogniser's alphabet {shown} lacks: use a file in its letters and case"
    )
