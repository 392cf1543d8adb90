"""The one format that training and inference share: a directory with everything a recogniser needs.

``config.json``              architecture, in Hugging Face's keys, and the section ``littlefoot``
``model.safetensors``        weights; its metadata holds a checksum of every tensor
``vocab.json``, ``tokenizer_config.json``, ``preprocessor_config.json``
``README.md``                the model card

A full-precision artifact is also a checkpoint that transformers loads.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot import names, safetensors_io
from littlefoot.config import ModelConfig
from littlefoot.errors import ArtifactError, LittlefootError
from littlefoot.vocabulary import Vocabulary
from littlefoot.weights import expected_weights

FORMAT_VERSION = 1

CONFIG, WEIGHTS, VOCABULARY = "config.json", "model.safetensors", "vocab.json"
PREPROCESSOR, TOKENIZER, CARD = "preprocessor_config.json", "tokenizer_config.json", "README.md"

QUANTIZATION_SUFFIXES = (".weight_scale", ".input_scale", ".input_zero_point", ".input_smoothing")
"""Tensors that may stand beside a layer's weight (``littlefoot.compress.quantize``)."""


@dataclass(frozen=True)
class Artifact:
    """A model in memory, independent of any framework."""

    config: ModelConfig
    weights: dict[str, npt.NDArray[Any]]
    """By the names of ``littlefoot.weights.expected_weights``."""
    vocabulary: Vocabulary
    preprocessor: dict[str, Any] = field(default_factory=dict)
    """The content of ``preprocessor_config.json``; ``do_normalize`` and ``sampling_rate`` are read."""
    card: str = ""

    def __post_init__(self) -> None:
        check_weights(self.weights, self.config)
        if len(self.vocabulary.tokens) > self.config.vocab_size:
            raise ArtifactError(
                f"the vocabulary has {len(self.vocabulary.tokens)} tokens, but the model only "
                f"{self.config.vocab_size} outputs: vocab.json belongs to another model"
            )

    @property
    def parameters(self) -> int:
        """Numbers in the weights, without what quantization adds."""
        return sum(int(np.prod(shape)) for shape in expected_weights(self.config).values())


def check_weights(weights: dict[str, npt.NDArray[Any]], config: ModelConfig) -> None:
    """Raises ArtifactError if a weight is missing, misshapen or unknown."""
    expected = expected_weights(config)
    if missing := [name for name in expected if name not in weights]:
        raise ArtifactError(f"weights are missing: {_some(missing)}")
    for name, shape in expected.items():
        if weights[name].shape != shape:
            raise ArtifactError(
                f"the weight {name} has shape {weights[name].shape}, but the model needs {shape}"
            )
    layers = {name.removesuffix(".weight") for name in expected if name.endswith(".weight")}
    unknown = [
        name
        for name in weights
        if name not in expected
        and name != "masked_spec_embed"
        and not any(name.endswith(s) and name.removesuffix(s) in layers for s in QUANTIZATION_SUFFIXES)
    ]
    if unknown:
        raise ArtifactError(f"weights that the model does not have: {_some(unknown)}")


def save(artifact: Artifact, directory: str | Path, overwrite: bool = False) -> Path:
    """Write an artifact. It is complete or it is not there: a temporary directory is renamed into place.

    Raises ArtifactError if the directory exists and is no artifact, or ``overwrite`` is not given.
    """
    target = Path(directory)
    if target.exists() and not (overwrite and (is_artifact(target) or not any(target.iterdir()))):
        reason = "is a littlefoot artifact already" if is_artifact(target) else "exists and is no artifact"
        raise ArtifactError(f"{target} {reason}: choose another output, or remove it")
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        _write(artifact, temporary)
        temporary.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
            target.replace(old)
            temporary.replace(target)
            shutil.rmtree(old)
        else:
            temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return target


