"""Find and load models: bundled names, artifacts, Hugging Face checkpoints, Hub ids."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import (
    artifact,
    checkpoint_keys,
    checksums,
    companions,
    foreign,
    safetensors_io,
    side_files,
    state_dict,
    tokenizer,
)
from littlefoot.artifact.artifact import Artifact
from littlefoot.artifact.json_files import read_json
from littlefoot.artifact.vocabulary import choose_language
from littlefoot.audio import SAMPLE_RATE, formats
from littlefoot.errors import CheckpointError, LittlefootError, MissingExtraError
from littlefoot.network import names
from littlefoot.network.config import ModelConfig
from littlefoot.network.families import FAMILIES
from littlefoot.network.rules import check_model_type
from littlefoot.network.weights import expected_weights
from littlefoot.system.extras import imported
from littlefoot.system.suggestions import suggestion

log = logging.getLogger("littlefoot")

BUNDLED = Path(__file__).parents[1] / "bundled"
SAMPLES = BUNDLED / "samples"
"""Folder of the sample clips that come with the package, with a manifest."""

Arrays = dict[str, npt.NDArray[Any]]

# Weights of checkpoints that only pre-training uses.
_HARMLESS = ("quantizer.", "project_q.", "project_hid.", "label_embs_concat", "final_proj.")
_OTHER_HEADS = ("classifier.", "projector.", "objective.", "tdnn.")

_ADDRESS = re.compile(
    r"(?:hf://|(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/)(?P<id>[^/?#@]+/[^/?#@]+)"
    r"(?:/(?:tree|blob|resolve)/(?P<revision>[^/?#]+)[^?#]*)?/?(?:[?#].*)?"
)


def bundled() -> list[str]:
    """List the names of the models that come with the package."""
    return sorted(path.parent.name for path in BUNDLED.glob("*/config.json"))


def load(source: str | Path, language: str | None = None) -> Artifact:
    """Load a bundled name, an artifact, a checkpoint directory or a Hub id.

    For a model from the Hub, the section ``littlefoot`` of the configuration gets an ``origin``: repository
    and commit.

    Args:
        source: name, path or Hub id. A Hub id may name a branch, tag or commit: ``owner/name@revision``.
        language: for MMS, the language of adapter and alphabet, such as ``eng`` or ``deu``.

    Raises:
        ArtifactError: a damaged artifact.
        CheckpointError: a missing, damaged or unsupported checkpoint.
        MissingExtraError: a pickled checkpoint without PyTorch, or a Hub id without huggingface-hub.
    """
    return load_from(source, language)[0]


def load_from(source: str | Path, language: str | None = None) -> tuple[Artifact, Path]:
    """Load like ``load``. Returns also the directory that the model was read from, or the file.

    A model from the Hub is looked for there once only.
    """
    if _kind(Path(source)) == "file" and foreign.is_foreign(Path(source)):
        try:
            return _load_foreign(Path(source), language), Path(source)
        except MissingExtraError:
            raise
        except LittlefootError as error:
            raise CheckpointError(f"{source}: {error}") from error
    directory, origin = _find(source, language)
    if artifact.is_artifact(directory):
        if language is not None:
            raise CheckpointError(
                f"{source}: language '{language}' cannot be chosen: an artifact has one language only"
            )
        return _with_origin(artifact.load(directory), origin), directory
    try:
        return _with_origin(_load_checkpoint(directory, language), origin), directory
    except MissingExtraError:
        raise
    except LittlefootError as error:
        raise CheckpointError(f"{source}: {error}") from error


def locate(source: str | Path, language: str | None = None) -> Path:
    """Return the directory of a model; a model from the Hub is downloaded first."""
    return _find(source, language)[0]


def _find(source: str | Path, language: str | None) -> tuple[Path, dict[str, str] | None]:
    """Return the directory of a model, and its repository and commit if it is from the Hub."""
    path = Path(source)
    kind = _kind(path) if str(source) else None
    if kind == "directory":
        if not (path / artifact.CONFIG).exists():
            raise CheckpointError(f"{source}: the directory has no config.json, so it holds no model")
        _say_if_on_the_hub_too(str(source))
        return path, None
    if kind == "file" and path.name.lower().endswith(formats.SUFFIXES):
        raise CheckpointError(
            f"{source}: is a recording, not a model: the model comes first, and recordings after it"
        )
    if kind == "file":
        raise CheckpointError(f"{source}: is a file; give the directory of an artifact or checkpoint")
    if str(source) in bundled():
        return BUNDLED / str(source), None
    repository, pinned, revision = _hub_id(str(source)).partition("@")
    if repository.count("/") != 1 or repository.startswith((".", "/", "~")) or (pinned and not revision):
        raise CheckpointError(
            f"{source}{suggestion(str(source), bundled())}: neither a directory nor a bundled model "
            f"({', '.join(bundled()) or 'none here'}) nor a Hub id, such as owner/name or owner/name@revision"
        )
    directory = _download(repository, revision or None, language)
    return directory, {
        "repository": repository,
        "commit": directory.name,
    }  # snapshots have the names of commits


def _hub_id(source: str) -> str:
    """Extract ``owner/name@revision`` from an address of the Hub's pages; return anything else unchanged."""
    match = _ADDRESS.fullmatch(source)
    if match is None:
        return source
    return match["id"] + (f"@{match['revision']}" if match["revision"] else "")


