"""Convert between the names of a checkpoint file and those that the encoder uses.

In files, a model's tensors have the prefix of its family, and the weight norm of the positional convolution
is stored as direction and length, so that transformers can load them; a batch norm has statistics; and some
families have names of their own (``Family.names``). The encoder has neither prefix nor weight norm nor
statistics, and the names of wav2vec 2.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.errors import CheckpointError
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import sinusoids
from littlefoot.network.families import Family, Name

Arrays = dict[str, npt.NDArray[Any]]

_HEAD = "lm_head."
_OLD_MASK = "mask_time_emb_vector"  # name of masked_spec_embed in the first checkpoints
_POSITIONAL = "encoder.pos_conv_embed.conv."
_BATCH_NORM = "encoder.pos_conv_embed.batch_norm."
_BATCH_NORM_EPS = 1e-5
_SINUSOIDS = "encoder.embed_positions.weight"
_ROUNDING = 0.01
"""Largest difference of sinusoids, which files may store in 16 bits."""
# length and direction, in the current and in the older style of PyTorch
_NORMED = (
    (f"{_POSITIONAL}parametrizations.weight.original0", f"{_POSITIONAL}parametrizations.weight.original1"),
    (f"{_POSITIONAL}weight_g", f"{_POSITIONAL}weight_v"),
)


def from_checkpoint(tensors: Mapping[str, npt.NDArray[Any]], config: ModelConfig) -> Arrays:
    """Strip the prefix and fold the weight norm: w = g * v / |v|, with |v| over all but the kernel axis."""
    prefix = config.family.prefix
    weights = {name.removeprefix(prefix): array for name, array in tensors.items()}
    weights = _to_ours(weights, config.family)
    if _has_batch_norms(config):
        _fold_depthwise(weights)
    if config.sinusoidal_positions and _SINUSOIDS in weights:
        _check_sinusoids(weights[_SINUSOIDS])
    for length, direction in _NORMED:
        if length in weights and direction in weights:
            g = weights.pop(length).astype(np.float32)  # (1, 1, K)
            v = weights.pop(direction).astype(np.float32)  # (D, D / groups, K)
            norm = _norm(v)
            # exactly 1 if the direction kept its length, so that our own files are read exactly
            ratio = np.divide(g, norm, out=np.zeros_like(g), where=norm > 0)
            weights[f"{_POSITIONAL}weight"] = v * ratio
    if f"{_BATCH_NORM}running_var" in weights:
        _fold_statistics(weights)
    if _OLD_MASK in weights:
        weights.setdefault("masked_spec_embed", weights.pop(_OLD_MASK))
    return weights


def _check_sinusoids(table: npt.NDArray[Any]) -> None:
    """Raise CheckpointError for positions that are not those that the encoder computes."""
    wanted = sinusoids(table.shape[-1])
    if table.shape != wanted.shape or np.abs(table - wanted).max() > _ROUNDING:
        raise CheckpointError(
            f"{_SINUSOIDS} has other positions than Whisper's sinusoids: positions that were trained are not "
            "supported"
        )


def as_stored(weights: Mapping[str, npt.NDArray[Any]]) -> Arrays:
    """Return weights with the types that they have in files.

    ``from_checkpoint`` computes the weight of the positional convolution in float32. If it was stored in 16
    bits, as its bias is, 16 bits hold it exactly.
    """
    weights = dict(weights)
    weight, bias = weights.get(f"{_POSITIONAL}weight"), weights.get(f"{_POSITIONAL}bias")
    if weight is not None and bias is not None and weight.dtype == np.float32 and bias.dtype == np.float16:
        narrow = weight.astype(np.float16)
        if np.array_equal(narrow, weight):
            weights[f"{_POSITIONAL}weight"] = narrow
    return weights


def to_checkpoint(weights: Mapping[str, npt.NDArray[Any]], config: ModelConfig) -> Arrays:
    """Invert ``from_checkpoint``: return the tensors that transformers expects."""
    weights = as_stored(weights)
    positional = weights.get(f"{_POSITIONAL}weight")
    if config.conv_pos_batch_norm:  # statistics that change nothing; without weight norm
        weights.update(_no_statistics(_BATCH_NORM, config.hidden_size))
    elif positional is not None and np.issubdtype(positional.dtype, np.floating):
        length, direction = _NORMED[0]
        norm = weights[length] = _norm(positional)
        # PyTorch divides a direction by its length: one of zeros would become NaN.
        weights[direction] = np.where(
            norm > 0, weights.pop(f"{_POSITIONAL}weight"), np.ones_like(positional[:1])
        )
    if _has_batch_norms(config):
        _unfold_depthwise(weights, config.convolution_bias)
    weights = _to_theirs(weights, config)
    prefix = config.family.prefix
    return {name if name.startswith(_HEAD) else prefix + name: array for name, array in weights.items()}


def _pattern(template: str) -> re.Pattern[str]:
    return re.compile(re.escape(template).replace(r"\{\}", r"(\d+)") + r"(?=\.|$)")


def _renamed(name: str, template: str, other: str) -> str | None:
    """Replace the beginning of a tensor's name; None if the name has another."""
    match = _pattern(template).match(name)
    return None if match is None else other.format(*match.groups()) + name[match.end() :]


