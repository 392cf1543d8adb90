"""Post-training quantization to 8 bits or fewer, without PyTorch.

Weights are symmetric with one scale for each output channel. Inputs of a layer are asymmetric, with one scale
and zero point: found on calibration audio (``static``), or anew for every recording (``dynamic``, the scheme
of Shrinking Bigfoot, Peng et al. 2021: linear layers only). With fewer bits the weights of the Transformer's
linear layers are packed; the engine unpacks them when it loads and computes in 8 bits.
``littlefoot.artifact.linear`` defines the tensors of an artifact.

The first convolution stays as it is: its input is the waveform, of which 8 bits leave quiet speech only a
few steps, and it is cheap. So does a log-mel spectrogram in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatch
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.artifact.checkpoint import SAMPLES
from littlefoot.artifact.linear import (
    EightBitWeight,
    PackedWeight,
    Rounding,
    StoredLayer,
    Weight,
    put,
    quantized_layers,
)
from littlefoot.artifact.packing import WeightCode, layer_bytes
from littlefoot.audio import SAMPLE_RATE
from littlefoot.compress.acceptance import Comparison, compare, run, speedup
from littlefoot.compress.calibration import Array, LayerInput, collect, load_clips, recordings, some
from littlefoot.compress.gptq import Factor, round_to_bits
from littlefoot.compress.inner_rotation import rotated
from littlefoot.compress.methods import StepContext
from littlefoot.compress.mixed import (
    Option,
    bits_of_layers,
    by_size,
    choose_bits,
    linear_budget,
    mean_bits,
    sensitivity,
)
from littlefoot.compress.rounding import InputScale, fit, round_weight
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.layers import WAVEFORM_LAYER, in_block
from littlefoot.network.weights import packable
from littlefoot.runtime import graph
from littlefoot.system.checks import Checked, PositiveFloat, Share
from littlefoot.system.progress import tracked

POST_TRAINING_WIDTHS = (2, 3, 4, 8)
Width = Literal[2, 3, 4, 8]


@dataclass(frozen=True)
class QuantizeConfig(Checked):
    """Settings of post-training quantization."""

    mode: Literal["static", "dynamic"] = "static"
    """``static``: layers' inputs get fixed scales from calibration audio; linear layers and convolutions.
    ``dynamic``: scales found at run time; linear layers only, as in Shrinking Bigfoot."""
    keep: tuple[str, ...] = ()
    """Patterns of layer names that stay in higher precision, such as ``feature_extractor.*``."""
    bits: Width = 8
    """Bits of the Transformer's linear layers: 8, or 4 to 2, packed (GPTQ). Everything else has 8."""
    layer_bits: dict[str, Width] = field(default_factory=dict)
    """Other bits for some of these layers, by patterns of their names; the last match counts."""
    budget_mb: PositiveFloat | None = None
    """Largest size of the artifact's weights, in units of 10^6 bytes. The bits of each of these layers are
    chosen by its sensitivity (``littlefoot.compress.mixed``), and no layer returns to higher precision."""
    max_sensitivity: PositiveFloat | None = None
    """Largest sum of the sensitivities of these layers, in nats per frame, by which their bits are chosen.
    With ``budget_mb`` too, the smallest model that meets both."""
    max_disagreement: Share = 0.02
    """Acceptance check: share of the text that may change on the calibration audio. If clearly more changes,
    the most sensitive parts are left in higher precision."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.layer_bits or self.bits < 8) and self.mixed:
            raise ConfigError(
                "budget_mb and max_sensitivity choose the bits of all layers: leave out bits and layer_bits"
            )
        if (self.bits < 8 or self.layer_bits or self.mixed) and self.mode == "dynamic":
            raise ConfigError("fewer than 8 bits need mode static")

    @property
    def mixed(self) -> bool:
        """Return True if the bits of layers are chosen."""
        return self.budget_mb is not None or self.max_sensitivity is not None

    @property
    def few_bits(self) -> bool:
        """Return True if layers may get fewer than 8 bits."""
        return self.mixed or min(self.bits, *self.layer_bits.values(), 8) < 8


@dataclass(frozen=True)
class Report:
    """The result and the cost of quantization."""

    comparison: Comparison
    """The quantized model against the original on the calibration audio."""
    speedup: float
    """Time of the original over time of the quantized model, on this processor."""
    kept: tuple[str, ...]
    """Layers left in higher precision, by the settings or by the acceptance check."""
    part_errors: dict[str, float]
    """Logit error of the model with only this part quantized; measured if the acceptance check fails."""


def quantize(
    artifact: Artifact,
    clips: Sequence[Array],
    config: QuantizeConfig,
    progress: Callable[[str], None] = lambda message: None,
) -> tuple[Artifact, Report]:
    """Quantize a model and check that its text stays the same.

    Args:
        artifact: full precision.
        clips: prepared recordings of speech, (T,) float32 each; a few minutes are enough.
        progress: callback for messages.

    Returns:
        The quantized artifact and a report of its cost.

    Raises:
        ConfigError: the artifact is already quantized, layers are unknown, or the audio is silent.
    """
    if artifact.config.littlefoot.quantization is not None:
        raise ConfigError("the model is quantized already: quantize its full-precision original")
    artifact = rotated(artifact)
    progress("running the original model")
    clips = [clip for clip in clips if len(clip) >= artifact.config.shortest]
    inputs = collect(artifact, clips, progress, moments=config.few_bits)
    kept_layers([name for layer_input in inputs for name in layer_input.layers], config.keep)  # all known?
    reference = run(artifact, clips, progress=progress)

    def attempt(keep: tuple[str, ...]) -> tuple[Artifact, Comparison]:  # with the config as it then is
        made = rounded(artifact, inputs, scales, replace(config, keep=keep))
        return made, compare(reference, run(made, clips, progress=progress), artifact.vocabulary)

    progress("fitting the ranges of all layers")
    scales = fitted(artifact, inputs, config, progress)
    if mixed := config.mixed:
        if config.budget_mb is not None:  # refuse what no bits can meet before minutes of measuring
            unlimited = replace(config, max_sensitivity=None)
            budget_bits(artifact, inputs, scales, unlimited, by_size(artifact))
        options = sensitivity(artifact, clips, inputs, POST_TRAINING_WIDTHS, progress=progress)
        bits: dict[str, Any] = budget_bits(artifact, inputs, scales, config, options)
        config = replace(config, layer_bits=bits, budget_mb=None, max_sensitivity=None)
    candidate, comparison = attempt(config.keep)
    part_errors: dict[str, float] = {}
    if comparison.exceeds(config.max_disagreement) and not mixed:
        progress(
            f"{100 * comparison.disagreement:.1f} % of the text changed, more than "
            f"{100 * config.max_disagreement:g} %: looking for the parts that hurt"
        )
        names = quantized_layers(candidate.weights)
        part_errors = _part_errors(attempt, config, names, progress)
        candidate, comparison = _restore(attempt, config, part_errors, names)
    noted = candidate.config.littlefoot.quantization
    assert noted is not None
    assert noted.bits is not None, "the candidate is quantized"
    ratio = speedup(artifact, candidate, np.concatenate(clips)[: 10 * SAMPLE_RATE])
    figures = {
        "logit_error": round(comparison.logit_error, 5),
        "disagreement": round(comparison.disagreement, 5),
        "speedup": round(ratio, 2),
    }
    report = Report(comparison, ratio, tuple(noted.kept), part_errors)
    return replace(
        candidate,
        config=candidate.config.noting(quantization={**noted.to_dict(), **figures}),
        card=artifact.card + _card(config, noted.bits, report),
    ), report


def infer_shape(model: ModelConfig, config: QuantizeConfig) -> ModelConfig:
    """Return the model's configuration, marked as quantized.

    Raises ConfigError for layers that cannot have the requested bits.
    """
    shapes = packable(model)
    for name, bits in bits_of_layers(shapes, 8 if config.mixed else config.bits, config.layer_bits).items():
        try:
            layer_bytes(shapes[name], WeightCode(bits))
        except ConfigError as error:
            if not any(fnmatch(name, pattern) for pattern in config.keep):
                raise ConfigError(f"{name}: {error}") from None
    return model.replace(littlefoot={"quantization": {}})


def quantize_step(artifact: Artifact, config: QuantizeConfig, step: StepContext) -> Artifact:
    """Run ``quantize`` as a step of a recipe, calibrated with its speech or with the bundled clips."""
    if step.corpus is None:
        paths = recordings([SAMPLES])
    else:
        paths = [utterance.path for utterance in some(step.corpus.of_split("train") or step.corpus)]
    clips = load_clips(paths, artifact)
    if step.untrained:
        inputs = collect(artifact, clips, moments=config.few_bits)
        scales = fitted(artifact, inputs, config)
        if config.mixed:
            bits: dict[str, Any] = budget_bits(artifact, inputs, scales, config, by_size(artifact))
            config = replace(config, layer_bits=bits, budget_mb=None, max_sensitivity=None)
        return rounded(artifact, inputs, scales, config)
    return quantize(artifact, clips, config, step.progress)[0]


def fitted(
    artifact: Artifact,
    inputs: Sequence[LayerInput],
    config: QuantizeConfig,
    progress: Callable[[str], None] = lambda message: None,
) -> dict[tuple[str, ...], InputScale]:
    """Fit the ranges of layers' inputs, by the layers that share one; none if they are found at run time."""
    if config.mode == "dynamic":
        return {}
    return {i.layers: fit(i, artifact.weights) for i in tracked(inputs, len(inputs), "ranges", progress)}