def _write(artifact: Artifact, directory: Path) -> None:
    tensors = names.to_checkpoint(artifact.weights, artifact.config)
    checksums = json.dumps(safetensors_io.checksums(tensors), sort_keys=True)
    safetensors_io.write(directory / WEIGHTS, tensors, {"format": "pt", "checksums": checksums})
    config = artifact.config.to_dict()
    config["littlefoot"] = {**artifact.config.littlefoot, "format_version": FORMAT_VERSION}
    tokens = artifact.vocabulary.tokens
    tokenizer = {
        "tokenizer_class": "Wav2Vec2CTCTokenizer",
        "pad_token": tokens[artifact.vocabulary.blank],
        "word_delimiter_token": artifact.vocabulary.word_delimiter,
        **{key: token for key, token in _SPECIAL_TOKENS.items() if token in tokens},
    }
    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_value": 0.0,
        "sampling_rate": 16_000,
        **artifact.preprocessor,
    }
    for name, content in (
        (CONFIG, config),
        (VOCABULARY, artifact.vocabulary.to_dict()),
        (PREPROCESSOR, preprocessor),
        (TOKENIZER, tokenizer),
    ):
        _write_text(
            directory / name, json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        )
    _write_text(directory / CARD, artifact.card)


_SPECIAL_TOKENS = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def is_artifact(directory: Path) -> bool:
    """Whether a directory was written by ``save``."""
    try:
        return "format_version" in json.loads((directory / CONFIG).read_text(encoding="utf-8"))["littlefoot"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load(directory: str | Path) -> Artifact:
    """Read an artifact and verify every tensor.

    Raises ArtifactError naming the file or tensor that is missing or damaged.
    """
    directory = Path(directory)
    try:
        return _read(directory)
    except LittlefootError as error:
        raise ArtifactError(f"{directory}: {error}") from error


def _read(directory: Path) -> Artifact:
    config = ModelConfig.from_dict(read_json(directory / CONFIG))
    version = config.littlefoot.get("format_version")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"format version {version} is unknown to this littlefoot, which reads version {FORMAT_VERSION}: "
            "install a newer one, or make the artifact again"
        )
    tensors, metadata = safetensors_io.read(directory / WEIGHTS)
    try:
        expected = json.loads(metadata["checksums"])
    except (KeyError, ValueError) as error:
        raise ArtifactError(
            f"{WEIGHTS} has no checksums: it is damaged or was not written by littlefoot"
        ) from error
    found = safetensors_io.checksums(tensors)
    damaged = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if damaged:
        raise ArtifactError(f"damaged tensors (wrong checksum, missing or added): {_some(sorted(damaged))}")
    vocabulary, preprocessor = read_text_side(directory, config)
    card = directory / CARD
    return Artifact(
        config,
        names.from_checkpoint(tensors, config),
        vocabulary,
        preprocessor,
        card.read_text(encoding="utf-8", errors="replace") if card.exists() else "",
    )


def read_text_side(
    directory: Path, config: ModelConfig, language: str | None = None
) -> tuple[Vocabulary, dict[str, Any]]:
    """The vocabulary and the preprocessor settings of an artifact or checkpoint."""
    vocabulary = Vocabulary.from_dict(read_json(directory / VOCABULARY), config.pad_token_id, language)
    tokenizer = directory / TOKENIZER
    if tokenizer.exists():
        delimiter = read_json(tokenizer).get("word_delimiter_token")
        if isinstance(delimiter, str) and delimiter in vocabulary.tokens:
            vocabulary = replace(vocabulary, word_delimiter=delimiter)
    preprocessor = read_json(directory / PREPROCESSOR) if (directory / PREPROCESSOR).exists() else {}
    preprocessor = {"do_normalize": True, "sampling_rate": 16_000, **preprocessor}
    if preprocessor["sampling_rate"] != 16_000:
        raise ArtifactError(
            f"{PREPROCESSOR}: sampling_rate is {preprocessor['sampling_rate']}, but only 16000 Hz is supported"
        )
    return vocabulary, preprocessor


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises ArtifactError naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArtifactError(f"{path.name} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"{path.name} is not valid JSON: {error}") from error
    if not isinstance(content, dict):
        raise ArtifactError(f"{path.name} must hold an object, not {type(content).__name__}")
    return content


def _some(items: list[str]) -> str:
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return ", ".join(items[:5]) + more
