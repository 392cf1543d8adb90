"""Convert between the names of a checkpoint file and those that the encoder uses.

In files, a model's tensors have the prefix of its family, and the weight norm of the positional convolution
is stored as direction and length, so that transformers can load them; a batch norm before it has statistics.
The encoder has neither prefix nor weight norm nor statistics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.network.config import ModelConfig

Arrays = dict[str, npt.NDArray[Any]]

_HEAD = "lm_head."
_OLD_MASK = "mask_time_emb_vector"  # name of masked_spec_embed in the first checkpoints
_POSITIONAL = "encoder.pos_conv_embed.conv."
_BATCH_NORM = "encoder.pos_conv_embed.batch_norm."
_BATCH_NORM_EPS = 1e-5
# length and direction, in the current and in the older style of PyTorch
_NORMED = (
    (f"{_POSITIONAL}parametrizations.weight.original0", f"{_POSITIONAL}parametrizations.weight.original1"),
    (f"{_POSITIONAL}weight_g", f"{_POSITIONAL}weight_v"),
)


def from_checkpoint(tensors: Mapping[str, npt.NDArray[Any]], config: ModelConfig) -> Arrays:
    """Strip the prefix and fold the weight norm: w = g * v / |v|, with |v| over all but the kernel axis."""
    prefix = config.family.prefix
    weights = {name.removeprefix(prefix): array for name, array in tensors.items()}
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


def to_checkpoint(weights: Mapping[str, npt.NDArray[Any]], config: ModelConfig) -> Arrays:
    """Invert ``from_checkpoint``: return the tensors that transformers expects."""
    weights = dict(weights)
    positional = weights.get(f"{_POSITIONAL}weight")
    if config.conv_pos_batch_norm:  # statistics that change nothing; without weight norm
        width = config.hidden_size
        weights[f"{_BATCH_NORM}running_mean"] = np.zeros(width, np.float32)
        weights[f"{_BATCH_NORM}running_var"] = np.full(width, 1 - _BATCH_NORM_EPS, np.float32)
        weights[f"{_BATCH_NORM}num_batches_tracked"] = np.zeros((), np.int64)
    elif positional is not None and np.issubdtype(positional.dtype, np.floating):
        length, direction = _NORMED[0]
        norm = weights[length] = _norm(positional)
        # PyTorch divides a direction by its length: one of zeros would become NaN.
        weights[direction] = np.where(
            norm > 0, weights.pop(f"{_POSITIONAL}weight"), np.ones_like(positional[:1])
        )
    prefix = config.family.prefix
    return {name if name.startswith(_HEAD) else prefix + name: array for name, array in weights.items()}


def _fold_statistics(weights: Arrays) -> None:
    """Fold a batch norm's mean and variance into its scale and shift: (x - m) / sqrt(v + eps) * s + b."""
    mean = weights.pop(f"{_BATCH_NORM}running_mean").astype(np.float64)
    deviation = np.sqrt(weights.pop(f"{_BATCH_NORM}running_var").astype(np.float64) + _BATCH_NORM_EPS)
    weights.pop(f"{_BATCH_NORM}num_batches_tracked", None)
    scale = weights[f"{_BATCH_NORM}weight"].astype(np.float64) / deviation
    shift = weights[f"{_BATCH_NORM}bias"].astype(np.float64) - mean * scale
    weights[f"{_BATCH_NORM}weight"] = scale.astype(np.float32)
    weights[f"{_BATCH_NORM}bias"] = shift.astype(np.float32)


def _norm(direction: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return the norms over all but the kernel axis: (D, D / groups, K) -> (1, 1, K)."""
    squares = np.square(direction, dtype=np.float64).sum(axis=(0, 1), keepdims=True)
    norm: npt.NDArray[np.float32] = np.sqrt(squares).astype(np.float32)
    return norm
