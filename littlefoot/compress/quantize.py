"""Post-training quantization to 8 bits or fewer, without PyTorch.

Weights: symmetric, one scale per output channel: W ~ scale * q, q in -127 ... 127.
Inputs of a layer: asymmetric, one scale and zero point: x ~ scale * (q - zero_point), q in 0 ... 255
(``static``, found on calibration audio), or found anew for every recording (``dynamic``, the scheme of
Shrinking Bigfoot, Peng et al. 2021: linear layers only).

Tensors of a quantized layer NAME in the artifact: ``NAME.weight`` int8, ``NAME.weight_scale`` (C',) and,
if static, ``NAME.input_scale``, ``NAME.input_zero_point`` (uint8, or int8 for the two factors of the
attention scores, NAME.left and NAME.right, which have no weight) and optionally
``NAME.input_smoothing`` (C,):
a factor on the input's channels whose inverse is in the weight (SmoothQuant, Xiao et al. 2023), so that
a few loud channels do not take the range of all.

With fewer bits the weights of the Transformer's linear layers are packed (``littlefoot.packing``), uint8,
with ``NAME.weight_bits`` beside them; the engine unpacks them when it loads and computes in 8 bits.

The first convolution stays as it is: its input is the waveform, of which 8 bits leave quiet speech only a
few steps, and it is cheap. So does a log-mel spectrogram in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.checkpoint import SAMPLES
from littlefoot.compress.calibration import Array, LayerInput, collect, load_clips, recordings, some
from littlefoot.compress.gate import Comparison, compare, run, speedup
from littlefoot.compress.gptq import round_to_bits
from littlefoot.compress.methods import Step
from littlefoot.compress.rounding import InputScale, fit, round_weight
from littlefoot.errors import ConfigError
from littlefoot.packing import pack_layer
from littlefoot.runtime import graph

WAVEFORM_LAYER = "feature_extractor.conv_layers.0.conv"


@dataclass(frozen=True)
class QuantizeConfig:
    """Settings of post-training quantization."""

    mode: str = "static"
    """``static``: layers' inputs get fixed scales from calibration audio; linear layers and convolutions.
    ``dynamic``: scales found at run time; linear layers only, as in Shrinking Bigfoot."""
    keep: tuple[str, ...] = ()
    """Patterns of layer names that stay in higher precision, such as ``feature_extractor.*``."""
    bits: int = 8
    """Of the Transformer's linear layers: 8, or 4 to 2, packed (GPTQ). Everything else has 8."""
    max_disagreement: float = 0.02
    """The gate: share of the text that may change on the calibration audio. Clearly beyond it, the parts
    that hurt most are left in higher precision."""

    def __post_init__(self) -> None:
        if self.mode not in ("static", "dynamic"):
            raise ConfigError(f"mode must be static or dynamic, not '{self.mode}'")
        if self.bits not in (2, 3, 4, 8):
            raise ConfigError(f"bits must be 8, 4, 3 or 2, not {self.bits}")
        if self.bits < 8 and self.mode == "dynamic":
            raise ConfigError("fewer than 8 bits need mode static")


@dataclass(frozen=True)
class Report:
    """What quantization did and what it cost."""

    comparison: Comparison
    """The quantized model against the original on the calibration audio."""
    speedup: float
    """Time of the original over time of the quantized model, on this processor."""
    kept: tuple[str, ...]
    """Layers left in higher precision, by the settings or because they hurt."""
    harm: dict[str, float]
    """Logit error of the model with only this part quantized; measured where the gate was missed."""


def quantize(
    artifact: Artifact,
    clips: Sequence[Array],
    config: QuantizeConfig,
    progress: Callable[[str], None] = lambda message: None,
) -> tuple[Artifact, Report]:
    """Quantize a model and see to it that it still says the same.

    Args:
        artifact: full precision.
        clips: prepared recordings of speech, (T,) float32 each; a few minutes are enough.
        progress: told what is going on.

    Returns:
        the quantized artifact and what it cost.

    Raises:
        ConfigError: an artifact that is quantized already, unknown layers, or silent audio.
    """
    if "quantization" in artifact.config.littlefoot:
        raise ConfigError("the model is quantized already: quantize its full-precision original")
    progress("running the original model")
    clips = [clip for clip in clips if len(clip) >= artifact.config.receptive_field]
    inputs = collect(artifact, clips)
    reference = run(artifact, clips)

    def attempt(keep: tuple[str, ...]) -> tuple[Artifact, Comparison]:
        settings = replace(config, keep=keep)
        made = (
            quantize_dynamic(artifact, settings)
            if config.mode == "dynamic"
            else quantize_static(artifact, inputs, scales, settings)
        )
        return made, compare(reference, run(made, clips), artifact.vocabulary)

    progress("fitting the ranges of all layers")
    scales = {} if config.mode == "dynamic" else {i.layers: fit(i, artifact.weights) for i in inputs}
    candidate, comparison = attempt(config.keep)
    harm: dict[str, float] = {}
    if comparison.exceeds(config.max_disagreement):
        progress(
            f"{100 * comparison.disagreement:.1f} % of the text changed, more than "
            f"{100 * config.max_disagreement:g} %: looking for the parts that hurt"
        )
        names = quantized_layers(candidate)
        harm = _harm(attempt, config, names)
        candidate, comparison = _restore(attempt, config, harm, names)
    kept: tuple[str, ...] = tuple(candidate.config.littlefoot["quantization"]["kept"])
    ratio = speedup(artifact, candidate, np.concatenate(clips)[: 10 * 16_000])
    figures = {
        "logit_error": round(comparison.logit_error, 5),
        "disagreement": round(comparison.disagreement, 5),
        "speedup": round(ratio, 2),
    }
    section = candidate.config.littlefoot
    section = {**section, "quantization": {**section["quantization"], **figures}}
    report = Report(comparison, ratio, kept, harm)
    config_with_figures = candidate.config.replace(littlefoot=section)
    return replace(candidate, config=config_with_figures, card=artifact.card + _card(config, report)), report


