"""What is to be labelled, by which model, in which parts."""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from littlefoot import artifact
from littlefoot.artifact import checkpoint, companions
from littlefoot.audio import manifest
from littlefoot.audio.manifest import Corpus, Utterance
from littlefoot.decode import lm as language_models
from littlefoot.errors import LittlefootError, ManifestError
from littlefoot.runtime.specification import Specification
from littlefoot.runtime.transcriber import Transcriber

_FITS_A_TABLE = re.compile(r"[^\t\r\n\ud800-\udfff]+").fullmatch

SHARD_ROWS = 100
"""Some minutes of a worker's time at most, so that little is lost when one dies."""


@dataclass(frozen=True)
class Label:
    """What became of one recording."""

    row: int
    """Its place in the corpus."""
    id: str
    text: str = ""
    seconds: float | None = None
    """Its length as heard."""
    confidence: float | None = None
    """0..1 (``worker.confidence``); None where it has no text."""
    error: str | None = None
    """Why it has no text."""


@dataclass(frozen=True)
class Task:
    """The recordings of a shard that are still to be heard."""

    shard: int
    rows: tuple[int, ...]
    """Places in the corpus."""


@dataclass(frozen=True)
class Job:
    """All that a worker has to know; may be pickled."""

    corpus: Corpus
    transcriber: Transcriber
    model_sha256: str
    shard_rows: int

    @property
    def shards(self) -> int:
        """How many there are."""
        return -(-len(self.corpus) // self.shard_rows)

    def rows(self, shard: int) -> range:
        """The places in the corpus that are a shard's."""
        begin = shard * self.shard_rows
        return range(begin, min(begin + self.shard_rows, len(self.corpus)))

    def utterances(self, shard: int) -> Corpus:
        """What is to be labelled of a shard."""
        rows = self.rows(shard)
        return self.corpus[rows.start : rows.stop]


@dataclass(frozen=True)
class Archive:
    """The rows of manifests, and what is known of them as a whole."""

    corpus: Corpus
    sha256: str
    """Of ids and paths, in their order."""
    sets_in_ids: bool
    """Whether ids occur in several manifests, so that the name of its set must stand before each."""
    slots: bool
    """Whether any row has slots."""

    def new_id(self, utterance: Utterance) -> str:
        """An id that is unique among all rows."""
        return f"{utterance.set_name}/{utterance.id}" if self.sets_in_ids else utterance.id


def read_archive(manifests: Sequence[str | Path], split: str | None = None) -> Archive:
    """The rows of manifests, of one split or of all; 32 bytes of memory for each.

    Raises ManifestError: as ``manifest.index``; nothing is in the split; an id or path holds a tab or a line
    break, or is there twice in sets of one name.
    """
    corpus = manifest.index([os.path.abspath(path) for path in manifests])  # workers may be elsewhere
    names = ", ".join(map(str, manifests))
    if split is not None:
        chosen = corpus.of_split(split)
        if not chosen:
            present = ", ".join(sorted({utterance.split for utterance in corpus}))
            raise ManifestError(f"{names}: no utterance is in split '{split}': choose one of: {present}")
        corpus = chosen
    digest = hashlib.sha256()
    ids, with_sets = array("q"), array("q")
    slots = False
    for utterance in corpus:
        for value in (utterance.id, str(utterance.path)):
            if not _FITS_A_TABLE(value):
                raise ManifestError(
                    f"{names}: {value!r} holds a tab, a line break or half of a character, for which a"
                    " manifest of labels has no place: rename it"
                )
        digest.update(f"{utterance.id}\t{utterance.path}\n".encode())
        ids.append(hash(utterance.id))
        with_sets.append(hash((utterance.set_name, utterance.id)))
        slots = slots or utterance.slots is not None
    sets_in_ids = _repeats(ids)
    if sets_in_ids and _repeats(with_sets):
        raise ManifestError(
            f"{names}: ids occur twice in sets of the same name (their folders'): was a manifest given twice?"
            " Rename a folder, or label them one by one"
        )
    return Archive(corpus, digest.hexdigest(), sets_in_ids, slots)


def _repeats(hashes: array[int]) -> bool:
    return len(np.unique(np.array(hashes, np.int64))) < len(hashes)


@dataclass(frozen=True)
class Model:
    """Which model labels."""

    sha256: str
    """Of all that decides what it says."""
    origin: dict[str, str] | None
    """Its repository on the Hub, and the commit, if it is from there."""


def find_model(specification: Specification) -> Model:
    """The model as it is here and now."""
    loaded = checkpoint.load(specification.model, language=specification.options.language)
    origin = loaded.config.littlefoot.origin
    return Model(artifact.fingerprint(loaded), None if origin is None else origin.to_dict())


def file_fingerprint(path: Path) -> str:
    """A SHA-256 of a file. Raises LittlefootError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LittlefootError(f"{path}: cannot be read ({error.strerror}): check the path") from error


def describe(archive: Archive, transcriber: Transcriber, model: Model, split: str | None) -> dict[str, Any]:
    """What must be the same for a job to go on; of files that decide about the text the content counts."""
    return {
        "model": transcriber.specification.model,
        "model_sha256": model.sha256,
        "model_origin": model.origin,
        "rows": len(archive.corpus),
        "manifest_sha256": archive.sha256,
        "split": split,
        "decoding": _decoding(transcriber),
    }


def _decoding(transcriber: Transcriber) -> dict[str, Any]:
    """The options that decide about the text."""
    loading, decoding = transcriber.specification.options, transcriber.decoding
    known: dict[str, Any] = {
        "engine": loading.engine,
        "precision": loading.precision,
        "language": loading.language,
        "layers": loading.layers,
        "vad": transcriber.vad,
        "beam": decoding.beam,
        "lm": decoding.lm and file_fingerprint(language_models.locate(companions.locate(decoding.lm).path)),
        "alpha": decoding.alpha,
        "beta": decoding.beta,
        "hotwords": decoding.hotwords and file_fingerprint(decoding.hotwords),
        "lexicon": decoding.lexicon and file_fingerprint(decoding.lexicon),
    }
    if loading.bits is not None:  # left out otherwise, so that jobs begun without this setting can be resumed
        known["bits"] = loading.bits
    return known
