"""Save and load artifacts: directories with everything that a recogniser needs.

Training and inference share this format:

``config.json``              architecture, in Hugging Face's keys, and the section ``littlefoot``
``model.safetensors``        weights; its metadata holds a checksum of every tensor
``vocab.json``, or ``tokenizer.json`` if tokens are pieces of words
``tokenizer_config.json``, ``preprocessor_config.json``
``README.md``                the model card
``littlefoot.sha256``        checksums of all these files; the card alone may be edited

transformers loads a full-precision artifact too, unless it has ``ModelConfig.own_settings``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import checksums, linear, safetensors_io, side_files, tokenizer
from littlefoot.artifact.json_files import read_json, read_optional
from littlefoot.artifact.quantized_weights import check_input, check_layer, stored_shape
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import ArtifactError, ConfigError, LittlefootError
from littlefoot.network import names
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import in_block
from littlefoot.network.weights import expected_weights
from littlefoot.system import atomic
from littlefoot.system.outputs import check_writable, writing

FORMAT_VERSION = 2
"""Version of the format."""

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREPROCESSOR, CARD = "preprocessor_config.json", "README.md"
_PROCESSOR = "processor_config.json"

_TEXT_FILES = (CONFIG, *tokenizer.FILES, PREPROCESSOR, _PROCESSOR)
"""Files that are read beside the weights and influence a model's text."""

FILES = (CONFIG, WEIGHTS, tokenizer.VOCABULARY, tokenizer.SETTINGS, PREPROCESSOR, CARD)
"""Files that ``save`` writes for an alphabet of letters or phones, besides the list of their checksums."""
POSSIBLE_FILES = (*FILES, tokenizer.PIECES)
"""Files that ``save`` may write: an alphabet of pieces has its own in place of ``vocab.json``."""


@dataclass(frozen=True)
class Artifact:
    """A model in memory, independent of any framework."""

    config: ModelConfig
    weights: dict[str, npt.NDArray[Any]]
    """Weights, by the names of ``littlefoot.network.weights.expected_weights``."""
    vocabulary: Vocabulary
    preprocessor: dict[str, Any] = field(default_factory=dict)
    """Content of ``preprocessor_config.json``; ``do_normalize`` and ``sampling_rate`` are read."""
    card: str = ""
    companion: Path | None = None
    """Directory of a checkpoint that also contains a language model."""

    def __post_init__(self) -> None:
        check_weights(self.weights, self.config)
        if len(self.vocabulary.tokens) > self.config.vocab_size:
            raise ArtifactError(
                f"the vocabulary has {len(self.vocabulary.tokens)} tokens, but the model only "
                f"{self.config.vocab_size} outputs: vocab.json belongs to another model"
            )

    @property
    def parameters(self) -> int:
        """Count the numbers in the weights, without the tensors that quantization adds."""
        return sum(int(np.prod(shape)) for shape in expected_weights(self.config).values())

    @functools.cached_property
    def weights_digest(self) -> str:
        """Return a digest of all weights, for caches.

        ``load`` takes it from the file's checksum, which it verifies. So the weights of a loaded artifact
        must not be changed in place: use ``dataclasses.replace``.
        """
        digests = json.dumps(safetensors_io.checksums(self.weights), sort_keys=True)
        return hashlib.sha256(digests.encode()).hexdigest()


def first_layers(artifact: Artifact, count: int) -> Artifact:
    """Return the model that ends after its first ``count`` Transformer layers: faster, with more errors.

    Raises ConfigError if it does not have that many.
    """
    config = artifact.config.first_layers(count)
    weights = {
        name: value
        for name, value in artifact.weights.items()
        if (place := in_block(name)) is None or place[0] < count
    }
    return replace(artifact, config=config, weights=weights)