def quantize_step(artifact: Artifact, config: QuantizeConfig, step: Step) -> Artifact:
    """``quantize`` as a step of a recipe, calibrated with its speech or with the bundled clips."""
    if step.corpus is None:
        paths = recordings([SAMPLES])
    else:
        paths = [utterance.path for utterance in some(step.corpus.of_split("train") or step.corpus)]
    return quantize(artifact, load_clips(paths, artifact), config, step.progress)[0]


def _card(config: QuantizeConfig, report: Report) -> str:
    """What the model card says about quantization."""
    kept = ", ".join(report.kept) or "none"
    return (
        f"\n## {config.bits} bits\n\n"
        f"Quantized after training with littlefoot, mode {config.mode}. "
        "Measured on the calibration audio against the full-precision model: "
        f"{100 * report.comparison.disagreement:.2f} % of {report.comparison.characters} characters changed, "
        f"logit error {100 * report.comparison.logit_error:.2f} % of their spread. "
        f"Layers left in higher precision: {kept}.\n"
    )


Attempt = Callable[[tuple[str, ...]], tuple[Artifact, Comparison]]


def _harm(attempt: Attempt, config: QuantizeConfig, names: Sequence[str]) -> dict[str, float]:
    """The logit error of quantizing each part alone: a convolution, or one half of a Transformer block."""
    parts = {
        ".".join(name.split(".")[:4]) if name.startswith("encoder.layers.") else name  # as in ...0.attention
        for name in names
    }
    harm = {}
    for part in sorted(parts):
        others = tuple(name for name in names if not _in_part(name, part))
        harm[part] = attempt(config.keep + others)[1].logit_error
    return dict(sorted(harm.items(), key=lambda item: -item[1]))


def _restore(
    attempt: Attempt, config: QuantizeConfig, harm: dict[str, float], names: Sequence[str]
) -> tuple[Artifact, Comparison]:
    """Keep the fewest of the most harmful parts in higher precision with which the gate is met."""

    def keeping(count: int) -> tuple[Artifact, Comparison]:
        parts = list(harm)[:count]
        kept = tuple(name for name in names if any(_in_part(name, part) for part in parts))
        return attempt(config.keep + kept)

    low, high = 0, len(harm)  # the gate is missed with ``low`` parts, and met with all
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
        scales: for each of ``inputs`` what ``fit`` found, by its layers.
    """
    weights = dict(artifact.weights)
    names = [name for layer_input in inputs for name in layer_input.layers]
    kept = kept_layers(names, config.keep) | {WAVEFORM_LAYER}.intersection(names)
    for layer_input in inputs:
        layers = [name for name in layer_input.layers if name not in kept]
        if not layers:
            continue
        found = scales[layer_input.layers]
        for name in layers:
            weights[f"{name}.input_scale"] = np.array(found.scale)
            weights[f"{name}.input_zero_point"] = np.array(found.zero_point)
            if f"{name}.weight" not in artifact.weights:  # a factor of a product
                continue
            weight = artifact.weights[f"{name}.weight"].astype(np.float32)
            if found.smoothing is not None:
                weights[f"{name}.input_smoothing"] = found.smoothing
                weight = weight / found.smoothing
            if config.bits == 8 or not packable(name):
                weights[f"{name}.weight"], weights[f"{name}.weight_scale"] = round_weight(weight)
                continue
            rows = layer_input.rows if found.smoothing is None else layer_input.rows * found.smoothing
            levels, weights[f"{name}.weight_scale"] = round_to_bits(weight, rows, config.bits)
            weights.update(pack_layer(name, levels, config.bits))
    return _labelled(artifact, weights, {"bits": config.bits, "mode": "static", "kept": sorted(kept)})


def packable(name: str) -> bool:
    """Whether a layer may have fewer than 8 bits: a linear layer of the Transformer."""
    return name.startswith("encoder.layers.") and not any(part in name for part in ("adapter", "gru_rel_pos", ".delta.", "rel_attn_embed", ".scores."))


def quantized_layers(artifact: Artifact) -> list[str]:
    """The layers and factors of products that are computed in 8 bits."""
    scales = (".weight_scale", ".input_scale")
    found = (
        name.removesuffix(scale) for name in artifact.weights for scale in scales if name.endswith(scale)
    )
    return list(dict.fromkeys(found))


def quantize_dynamic(artifact: Artifact, config: QuantizeConfig) -> Artifact:
    """Quantize the weights of the linear layers; their inputs are quantized at run time."""
    observed = graph.build(artifact).observed
    layers = [name for names in observed.values() for name in names if f"{name}.weight" in artifact.weights]
    names = [name for name in layers if artifact.weights[f"{name}.weight"].ndim == 2]
    kept = kept_layers(names, config.keep)
    weights = dict(artifact.weights)
    for name in names:
        if name not in kept:
            weight = artifact.weights[f"{name}.weight"].astype(np.float32)
            weights[f"{name}.weight"], weights[f"{name}.weight_scale"] = round_weight(weight)
    return _labelled(artifact, weights, {"bits": 8, "mode": "dynamic", "kept": sorted(kept)})


def kept_layers(names: Iterable[str], patterns: Iterable[str]) -> set[str]:
    """The layers that patterns name. Raises ConfigError for a pattern that matches none."""
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
    section = {**artifact.config.littlefoot, "quantization": quantization}
    return replace(artifact, weights=weights, config=artifact.config.replace(littlefoot=section))
