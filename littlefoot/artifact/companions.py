"""Find language models beside a checkpoint, as ``Wav2Vec2ProcessorWithLM`` of transformers saves them.

``language_model/`` contains an ARPA file or one in KenLM's binary format, ``attrs.json`` (weights) and
``unigrams.txt`` (the words).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from littlefoot.artifact import side_files
from littlefoot.artifact.json_files import read_optional
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.system.extras import imported

FOLDER = "language_model"
_WORDS = "unigrams.txt"
_ARPA = (".arpa", ".arpa.gz", ".arpa.bz2", ".arpa.xz", ".lm", ".lm.gz")
_BINARY = (".bin", ".binary", ".klm", ".kenlm", ".mmap", ".trie")


@dataclass(frozen=True)
class Companion:
    """A language model, with the settings and words that its directory contains."""

    path: Path
    alpha: float | None = None
    beta: float | None = None
    unknown: float | None = None
    words: Path | None = None
    """File of the model's words, one on each line."""


def locate(given: str | Path) -> Companion:
    """Find the language model that a file, a directory or a Hub id names.

    Raises:
        LittlefootError: it cannot be downloaded.
        ConfigError: the directory has no language model, or several.
    """
    path = Path(given)
    if path.is_dir():
        return _in(path)
    is_file = path.exists() or path.name.lower().endswith((*_ARPA, *_BINARY))
    if is_file or str(given).count("/") != 1 or str(given).startswith((".", "/", "~")):
        return Companion(path)  # the reader reports a missing file
    return _in(_download(str(given)))


def beside(directory: Path) -> Path | None:
    """Return the language model beside a checkpoint, from its directory or from the Hub."""
    folder = directory / FOLDER
    return directory if folder.is_dir() and any(folder.iterdir()) else None


def _in(directory: Path) -> Companion:
    folder = directory / FOLDER if (directory / FOLDER).is_dir() else directory
    arpa, binary = (
        sorted(path for path in folder.iterdir() if path.name.lower().endswith(endings))
        for endings in (_ARPA, _BINARY)
    )
    found = binary if binary and (find_spec("kenlm") is not None or not arpa) else arpa
    if len(found) != 1:
        what = f"several ({', '.join(path.name for path in found)})" if found else "no"
        raise ConfigError(f"{directory}: holds {what} language models: name an ARPA or KenLM file of it")
    attributes = read_optional(folder / "attrs.json")
    numbers = {
        key: float(value)
        for key in ("alpha", "beta", "unk_score_offset")
        if isinstance(value := attributes.get(key), int | float) and math.isfinite(value)
    }
    alpha = numbers.get("alpha")
    offset = numbers.get("unk_score_offset")  # they weight a logarithm of base 10, we one of base e
    unknown = None if offset is None or alpha is None else alpha * offset * math.log(10)
    model = side_files.checked(folder, found[0].name)
    words = side_files.checked(folder, _WORDS) if (folder / _WORDS).exists() else None
    return Companion(model, alpha, numbers.get("beta"), unknown, words)


def _download(repository: str) -> Path:
    feature = f"{repository}: there is no such file or directory, and fetching one from the Hub"
    snapshot_download = imported("huggingface_hub", feature, "hub").snapshot_download
    try:
        return Path(snapshot_download(repository, allow_patterns=[f"{FOLDER}/*"]))
    except Exception as error:  # the Hub and the network raise many kinds of errors
        reason = next(iter(str(error).strip().splitlines()), "")
        raise LittlefootError(
            f"{repository}: no such file or directory, and no language model can be downloaded from the Hub "
            f"({type(error).__name__}: {reason}): check the name and the network"
        ) from error
