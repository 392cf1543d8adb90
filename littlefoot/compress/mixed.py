"""Choose bits for each layer, by its sensitivity to each width and under a budget.

The cost of a choice is the sum of the sensitivities of its layers (as in HAWQ, Dong et al. 2019). A
sensitivity is measured, not estimated: it is the divergence of the posteriors on calibration audio when the
layer alone is quantized. The smallest sum for each size is then found exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.artifact.packing import WeightCode, layer_bytes
from littlefoot.audio import SAMPLE_RATE
from littlefoot.compress.acceptance import run
from littlefoot.compress.calibration import Array, LayerInput
from littlefoot.compress.gptq import Factor, round_groups
from littlefoot.compress.rounding import round_weight
from littlefoot.decode.spans import log_softmax
from littlefoot.errors import ConfigError
from littlefoot.network.weights import packable
from littlefoot.system.progress import tracked

WIDTHS = (1, 2, 3, 4, 8)
"""Bits that a layer may have."""
AUDIO_SECONDS = 30.0
"""Seconds of calibration audio for sensitivities: a model of 50 layers is run 200 times."""

Codes = Callable[[int], WeightCode]
"""Function from bits to the way in which a layer is stored."""


@dataclass(frozen=True)
class Option:
    """One choice of bits for a layer."""

    bits: int
    bytes: int
    """Bytes of the weight and its scales."""
    sensitivity: float
    """KL divergence of the posteriors from the full-precision model's, in nats per frame."""


def sensitivity(
    artifact: Artifact,
    clips: Sequence[Array],
    inputs: Sequence[LayerInput],
    bits: Sequence[int],
    code: Codes = WeightCode,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, list[Option]]:
    """Measure the effect of each of the Transformer's linear layers on the posteriors, alone and at each
    width.

    Widths at which a layer's columns do not fill whole bytes are left out. Weights are rounded as by
    ``littlefoot quantize``; inputs are not rounded.

    Args:
        artifact: full precision.
        clips: prepared recordings (T,), of which the first AUDIO_SECONDS are used.
        inputs: from ``littlefoot.compress.calibration.collect``, with moments.
    """
    heard = _first_seconds(clips, artifact.config.shortest)
    expected = run(artifact, heard, "f32")
    found: dict[str, list[Option]] = {}
    few = packable(artifact.config)
    groups = [(group, [name for name in group.layers if name in few]) for group in inputs]
    count = sum(len(names) for _, names in groups)
    progress(f"measuring the sensitivity of {count} layers")
    for name, factor in tracked(_with_factors(groups), count, "sensitivity of layers", progress):
        weight = artifact.weights[f"{name}.weight"].astype(np.float32)
        options = []
        for width in sorted(set(bits)):
            try:
                size = layer_bytes(weight.shape, code(width))
            except ConfigError:
                continue
            changed = {**artifact.weights, f"{name}.weight": rounded(weight, factor, code(width))}
            logits = run(replace(artifact, weights=changed), heard, "f32")
            options.append(Option(width, size, kl_divergence(expected, logits)))
        found[name] = options
    return found


def _with_factors(groups: Iterable[tuple[LayerInput, Sequence[str]]]) -> Iterator[tuple[str, Factor]]:
    """Yield layers with the factors of their inputs, of which one at a time takes memory."""
    for group, names in groups:
        if names:
            factor = Factor.of(group.second_moments())
            yield from ((name, factor) for name in names)


def by_size(artifact: Artifact) -> dict[str, list[Option]]:
    """Return options of each layer as if all weights were as sensitive, without running the model.

    A choice among them has the size of the real one, not its accuracy. Each bit less makes the squared error
    of rounding four times as large.
    """
    found: dict[str, list[Option]] = {}
    for name, shape in packable(artifact.config).items():
        found[name] = []
        for width in WIDTHS[1:]:
            try:
                size = layer_bytes(shape, WeightCode(width))
            except ConfigError:
                continue
            found[name].append(Option(width, size, math.prod(shape) * 4.0**-width))
    return found