def check_weights(weights: dict[str, npt.NDArray[Any]], config: ModelConfig) -> None:
    """Check the names and shapes of weights. Raises ArtifactError if one is missing, misshapen or unknown."""
    expected = expected_weights(config)
    if missing := [name for name in expected if name not in weights]:
        raise ArtifactError(f"weights are missing: {_some(missing)}")
    for name, shape in expected.items():
        if weights[name].shape != stored_shape(name, shape, weights):
            raise ArtifactError(
                f"the weight {name} has shape {weights[name].shape}, but the model needs {shape}"
            )
    layers = inventory(config)
    quantizable = {layer.name: layer for layer in layers if layer.multiplies}
    factors = {factor for layer in layers for factor in layer.factors}
    rounded = quantizable.keys() | factors

    def known(name: str) -> bool:
        layer, _, part = name.rpartition(".")
        if layer in rounded and part in (*linear.PARTS, *linear.TRAINING_PARTS):
            return True
        return name in expected or (name in layers and layers.owner(name).optional)

    unknown = [name for name in weights if not known(name)]
    if unknown:
        raise ArtifactError(f"weights that the model does not have: {_some(unknown)}")
    for layer in quantizable.values():
        check_layer(layer.name, layer.shape[0], layer.inputs, weights)
    for factor in factors:
        check_input(factor, weights)
    for name in expected:
        if name.removesuffix(".weight") not in quantizable and weights[name].dtype.kind != "f":
            raise ArtifactError(f"the weight {name} is of type {weights[name].dtype}, not floating point")


def check_transformers(artifact: Artifact) -> None:
    """Check that transformers can load such a model. Raises ConfigError if not."""
    if artifact.config.littlefoot.quantization is not None:
        raise ConfigError("transformers cannot load a quantized artifact: export its full-precision original")
    if not artifact.config.family.transformers:
        raise ConfigError(
            f"transformers has no {artifact.config.model_type} models with a CTC head: use --to onnx or --to "
            "openvino"
        )
    if own := artifact.config.own_settings:
        raise ConfigError(f"transformers has no models with {', '.join(own)}: use --to onnx or --to openvino")


def save(artifact: Artifact, directory: str | Path, overwrite: bool = False) -> Path:
    """Write an artifact. It is complete or absent: a temporary directory is renamed into place.

    ``overwrite`` replaces an artifact. An empty directory is replaced always, anything else never.

    Raises ArtifactError if the path exists, or if it cannot be written.
    """
    from safetensors import SafetensorError

    check_output(directory, overwrite)
    try:
        with atomic.directory(Path(directory).resolve()) as temporary:
            _write(artifact, temporary)
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{directory} cannot be written ({error}): choose another output") from error
    return Path(directory)


def check_output(directory: str | Path, overwrite: bool = False) -> None:
    """Refuse a path that ``save`` would refuse, before long work begins. Raises ArtifactError."""
    target = Path(directory)
    with writing(directory, kind=ArtifactError):
        if is_artifact(target):
            if not overwrite:
                raise ArtifactError(
                    f"{directory} is a littlefoot artifact already: choose another output, or overwrite it"
                )
        elif target.exists() and (not target.is_dir() or any(target.iterdir())):
            raise ArtifactError(
                f"{directory} exists and is not an artifact: choose another output, or remove it"
            )
    check_writable(target, ArtifactError)


def _write(artifact: Artifact, directory: Path) -> None:
    tensors = names.to_checkpoint(artifact.weights, artifact.config)
    digests = safetensors_io.checksums(tensors)
    metadata = _metadata("".join(digests[name][:_CHECKSUM_DIGITS] for name in sorted(digests)))
    safetensors_io.write(directory / WEIGHTS, tensors, metadata)
    config = artifact.config.to_dict()
    config["littlefoot"] = {
        **artifact.config.littlefoot.to_dict(),
        "format_version": FORMAT_VERSION,
        "extra_keys": sorted(set(artifact.config.extra) - ALWAYS_EXTRA),
    }
    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "feature_size": 1,
        "padding_value": 0.0,
        "sampling_rate": SAMPLE_RATE,
        **artifact.preprocessor,
    }
    for name, content in (
        (CONFIG, config),
        (PREPROCESSOR, preprocessor),
        *tokenizer.files(artifact.vocabulary).items(),
    ):
        _write_text(
            directory / name, json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"
        )
    _write_text(directory / CARD, artifact.card)
    write_checksums(directory)