def _to_ours(weights: Arrays, family: Family) -> Arrays:
    found: Arrays = {}
    for name, array in weights.items():
        for rule in family.names:
            if (ours := _renamed(name, rule.theirs, rule.ours)) is not None:
                found.update(_taken_apart(ours, array, rule))
                break
        else:
            found[name] = array
    return found


def _taken_apart(name: str, array: npt.NDArray[Any], rule: Name) -> Arrays:
    """Convert a tensor of a file to those of the encoder. Quantized models have these in their files."""
    if rule.by_heads:
        array = array.reshape(-1)
    if rule.pointwise and array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    layer, _, leaf = name.rpartition(".")
    if not rule.parts or layer.endswith(tuple(f".{part}" for part in rule.parts)):
        return {name: array}
    pieces = np.split(array, len(rule.parts))
    return {f"{layer}.{part}.{leaf}": piece for part, piece in zip(rule.parts, pieces, strict=True)}


def _to_theirs(weights: Arrays, config: ModelConfig) -> Arrays:
    rules = config.family.names
    for rule in rules:
        if rule.parts:
            _join(weights, rule)
    found: Arrays = {}
    for name, array in weights.items():
        for rule in rules:
            if (theirs := _renamed(name, rule.ours, rule.theirs)) is not None:
                quantized = f"{name}_scale" in weights or not np.issubdtype(array.dtype, np.floating)
                if rule.by_heads:
                    array = array.reshape(-1, config.head_dim)
                if rule.pointwise and array.ndim == 2 and not quantized and name.endswith(".weight"):
                    array = array[:, :, None]
                found[theirs] = array
                break
        else:
            found[name] = array
    return found


def _join(weights: Arrays, rule: Name) -> None:
    """Put the parts of a matrix below each other; those of quantized layers stay apart."""
    first = _pattern(f"{rule.ours}.{rule.parts[0]}")
    for name in [name for name in weights if first.match(name) and name.endswith((".weight", ".bias"))]:
        layer, leaf = name.rpartition(f".{rule.parts[0]}.")[::2]
        pieces = [weights[f"{layer}.{part}.{leaf}"] for part in rule.parts]
        owners = tuple(f"{layer}.{part}." for part in rule.parts)
        stored = {other.rpartition(".")[2] for other in weights if other.startswith(owners)}
        if stored <= {"weight", "bias"}:
            for part in rule.parts:
                del weights[f"{layer}.{part}.{leaf}"]
            weights[f"{layer}.{leaf}"] = np.concatenate(pieces)


_DEPTHWISE = re.compile(r"(.*\.conv_module)\.depthwise_conv\.weight")
_BATCH_NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