def _say_if_on_the_hub_too(source: str) -> None:
    """Warn if a directory has the name of a cached model of the Hub: the directory is used."""
    if source.count("/") != 1 or source.startswith((".", "/", "~")):
        return
    try:
        from huggingface_hub import try_to_load_from_cache
        from huggingface_hub.errors import HFValidationError
    except ModuleNotFoundError:  # without the extra hub nothing is taken from there
        return
    with suppress(HFValidationError):
        if isinstance(try_to_load_from_cache(source, artifact.CONFIG), str):
            log.warning("%s: the directory of this name is used, not the model from the Hub", source)


def _kind(path: Path) -> str | None:
    try:
        return "directory" if path.is_dir() else "file" if path.exists() else None
    except OSError:  # too long for a file name, or in a directory that may not be read
        return None


def _with_origin(loaded: Artifact, origin: dict[str, str] | None) -> Artifact:
    if origin is None:
        return loaded
    return replace(loaded, config=loaded.config.noting(origin=origin))


def _download(repository: str, revision: str | None, language: str | None) -> Path:
    feature = f"{repository}: there is no such directory, and fetching a model from the Hub"
    snapshot_download = imported("huggingface_hub", feature, "hub").snapshot_download
    wanted = [
        *("*.json", "model*.safetensors", f"adapter.{language or 'eng'}.safetensors"),
        *("README.md", checksums.NAME),
    ]
    try:
        directory = Path(snapshot_download(repository, revision=revision, allow_patterns=wanted))
        if not any(directory.glob("model*.safetensors")):
            pickles = [*wanted, "pytorch_model*.bin"]
            directory = Path(snapshot_download(repository, revision=revision, allow_patterns=pickles))
    except Exception as error:  # the Hub and the network raise many kinds of errors
        reason = next(iter(str(error).strip().splitlines()), "")
        raise CheckpointError(
            f"{repository}{f'@{revision}' if revision else ''}: no such directory, and it cannot be "
            "downloaded from "
            f"the Hub ({type(error).__name__}: "
            f"{reason}). Check the name and the network, or download it elsewhere and give its directory"
        ) from error
    return directory


def _load_checkpoint(directory: Path, language: str | None) -> Artifact:
    values = read_json(directory / artifact.CONFIG)
    check_model_type(values.get("model_type"))
    values.pop("littlefoot", None)
    values |= FAMILIES[values["model_type"]].always
    blank = values.pop("pad_token_id", None)
    config = ModelConfig.from_dict({**values, "vocab_size": max(1, _number(values.get("vocab_size")) or 1)})
    if unknown := checkpoint_keys.unknown(config.extra):
        log.warning("%s: keys of config.json without effect: %s", directory, ", ".join(unknown))
    tensors = state_dict.read(directory)
    if config.adapter_attn_dim is not None:
        tensors.update(_adapter(directory, language, tensors))
    weights = names.from_checkpoint(tensors, config)
    if "lm_head.weight" not in weights:
        raise CheckpointError(_headless(weights, values))
    config = config.replace(vocab_size=len(weights["lm_head.weight"]))  # MMS adapters bring their own
    weights = _only_needed(weights, config)
    family = values.get("tokenizer_class")
    vocabulary = tokenizer.read(
        directory,
        config.vocab_size,
        _number(blank),
        language,
        family if isinstance(family, str) else "",
    )
    config = config.replace(pad_token_id=vocabulary.blank)
    preprocessor = artifact.read_preprocessor(directory)
    _check_preprocessor(preprocessor, config)
    if config.reads_levels:
        preprocessor["do_normalize"] = False
    return Artifact(config, weights, vocabulary, preprocessor, companion=companions.beside(directory))


def _check_preprocessor(preprocessor: dict[str, Any], config: ModelConfig) -> None:
    """Raise CheckpointError for a spectrogram that is not the one of the network."""
    for key, wanted in config.family.preprocessor.items():
        if (found := preprocessor.get(key, wanted)) != wanted:
            raise CheckpointError(
                f"{artifact.PREPROCESSOR}: {key} {found} of a {config.model_type} model is not supported, "
                f"only {wanted}"
            )