def write_checksums(directory: Path) -> None:
    """Write the list of checksums of an artifact's files. Raises OSError."""
    found = (directory / name for name in POSSIBLE_FILES)
    digests = {path.name: checksums.of_file(path) for path in found if path.exists()}
    _write_text(directory / checksums.NAME, checksums.listing(digests))


def weights_file_bytes(artifact: Artifact) -> int:
    """Return the bytes of the weights' file when it is saved: weights, names, shapes and checksums."""
    tensors = names.to_checkpoint(artifact.weights, artifact.config)
    return safetensors_io.file_bytes(tensors, _metadata("0" * _CHECKSUM_DIGITS * len(tensors)))


def _metadata(checksums: str) -> dict[str, str]:
    """Return the metadata of the weights' file: the checksums of all tensors in the order of their names.

    With their names they would be the largest part of the header, and the header a large part of a tiny
    model.
    """
    return {"format": "pt", "checksums": checksums}


_CHECKSUM_DIGITS = 16

ALWAYS_EXTRA = {"architectures", "num_feat_extract_layers"}
"""Keys that ``ModelConfig.to_dict`` writes and littlefoot does not read."""


def _write_text(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def fingerprint(artifact: Artifact) -> str:
    """Compute a SHA-256 over everything that influences a model's text."""
    digest = hashlib.sha256(json.dumps(safetensors_io.checksums(artifact.weights), sort_keys=True).encode())
    settings = {**artifact.config.to_dict(), "littlefoot": None, "preprocessor": artifact.preprocessor}
    digest.update(json.dumps([settings, artifact.vocabulary.tokens], sort_keys=True).encode())
    if artifact.vocabulary.form:
        digest.update(json.dumps(artifact.vocabulary.form, sort_keys=True).encode())
    return digest.hexdigest()


def is_artifact(directory: Path) -> bool:
    """Return True if ``save`` wrote a directory."""
    if (directory / checksums.NAME).exists():
        return True
    try:
        return "format_version" in read_json(directory / CONFIG)["littlefoot"]
    except (ArtifactError, KeyError, TypeError):
        return False


def load(directory: str | Path) -> Artifact:
    """Read an artifact and verify every tensor.

    Raises ArtifactError that names the file or tensor that is missing or damaged.
    """
    directory = Path(directory)
    try:
        return _read(directory)
    except LittlefootError as error:
        raise ArtifactError(f"{directory}: {error}") from error


def _read(directory: Path) -> Artifact:
    digests = checksums.read(directory)
    if digests is not None:
        checksums.verify(directory, digests, _TEXT_FILES)
    config = _read_config(directory)
    if digests is None:
        raise ArtifactError(f"{checksums.NAME} is missing: {checksums.AGAIN}")
    tensors, metadata = safetensors_io.read(side_files.checked(directory, WEIGHTS))
    if not checksums.matches(directory, digests, WEIGHTS):
        _verify(tensors, metadata)  # names what is damaged
        raise ArtifactError(
            f"{WEIGHTS} belongs to another artifact: its checksum is not that of {checksums.NAME}"
        )
    weights = names.from_checkpoint(tensors, config)
    check_weights(weights, config)  # before vocab_size is used
    vocabulary, preprocessor = read_text_side(directory, config)
    card = side_files.read(directory, CARD) if (directory / CARD).exists() else b""
    made = Artifact(config, weights, vocabulary, preprocessor, card.decode("utf-8", errors="replace"))
    if digests is not None:
        made.__dict__["weights_digest"] = digests[WEIGHTS]  # of the file that was verified
    return made


def _read_config(directory: Path) -> ModelConfig:
    """Read the configuration of an artifact. Raises ArtifactError for another version or unknown keys."""
    values = read_json(directory / CONFIG)
    section = values.get("littlefoot")
    version = section.get("format_version") if isinstance(section, dict) else None
    if not isinstance(section, dict) or version != FORMAT_VERSION:
        raise ArtifactError(
            f"format version {version} is unknown to this littlefoot, which reads version {FORMAT_VERSION}: "
            "install a newer one, or make the artifact again"
        )
    extra = section.get("extra_keys", [])
    values["littlefoot"] = {key: value for key, value in section.items() if key != "extra_keys"}
    if unknown := sorted(ModelConfig.unknown_keys(values) - ALWAYS_EXTRA - set(map(str, extra))):
        raise ArtifactError(
            f"{CONFIG} has keys that this version does not support: {_some(unknown)}: install a newer one"
        )
    return ModelConfig.from_dict(values)


def _verify(tensors: dict[str, npt.NDArray[Any]], metadata: dict[str, str]) -> None:
    """Compare tensors with the checksums that were stored with them."""
    found = safetensors_io.checksums(tensors)
    stored = str(metadata.get("checksums", ""))
    if re.fullmatch(rf"[0-9a-f]{{{_CHECKSUM_DIGITS * len(found)}}}", stored):
        found = {name: digest[:_CHECKSUM_DIGITS] for name, digest in found.items()}
        digests = (stored[i : i + _CHECKSUM_DIGITS] for i in range(0, len(stored), _CHECKSUM_DIGITS))
        expected = dict(zip(sorted(found), digests, strict=True))
    else:
        expected = _named_checksums(stored)
    damaged = [name for name in {**expected, **found} if expected.get(name) != found.get(name)]
    if damaged:
        raise ArtifactError(
            f"damaged tensors (wrong checksum, missing or added): {_some(sorted(damaged))}: "
            "get or make the artifact again"
        )


def _named_checksums(stored: str) -> dict[str, str]:
    """Read checksums in the form of artifacts made before 2026-11-22. Raises ArtifactError for anything
    else.
    """
    if re.fullmatch("[0-9a-f]+", stored):
        raise ArtifactError(f"{WEIGHTS}: tensors are missing or added: get or make the artifact again")
    try:
        expected = json.loads(stored)
    except (ValueError, RecursionError):
        expected = None
    if not isinstance(expected, dict):
        raise ArtifactError(f"{WEIGHTS} has no checksums: it is damaged or was not written by littlefoot")
    return expected


def read_text_side(directory: Path, config: ModelConfig) -> tuple[Vocabulary, dict[str, Any]]:
    """Read the vocabulary of an artifact, in which each token has one index, and its preprocessor
    settings.
    """
    Vocabulary.from_dict(tokenizer.read_vocabulary(directory), config.pad_token_id)
    vocabulary = tokenizer.read(directory, config.vocab_size, config.pad_token_id)
    return vocabulary, read_preprocessor(directory)


def read_preprocessor(directory: Path) -> dict[str, Any]:
    """Read the preprocessor settings of an artifact or checkpoint. Raises ArtifactError for impossible
    ones.
    """
    preprocessor = read_optional(directory / PREPROCESSOR)
    if not preprocessor:  # transformers 5 saves all of a processor in one file
        preprocessor = read_optional(directory / _PROCESSOR).get("feature_extractor", {})
        if not isinstance(preprocessor, dict):
            raise ArtifactError(f"{_PROCESSOR}: feature_extractor must be an object")
    preprocessor = {"do_normalize": True, "sampling_rate": SAMPLE_RATE, **preprocessor}
    if not isinstance(preprocessor["do_normalize"], bool):
        raise ArtifactError(
            f"{PREPROCESSOR}: do_normalize must be true or false, not {preprocessor['do_normalize']!r}"
        )
    if preprocessor["sampling_rate"] != SAMPLE_RATE:
        raise ArtifactError(
            f"{PREPROCESSOR}: sampling_rate is {preprocessor['sampling_rate']}, "
            f"but only {SAMPLE_RATE} Hz is supported"
        )
    return preprocessor


def _some(items: list[str]) -> str:
    more = f" and {len(items) - 5} more" if len(items) > 5 else ""
    return ", ".join(items[:5]) + more
