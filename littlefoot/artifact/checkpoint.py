"""Models from wherever they are: bundled names, artifacts, Hugging Face checkpoints, Hub ids."""

from __future__ import annotations

import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import artifact, checkpoint_keys, checksums, safetensors_io, side_files
from littlefoot.artifact.artifact import Artifact, read_json, read_text_side
from littlefoot.artifact.vocabulary import choose_language
from littlefoot.errors import CheckpointError, LittlefootError, MissingExtraError
from littlefoot.network import names
from littlefoot.network.config import ModelConfig
from littlefoot.network.families import FAMILIES
from littlefoot.network.weights import expected_weights

log = logging.getLogger("littlefoot")

BUNDLED = Path(__file__).parents[1] / "bundled"
SAMPLES = BUNDLED / "samples"
"""A manifest of recordings that come with the package."""

Arrays = dict[str, npt.NDArray[Any]]

# What checkpoints hold besides the recogniser, and why it may be left out.
_HARMLESS = {
    "quantizer.": "pre-training",
    "project_q.": "pre-training",
    "project_hid.": "pre-training",
    "label_embs_concat": "pre-training",
    "final_proj.": "pre-training",
    "masked_spec_embed": "used in training only",
}


def bundled() -> list[str]:
    """Names of the models that come with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))


def load(source: str | Path, language: str | None = None) -> Artifact:
    """Load a bundled name, an artifact, a checkpoint directory or a Hub id.

    Args:
        source: where the model is.
        language: for MMS, whose adapter and alphabet to take, such as ``eng`` or ``deu``.

    Raises:
        ArtifactError: a damaged artifact.
        CheckpointError: a missing, damaged or unsupported checkpoint.
        MissingExtraError: a pickled checkpoint without PyTorch.
    """
    directory = locate(source, language)
    if artifact.is_artifact(directory):
        if language is not None:
            raise CheckpointError(
                f"{source}: language '{language}' cannot be chosen: an artifact knows one language only"
            )
        return artifact.load(directory)
    try:
        return _load_checkpoint(directory, language)
    except MissingExtraError:
        raise
    except LittlefootError as error:
        raise CheckpointError(f"{source}: {error}") from error


def locate(source: str | Path, language: str | None = None) -> Path:
    """The directory of a model; one from the Hub is downloaded first."""
    path = Path(source)
    kind = _kind(path) if str(source) else None
    if kind == "directory":
        if not (path / artifact.CONFIG).exists():
            raise CheckpointError(f"{source}: the directory has no config.json, so it holds no model")
        return path
    if kind == "file":
        raise CheckpointError(f"{source}: is a file; give the directory of an artifact or checkpoint")
    if str(source) in bundled():
        return BUNDLED / str(source)
    if str(source).count("/") != 1 or str(source).startswith((".", "/", "~")):
        raise CheckpointError(
            f"{source}: neither a directory nor a bundled model ({', '.join(bundled()) or 'none here'}) "
            "nor a Hub id"
        )
    return _download(str(source), language)


def _kind(path: Path) -> str | None:
    try:
        return "directory" if path.is_dir() else "file" if path.exists() else None
    except OSError:  # too long for a file name, or in a directory that may not be read
        return None


def _download(repository: str, language: str | None) -> Path:
    from huggingface_hub import snapshot_download

    wanted = [
        *("*.json", "model*.safetensors", f"adapter.{language or 'eng'}.safetensors"),
        *("README.md", checksums.NAME),
    ]
    try:
        directory = Path(snapshot_download(repository, allow_patterns=wanted))
        if not any(directory.glob("model*.safetensors")):
            directory = Path(snapshot_download(repository, allow_patterns=[*wanted, "pytorch_model*.bin"]))
    except Exception as error:  # the Hub's and the network's many errors
        reason = next(iter(str(error).strip().splitlines()), "")
        raise CheckpointError(
            f"{repository}: no such directory, and it cannot be had from the Hub ({type(error).__name__}: "
            f"{reason}). Check the name and the network, or download it elsewhere and give its directory"
        ) from error
    return directory


def _load_checkpoint(directory: Path, language: str | None) -> Artifact:
    values = read_json(directory / artifact.CONFIG)
    if values.get("model_type") not in list(FAMILIES):  # a list, as the value may be unhashable
        raise CheckpointError(
            f"model_type '{values.get('model_type')}' is not supported: "
            f"littlefoot reads {', '.join(FAMILIES)} checkpoints fine-tuned with CTC"
        )
    for setting, meaning in (
        ("add_adapter", "a convolutional adapter"),
        ("conv_pos_batch_norm", "a batch norm"),
    ):
        if values.get(setting):
            raise CheckpointError(f"{setting}: models with {meaning} are not supported")
    values.pop("littlefoot", None)
    config = ModelConfig.from_dict({**values, **FAMILIES[values["model_type"]].always})
    if unknown := sorted(ModelConfig.unknown_keys(values) - checkpoint_keys.UNUSED):
        log.warning("%s: keys of config.json without effect: %s", directory, ", ".join(unknown))
    tensors = read_tensors(directory)
    if config.adapter_attn_dim is not None:
        tensors.update(_adapter(directory, language))
    weights = names.from_checkpoint(tensors, config)
    if "lm_head.weight" not in weights:
        raise CheckpointError(
            "the checkpoint has no CTC head (lm_head): it was pre-trained but not fine-tuned; "
            "give a checkpoint fine-tuned for speech recognition"
        )
    config = config.replace(vocab_size=len(weights["lm_head.weight"]))  # MMS adapters bring their own
    weights = _only_needed(weights, config)
    vocabulary, preprocessor = read_text_side(directory, config, language)
    return Artifact(config, weights, vocabulary, preprocessor)


def _adapter(directory: Path, language: str | None) -> Arrays:
    """MMS: what a language adds to the common weights; nothing if the language was not asked for."""
    chosen = choose_language(read_json(directory / artifact.VOCABULARY), language)
    name = f"adapter.{chosen}.safetensors"
    if (directory / name).exists():
        return safetensors_io.read(side_files.checked(directory, name))[0]
    if language is not None:
        raise CheckpointError(f"{name} is missing: the checkpoint has no adapter for '{language}'")
    return {}


def _only_needed(weights: Arrays, config: ModelConfig) -> Arrays:
    """Leave out what the recogniser does not use, and say so in one line."""
    expected = expected_weights(config)
    spare = {name for name in weights if name not in expected}
    reasons: dict[str, list[str]] = {}
    for name in sorted(spare):
        reason = next((why for start, why in _HARMLESS.items() if name.startswith(start)), None)
        if reason is None:
            raise CheckpointError(f"the weight {name} belongs to nothing in a {config.model_type} CTC model")
        reasons.setdefault(reason, []).append(name)
    pre_training = reasons.get("pre-training", [])
    if pre_training:
        log.info("left out, used in pre-training only: %s", ", ".join(pre_training))
    return {
        name: weight for name, weight in weights.items() if name in expected or name == "masked_spec_embed"
    }


def read_tensors(directory: Path) -> Arrays:
    """All tensors of a checkpoint, whole or in shards, safetensors before pickles."""
    for index, whole, reader in (
        ("model.safetensors.index.json", "model.safetensors", _read_safetensors),
        ("pytorch_model.bin.index.json", "pytorch_model.bin", _read_pickle),
    ):
        if (directory / whole).exists():
            return reader(side_files.checked(directory, whole))
        if (directory / index).exists():
            shards = read_json(directory / index).get("weight_map")
            if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
                raise CheckpointError(f"{index} has no weight_map from tensors to files")
            tensors: Arrays = {}
            for shard in sorted(set(shards.values())):
                tensors.update(reader(side_files.checked(directory, shard)))
            if absent := sorted(set(shards) - set(tensors)):
                raise CheckpointError(f"{absent[0]} is in no shard, though {index} names it")
            return tensors
    raise CheckpointError("there are no weights: neither model.safetensors nor pytorch_model.bin")


def _read_safetensors(path: Path) -> Arrays:
    return safetensors_io.read(path)[0]


def _read_pickle(path: Path) -> Arrays:
    if find_spec("torch") is None:
        raise MissingExtraError(f"reading {path.name}, a pickled checkpoint,", "torch", "train")
    import torch

    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
        return {
            name: np.asarray(tensor.float() if tensor.is_floating_point() else tensor)
            for name, tensor in tensors.items()
        }
    except Exception as error:  # unpickling fails in many ways, and none may reach the user as it is
        raise CheckpointError(f"{path.name} is damaged or holds more than tensors: {error}") from error
