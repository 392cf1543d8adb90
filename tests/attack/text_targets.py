"""The readers of text files: manifests, language models, lexicons, hot words, recipes."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from artifacts import tiny
from campaign import Target

from littlefoot.audio import manifest
from littlefoot.compress import recipe as recipes
from littlefoot.decode import arpa, hotwords, lexicon, ngram
from littlefoot.training import pronunciations

VOCABULARY = tiny().vocabulary
RECIPES = Path(__file__).parents[2] / "recipes"

TABLE = (
    b"id\tpath\tseconds\tspeaker\tsplit\ttext\n"
    b"a\ta.wav\t1.5\tanna\ttrain\tNO TEA\n"
    b"b\tb.flac\t\t\ttest\t\n"
    b"c\tsub/c.ogg\t12\tben\tdev\t\xc3\x89TAT 'N\n"
)
LINES = (
    b'{"id": "a", "path": "a.wav", "seconds": 1.5, "speaker": "x", "split": "train", "text": "TEA"}\n'
    b'{"id": "b", "path": "b.wav", "seconds": null, "speaker": "", "split": "test", "text": ""}\n'
)


@cache
def folder() -> Path:
    """Where a process keeps its files."""
    path = Path(tempfile.mkdtemp(prefix="littlefoot-attack-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


def written(data: bytes, name: str) -> Path:
    path = folder() / name
    path.write_bytes(data)
    return path


def read_manifest(data: bytes, original: bytes, name: str) -> None:
    """Both ways of reading see the same rows."""
    path = written(data, name)
    rows = manifest.read(path)
    assert rows, "no rows and no error"
    corpus = manifest.index(path)
    assert [row.id for row in corpus] == [row.id for row in rows], "index and read differ"
    for row in rows:
        assert row.seconds is None or np.isfinite(row.seconds), f"{row.seconds} seconds"


def language_model() -> bytes:
    sentences = [list("TEA|AT|TEN"), list("A|NOTE"), list("NO|TEA|TO|EAT")]
    path = folder() / "good.arpa"
    arpa.write_arpa(ngram.estimate(sentences, 3), path)
    return path.read_bytes()


def read_language_model(data: bytes, original: bytes) -> None:
    model = arpa.read_arpa(written(data, "model.arpa"))
    state = model.begin()
    for token in ("T", "E", "A", "|", "<unk>", "Q"):
        score, state = model.step(state, token)
        assert np.isfinite(score), f"the score of {token} is {score}"


def call(data: bytes, original: bytes, name: str, read: Callable[[Path], Any]) -> None:
    read(written(data, name))


def _is_training(path: Path) -> bool:
    return b"\nsteps:" not in b"\n" + path.read_bytes()


_ALL = sorted(RECIPES.glob("*.yaml"))

TARGETS = [
    Target("manifest, table", lambda: [TABLE], partial(read_manifest, name="manifest.tsv"), share=2),
    Target("manifest, JSON lines", lambda: [LINES], partial(read_manifest, name="manifest.jsonl")),
    Target("language model (ARPA)", lambda: [language_model()], read_language_model, share=2),
    Target(
        "lexicon",
        lambda: [b"TEA\nNOTE\nEAT\n", b"NO\r\nTEN\r\n"],
        partial(call, name="words.txt", read=lambda path: lexicon.read_lexicon(path, VOCABULARY)),
    ),
    Target(
        "hot words",
        lambda: [b"TEA\nNOTE\t3.5\nNO TEN\t2\n"],
        partial(call, name="hot.txt", read=lambda path: hotwords.read_hotwords(path, VOCABULARY)),
    ),
    Target(
        "pronunciations",
        lambda: [b"tea T E A\nnote N O T E\n;;; of nobody\nten(2) T E N\n"],
        partial(
            call,
            name="phones.txt",
            read=lambda path: pronunciations.read_pronunciations(str(path), VOCABULARY),
        ),
    ),
    Target(
        "recipes, compression",
        lambda: [path.read_bytes() for path in _ALL if not _is_training(path)],
        partial(call, name="steps.yaml", read=recipes.load),
        slowness=5,
    ),
    Target(
        "recipes, training",
        lambda: [path.read_bytes() for path in _ALL if _is_training(path)],
        partial(call, name="train.yaml", read=recipes.load),
        slowness=5,
    ),
]
