"""Read the files of a tokenizer, which determine the text: tokens, blank, words, case, phones, pieces.

``vocab.json``, ``tokenizer_config.json``, ``special_tokens_map.json`` and ``added_tokens.json`` are read as
``Wav2Vec2CTCTokenizer`` and ``Wav2Vec2PhonemeCTCTokenizer`` of transformers read them; where ``vocab.json``
is missing, ``tokenizer.json`` as ``ParakeetTokenizer`` reads it. If two of them, or one and ``config.json``,
disagree, a warning names both and the one that is used.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from littlefoot.artifact import pieces
from littlefoot.artifact.json_files import read_json, read_optional
from littlefoot.artifact.vocabulary import (
    WORD_DELIMITER,
    Vocabulary,
    checked_table,
    choose_language,
    looks_special,
)
from littlefoot.errors import ArtifactError, CheckpointError

log = logging.getLogger("littlefoot")

VOCABULARY, SETTINGS = "vocab.json", "tokenizer_config.json"
_MAP, _ADDED = "special_tokens_map.json", "added_tokens.json"
PIECES = "tokenizer.json"
FILES = (VOCABULARY, SETTINGS, PIECES, _MAP, _ADDED)
"""All files that are read."""
CTC, PHONES, _PIECES = "Wav2Vec2CTCTokenizer", "Wav2Vec2PhonemeCTCTokenizer", "ParakeetTokenizer"
"""Classes of tokenizers, as ``tokenizer_config.json`` names them."""

_DEFAULTS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
NEVER_TEXT = {
    *("<s>", "</s>", "<pad>", "<unk>", "<mask>", "<blank>", "<bos>", "<eos>"),
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[BOS]", "[EOS]", "[BLANK]"),
}
_BLANKS = ("<pad>", "[PAD]", "<blank>", "[BLANK]", "<ctc>", "<ctc_blank>")


class Settings(NamedTuple):
    """The content of the files beside ``vocab.json``."""

    values: dict[str, Any]
    """Settings of the tokenizer; special tokens as text, None for removed ones."""
    added: dict[int, str]
    """Tokens after those of ``vocab.json``."""
    special: frozenset[str]
    """Tokens without text."""
    declared: bool
    """Whether such files exist."""

    @property
    def phones(self) -> bool:
        return "Phoneme" in str(self.values.get("tokenizer_class"))

    @property
    def language(self) -> str | None:
        """Return the language that the tokenizer was saved for (MMS)."""
        language = self.values.get("target_lang")
        return language if isinstance(language, str) else None


def read(
    directory: Path, outputs: int, blank: int | None, language: str | None = None, family: str = ""
) -> Vocabulary:
    """Read the vocabulary of an artifact or checkpoint.

    Args:
        directory: the directory of the files.
        outputs: number of the network's outputs, and of the vocabulary's tokens.
        blank: ``pad_token_id`` of ``config.json``, None if it is absent.
        language: for MMS, the language of the alphabet; None: that of the saved model, else English.
        family: the tokenizer's class by ``config.json``, for files that do not name it.

    Raises:
        ArtifactError: a file is missing or not JSON.
        CheckpointError: no file names the blank, the language is unknown, or the tokens are
            those of another model.
    """
    settings = read_settings(directory, family)
    content = read_vocabulary(directory)
    chosen = choose_language(content, language, settings.language)
    table = checked_table(content if chosen is None else content[chosen])
    tokens, index = _tokens(table, settings, outputs)
    found = _blank(tokens, index, settings, outputs, blank)
    delimiter = settings.values.get("word_delimiter_token", WORD_DELIMITER)
    space = settings.values.get("replace_word_delimiter_char", " ")
    if not isinstance(delimiter, str) or delimiter not in tokens:
        delimiter, space = " ", " "
    return Vocabulary(
        tuple(tokens),
        found,
        delimiter,
        _special(tokens, settings),
        space if isinstance(space, str) and not settings.phones else " ",
        bool(settings.values.get("do_lower_case")) and not settings.phones,
        settings.phones,
        bool(settings.values.get("clean_up_tokenization_spaces")),
        pieces.read(read_json(directory / PIECES)).merges if _of_pieces(directory) else None,
    )


def files(vocabulary: Vocabulary) -> dict[str, dict[str, Any]]:
    """Return the contents of files from which ``read`` and transformers make this vocabulary."""
    tokens = vocabulary.tokens
    if vocabulary.merges is not None:
        alphabet = pieces.content(tokens, sorted(vocabulary.special or ()), vocabulary.merges)
        values = {"tokenizer_class": _PIECES, "pad_token": tokens[vocabulary.blank]}
        return {
            PIECES: alphabet,
            SETTINGS: {**values, **({"unk_token": "<unk>"} if "<unk>" in tokens else {})},
        }
    special = sorted((vocabulary.special or frozenset()) - {tokens[vocabulary.blank]})
    named = {key: token for key, token in _DEFAULTS.items() if key != "pad_token" and token in special}
    more = [token for token in special if token not in named.values()]
    delimited = vocabulary.word_delimiter in tokens
    settings: dict[str, Any] = {
        "tokenizer_class": PHONES if vocabulary.phones else CTC,
        "pad_token": tokens[vocabulary.blank],
        "word_delimiter_token": vocabulary.word_delimiter if delimited else None,
        **named,
        **({"additional_special_tokens": more} if more else {}),
        **({"do_lower_case": True} if vocabulary.lower_case else {}),
        **({"clean_up_tokenization_spaces": True} if vocabulary.clean_up else {}),
        **({"replace_word_delimiter_char": vocabulary.space} if vocabulary.space != " " else {}),
        **({"phone_delimiter_token": " ", "do_phonemize": False} if vocabulary.phones else {}),
    }
    return {VOCABULARY: vocabulary.to_dict(), SETTINGS: settings}


def read_vocabulary(directory: Path) -> dict[str, Any]:
    """Read ``vocab.json``, or the tokens of ``tokenizer.json``.

    Raises ArtifactError that states where to find a missing one.
    """
    if _of_pieces(directory):
        return pieces.read(read_json(directory / PIECES)).table
    if not (directory / VOCABULARY).exists():
        raise ArtifactError(f"{VOCABULARY} is missing: {_where(directory)}")
    return read_json(directory / VOCABULARY)


def _of_pieces(directory: Path) -> bool:
    return not (directory / VOCABULARY).exists() and (directory / PIECES).exists()


def _where(directory: Path) -> str:
    for place in (directory.parent, *sorted(path for path in directory.iterdir() if path.is_dir())):
        if (place / VOCABULARY).exists():
            return f"copy it from {place}, with {SETTINGS} and preprocessor_config.json"
    return (
        "it is not part of a training checkpoint: save the tokenizer that the model was trained with there, "
        f"by processor.save_pretrained('{directory}'), or copy {VOCABULARY}, {SETTINGS} and "
        "preprocessor_config.json of the training's output directory or of the model that it began with"
    )


def read_settings(directory: Path, family: str = "") -> Settings:
    """Read the files beside ``vocab.json``; ``family`` as in ``read``."""
    values = read_optional(directory / SETTINGS)
    mapped = read_optional(directory / _MAP)
    rows: dict[int, Any] = {}
    if isinstance(values.get("added_tokens_decoder"), dict):
        rows = {int(index): row for index, row in values["added_tokens_decoder"].items()}
    else:
        _warn_of_differences(values, mapped)
        values = {**values, **mapped}
        rows = {
            index: token
            for token, index in read_optional(directory / _ADDED).items()
            if isinstance(index, int)
        }
    values = {**values, "tokenizer_class": values.get("tokenizer_class") or family}
    if not values["tokenizer_class"]:
        values["tokenizer_class"] = PHONES if "phone_delimiter_token" in values else CTC
    for key, value in values.items():
        if key.endswith("_token"):
            values[key] = _content(value)
    named = {**_DEFAULTS, **{key: values[key] for key in _NAMED if key in values}}
    more = [
        _content(token)
        for key in ("additional_special_tokens", "extra_special_tokens")
        for token in _list(values.get(key))
    ]
    flagged = [_content(row) for row in rows.values() if isinstance(row, dict) and row.get("special")]
    if _of_pieces(directory):
        flagged += pieces.read(read_json(directory / PIECES)).special
    special = frozenset(token for token in [*named.values(), *more, *flagged] if token)
    added = {index: content for index, row in rows.items() if (content := _content(row))}
    return Settings({**values, **named}, added, special, bool(values.get("pad_token") or mapped or added))


def _warn_of_differences(values: Mapping[str, Any], mapped: Mapping[str, Any]) -> None:
    for key, value in mapped.items():
        if key in _NAMED and key in values and _content(values[key]) != _content(value):
            log.warning(
                "%s is %r in %s and %r in %s: the latter is used, as transformers does",
                *(key, _content(values[key]), SETTINGS, _content(value), _MAP),
            )


def _content(token: Any) -> str | None:
    """Return the text of a token that is written as text, or as an object with properties."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else None


