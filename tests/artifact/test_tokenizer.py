"""What a tokenizer's files decide about text: as transformers reads them, or a clear error."""

from __future__ import annotations

import logging
import random
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import transformers
from checkpoints import write_json

from littlefoot.artifact import tokenizer
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.errors import ArtifactError, CheckpointError

LETTERS = ["A", "B", "c", "d", "Ä", "ß", "你", "'", ".", "n't", "tʃ", "oʊ", "ng", "'s", "q̃", "Ω"]
ODD = ["<noise>", "[laugh]", "<x>", "-"]


def saved(directory: Path, vocabulary: dict[str, Any], **files: Any) -> Path:
    """A directory with ``vocab.json`` and other files, by their names without ``.json``."""
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in {"vocab": vocabulary, **files}.items():
        write_json(directory / f"{name}.json", content)
    return directory


def table(*tokens: str) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


# Random settings


def random_files(rng: random.Random, directory: Path) -> tuple[dict[str, Any], int]:
    """Write a tokenizer as people have them; its settings, and how many tokens it has."""
    phones = rng.random() < 0.3
    named = {
        "pad_token": rng.choice(["<pad>", "[PAD]", "<blank>", "_"]),
        "unk_token": rng.choice(["<unk>", "[UNK]"]),
        "bos_token": rng.choice(["<s>", "[BOS]"]),
        "eos_token": rng.choice(["</s>", "[EOS]"]),
    }
    delimiter = rng.choice(["|", "|", " ", "<space>", None if phones else "|"])
    letters = rng.sample(LETTERS, rng.randint(3, 10)) + rng.sample(ODD, rng.randint(0, 2))
    inside = [token for key, token in named.items() if key == "pad_token" or rng.random() < 0.7]
    added = [] if phones or rng.random() < 0.6 else [token for token in inside if rng.random() < 0.5]
    tokens = letters + [token for token in inside if token not in added]
    if delimiter and rng.random() < 0.8:
        tokens.append(delimiter)
    rng.shuffle(tokens)
    vocabulary: dict[str, Any] = table(*tokens)
    rows = {len(tokens) + place: token for place, token in enumerate(added)}
    settings: dict[str, Any] = {"tokenizer_class": tokenizer.PHONES if phones else tokenizer.CTC}
    settings["word_delimiter_token"] = delimiter
    files: dict[str, Any] = {}
    for key, token in named.items():
        settings[key] = rng.choice([token, added_token(token)])
    if not phones:
        settings |= rng.choice([{}, {"do_lower_case": True}, {"do_lower_case": False}])
        settings |= rng.choice([{}, {}, {"replace_word_delimiter_char": rng.choice([" ", "~", ""])}])
        if rng.random() < 0.2 and not rows:
            vocabulary = {"deu": vocabulary, "eng": table(*reversed(tokens))}
            settings["target_lang"] = "deu"
    else:
        settings |= {"phone_delimiter_token": " ", "do_phonemize": False}
    settings |= rng.choice([{}, {"clean_up_tokenization_spaces": rng.random() < 0.5}])
    if rng.random() < 0.3:
        settings["additional_special_tokens"] = [token for token in ODD if token in tokens]
    if rows and rng.random() < 0.5:
        settings["added_tokens_decoder"] = {
            str(index): {**added_token(token), "special": True} for index, token in rows.items()
        }
    elif rows:
        files["added_tokens"] = {token: index for index, token in rows.items()}
    if rng.random() < 0.4 and "added_tokens_decoder" not in settings:
        files["special_tokens_map"] = {key: added_token(token, mark=False) for key, token in named.items()}
        settings = {key: value for key, value in settings.items() if key not in named}
    saved(directory, vocabulary, tokenizer_config=settings, **files)
    return settings, len(tokens) + len(added)


def added_token(content: str, mark: bool = True) -> dict[str, Any]:
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    return {**({"__type": "AddedToken"} if mark else {}), "content": content, **flags}


def by_transformers(oracle: Any, delimiter: str | None, ids: list[int], count: int) -> str:
    """The text that transformers decodes, in which special tokens write nothing, as blanks do."""
    oracle._word_delimiter_token = delimiter  # which version 5.23 forgets when it loads the files
    special = (set(oracle.all_special_tokens) | tokenizer.NEVER_TEXT) - {oracle._word_delimiter_token}
    blank = oracle.convert_tokens_to_ids(oracle.pad_token)
    silent = [
        blank if index >= count or oracle.convert_ids_to_tokens(index) in special else index for index in ids
    ]
    text = " ".join(oracle.decode(silent, clean_up_tokenization_spaces=False).split())
    return str(oracle.clean_up_tokenization(text)) if oracle.clean_up_tokenization_spaces else text


