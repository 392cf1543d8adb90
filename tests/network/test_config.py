"""The configuration takes what checkpoints hold, counts frames as the front end does, refuses nonsense."""

from __future__ import annotations

import json
from typing import Any

import pytest
from families import RELATIVE_TYPE
from hypothesis import given
from hypothesis import strategies as st

from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig


def test_a_configuration_comes_back_through_json() -> None:
    config = ModelConfig.from_dict(
        {
            "model_type": RELATIVE_TYPE,
            "num_buckets": 64,
            "ctc_loss_reduction": "mean",
            "littlefoot": {"recipe": [{"r": {}}]},
        }
    )
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))).to_dict() == config.to_dict()
    assert config.extra == {"ctc_loss_reduction": "mean"}


def test_the_standard_front_end() -> None:
    config = ModelConfig()
    assert (config.stride, config.receptive_field, config.frame_ms) == (320, 400, 20.0)
    assert [config.frames(samples) for samples in (0, 399, 400, 719, 720, 16_000)] == [0, 0, 1, 1, 2, 49]


@given(
    st.lists(st.tuples(st.integers(1, 12), st.integers(1, 5)), min_size=1, max_size=4), st.integers(0, 3000)
)
def test_frames_are_those_that_fit(layers: list[tuple[int, int]], samples: int) -> None:
    kernels, strides = zip(*layers, strict=True)
    config = ModelConfig(conv_dim=(4,) * len(layers), conv_kernel=kernels, conv_stride=strides)
    fitting = (samples - config.receptive_field) // config.stride + 1
    assert config.frames(samples) == max(0, fitting)


def test_layers_have_the_sizes_that_pruning_left_them() -> None:
    plain = ModelConfig(num_hidden_layers=2)
    assert [plain.attention_heads(layer) for layer in range(2)] == [12, 12]
    assert plain.own_settings == {}
    assert "layer_attention_heads" not in plain.to_dict()  # or transformers would find a key it does not know
    pruned = plain.replace(layer_attention_heads=(12, 3), layer_intermediate_size=(7, 3072))
    assert [pruned.attention_heads(layer) for layer in range(2)] == [12, 3]
    assert [pruned.feed_forward_units(layer) for layer in range(2)] == [7, 3072]
    assert pruned.head_dim == plain.head_dim
    assert ModelConfig.from_dict(json.loads(json.dumps(pruned.to_dict()))).own_settings == {
        "layer_attention_heads": (12, 3),
        "layer_intermediate_size": (7, 3072),
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"layer_attention_heads": (12,)},
            "layer_attention_heads must have one entry per layer, but has 1 for 2",
        ),
        (
            {"layer_attention_heads": (12, 13)},
            r"layer_attention_heads\[1\] must be at most 12, not 13",
        ),
        ({"layer_intermediate_size": (0, 5)}, r"layer_intermediate_size\[0\] must be greater than 0, not 0"),
        ({"layer_attention_heads": (12, 3), "model_type": RELATIVE_TYPE}, "share one position bias"),
    ],
)
def test_layers_of_impossible_sizes_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(num_hidden_layers=2, **settings)


LOG_MEL: dict[str, Any] = {
    "feat_extract_first": "log_mel",
    "feat_extract_norm": "layer",
    "conv_dim": (80, 256, 256),
    "conv_kernel": (400, 3, 3),
    "conv_stride": (160, 1, 3),
}


def test_a_spectrogram_counts_frames_as_a_convolution_does() -> None:
    config = ModelConfig(**LOG_MEL)
    assert (config.stride, config.receptive_field, config.frame_ms) == (480, 400 + 2 * 160 + 2 * 160, 30.0)
    assert [config.frames(samples) for samples in (1039, 1040, 1519, 1520)] == [0, 1, 1, 2]
    assert ModelConfig.from_dict(config.to_dict()).own_settings == {"feat_extract_first": "log_mel"}
    assert "feat_extract_first" not in ModelConfig().to_dict()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"feat_extract_first": "mfcc"},
            "feat_extract_first must be conv, log_mel, fbank, whisper_mel or nemo_mel, not 'mfcc'",
        ),
        ({"feat_extract_norm": "group"}, "log_mel needs feat_extract_norm 'layer'"),
        ({"conv_kernel": (5000, 3, 3)}, "80 bands and a window of 5000 samples: .* at most 4096"),
        ({"conv_kernel": (80, 3, 3)}, "needs more samples than bands"),
        ({"conv_kernel": (200, 3, 3)}, "80 bands needs a longer window than 200 samples: band 0 is empty"),
    ],
)
def test_impossible_spectrograms_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ModelConfig(**{**LOG_MEL, **settings})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_type", "speech_to_text"),
        ("model_type", ["wav2vec2"]),
        ("model_type", None),
        ("hidden_size", 0),
        ("hidden_size", 770),
        ("hidden_size", "768"),
        ("num_hidden_layers", 10**9),
        ("num_hidden_layers", True),
        ("num_attention_heads", 0),
        ("num_conv_pos_embedding_groups", 0),
        ("num_conv_pos_embeddings", 0),
        ("layer_attention_heads", 4),
        ("layer_intermediate_size", ["3072"]),
        ("conv_dim", []),
        ("conv_dim", [512]),
        ("conv_stride", [5, 2, 2, 2, 2, 2, 0]),
        ("layer_norm_eps", float("nan")),
        ("layer_norm_eps", float("inf")),
        ("layer_norm_eps", 10**400),
        ("layer_norm_eps", None),
        ("layer_norm_eps", 3),
        ("layer_norm_eps", -1e-5),
        ("waveform_gain", 0),
        ("attention_dropout", 1.5),
        ("conv_stride", [5, 2, 2, 2, 2, 2, 10**30]),
        ("intermediate_size", 2**40),
        ("adapter_attn_dim", 0),
        ("feat_extract_norm", "batch"),
        ("hidden_act", "prelu"),
        ("pad_token_id", 32),
        ("pad_token_id", None),
        ("littlefoot", []),
    ],
)
def test_nonsense_is_refused_by_key(key: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=key):
        ModelConfig.from_dict({"model_type": "wav2vec2", key: value})


@pytest.mark.parametrize("changes", [{"num_buckets": 3}, {"num_buckets": 320, "max_bucket_distance": 80}])
def test_impossible_relative_positions_are_refused(changes: dict[str, int]) -> None:
    ModelConfig(model_type=RELATIVE_TYPE, num_buckets=320, max_bucket_distance=81)
    with pytest.raises(ConfigError, match="num_buckets"):
        ModelConfig(model_type=RELATIVE_TYPE, **changes)


def test_without_a_type_it_is_no_model() -> None:
    with pytest.raises(ConfigError, match="no model_type"):
        ModelConfig.from_dict({})
