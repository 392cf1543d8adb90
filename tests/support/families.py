"""Random models of every supported family in transformers, the oracle of the parity tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers

TINY: dict[str, Any] = {
    "vocab_size": 12,
    "pad_token_id": 0,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [24, 24, 32],
    "conv_kernel": [10, 3, 2],
    "conv_stride": [5, 4, 2],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}

# name -> (architecture, settings on top of the family's defaults)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-base": ("Wav2Vec2", {"feat_extract_norm": "group", "do_stable_layer_norm": False}),
    "wav2vec2-large": (
        "Wav2Vec2",
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "wav2vec2-odd-kernel": ("Wav2Vec2", {"num_conv_pos_embeddings": 15, "conv_bias": True}),
    "mms": (
        "Wav2Vec2",
        {
            "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
            "conv_bias": True,
            "adapter_attn_dim": 8,
        },
    ),
    "hubert-base": ("Hubert", {"feat_extract_norm": "group"}),
    "hubert-large": (
        "Hubert",
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "hubert-no-projection-norm": ("Hubert", {"feat_proj_layer_norm": False}),
    "wavlm-base": ("WavLM", {"feat_extract_norm": "group", "num_buckets": 32, "max_bucket_distance": 80}),
    "wavlm-large": (
        "WavLM",
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "hubert-batch-norm": ("Hubert", {"conv_pos_batch_norm": True, "hidden_act": "gelu_new"}),
    "unispeech": (
        "UniSpeech",
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "hidden_act": "silu"},
    ),
    "unispeech-sat": ("UniSpeechSat", {"feat_extract_norm": "group", "hidden_act": "quick_gelu"}),
    "data2vec-audio": (
        "Data2VecAudio",
        {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7, "conv_bias": False},
    ),
}

# Which stand for a kind of networks in tests that are not about all families.
NORM_ORDERS = ("wav2vec2-base", "wav2vec2-large")
"""Norms after attention and feed-forward layers, and before them."""
NEAREST = "hubert-base"
"""Which differs from wav2vec 2.0 by its name alone."""
RELATIVE, RELATIVE_LARGE = "wavlm-base", "wavlm-large"
"""With a bias by relative position."""
RELATIVE_TYPE = "wavlm"
STACKED = "data2vec-audio"
"""With several positional convolutions, one on the other, and settings that it does not read."""

_FULL_FRONT_END: dict[str, Any] = {
    "vocab_size": 12,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_feat_extract_layers": 7,
    "num_conv_pos_embedding_groups": 16,
}
_BASE = {
    **_FULL_FRONT_END,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_LARGE = {
    **_FULL_FRONT_END,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
_POSITIONS = {"num_conv_pos_embeddings": 128}

# family -> the settings of its published size
FULL_SIZE: dict[str, dict[str, Any]] = {
    "wav2vec2-base": {**_BASE, **_POSITIONS},
    "wav2vec2-large": {**_LARGE, **_POSITIONS},
    "mms": {**_LARGE, **_POSITIONS, "adapter_attn_dim": 16},
    "hubert-base": {**_BASE, **_POSITIONS},
    "hubert-large": {**_LARGE, **_POSITIONS},
    "wavlm-base": {**_BASE, **_POSITIONS, "num_buckets": 320, "max_bucket_distance": 800},
    "wavlm-large": {**_LARGE, **_POSITIONS, "num_buckets": 320, "max_bucket_distance": 800},
    "data2vec-audio": {**_BASE, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19},
}


def make(family: str, seed: int = 0, **changes: Any) -> transformers.PreTrainedModel:
    """A random CTC model of a family for evaluation, every parameter away from its initial value."""
    architecture, settings = FAMILIES[family]
    config_class = getattr(transformers, f"{architecture}Config")
    model_class = getattr(transformers, f"{architecture}ForCTC")
    torch.manual_seed(seed)
    model = model_class(config_class(**{**TINY, **settings, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
        for name, statistic in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                statistic.add_(torch.rand_like(statistic))
    return model


def speechlike(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise with a slowly moving level and zero mean, (T,) float32 at 16 kHz."""
    generator = np.random.default_rng(seed)
    count = int(seconds * 16_000)
    level = 0.6 + 0.4 * np.sin(np.arange(count) * 2 * np.pi / 5000)
    return (generator.standard_normal(count) * level).astype(np.float32)