def test_texts_of_random_tokenizers_are_those_of_transformers(tmp_path: Path) -> None:
    texts = set()
    for seed in range(600):
        rng = random.Random(seed)
        directory = tmp_path / str(seed)
        settings, count = random_files(rng, directory)
        outputs = count + rng.randint(0, 2)  # those without a token write nothing
        delimiter = settings["word_delimiter_token"]
        oracle = getattr(transformers, settings["tokenizer_class"]).from_pretrained(directory)
        found = tokenizer.read(directory, outputs, rng.choice([None, 0, 1]))
        assert found.blank == oracle.convert_tokens_to_ids(oracle.pad_token), seed
        frames = [rng.randrange(outputs) for _ in range(40)]
        path = [index for index, _ in groupby(frames)]
        expected = by_transformers(oracle, delimiter, frames, count)
        expected = "~".join(filter(None, expected.split("~")))  # repeated delimiters make no words
        assert found.decode(path) == expected, (seed, directory)
        again = tokenizer.read(saved(directory / "again", {}, **again_files(found)), outputs, None)
        assert again == found, seed
        texts.add(expected)
    assert len(texts) > 500


def again_files(vocabulary: Vocabulary) -> dict[str, Any]:
    return {name.removesuffix(".json"): content for name, content in tokenizer.files(vocabulary).items()}


# Each file


def test_an_upper_case_alphabet_may_write_lower_case(tmp_path: Path) -> None:
    greek = table("<pad>", "|", "Λ", "Ο", "Γ", "Σ")  # noqa: RUF001
    found = tokenizer.read(saved(tmp_path, greek, tokenizer_config={"do_lower_case": True}), 6, 0)
    assert found.decode([2, 3, 4, 3, 5, 1, 5, 2]) == "λογος σλ"
    assert found.encode("λογος") == [2, 3, 4, 3, 5]


def test_phones_have_spaces_between_and_are_words(tmp_path: Path) -> None:
    phones = table("<pad>", "t", "ʃ", "tʃ", "|")
    settings = {"phone_delimiter_token": " ", "word_delimiter_token": "|", "pad_token": "<pad>"}
    found = tokenizer.read(saved(tmp_path, phones, tokenizer_config=settings), 5, 0)
    assert found.phones
    assert found.decode([3, 4, 1, 2]) == "tʃ t ʃ"
    assert found.encode("tʃ t ʃ") == [3, 1, 2]
    assert found.unknown("tʃ x") == {"x"}


def test_the_class_may_stand_in_config_json(tmp_path: Path) -> None:
    directory = saved(tmp_path, table("<pad>", "t"))
    assert tokenizer.read(directory, 2, 0, family="Wav2Vec2PhonemeCTCTokenizer").phones
    assert not tokenizer.read(directory, 2, 0).phones


def test_brackets_are_text_where_the_files_do_not_say_that_they_are_special(tmp_path: Path) -> None:
    tokens = table("<pad>", "|", "A", "<noise>", "[UNK]")
    plain = saved(tmp_path / "plain", tokens)
    assert tokenizer.read(plain, 5, 0).decode([2, 1, 3, 4]) == "A"
    declared = saved(tmp_path / "declared", tokens, special_tokens_map={"pad_token": "<pad>"})
    assert tokenizer.read(declared, 5, 0).decode([2, 1, 3, 4]) == "A <noise>"
    named = {"pad_token": "<pad>", "additional_special_tokens": [added_token("<noise>")]}
    special = saved(tmp_path / "special", tokens, special_tokens_map=named)
    assert tokenizer.read(special, 5, 0).decode([2, 1, 3, 4]) == "A"


# The blank


BLANK = table("|", "a", "b", "[UNK]", "[PAD]")


