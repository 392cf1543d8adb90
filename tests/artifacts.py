"""Tiny artifacts with random weights, made without PyTorch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from littlefoot.artifact import Artifact
from littlefoot.config import ModelConfig
from littlefoot.runtime import engine
from littlefoot.runtime.saturation import may_saturate, narrowed
from littlefoot.vocabulary import Vocabulary
from littlefoot.weights import expected_weights

TOKENS = ("<pad>", "<s>", "</s>", "<unk>", "|", "E", "T", "A", "O", "N", "É", "'")


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
        "littlefoot": {"recipe": "test"},
    }
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
    logits = engine.create(artifact, "openvino", threads=1, precision="f32", cached=False).run(waveform)
    spread = logits.std(axis=0)
    weight, bias = (artifact.weights[f"lm_head.{part}"] for part in ("weight", "bias"))
    changed = {
        "lm_head.weight": weight / spread[:, None],
        "lm_head.bias": (bias - logits.mean(axis=0)) / spread,
    }
    return replace(artifact, weights={**artifact.weights, **changed})