def _has_batch_norms(config: ModelConfig) -> bool:
    """Return True if checkpoints have a batch norm behind each convolution of the blocks."""
    return config.family.block == "conformer" and config.family.convolution_norm == "batch"


def _depthwise(weights: Arrays) -> list[str]:
    """Return the modules of Conformers' convolutions in floating point; quantized ones are folded already."""
    matches = [match for name in weights if (match := _DEPTHWISE.fullmatch(name))]
    return [match[1] for match in matches if np.issubdtype(weights[match[0]].dtype, np.floating)]


def _fold_depthwise(weights: Arrays) -> None:
    """Fold a batch norm behind the convolution of a Conformer's block into its kernel and bias.

    Raises CheckpointError if a part of it is missing.
    """
    for block in _depthwise(weights):
        norm, convolution = f"{block}.batch_norm.", f"{block}.depthwise_conv."
        if missing := [part for part in _BATCH_NORM_PARTS if f"{norm}{part}" not in weights]:
            raise CheckpointError(
                f"{norm}{missing[0]} is missing: without its batch norm the convolution computes something "
                "else: give the checkpoint as it was trained"
            )
        scale, shift = _folded(weights, norm)
        del weights[f"{norm}weight"], weights[f"{norm}bias"]
        kernel = weights[f"{convolution}weight"].astype(np.float64) * scale[:, None, None]
        shift = shift + weights.get(f"{convolution}bias", np.zeros(1)).astype(np.float64) * scale
        weights[f"{convolution}weight"] = kernel.astype(np.float32)
        weights[f"{convolution}bias"] = shift.astype(np.float32)


def _unfold_depthwise(weights: Arrays, biased: bool) -> None:
    """Give each convolution a batch norm that changes nothing, or adds the bias that transformers lacks."""
    for block in _depthwise(weights):
        norm, bias = f"{block}.batch_norm.", f"{block}.depthwise_conv.bias"
        shift = weights[bias]
        weights[f"{norm}weight"] = np.ones_like(shift, np.float32)
        weights[f"{norm}bias"] = np.zeros_like(shift) if biased else weights.pop(bias)
        weights.update(_no_statistics(norm, len(shift)))


def _no_statistics(norm: str, width: int) -> Arrays:
    """Return the statistics of a batch norm that changes nothing."""
    return {
        f"{norm}running_mean": np.zeros(width, np.float32),
        f"{norm}running_var": np.full(width, 1 - _BATCH_NORM_EPS, np.float32),
        f"{norm}num_batches_tracked": np.zeros((), np.int64),
    }


def _fold_statistics(weights: Arrays) -> None:
    """Fold a batch norm's mean and variance into its scale and shift."""
    scale, shift = _folded(weights, _BATCH_NORM)
    weights[f"{_BATCH_NORM}weight"] = scale.astype(np.float32)
    weights[f"{_BATCH_NORM}bias"] = shift.astype(np.float32)


def _folded(weights: Arrays, norm: str) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return scale and shift of (x - m) / sqrt(v + eps) * s + b; the statistics go."""
    mean = weights.pop(f"{norm}running_mean").astype(np.float64)
    deviation = np.sqrt(weights.pop(f"{norm}running_var").astype(np.float64) + _BATCH_NORM_EPS)
    deviation[np.abs(deviation - 1) < 1e-7] = 1  # so that our own files are read exactly
    weights.pop(f"{norm}num_batches_tracked", None)
    scale = weights[f"{norm}weight"].astype(np.float64) / deviation
    return scale, weights[f"{norm}bias"].astype(np.float64) - mean * scale


def _norm(direction: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the norms over all but the kernel axis: (D, D / groups, K) -> (1, 1, K)."""
    squares = np.square(direction, dtype=np.float64).sum(axis=(0, 1), keepdims=True)
    norm: npt.NDArray[np.float32] = np.sqrt(squares).astype(np.float32)
    return norm
