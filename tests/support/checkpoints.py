"""Checkpoint directories as transformers and its users leave them, for the tests."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers
import torch
import transformers
from safetensors.torch import load_file, save_file

from littlefoot.network import names
from littlefoot.network.config import ModelConfig
from littlefoot.network.weights import expected_weights

TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "A", "O", "N", "I", "'")
MERGES = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("▁", "a"), ("i", "n"), ("in", "g"), ("a", "t"), ("▁", "s")]
PIECES = ("<unk>", *(left + right for left, right in MERGES), "▁", *"abcdeghinst'é", "<pad>")
POSITIONAL = "encoder.pos_conv_embed.conv."


def write(model: transformers.PreTrainedModel, directory: Path, **options: Any) -> Path:
    """Save a model with the alphabet ``TOKENS``; options go to ``save_pretrained``."""
    model.save_pretrained(directory, **options)
    write_json(directory / "vocab.json", {token: index for index, token in enumerate(TOKENS)})
    write_json(directory / "preprocessor_config.json", {"do_normalize": True, "sampling_rate": 16_000})
    return directory


def write_pieces(directory: Path) -> None:
    """Save the processor of a Parakeet with the tokens ``PIECES``; the blank is last, and added."""
    index = {token: place for place, token in enumerate(PIECES[:-1])}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(index, MERGES, unk_token="<unk>", fuse_unk=True))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    made.decoder = tokenizers.decoders.Metaspace()
    unknown, blank = (tokenizers.AddedToken(token, special=True) for token in ("<unk>", "<pad>"))
    wrapped = transformers.ParakeetTokenizer(tokenizer_object=made, unk_token=unknown, pad_token=blank)
    extractor = transformers.ParakeetFeatureExtractor()
    transformers.ParakeetProcessor(extractor, wrapped).save_pretrained(directory)


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def change_config(directory: Path, **changes: Any) -> None:
    """Change keys of ``config.json``."""
    path = directory / "config.json"
    write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **changes})


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    """The tensors of ``model.safetensors``."""
    return dict(load_file(directory / "model.safetensors"))


def write_tensors(directory: Path, content: Mapping[str, torch.Tensor]) -> None:
    """Replace ``model.safetensors``."""
    save_file(
        {name: tensor.contiguous() for name, tensor in content.items()},
        directory / "model.safetensors",
        {"format": "pt"},
    )


def reference_weights(model: transformers.PreTrainedModel) -> dict[str, np.ndarray]:
    """A model's weights by the encoder's names, the weight norm folded by PyTorch.

    Of families with names of their own they are as the package reads them: logits show whether it is right.
    """
    config = ModelConfig.from_dict(model.config.to_dict())
    if config.family.names:
        found = names.from_checkpoint(
            {name: value.numpy() for name, value in model.state_dict().items()}, config
        )
        wanted = {*expected_weights(config), "masked_spec_embed"}
        return {name: weight for name, weight in found.items() if name in wanted}
    prefix = f"{model.base_model_prefix}."
    weights = {name.removeprefix(prefix): value for name, value in model.state_dict().items()}
    normed = [name for name in weights if name.startswith(f"{POSITIONAL}parametrizations")]
    for name in normed:
        del weights[name]
    if normed:
        convolution = model.base_model.encoder.pos_conv_embed.conv
        weights[f"{POSITIONAL}weight"] = convolution.weight.detach()
    norm = getattr(model.base_model.encoder.pos_conv_embed, "batch_norm", None)
    if norm is not None:  # a batch norm in evaluation is linear: its values at 0 and 1 say what it does
        with torch.no_grad():
            shift, one = (norm(torch.full((1, norm.num_features, 1), value)).ravel() for value in (0.0, 1.0))
        for name in [name for name in weights if name.startswith("encoder.pos_conv_embed.batch_norm.")]:
            del weights[name]
        weights["encoder.pos_conv_embed.batch_norm.weight"] = one - shift
        weights["encoder.pos_conv_embed.batch_norm.bias"] = shift
    return {name: value.numpy() for name, value in weights.items()}
