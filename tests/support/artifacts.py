"""Tiny artifacts with random weights, made without PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from littlefoot.artifact import Artifact
from littlefoot.artifact.linear import EightBitWeight, PackedWeight, Rounding, StoredLayer, Weight, put
from littlefoot.artifact.packing import Table, levels_of
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.network.config import ModelConfig
from littlefoot.network.families import FAMILIES
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import WAVEFORM_LAYER
from littlefoot.network.weights import expected_weights, packable
from littlefoot.runtime import registry
from littlefoot.runtime.saturation import may_saturate, narrowed

TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "A", "O", "N", "É", "'")


SPECTROGRAMS: dict[str, Any] = {
    **{"feat_extract_first": "log_mel", "feat_extract_norm": "layer"},
    **{"conv_dim": [80, 8], "conv_kernel": [400, 4], "conv_stride": [160, 2]},
}
"""Changes that make a front end which the native kernels do not run."""


def tiny(seed: int = 0, **changes: Any) -> Artifact:
    """A wav2vec 2.0 artifact of a few thousand parameters; changes go to its configuration."""
    settings: dict[str, Any] = {
        "model_type": "wav2vec2",
        "vocab_size": len(TOKENS),
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_dim": [8, 8],
        "conv_kernel": [10, 4],
        "conv_stride": [5, 4],
        "num_conv_pos_embeddings": 6,
        "num_conv_pos_embedding_groups": 4,
        "littlefoot": {"recipe": [{"test": {}}]},
    }
    always = FAMILIES[changes.get("model_type", settings["model_type"])].always
    settings["conv_dim"] = [8] * len(always.get("conv_kernel", settings["conv_kernel"]))
    settings = {key: value for key, value in settings.items() if key not in always}
    config = ModelConfig.from_dict({**settings, **changes})
    generator = np.random.default_rng(seed)
    weights = {
        name: generator.standard_normal(shape).astype(np.float32)
        for name, shape in expected_weights(config).items()
    }
    preprocessor = {"do_normalize": False, "sampling_rate": 16_000}
    return Artifact(config, weights, Vocabulary(TOKENS), preprocessor, "# A card\n")


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Root mean square, as a share of the spread of what is expected.

    A value on the border between two levels may fall on either side, so single numbers may differ more.
    """
    assert found.shape == expected.shape
    return float(np.sqrt(np.square(found - expected).mean()) / expected.std())


def as_computed(artifact: Artifact) -> Artifact:
    """What OpenVINO computes of a model in 8 bits on this processor: the model itself, or one of 7 bits."""
    if not may_saturate():
        return artifact
    return replace(artifact, weights=narrowed(artifact.weights))


def talkative(artifact: Artifact, waveform: np.ndarray) -> Artifact:
    """With an output layer that makes each token the best of some frames of a waveform (T,).

    Random models otherwise say the same at all times.
    """
    logits = registry.create(artifact, "openvino", threads=1, precision="f32", cached=False).run(waveform)
    spread = logits.std(axis=0)
    weight, bias = (artifact.weights[f"lm_head.{part}"] for part in ("weight", "bias"))
    changed = {
        "lm_head.weight": weight / spread[:, None],
        "lm_head.bias": (bias - logits.mean(axis=0)) / spread,
    }
    return replace(artifact, weights={**artifact.weights, **changed})


def few_bits(
    bits: int,
    activation_bits: int = 8,
    table: Table = (),
    seed: int = 0,
    groups: int = 0,
    positions: int = 32,
    front_end: int = 32,
    **changes: Any,
) -> Artifact:
    """A tiny artifact whose Transformer has packed weights, as quantization-aware training leaves them; its
    positional convolution, and its front end behind the first layer, have so many bits."""
    model = tiny(seed, **changes)
    layers: dict[str, StoredLayer] = {}
    rng = np.random.default_rng(seed)
    largest = (1 << activation_bits) - 1
    for name, (rows, columns) in packable(model.config).items():
        levels = rng.choice(np.array(levels_of(bits, table), np.int8), (rows, columns))
        multipliers = rng.integers(1, 4, (rows, groups)).astype(np.uint8) if groups else None
        scale = ((0.3 + rng.random(rows)) / np.sqrt(columns)).astype(np.float32)
        shift = None
        if name.endswith(("q_proj", "k_proj", "v_proj")):
            shift = np.random.default_rng(1).standard_normal(columns).astype(np.float32) / 4
        act_scale, zero_point = np.array(6 / largest, np.float32), np.array(largest // 2, np.uint8)
        rounding = Rounding(act_scale, zero_point, activation_bits, shift=shift)
        layers[name] = StoredLayer(PackedWeight.pack(levels, scale, bits, table, multipliers), rounding)
    for name in (n.removesuffix(".weight") for n in model.weights if n.endswith("conv.weight")):
        width = positions if name.startswith("encoder.") else front_end
        if width < 32 and name != WAVEFORM_LAYER and inventory(model.config).layers[name].multiplies:
            shape = model.weights[f"{name}.weight"].shape
            if width == 8:  # of which engines compute all exactly
                levels = rng.integers(-60, 61, shape).astype(np.int8)
            else:
                levels = rng.choice(np.array(levels_of(width), np.int8), shape)
            spread = {8: 35.0, 4: 4.6}[width] * np.sqrt(np.prod(shape[1:]))
            scale = ((0.3 + rng.random(shape[0])) / spread).astype(np.float32)
            made: Weight = EightBitWeight(levels, scale)
            if width < 8:
                made = PackedWeight.pack(levels, scale, width)
            rounding = Rounding(np.array(6 / 255, np.float32), np.array(120, np.uint8))
            layers[name] = StoredLayer(made, rounding)
    weights = put(model.weights, layers)
    quantization = {"bits": bits, "mode": "static", "kept": []}
    return replace(model, weights=weights, config=model.config.noting(quantization=quantization))


def noise(samples: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(samples).astype(np.float32)