@pytest.mark.parametrize("configured", [None, 0, 4, 33, -1])
def test_the_tokenizer_decides_about_the_blank(
    configured: int | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = saved(tmp_path, BLANK, tokenizer_config={"pad_token": "[PAD]"})
    assert tokenizer.read(directory, 5, configured).blank == 4
    assert ("'[PAD]' (4)" in caplog.text and "'|' (0)" in caplog.text) == (configured == 0)


def test_without_a_tokenizer_config_json_does(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    directory = saved(tmp_path, BLANK)
    assert tokenizer.read(directory, 5, 3).blank == 3
    assert not caplog.text
    assert tokenizer.read(directory, 5, None).blank == 4
    assert tokenizer.read(directory, 5, 1).blank == 4  # "a" is text
    assert "'a' (1) in config.json" in caplog.text


def test_no_blank_is_refused(tmp_path: Path) -> None:
    directory = saved(tmp_path, table("a", "b"), tokenizer_config={"pad_token": "<pad>"})
    with pytest.raises(CheckpointError, match=r"which token is the CTC blank.*pad_token_id.*pad_token that"):
        tokenizer.read(directory, 2, None)


def test_two_files_that_disagree_are_both_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = {"tokenizer_config": {"pad_token": "a"}, "special_tokens_map": {"pad_token": "[PAD]"}}
    assert tokenizer.read(saved(tmp_path, BLANK, **files), 5, None).blank == 4
    assert "'a' in tokenizer_config.json and '[PAD]' in special_tokens_map.json: the latter" in caplog.text


# Indices


def test_of_two_tokens_with_one_index_the_last_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = tokenizer.read(saved(tmp_path, {"<pad>": 0, "a": 1, "b": 1}), 2, 0)
    assert found.tokens == ("<pad>", "b")
    assert "'a', 'b' all have the index 1: the last is used" in caplog.text


def test_the_blank_may_share_its_index(tmp_path: Path) -> None:
    tokens = {"[PAD]": 0, "<s>": 0, "a": 1}
    found = tokenizer.read(saved(tmp_path, tokens, tokenizer_config={"pad_token": "[PAD]"}), 2, 1)
    assert (found.blank, found.decode([0, 1])) == (0, "a")


def test_outputs_without_a_token_write_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "littlefoot"):
        found = tokenizer.read(saved(tmp_path, {"<pad>": 0, "a": 2}), 4, 0)
    assert found.tokens == ("<pad>", "<unused-1>", "a", "<unused-3>")
    assert found.decode([1, 2, 3]) == "a"
    assert "outputs without a token, which add no text: 1, 3" in caplog.text


def test_special_tokens_beyond_the_outputs_do_no_harm_but_letters_do(tmp_path: Path) -> None:
    assert tokenizer.read(saved(tmp_path, table("<pad>", "a", "<bos>")), 2, 0).tokens == ("<pad>", "a")
    with pytest.raises(CheckpointError, match=r"tokens 'b' beyond the 2 outputs.*another model"):
        tokenizer.read(saved(tmp_path, table("<pad>", "a", "b")), 2, 0)


# Languages

NESTED = {"eng": table("<pad>", "|", "a"), "deu": table("<pad>", "|", "ä")}


@pytest.mark.parametrize(
    ("saved_for", "asked", "letter"),
    [(None, None, "a"), ("deu", None, "ä"), ("deu", "eng", "a"), ("deu", "deu", "ä"), ("eng", "deu", "ä")],
)
def test_the_alphabet_is_of_the_language_that_was_asked_for_or_saved(
    saved_for: str | None, asked: str | None, letter: str, tmp_path: Path
) -> None:
    directory = saved(tmp_path, NESTED, tokenizer_config={"target_lang": saved_for, "pad_token": "<pad>"})
    assert tokenizer.read(directory, 3, 0, asked).tokens[2] == letter


def test_the_only_language_may_be_named(tmp_path: Path) -> None:
    directory = saved(tmp_path, NESTED["deu"], tokenizer_config={"target_lang": "deu"})
    assert tokenizer.read(directory, 3, 0, "deu").tokens[2] == "ä"
    with pytest.raises(CheckpointError, match="one language only"):
        tokenizer.read(directory, 3, 0, "eng")


# A file that is missing


def test_a_training_checkpoint_learns_where_its_vocabulary_is(tmp_path: Path) -> None:
    directory = tmp_path / "checkpoint-500"
    directory.mkdir()
    with pytest.raises(
        ArtifactError, match=r"vocab\.json is missing: .*processor\.save_pretrained\('.*-500'\)"
    ):
        tokenizer.read(directory, 2, 0)
    saved(tmp_path, table("<pad>", "a"))
    with pytest.raises(ArtifactError, match=f"vocab.json is missing: copy it from {tmp_path}"):
        tokenizer.read(directory, 2, 0)
