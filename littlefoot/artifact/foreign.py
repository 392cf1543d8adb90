"""Read checkpoints of fairseq and torchaudio: wav2vec 2.0 and HuBERT models with a CTC head, under other
names.

The shapes determine the architecture: among the published models the width implies the number of heads, and
the norm of the front end implies the position of the norms in the blocks.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy.typing as npt

from littlefoot.artifact import side_files, state_dict
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.errors import CheckpointError

log = logging.getLogger("littlefoot")

Arrays = dict[str, npt.NDArray[Any]]

SUFFIXES = (".pt", ".pth")
_FRONT_END = {(10, 3, 3, 3, 3, 2, 2): (5, 2, 2, 2, 2, 2, 2)}
_HEADS = {768: 12, 1024: 16, 1280: 16, 1920: 16}
_LABELS = ("-", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
"""Tokens of torchaudio's English bundles, whose blank is ``-``."""

_FAIRSEQ: tuple[tuple[str, str], ...] = (
    (r"^w2v_encoder\.proj\.", "lm_head."),
    (r"^w2v_encoder\.w2v_model\.", ""),
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"feature_extractor.conv_layers.\1.conv."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.2(?:\.1)?\.", r"feature_extractor.conv_layers.\1.layer_norm."),
    (r"^layer_norm\.", "feature_projection.layer_norm."),
    (r"^post_extract_proj\.", "feature_projection.projection."),
    (r"^encoder\.pos_conv\.0\.", "encoder.pos_conv_embed.conv."),
    (r"\.self_attn\.", ".attention."),
    (r"\.self_attn_layer_norm\.", ".layer_norm."),
    (r"\.fc1\.", ".feed_forward.intermediate_dense."),
    (r"\.fc2\.", ".feed_forward.output_dense."),
    (r"^mask_emb$", "masked_spec_embed"),
)
_TORCHAUDIO: tuple[tuple[str, str], ...] = (
    (r"^aux\.", "lm_head."),
    (r"^encoder\.feature_projection\.", "feature_projection."),
    (r"^encoder\.transformer\.", "encoder."),
)


def is_foreign(path: Path) -> bool:
    """Return True if a file may be such a checkpoint."""
    return path.name.lower().endswith(SUFFIXES)


def read(path: Path) -> tuple[dict[str, Any], Arrays, Vocabulary, bool]:
    """Read a checkpoint: configuration in the keys of transformers, weights, alphabet, and ``do_normalize``.

    The alphabet is read from a file beside it: ``vocab.json``, or fairseq's ``dict.ltr.txt``.

    Raises:
        CheckpointError: it is another model, of unknown geometry, or there is no alphabet.
        MissingExtraError: PyTorch is not installed.
    """
    tensors = state_dict.read_pickle(path)
    fairseq = "w2v_encoder.proj.weight" in tensors
    if not fairseq and "aux.weight" not in tensors:
        raise CheckpointError(
            f"{path.name} is not a CTC model of fairseq (w2v_encoder.proj) or torchaudio (aux): models of "
            "transformers are directories with config.json"
        )
    weights = _renamed(tensors, _FAIRSEQ if fairseq else _TORCHAUDIO)
    outputs = len(weights["lm_head.weight"])
    values = _geometry(weights)
    return values, weights, _vocabulary(path, outputs, fairseq), values["feat_extract_norm"] == "layer"


def _renamed(tensors: Arrays, rules: tuple[tuple[str, str], ...]) -> Arrays:
    found: Arrays = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


def _geometry(weights: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
    """Derive the configuration from the shapes. Raises CheckpointError for an unknown shape."""
    try:
        convolutions = [
            weights[f"feature_extractor.conv_layers.{layer}.conv.weight"]
            for layer in range(_count(weights, r"feature_extractor\.conv_layers\.(\d+)\."))
        ]
        layers = _count(weights, r"encoder\.layers\.(\d+)\.")
        width = len(weights["feature_projection.projection.weight"])
        position = next(weights[name] for name in _positional() if name in weights)
        units = len(weights["encoder.layers.0.feed_forward.intermediate_dense.weight"])
    except (KeyError, ValueError, StopIteration) as error:
        raise CheckpointError(f"a part of the network is missing ({error}): it is another model") from error
    kernels = tuple(weight.shape[2] for weight in convolutions)
    if kernels not in _FRONT_END or width not in _HEADS:
        raise CheckpointError(
            f"convolutions of kernels {kernels} or a width of {width} are of no published model, and shapes "
            "do not tell strides and heads: convert it with transformers"
        )
    layered = "feature_extractor.conv_layers.1.layer_norm.weight" in weights
    return {
        "model_type": "wav2vec2",
        "vocab_size": len(weights["lm_head.weight"]),
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": _HEADS[width],
        "intermediate_size": units,
        "conv_dim": [len(weight) for weight in convolutions],
        "conv_kernel": list(kernels),
        "conv_stride": list(_FRONT_END[kernels]),
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in weights,
        "num_conv_pos_embeddings": position.shape[2],
        "num_conv_pos_embedding_groups": width // position.shape[1],
        "feat_extract_norm": "layer" if layered else "group",
        "do_stable_layer_norm": layered,
    }


def _count(weights: Mapping[str, npt.NDArray[Any]], pattern: str) -> int:
    """Count the layers in the names. Raises ValueError if there are none."""
    return 1 + max(int(match[1]) for name in weights if (match := re.match(pattern, name)))


def _positional() -> tuple[str, ...]:
    stem = "encoder.pos_conv_embed.conv."
    return f"{stem}weight_v", f"{stem}parametrizations.weight.original1", f"{stem}weight"


def _vocabulary(path: Path, outputs: int, fairseq: bool) -> Vocabulary:
    if (path.parent / "vocab.json").exists():
        from littlefoot.artifact import tokenizer

        return tokenizer.read(path.parent, outputs, 0)
    if (path.parent / "dict.ltr.txt").exists():
        text = side_files.read(path.parent, "dict.ltr.txt").decode("utf-8", errors="replace")
        letters = [line.rsplit(" ", 1)[0] for line in text.splitlines() if line.strip()]
        tokens = ("<pad>", "<s>", "</s>", "<unk>", *letters)  # the first token of fairseq is the blank
        if len(tokens) != outputs:
            raise CheckpointError(
                f"dict.ltr.txt has {len(letters)} letters, with four special tokens {len(tokens)}, but the "
                f"model {outputs} outputs: it belongs to another model"
            )
        return Vocabulary(tokens)
    if not fairseq and outputs == len(_LABELS):
        log.warning(
            "%s has no vocab.json beside it: the letters of torchaudio's English bundles are used", path
        )
        return Vocabulary(_LABELS)
    raise CheckpointError(
        f"there is no alphabet beside {path.name}: put its dict.ltr.txt there, or a vocab.json "
        f"({json.dumps({'<pad>': 0, '|': 1})}, ...) of its {outputs} outputs"
    )