def rounded(weight: Array, factor: Factor, code: WeightCode) -> Array:
    """Return a linear layer's weight (C', C) after rounding."""
    if code.bits == 8:
        in_8_bits, scale = round_weight(weight)
        return (in_8_bits * scale[:, None]).astype(np.float32)
    if code.bits == 1:
        weight = weight - weight.mean(1, keepdims=True)
    levels, scales = round_groups(weight, factor, code.bits, code.table, code.group)
    return levels.astype(np.float32) * np.repeat(scales, weight.shape[1] // scales.shape[1], axis=1)


def kl_divergence(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """Compute KL(expected || found) of the posteriors of logits (F, V), in nats per frame."""
    a, b = (log_softmax(np.concatenate(logits)) for logits in (expected, found))
    return float((np.exp(a) * (a - b)).sum(axis=1).mean())


def front(options: Mapping[str, Sequence[Option]]) -> list[tuple[int, float, dict[str, int]]]:
    """Find all best choices, from the smallest: bytes, summed sensitivity, and the bits of each layer.

    Dynamic programming over the layers keeps only partial sums that no other one beats in both size and
    sensitivity. The result is exact.
    """
    kept: list[tuple[int, float, tuple[int, ...]]] = [(0, 0.0, ())]
    for choices in options.values():
        sums = sorted(
            (size + o.bytes, total + o.sensitivity, (*bits, o.bits))
            for size, total, bits in kept
            for o in choices
        )
        kept = []
        for candidate in sums:
            if not kept or candidate[1] < kept[-1][1]:
                kept.append(candidate)
    return [(size, total, dict(zip(options, bits, strict=True))) for size, total, bits in kept]


def choose_bits(
    options: Mapping[str, Sequence[Option]],
    budget_bytes: float | None = None,
    max_sensitivity: float | None = None,
) -> dict[str, int]:
    """Choose the bits of each layer under a budget.

    The choice is the one with the lowest summed sensitivity among those that fit the budget, or the smallest
    one among those whose sum is within the limit.

    Args:
        budget_bytes: budget of these layers together.
        max_sensitivity: limit of the summed sensitivity, in nats per frame. With both limits, the smallest
            choice that meets both.

    Raises ConfigError if even the fewest, or the most, bits miss the limits.
    """
    choices = front(options)
    if budget_bytes is not None:
        small = [choice for choice in choices if choice[0] <= budget_bytes]
        if not small:
            raise ConfigError(
                f"the budget leaves {budget_bytes / 1e6:.2f} MB for the Transformer's linear layers, which "
                f"take {choices[0][0] / 1e6:.2f} MB with the fewest bits: raise it"
            )
        if max_sensitivity is None:
            return small[-1][2]
        choices = small
    assert max_sensitivity is not None  # one of the two is given
    for _, total, bits in choices:
        if total <= max_sensitivity:
            return bits
    raise ConfigError(
        f"max_sensitivity of {max_sensitivity:g} nats per frame is less than the {choices[-1][1]:.2g} of the "
        "most bits that are small enough: raise it"
    )


def bits_of_layers(names: Iterable[str], bits: int, layer_bits: Mapping[str, int]) -> dict[str, int]:
    """Return the bits of each of the Transformer's linear layers.

    Raises ConfigError for a pattern that matches none of them.
    """
    chosen = dict.fromkeys(names, bits)
    for pattern, width in layer_bits.items():
        matched = [name for name in chosen if fnmatch(name, pattern)]
        if not matched:
            raise ConfigError(
                f"layer_bits: no linear layer of the Transformer is called '{pattern}': "
                f"they are {next(iter(chosen))} ... {list(chosen)[-1]}"
            )
        chosen.update(dict.fromkeys(matched, width))
    return chosen


def mean_bits(weights: Mapping[str, npt.NDArray[Any]], bits: Mapping[str, int]) -> float:
    """Return the bits per weight of the layers of ``bits``; a whole number if all have the same."""
    if len(set(bits.values())) == 1:
        return next(iter(bits.values()))
    stored = {name: weights[f"{name}.weight"].nbytes for name in bits}
    counts = {name: size * 8 / bits[name] for name, size in stored.items()}
    return round(8 * sum(stored.values()) / sum(counts.values()), 2)


def linear_budget(in_8_bits: Artifact, budget_mb: float, layers: Iterable[str]) -> float:
    """Return the bytes that a budget for all weights leaves for some of the layers."""
    weights = in_8_bits.weights
    linear = sum(layer_bytes(weights[f"{name}.weight"].shape, WeightCode(8)) for name in layers)
    return 1e6 * budget_mb - sum(array.nbytes for array in weights.values()) + linear


def _first_seconds(clips: Sequence[Array], shortest: int) -> list[Array]:
    """Return the first recordings of AUDIO_SECONDS together; silence carries no information."""
    left, chosen = int(AUDIO_SECONDS * SAMPLE_RATE), []
    for clip in clips:
        part = clip[:left]
        if len(part) >= shortest and np.ptp(part) > 0:
            chosen.append(part)
            left -= len(part)
    if not chosen:
        raise ConfigError("the calibration audio is empty or silent: give recordings of speech")
    return chosen