def _list(value: Any) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []


def _tokens(table: Mapping[str, int], settings: Settings, outputs: int) -> tuple[list[str], dict[str, int]]:
    """Return a token for each output, and the index of every token, including those beyond the outputs."""
    index = {**{token: place for place, token in settings.added.items()}, **table}
    by_index: dict[int, str] = dict(settings.added)
    doubles: dict[int, list[str]] = {}
    for token, place in table.items():
        doubles.setdefault(place, []).append(token)
        by_index[place] = token
    for place, names in doubles.items():
        if len(names) > 1:
            log.warning(
                "%s: %s all have the index %d: the last is used, as transformers does",
                *(VOCABULARY, ", ".join(map(repr, names)), place),
            )
    if settings.declared:  # transformers gives the next indices to special tokens without one
        for key in _NAMED:
            special = settings.values.get(key)
            if special and special not in index:
                index[special] = len(index)
                by_index.setdefault(index[special], special)
    beyond = [token for place, token in sorted(by_index.items()) if not 0 <= place < outputs]
    letters = [
        token
        for token in beyond
        if token in table and token not in settings.special and not looks_special(token)
    ]
    if letters:
        raise CheckpointError(
            f"{VOCABULARY} has the tokens {', '.join(map(repr, letters[:8]))} beyond the {outputs} outputs "
            "of the model: it belongs to another model: use the one that was saved with these weights"
        )
    tokens: list[str] = []
    for place in range(outputs):
        token = by_index.get(place, "")
        tokens.append(token if token and token not in tokens else f"<unused-{place}>")
    if missing := [place for place in range(outputs) if place not in by_index]:
        log.info("outputs without a token, which add no text: %s", ", ".join(map(str, missing)))
    return tokens, index