def rounded(
    artifact: Artifact,
    inputs: Sequence[LayerInput],
    scales: Mapping[tuple[str, ...], InputScale],
    config: QuantizeConfig,
) -> Artifact:
    """Quantize a model with these settings, without an acceptance check."""
    if config.mode == "dynamic":
        return quantize_dynamic(artifact, config)
    return quantize_static(artifact, inputs, scales, config)


def _card(config: QuantizeConfig, bits: float, report: Report) -> str:
    """Describe the quantization for the model card."""
    kept = ", ".join(report.kept) or "none"
    return (
        f"\n## {bits:g} bits\n\n"
        f"Quantized after training with littlefoot, mode {config.mode}. "
        "Measured on the calibration audio against the full-precision model: "
        f"{100 * report.comparison.disagreement:.2f} % of {report.comparison.characters} characters changed, "
        f"logit error {100 * report.comparison.logit_error:.2f} % of their spread. "
        f"Layers left in higher precision: {kept}.\n"
    )


Attempt = Callable[[tuple[str, ...]], tuple[Artifact, Comparison]]


def _part_errors(
    attempt: Attempt, config: QuantizeConfig, names: Sequence[str], progress: Callable[[str], None]
) -> dict[str, float]:
    """Measure the logit error of quantizing each part alone: a convolution, or one half of a Transformer
    block.
    """
    parts = {
        ".".join(name.split(".")[:4]) if in_block(name) else name  # as in encoder.layers.0.attention
        for name in names
    }
    part_errors = {}
    for part in tracked(sorted(parts), len(parts), "sensitivity of parts", progress):
        others = tuple(name for name in names if not _in_part(name, part))
        part_errors[part] = attempt(config.keep + others)[1].logit_error
    return dict(sorted(part_errors.items(), key=lambda item: -item[1]))