def _load_foreign(path: Path, language: str | None) -> Artifact:
    """Load a file of fairseq or torchaudio."""
    if language is not None:
        raise CheckpointError(f"language '{language}' cannot be chosen: the model has one language only")
    values, tensors, vocabulary, do_normalize = foreign.read(path)
    config = ModelConfig.from_dict({**values, "pad_token_id": vocabulary.blank})
    weights = _only_needed(names.from_checkpoint(tensors, config), config)
    return Artifact(config, weights, vocabulary, {"do_normalize": do_normalize, "sampling_rate": SAMPLE_RATE})


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _headless(weights: Arrays, values: dict[str, Any]) -> str:
    """Explain what a checkpoint without a CTC head is, and what to do."""
    heads = sorted({name.rpartition(".")[0] for name in weights if name.startswith(_OTHER_HEADS)})
    if heads:
        named = [str(name) for name in values.get("architectures") or [] if "CTC" not in str(name)]
        what = f"{', '.join(named) or 'a model'} with {', '.join(heads)}"
        return (
            f"the checkpoint is {what} in the place of a CTC head: it classifies or compares recordings and "
            "writes no text: give a checkpoint fine-tuned for speech recognition with CTC"
        )
    if values.get("model_type") == "whisper":
        return (
            "the checkpoint is a Whisper without a CTC head (lm_head): littlefoot graft makes a recogniser "
            "from its encoder"
        )
    return (
        "the checkpoint has no CTC head (lm_head): it was pre-trained but not fine-tuned; "
        "give a checkpoint fine-tuned for speech recognition"
    )


def _adapter(directory: Path, language: str | None, tensors: Arrays) -> Arrays:
    """Read the adapter of an MMS model for a language; nothing if the weights are those of the language
    already.

    A checkpoint that was saved for a language contains its weights, which an adapter file may repeat.
    """
    content = tokenizer.read_vocabulary(directory)
    saved = tokenizer.read_settings(directory).language
    chosen = choose_language(content, language, saved)
    if chosen is None:
        return {}
    path = directory / f"adapter.{chosen}.safetensors"
    outputs = len(tensors.get("lm_head.weight", ()))
    if chosen == saved and outputs > max(content[chosen].values(), default=0):
        if path.exists() and language is None:
            _warn_of_another_adapter(path, tensors)
        if not path.exists() or language is None:
            return {}
    if path.exists():
        return state_dict.unwrapped(safetensors_io.read(side_files.checked(directory, path.name))[0])
    if language is not None:
        raise CheckpointError(f"{path.name} is missing: the checkpoint has no adapter for '{language}'")
    if saved is None and len(content) > 1:
        raise CheckpointError(
            f"no file states for which of its {len(content)} languages the checkpoint was saved: name it "
            "with "
            f"--language, such as {', '.join(sorted(content)[:8])}, or write target_lang into "
            f"{tokenizer.SETTINGS}"
        )
    return {}


def _warn_of_another_adapter(path: Path, tensors: Arrays) -> None:
    """Warn if weights and adapter of the same language differ, for example after training."""
    different = [
        name
        for name, tensor in safetensors_io.read(path)[0].items()
        if name not in tensors or not np.array_equal(tensors[name], tensor)
    ]
    if different:
        log.warning(
            "%s and the checkpoint's own weights differ (%s): the latter are used, as transformers does; "
            "--language takes the former",
            *(path.name, different[0]),
        )


def _only_needed(weights: Arrays, config: ModelConfig) -> Arrays:
    """Leave out the weights that the recogniser does not use, and report them in one line.

    Raises CheckpointError for weights that another program has quantized.
    """
    expected = expected_weights(config)
    spare: dict[bool, list[str]] = {}
    for name in sorted(set(weights) - set(expected) - {"masked_spec_embed"}):
        spare.setdefault(name.startswith((*_HARMLESS, *config.family.unused)), []).append(name)
    if known := spare.get(True):
        log.info("left out, used in pre-training only or never: %s", ", ".join(known))
    if unknown := spare.get(False):
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        log.warning(
            "left out, which a %s CTC model does not have: %s%s",
            *(config.model_type, ", ".join(unknown[:8]), more),
        )
    kept = {
        name: weight for name, weight in weights.items() if name in expected or name == "masked_spec_embed"
    }
    for name, weight in kept.items():
        if not np.issubdtype(weight.dtype, np.floating):
            raise CheckpointError(
                f"the weight {name} is {weight.dtype} without scales that littlefoot supports: another "
                "program "
                "quantized it: give the checkpoint in full precision, and use littlefoot quantize"
            )
    return {
        name: weight.astype(np.float32) if weight.dtype == np.float64 else weight
        for name, weight in kept.items()
    }
