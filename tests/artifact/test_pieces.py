"""Alphabets of SentencePiece's pieces spell as the tokenizers of transformers do, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from checkpoints import MERGES, PIECES, write_json, write_pieces
from hypothesis import given
from hypothesis import strategies as st

from littlefoot.artifact import pieces, tokenizer
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.align import align
from littlefoot.decode.beam import COMMIT_FRAMES, BeamConfig, BeamDecoder
from littlefoot.decode.greedy import GreedySearch, greedy
from littlefoot.decode.known_text import KnownText
from littlefoot.errors import ArtifactError, CheckpointError, ConfigError, ManifestError

TOKENS = list(PIECES)
TEXTS = ("the cat sat", "hating the thing's end", "in a the an he", "ingest at tea", "a é")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What ``ParakeetProcessor`` saves."""
    path = tmp_path_factory.mktemp("tokenizer")
    write_pieces(path)
    return path


@pytest.fixture(scope="module")
def vocabulary(directory: Path) -> Vocabulary:
    return tokenizer.read(directory, len(TOKENS), len(TOKENS) - 1)


@pytest.fixture(scope="module")
def theirs(directory: Path) -> Any:
    return transformers.AutoTokenizer.from_pretrained(directory)


def logits(tokens: list[int], frames: int = 2) -> np.ndarray:
    """Frames in which the best path says tokens, with a blank behind each: (F, V)."""
    path = [each for token in tokens for each in (*[token] * frames, len(TOKENS) - 1)]
    return 9 * np.eye(len(TOKENS), dtype=np.float32)[path]


# Spelling


@pytest.mark.parametrize("text", TEXTS)
def test_texts_have_the_tokens_that_transformers_gives_them(
    text: str, vocabulary: Vocabulary, theirs: Any
) -> None:
    assert vocabulary.encode(text) == theirs.encode(text)
    assert vocabulary.decode(vocabulary.encode(text)) == text == theirs.decode(theirs.encode(text))


@given(text=st.text("abcdeghinst' ", max_size=30))
def test_so_has_any_text(text: str, vocabulary: Vocabulary, theirs: Any) -> None:
    text = " ".join(text.split())
    assert vocabulary.encode(text) == (theirs.encode(text) if text else [])


def test_words_may_have_another_case_and_lack_characters(vocabulary: Vocabulary) -> None:
    assert vocabulary.encode("The CAT") == vocabulary.encode("the cat")
    assert vocabulary.spell("the, c4t")[1] == [",", "4"]
    with pytest.raises(ManifestError, match="outside of the model's alphabet: 'z'"):
        vocabulary.encode("zen")


def test_parts_of_a_word_are_those_of_its_tokens(vocabulary: Vocabulary) -> None:
    index = TOKENS.index
    parts = vocabulary.pieces("hat,ing")
    assert parts == [
        ("h", [index("▁"), index("h")]),
        ("at", [index("at")]),
        (",", []),
        ("ing", [index("ing")]),
    ]


# Files


def test_an_alphabet_survives_being_written(vocabulary: Vocabulary, theirs: Any, tmp_path: Path) -> None:
    for name, content in tokenizer.files(vocabulary).items():
        write_json(tmp_path / name, content)
    assert tokenizer.read(tmp_path, len(TOKENS), len(TOKENS) - 1) == vocabulary
    again = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert [again.encode(text) for text in TEXTS] == [theirs.encode(text) for text in TEXTS]
    assert again.pad_token_id == len(TOKENS) - 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "Unigram"}, "model of type Unigram: only SentencePiece's byte-pair encoding"),
        ({"type": "WordPiece"}, "model of type WordPiece"),
        ({"merges": [["a"]]}, "it is damaged"),
        ({"merges": 3}, "it is damaged"),
        ({"vocab": ["a"]}, "it is damaged"),
        ({"vocab": {"a": 0, "b": 1}, "merges": []}, "no token that begins a word with '▁'"),
        ({"vocab": {"▁": 0, "b": "1"}, "merges": []}, "index of 'b' must be an integer"),
    ],
)
def test_other_tokenizers_and_damaged_ones_are_refused(
    changes: dict[str, Any], message: str, directory: Path, tmp_path: Path
) -> None:
    content = json.loads((directory / tokenizer.PIECES).read_text(encoding="utf-8"))
    write_json(tmp_path / tokenizer.PIECES, {**content, "model": {**content["model"], **changes}})
    with pytest.raises(CheckpointError, match=message):
        tokenizer.read(tmp_path, len(TOKENS), len(TOKENS) - 1)


def test_merges_of_another_model_are_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(CheckpointError, match="merges make 'qu', which are no tokens"):
        Vocabulary(vocabulary.tokens, vocabulary.blank, merges=(("q", "u"),)).encode("a")


def test_merges_of_older_files_are_read() -> None:
    content = pieces.content(TOKENS, [], tuple(MERGES))
    content["model"]["merges"] = [" ".join(pair) for pair in MERGES]
    assert pieces.read(content).merges == tuple(MERGES)


def test_bytes_have_no_text() -> None:
    found = pieces.read(pieces.content(["▁", "<0x41>", "a"], [], ()))
    assert found.special == {"<0x41>"}


def test_without_any_alphabet_the_usual_file_is_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"vocab\.json is missing"):
        tokenizer.read(tmp_path, 3, 0)


# Decoding


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_told_apart_in_any_search(text: str, vocabulary: Vocabulary) -> None:
    spoken = logits(vocabulary.encode(text))
    found = greedy(spoken, vocabulary, 0.08)
    assert found.text == text
    assert [word.word for word in found.words] == text.split()
    assert all(word.start < word.end for word in found.words)
    parts = GreedySearch(vocabulary, 0.08)
    words = [word for row in spoken for word in parts.feed(row[None])] + parts.finish()
    assert words == found.words
    search = BeamDecoder(vocabulary, 0.08, BeamConfig(beam=4)).start()
    search.feed(spoken)
    assert search.finish().alternatives[0].text == text


def test_a_long_search_gives_up_whole_words_only(vocabulary: Vocabulary) -> None:
    text = " ".join(["hating the thing"] * (COMMIT_FRAMES // 10))
    search = BeamDecoder(vocabulary, 0.08, BeamConfig(beam=4)).start()
    search.feed(logits(vocabulary.encode(text)))
    assert search.words
    assert {word.word for word in search.words} <= {"hating", "the", "thing"}
    assert search.finish().alternatives[0].text == text


def test_a_pause_ends_a_word(vocabulary: Vocabulary) -> None:
    rest = TOKENS.index("ing")
    spoken = [*vocabulary.encode("the"), vocabulary.pause, rest]
    assert greedy(logits(spoken), vocabulary, 0.08).text == "the ing"


def test_a_known_text_is_aligned_by_its_words(vocabulary: Vocabulary) -> None:
    known = KnownText("The cat sat, hating!", vocabulary)
    spoken = logits(vocabulary.encode("the cat sat hating"))
    words = known.words(align(spoken, known.tokens, vocabulary), 0.08)
    assert [word.word for word in words] == ["The", "cat", "sat,", "hating!"]
    decoded = greedy(spoken, vocabulary, 0.08).words  # in which ▁ alone has no time
    for word, heard in zip(words, decoded, strict=True):
        assert word.start <= heard.start < heard.end <= word.end


def test_language_models_of_letters_are_refused(vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError, match="this model's tokens are pieces of words: leave them out"):
        BeamDecoder(vocabulary, 0.08, hotwords={"cat": 2.0})