def _restore(
    attempt: Attempt, config: QuantizeConfig, part_errors: dict[str, float], names: Sequence[str]
) -> tuple[Artifact, Comparison]:
    """Keep the fewest of the most sensitive parts in higher precision with which the check passes."""

    def keeping(count: int) -> tuple[Artifact, Comparison]:
        parts = list(part_errors)[:count]
        kept = tuple(name for name in names if any(_in_part(name, part) for part in parts))
        return attempt(config.keep + kept)

    low, high = 0, len(part_errors)  # the check fails with ``low`` parts, and passes with all
    while high - low > 1:
        middle = (low + high) // 2
        if keeping(middle)[1].exceeds(config.max_disagreement):
            low = middle
        else:
            high = middle
    return keeping(high)


def _in_part(name: str, part: str) -> bool:
    return name == part or name.startswith(f"{part}.")


def quantize_static(
    artifact: Artifact,
    inputs: Sequence[LayerInput],
    scales: Mapping[tuple[str, ...], InputScale],
    config: QuantizeConfig,
) -> Artifact:
    """Quantize all layers but those that ``config.keep`` names.

    Args:
        artifact: full precision.
        inputs: from ``collect``.
        scales: result of ``fit`` for each of ``inputs``, by its layers.
    """
    layers: dict[str, StoredLayer] = {}
    factors: dict[str, npt.NDArray[Any]] = {}
    names = [name for layer_input in inputs for name in layer_input.layers]
    few = packable(artifact.config)
    bits = bits_of_layers([name for name in names if name in few], config.bits, config.layer_bits)
    kept = kept_layers(names, config.keep) | {WAVEFORM_LAYER}.intersection(names)
    for layer_input in inputs:
        if kept.issuperset(layer_input.layers):
            continue
        found = scales[layer_input.layers]
        inputs_of = Rounding(np.array(found.scale), np.array(found.zero_point), smoothing=found.smoothing)
        factor: Factor | None = None  # of the input, which the layers share
        for name in layer_input.layers:
            if name in kept:
                continue
            if f"{name}.weight" not in artifact.weights:  # a factor of a product
                factors.update(inputs_of.tensors(name))
                continue
            weight = artifact.weights[f"{name}.weight"].astype(np.float32)
            if found.smoothing is not None:
                weight = weight / found.smoothing
            if (width := bits.get(name, 8)) == 8:
                stored: Weight = EightBitWeight(*round_weight(weight))
            else:
                factor = factor or _factor(layer_input, found)
                stored = PackedWeight.pack(*round_to_bits(weight, factor, width), width)
            layers[name] = StoredLayer(stored, inputs_of)
    weights = put(artifact.weights, layers) | factors
    label = {"bits": mean_bits(weights, bits), "mode": "static", "kept": sorted(kept)}
    return _labelled(artifact, weights, label)


