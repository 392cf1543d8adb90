"""Bits for each layer: how much each is hurt by how few, and the best choice under a budget.

The harm of a choice is taken to be the sum of what each of its layers does alone (as in HAWQ, Dong et al.
2019): measured, not estimated, as the divergence of the posteriors on calibration audio. Which sum is the
smallest for each size is then found exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from littlefoot.artifact import Artifact
from littlefoot.artifact.packing import WeightCode, layer_bytes
from littlefoot.audio import SAMPLE_RATE
from littlefoot.compress.calibration import Array, LayerInput
from littlefoot.compress.gate import run
from littlefoot.compress.gptq import round_groups
from littlefoot.compress.rounding import round_weight
from littlefoot.decode.spans import log_softmax
from littlefoot.errors import ConfigError
from littlefoot.network.weights import packable

WIDTHS = (1, 2, 3, 4, 8)
"""Bits that a layer may have."""
AUDIO_SECONDS = 30.0
"""Calibration audio that sensitivities are measured on: a model of 50 layers is run 200 times."""

Codes = Callable[[int], WeightCode]
"""How a layer of so many bits is stored."""


@dataclass(frozen=True)
class Option:
    """What a layer may have."""

    bits: int
    bytes: int
    """Of its weight and scales."""
    harm: float
    """KL divergence of the posteriors from the full-precision model's, in nats per frame."""


def sensitivity(
    artifact: Artifact,
    clips: Sequence[Array],
    inputs: Sequence[LayerInput],
    bits: Sequence[int],
    code: Codes = WeightCode,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[str, list[Option]]:
    """What each of the Transformer's linear layers does to the posteriors when it alone has so many bits.

    Widths that a layer's columns do not fill bytes with are left out. Weights are rounded as
    ``littlefoot quantize`` does it; inputs are not.

    Args:
        artifact: full precision.
        clips: prepared recordings (T,), of which the first AUDIO_SECONDS are used.
        inputs: from ``littlefoot.compress.calibration.collect``.
    """
    heard = _first_seconds(clips, artifact.config.receptive_field)
    expected = run(artifact, heard, "f32")
    found: dict[str, list[Option]] = {}
    few = packable(artifact.config)
    places = [(name, group.rows) for group in inputs for name in group.layers if name in few]
    for number, (name, rows) in enumerate(places, 1):
        progress(f"sensitivity of layer {number} of {len(places)}")
        weight = artifact.weights[f"{name}.weight"].astype(np.float32)
        options = []
        for width in sorted(set(bits)):
            try:
                size = layer_bytes(weight.shape, code(width))
            except ConfigError:
                continue
            changed = {**artifact.weights, f"{name}.weight": rounded(weight, rows, code(width))}
            logits = run(replace(artifact, weights=changed), heard, "f32")
            options.append(Option(width, size, kl_divergence(expected, logits)))
        found[name] = options
    return found


def rounded(weight: Array, rows: Array, code: WeightCode) -> Array:
    """What is left of a linear layer's weight (C', C)."""
    if code.bits == 8:
        in_8_bits, scale = round_weight(weight)
        return (in_8_bits * scale[:, None]).astype(np.float32)
    if code.bits == 1:
        weight = weight - weight.mean(1, keepdims=True)
    levels, scales = round_groups(weight, rows, code.bits, code.table, code.group)
    return levels.astype(np.float32) * np.repeat(scales, weight.shape[1] // scales.shape[1], axis=1)


def kl_divergence(expected: Sequence[Array], found: Sequence[Array]) -> float:
    """KL(expected || found) of the posteriors of logits (F, V), in nats per frame."""
    a, b = (log_softmax(np.concatenate(logits)) for logits in (expected, found))
    return float((np.exp(a) * (a - b)).sum(axis=1).mean())


def front(options: Mapping[str, Sequence[Option]]) -> list[tuple[int, float, dict[str, int]]]:
    """All best choices, from the smallest: bytes, summed harm, and the bits of each layer.

    By dynamic programming over the layers: of the sums of those before, only such are kept as are not both
    larger and more harmful than another. Exact.
    """
    kept: list[tuple[int, float, tuple[int, ...]]] = [(0, 0.0, ())]
    for choices in options.values():
        sums = sorted(
            (size + o.bytes, harm + o.harm, (*bits, o.bits)) for size, harm, bits in kept for o in choices
        )
        kept = []
        for candidate in sums:
            if not kept or candidate[1] < kept[-1][1]:
                kept.append(candidate)
    return [(size, harm, dict(zip(options, bits, strict=True))) for size, harm, bits in kept]


def choose_bits(
    options: Mapping[str, Sequence[Option]],
    budget_bytes: float | None = None,
    max_harm: float | None = None,
) -> dict[str, int]:
    """Bits of each layer: the least harm of those that are small enough, or the smallest that harms little
    enough.

    Args:
        budget_bytes: of these layers together.
        max_harm: nats per frame; of those that are small enough, if there is a budget too.

    Raises ConfigError where even the fewest, or the most, bits miss the budget.
    """
    choices = front(options)
    if budget_bytes is not None:
        small = [choice for choice in choices if choice[0] <= budget_bytes]
        if not small:
            raise ConfigError(
                f"the budget leaves {budget_bytes / 1e6:.2f} MB for the Transformer's linear layers, which "
                f"take {choices[0][0] / 1e6:.2f} MB with the fewest bits: raise it"
            )
        if max_harm is None:
            return small[-1][2]
        choices = small
    assert max_harm is not None  # one of the two is given
    for _, harm, bits in choices:
        if harm <= max_harm:
            return bits
    raise ConfigError(
        f"a harm of {max_harm:g} nats per frame is less than the {choices[-1][1]:.2g} of the most bits "
        "that are small enough: raise it"
    )


def _first_seconds(clips: Sequence[Array], shortest: int) -> list[Array]:
    """Recordings of AUDIO_SECONDS together; silence tells nothing."""
    left, chosen = int(AUDIO_SECONDS * SAMPLE_RATE), []
    for clip in clips:
        part = clip[:left]
        if len(part) >= shortest and np.ptp(part) > 0:
            chosen.append(part)
            left -= len(part)
    if not chosen:
        raise ConfigError("the calibration audio is empty or silent: give recordings of speech")
    return chosen
