"""Read the tensors of a checkpoint's files, by the names that transformers gives them.

Weights may be in one file or in shards, as safetensors or pickles, in a dictionary of a training checkpoint,
under the prefix of a wrapper (DataParallel, Lightning, PEFT, ``torch.compile``), or beside LoRA adapters.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import safetensors_io, side_files
from littlefoot.artifact.json_files import read_json, read_optional
from littlefoot.errors import CheckpointError, MissingExtraError

log = logging.getLogger("littlefoot")

Arrays = dict[str, npt.NDArray[Any]]

_HEAD = "lm_head.weight"
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
_WITHIN = ("state_dict", "model_state_dict", "model", "module", "net")
"""Keys under which training programs store the weights."""
_LORA = re.compile(r"(.+)\.lora_([AB])\.(?:([^.]+)\.)?weight")


def read(directory: Path) -> Arrays:
    """Read all tensors of a checkpoint, by the names of transformers.

    Raises:
        CheckpointError: there are none, a shard is missing or damaged, or adapters cannot be merged.
        MissingExtraError: a pickled checkpoint without PyTorch.
    """
    return merged(unwrapped(_read_files(directory)), directory)


def _read_files(directory: Path) -> Arrays:
    """Read one file or shards; safetensors are preferred to pickles."""
    for index, whole, reader in (
        ("model.safetensors.index.json", "model.safetensors", _read_safetensors),
        ("pytorch_model.bin.index.json", "pytorch_model.bin", read_pickle),
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
    if any((directory / f"adapter_model.{end}").exists() for end in ("safetensors", "bin")):
        base = read_optional(directory / "adapter_config.json").get("base_model_name_or_path")
        raise CheckpointError(
            f"it holds a PEFT adapter only, of {base or 'a base model'}: load both with peft, and save what "
            "merge_and_unload() returns"
        )
    raise CheckpointError("there are no weights: neither model.safetensors nor pytorch_model.bin")


def _read_safetensors(path: Path) -> Arrays:
    return safetensors_io.read(path)[0]


def read_pickle(path: Path) -> Arrays:
    """Read the tensors of a pickled checkpoint; of a training checkpoint, those of its model.

    Raises CheckpointError if it is damaged or has no tensors, MissingExtraError without PyTorch.
    """
    if find_spec("torch") is None:
        raise MissingExtraError(f"reading {path.name}, a pickled checkpoint,", "torch", "train")
    import argparse

    import torch

    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # settings of fairseq
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises many kinds of errors
        raise CheckpointError(f"{path.name} is damaged or holds more than tensors: {error}") from error
    tensors = _within(content)
    if not tensors:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise CheckpointError(
            f"{path.name} holds no tensors by name ({keys[:200]}): save the model's state_dict() in it"
        )
    return {
        name: np.asarray(tensor.float() if tensor.is_floating_point() else tensor)
        for name, tensor in tensors.items()
    }


def _within(content: Any) -> dict[str, Any]:
    """Return the tensors of a dictionary, or of the dictionary in it that contains the model."""
    import torch

    if not isinstance(content, Mapping):
        return {}
    for key in _WITHIN:
        if isinstance(content.get(key), Mapping) and (tensors := _within(content[key])):
            return tensors
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}


def unwrapped(tensors: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Remove the prefixes of wrappers: the text before ``lm_head``.

    Raises CheckpointError for two heads, for example of a teacher and a student.
    """
    names = {name: _plain(name) for name in tensors if ".original_module." not in name}
    found = {_WRAPPERS.sub("", plain): tensors[name] for name, plain in names.items()}
    heads = [name.removesuffix(_HEAD) for name in found if name == _HEAD or name.endswith(f".{_HEAD}")]
    if len(heads) > 1 and "" not in heads:
        raise CheckpointError(
            f"the checkpoint holds several models: {', '.join(f'{head}{_HEAD}' for head in heads)}: save one "
            "of them alone"
        )
    prefix = "" if not heads or "" in heads else heads[0]
    return {name.removeprefix(prefix): tensor for name, tensor in found.items()}


def _plain(name: str) -> str:
    """Return the name of a layer that PEFT wraps, with an adapter or trained in full."""
    name = re.sub(r"\.modules_to_save\.[^.]+\.", ".", name)
    return name.replace(".base_layer.", ".")


def merged(tensors: Arrays, directory: Path) -> Arrays:
    """Merge LoRA adapters into their layers (Hu et al., 2021, section 4.1): W + alpha / r B A.

    Raises CheckpointError that names an adapter that cannot be merged.
    """
    adapters: dict[str, dict[str, npt.NDArray[Any]]] = {}
    for name, tensor in tensors.items():
        if match := _LORA.fullmatch(name):
            sides = adapters.setdefault(match[1], {})
            if match[2] in sides:
                raise CheckpointError(
                    f"{match[1]} has several LoRA adapters: merge one of them and save again"
                )
            sides[match[2]] = tensor
    if not adapters:
        return tensors
    settings = read_optional(directory / "adapter_config.json")
    alpha, rank = settings.get("lora_alpha"), settings.get("r")
    named = f"the LoRA adapter of {next(iter(adapters))}"
    odd = [name for name in tensors if "lora_" in name and not _LORA.fullmatch(name)]
    if not isinstance(alpha, int | float) or not isinstance(rank, int) or odd or settings.get("use_dora"):
        why = f"{odd[0]} is unknown" if odd else "there is no adapter_config.json with lora_alpha and r"
        raise CheckpointError(
            f"{named} cannot be merged ({why}): save the model that merge_and_unload() of peft returns"
        )
    scale = alpha / (np.sqrt(rank) if settings.get("use_rslora") else rank)
    result = {name: tensor for name, tensor in tensors.items() if not _LORA.fullmatch(name)}
    for layer, sides in adapters.items():
        weight = result.get(f"{layer}.weight")
        if set(sides) != {"A", "B"} or weight is None or sides["A"].ndim != 2:
            raise CheckpointError(f"{named}: {layer} lacks one of its parts, or is not a linear layer")
        up, down = sides["B"].astype(np.float32), sides["A"].astype(np.float32)
        if weight.shape != (len(up), down.shape[1]):
            raise CheckpointError(f"{named}: its shapes do not fit {layer}.weight {weight.shape}")
        result[f"{layer}.weight"] = weight.astype(np.float32) + np.float32(scale) * (up @ down)
    log.warning("merged the LoRA adapters of %d layers", len(adapters))
    return result