def _blank(
    tokens: list[str], index: Mapping[str, int], settings: Settings, outputs: int, configured: int | None
) -> int:
    """Return the index of the blank: the tokenizer's, which decodes, before that of ``config.json``."""
    pad = settings.values.get("pad_token")
    named = index.get(pad, -1) if pad else -1
    if configured is not None and not 0 <= configured < outputs:
        configured = None
    if 0 <= named < outputs:
        if configured not in (None, named):
            log.warning(
                "the blank is %r (%d) in the tokenizer's files and %r (%d) in config.json (pad_token_id): "
                "the tokenizer's is used, as transformers decodes with it",
                *(pad, named, tokens[configured or 0], configured),
            )
        return named
    likely = next((tokens.index(token) for token in _BLANKS if token in tokens), None)
    if configured is not None:
        if likely in (None, configured) or looks_special(tokens[configured]):
            return configured
        log.warning(
            "the blank is %r (%d) in config.json (pad_token_id), but the tokens have %r (%d): "
            "the latter is used, as the former is text",
            *(tokens[configured], configured, tokens[likely or 0], likely),
        )
    if likely is None:
        raise CheckpointError(
            "no file states which token is the CTC blank: config.json has no pad_token_id within the "
            f"{outputs} outputs, and {SETTINGS} no pad_token that {VOCABULARY} has: add one of them"
        )
    return likely


def _special(tokens: list[str], settings: Settings) -> frozenset[str]:
    """Return the tokens without text; if no file names them, those of the usual form."""
    placeholders = {f"<unused-{place}>" for place in range(len(tokens))}
    if settings.declared:
        return frozenset((settings.special | NEVER_TEXT | placeholders) & set(tokens))
    return frozenset(token for token in tokens if looks_special(token))
