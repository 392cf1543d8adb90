"""Describe a job: the recordings to label, the model and its options, and the shards."""

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
"""Rows of a shard: a few minutes of work at most, so that little is lost when a worker dies."""


@dataclass(frozen=True)
class Label:
    """The result for one recording: a text or an error."""

    row: int
    """Index of the recording in the corpus."""
    id: str
    text: str = ""
    seconds: float | None = None
    """Duration of the decoded audio."""
    confidence: float | None = None
    """Confidence of the text, 0..1 (``worker.confidence``); None if there is no text."""
    error: str | None = None
    """Reason why there is no text."""


@dataclass(frozen=True)
class Task:
    """The recordings of a shard that still have to be transcribed."""

    shard: int
    rows: tuple[int, ...]
    """Indices in the corpus."""


@dataclass(frozen=True)
class Job:
    """Everything that a worker needs. It can be pickled."""

    corpus: Corpus
    transcriber: Transcriber
    model_sha256: str
    shard_rows: int

    @property
    def shards(self) -> int:
        """Return the number of shards."""
        return -(-len(self.corpus) // self.shard_rows)

    def rows(self, shard: int) -> range:
        """Return the indices in the corpus of a shard's rows."""
        begin = shard * self.shard_rows
        return range(begin, min(begin + self.shard_rows, len(self.corpus)))

    def utterances(self, shard: int) -> Corpus:
        """Return the recordings of a shard."""
        rows = self.rows(shard)
        return self.corpus[rows.start : rows.stop]


@dataclass(frozen=True)
class Archive:
    """The rows of all manifests, and properties of them as a whole."""

    corpus: Corpus
    sha256: str
    """Checksum of the ids and paths, in order."""
    sets_in_ids: bool
    """Whether an id occurs in several manifests, so that every id is prefixed with the name of its set."""
    slots: bool
    """Whether any row has slots."""

    def new_id(self, utterance: Utterance) -> str:
        """Return an id that is unique among all rows."""
        return f"{utterance.set_name}/{utterance.id}" if self.sets_in_ids else utterance.id


def read_archive(
    manifests: Sequence[str | Path], split: str | None = None, given: Sequence[str | Path] | None = None
) -> Archive:
    """Read the rows of manifests, of one split or of all. Each row takes 32 bytes of memory.

    Args:
        given: what errors name instead of the manifests: the folders of which one was made.

    Raises ManifestError as ``manifest.index`` does, and also if the split is empty, if an id or path contains
    a tab or a line break, or if an id occurs twice in sets of the same name.
    """
    corpus = manifest.index([os.path.abspath(path) for path in manifests])  # workers may be elsewhere
    names = ", ".join(map(str, given or manifests))
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
                    f"{names}: {value!r} contains a tab, a line break or half of a character, which a"
                    " manifest of labels cannot contain: rename it"
                )
        digest.update(f"{utterance.id}\t{utterance.path}\n".encode())
        ids.append(hash(utterance.id))
        with_sets.append(hash((utterance.set_name, utterance.id)))
        slots = slots or utterance.slots is not None
    sets_in_ids = _repeats(ids)
    if sets_in_ids and _repeats(with_sets):
        raise ManifestError(
            f"{names}: ids occur twice in sets of the same name (the name of the manifest's folder): was a"
            " manifest given twice? Otherwise rename a folder, or label the manifests one by one"
        )
    return Archive(corpus, digest.hexdigest(), sets_in_ids, slots)


def _repeats(hashes: array[int]) -> bool:
    return len(np.unique(np.array(hashes, np.int64))) < len(hashes)


@dataclass(frozen=True)
class Model:
    """The identity of the model that labels."""

    sha256: str
    """Checksum of everything that influences the model's output."""
    origin: dict[str, str] | None
    """Repository and commit on the Hub, if the model is from there."""


def find_model(specification: Specification) -> Model:
    """Identify the model that is installed on this machine now."""
    loaded = checkpoint.load(specification.model, language=specification.options.language)
    origin = loaded.config.littlefoot.origin
    return Model(artifact.fingerprint(loaded), None if origin is None else origin.to_dict())


def file_fingerprint(path: Path) -> str:
    """Compute the SHA-256 of a file. Raises LittlefootError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise LittlefootError(f"{path}: cannot be read ({error.strerror}): check the path") from error


def describe(archive: Archive, transcriber: Transcriber, model: Model, split: str | None) -> dict[str, Any]:
    """Describe a job by everything that must be the same when it is resumed.

    Files that influence the text, such as a language model, are described by their content, not their path.
    """
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
    """Return the options that influence the text."""
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
