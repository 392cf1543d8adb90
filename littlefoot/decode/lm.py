"""Language models for the beam search: ARPA files, compact files, and KenLM's binary files.

A model is one of characters if the word delimiter ``|`` is among its tokens, and one of words otherwise.
"""

import logging
import unicodedata
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.arpa import read_arpa
from littlefoot.decode.compact import SUFFIX, CompactNGram, is_compact
from littlefoot.decode.ngram import SPECIAL, NGram
from littlefoot.decode.spelling import lines
from littlefoot.errors import ConfigError, LittlefootError, MissingExtraError

log = logging.getLogger("littlefoot")

DELIMITER = "|"
"""Token between words in models of characters, whatever the delimiter of the alphabet."""

BUNDLED = Path(__file__).parents[1] / "bundled" / "lm"
NAMES = ("en",)
"""Models that have a name; docs/lm.md describes their sources."""

_KENLM = b"mmap lm http://kheafield.com/code"
_LN_10 = 2.302585092994046


class LanguageModel(Protocol):
    """Interface of a language model, such as ``littlefoot.decode.ngram.NGram``. States of equal histories are
    equal.
    """

    def begin(self) -> Any:
        """Return the state before the first token of a sentence, hashable like all states."""

    def step(self, state: Any, token: str) -> tuple[float, Hashable]:
        """Return the natural logarithm of the probability of a token or ``</s>``, and the state after it."""

    def log_probs(self, state: Any, tokens: Sequence[str]) -> NDArray[np.float64]:
        """Return the natural logarithms (N,) of the probabilities of each of N tokens after a state."""

    def words(self) -> Iterable[tuple[str, float]]:
        """All tokens, with the natural logarithms of their probabilities without history; or none."""

    def __contains__(self, token: str) -> bool:
        """Return True if the model has a token."""


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


class Folded:
    """A language model whose words are written in another case or Unicode form than the alphabet's."""

    def __init__(self, model: LanguageModel, forms: Mapping[str, str] | None = None) -> None:
        """``forms``: words of the model by how the alphabet writes them; others are tried in several."""
        self.model = model
        self._forms = dict(forms or {})

    def begin(self) -> Any:
        return self.model.begin()

    def step(self, state: Any, token: str) -> tuple[float, Hashable]:
        return self.model.step(state, self._form(token))

    def log_probs(self, state: Any, tokens: Sequence[str]) -> NDArray[np.float64]:
        return self.model.log_probs(state, [self._form(token) for token in tokens])

    def words(self) -> Iterable[tuple[str, float]]:
        """Return the words that the alphabet can write, in its letters, and the special tokens."""
        log_probs = dict(self.model.words())
        forms = {token: token for token in SPECIAL} | self._forms
        return [(written, log_probs[word]) for written, word in forms.items() if word in log_probs]

    def __contains__(self, token: str) -> bool:
        return self._form(token) in self.model

    def _form(self, token: str) -> str:
        if token not in self._forms:
            cases = (token, token.lower(), token.upper(), token.capitalize())
            forms = [unicodedata.normalize(form, case) for form in ("NFC", "NFD") for case in cases]
            found = (form for form in (token, *forms) if form in self.model)
            self._forms[token] = next(found, token)
        return self._forms[token]


def load(source: str | Path, vocabulary: Vocabulary, words: str | Path | None = None) -> LanguageModel:
    """Read a language model for an alphabet, whose case and Unicode form may differ.

    Args:
        source: one of ``NAMES``, an ARPA file, a compact file or a binary file of KenLM.
        vocabulary: vocabulary of the recogniser.
        words: a list of the model's words, which a binary file does not contain.

    Raises:
        LittlefootError: the file is missing or damaged.
        ConfigError: the words of the model are written in another alphabet.
        MissingExtraError: the file is binary, and KenLM is not installed.
    """
    path = locate(source)
    try:
        with path.open("rb") as file:
            start = file.read(len(_KENLM))
    except OSError as error:
        raise LittlefootError(
            f"{path}: cannot be read ({error}): check the path and its permissions"
        ) from error
    if is_compact(start):
        model: NGram | CompactNGram = CompactNGram(path)
    elif start == _KENLM:
        binary = KenLM(path)
        if words is None or DELIMITER in binary:
            return Folded(binary)
        listed = [text.strip() for _, text in lines(words)]
        return Folded(binary, _written(words, dict.fromkeys(listed, 0.0), vocabulary))
    else:
        model = read_arpa(path)
    if DELIMITER in model:
        return Folded(model)
    return Folded(model, _written(path, dict(model.words()), vocabulary))


def locate(source: str | Path) -> Path:
    """Return the file of one of ``NAMES``, or the file itself.

    Raises:
        LittlefootError: there is no such file.
    """
    path = Path(source)
    if str(source) in NAMES:
        path = BUNDLED / f"{source}{SUFFIX}"
        if not path.exists():
            raise LittlefootError(
                f"the language model '{source}' is not part of this installation: make it with"
                f" scripts/english_lm.py (docs/lm.md) as {path}, or give another file"
            )
    elif not path.exists():
        raise LittlefootError(
            f"{source}: neither a file nor the name of a language model ({', '.join(NAMES)}): check the path,"
            " or make one with 'littlefoot lm build'"
        )
    return path


def _written(path: str | Path, scores: Mapping[str, float], vocabulary: Vocabulary) -> dict[str, str]:
    """Map the alphabet's spelling of words to the model's; of several, the identical or else the likeliest
    one.
    """
    forms: dict[str, str] = {}
    words = [token for token in scores if token not in SPECIAL]
    foreign = Foreign(vocabulary)
    for word in sorted(words, key=scores.__getitem__, reverse=True):
        tokens = foreign.spell(word)
        if tokens is not None:
            forms.setdefault("".join(vocabulary.tokens[token] for token in tokens), word)
    forms |= {word: word for word in words if word in forms}
    foreign.check(path)
    return forms


class Foreign:
    """Counts the words of a file that an alphabet cannot spell; they are of no use."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._characters: Counter[str] = Counter()
        self._good = self._bad = 0

    def spell(self, word: str) -> list[int] | None:
        """Return the tokens of a word; None if some are missing."""
        tokens, missing = self._vocabulary.spell(word)
        self._characters.update(sorted(set(missing)))
        self._good, self._bad = self._good + (not missing), self._bad + bool(missing)
        return None if missing else tokens

    def check(self, path: str | Path) -> None:
        """Report the number of words that were left out.

        Raises:
            ConfigError: more than half of them, so that the file was a mistake; the message names the
                characters that most of them need.
        """
        named = " ".join(repr(character) for character, _ in self._characters.most_common(8))
        what = f"{self._bad} of its {self._good + self._bad} words need characters such as {named}"
        if self._bad > self._good:
            shown = "".join([token for token in self._vocabulary.written if token][:60])
            raise ConfigError(
                f"{path}: {what}, which the recogniser's alphabet {shown} lacks: use a file in its letters"
            )
        if self._bad:
            log.warning("%s: %s, which the alphabet lacks: they are left out", path, what)