def _factor(layer_input: LayerInput, found: InputScale) -> Factor:
    """Factorise the second moments of an input after smoothing."""
    moments = layer_input.second_moments()
    if found.smoothing is None:
        return Factor.of(moments)
    return Factor.of(moments * np.outer(found.smoothing, found.smoothing))


def budget_bits(
    artifact: Artifact,
    inputs: Sequence[LayerInput],
    scales: Mapping[tuple[str, ...], InputScale],
    config: QuantizeConfig,
    options: Mapping[str, Sequence[Option]],
) -> dict[str, int]:
    """Choose the bits of each layer among its options, under the budget of the whole model."""
    in_8_bits = replace(config, bits=8, budget_mb=None, max_sensitivity=None)
    whole = quantize_static(artifact, inputs, scales, in_8_bits)
    budget = None if config.budget_mb is None else linear_budget(whole, config.budget_mb, options)
    return choose_bits(options, budget, config.max_sensitivity)


def quantize_dynamic(artifact: Artifact, config: QuantizeConfig) -> Artifact:
    """Quantize the weights of the linear layers; their inputs are quantized at run time."""
    observed = graph.build(artifact).observed
    layers = [name for names in observed.values() for name in names if f"{name}.weight" in artifact.weights]
    names = [name for name in layers if artifact.weights[f"{name}.weight"].ndim == 2]
    kept = kept_layers(names, config.keep)
    made = {
        name: StoredLayer(
            EightBitWeight(*round_weight(artifact.weights[f"{name}.weight"].astype(np.float32)))
        )
        for name in names
        if name not in kept
    }
    return _labelled(
        artifact, put(artifact.weights, made), {"bits": 8, "mode": "dynamic", "kept": sorted(kept)}
    )


def kept_layers(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """Return the layers that patterns name. Raises ConfigError for a pattern that matches none."""
    names = list(names)
    kept: set[str] = set()
    for pattern in patterns:
        matched = {name for name in names if fnmatch(name, pattern)}
        if not matched:
            raise ConfigError(f"no layer is called '{pattern}': the layers are {names[0]} ... {names[-1]}")
        kept |= matched
    return kept


def _labelled(
    artifact: Artifact, weights: dict[str, npt.NDArray[Any]], quantization: dict[str, Any]
) -> Artifact:
    return replace(artifact, weights=weights, config=artifact.config.noting(quantization=quantization))
