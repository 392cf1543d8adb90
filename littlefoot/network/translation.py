"""Translate the keys of ``config.json`` that are not wav2vec 2.0's, for the families that have such."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from littlefoot.errors import ConfigError

_WHISPER_KEYS = {
    "d_model": "hidden_size",
    "encoder_layers": "num_hidden_layers",
    "encoder_attention_heads": "num_attention_heads",
    "encoder_ffn_dim": "intermediate_size",
    "activation_function": "hidden_act",
    "dropout": "hidden_dropout",
    "init_std": "initializer_range",
}


def whisper_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a Whisper encoder."""
    found = {key: value for key, value in values.items() if key not in (*_WHISPER_KEYS, "num_mel_bins")}
    found |= {ours: values[theirs] for theirs, ours in _WHISPER_KEYS.items() if theirs in values}
    width = found["hidden_size"]
    return {"conv_dim": (values.get("num_mel_bins", 80), width, width), **found}


_SECTION = "encoder_config"
_PARAKEET_KEYS = {
    **{
        key: key
        for key in (
            *("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act"),
            *("attention_bias", "convolution_bias", "activation_dropout", "attention_dropout", "scale_input"),
            "initializer_range",
        )
    },
    "conv_kernel_size": "conv_depthwise_kernel_size",
    "dropout": "hidden_dropout",
}
_CHANNELS = "subsampling_conv_channels"
_DERIVED = ("model_type", "num_key_value_heads", "num_mel_bins", _CHANNELS)


def parakeet_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a Parakeet, whose encoder has a section of its own.

    Keys of the section that are no settings keep its name before a dot. Raises ConfigError for a section
    that is not an object.
    """
    section = values.get(_SECTION) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{_SECTION} must be an object, not {section!r}")
    found = {key: value for key, value in values.items() if key != _SECTION}
    for key, value in section.items():
        if key in _PARAKEET_KEYS:
            found[_PARAKEET_KEYS[key]] = value
        elif key not in _DERIVED:
            found[f"{_SECTION}.{key}"] = value
    channels = section.get(_CHANNELS, 256)
    return {"conv_dim": (section.get("num_mel_bins", 80), channels, channels, channels), **found}


def parakeet_keys(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Invert ``parakeet_settings``. Front ends that transformers does not have stay as they are."""
    section: dict[str, Any] = {"model_type": "parakeet_encoder"}
    ours = {name: key for key, name in _PARAKEET_KEYS.items()}
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if name in ours:
            section[ours[name]] = value
        elif name.startswith(f"{_SECTION}."):
            section[name.removeprefix(f"{_SECTION}.")] = value
        else:
            found[name] = value
    bands, *channels = settings["conv_dim"]
    if channels == channels[:1] * 3:
        section |= {"num_mel_bins": bands, _CHANNELS: channels[0]}
        del found["conv_dim"]
    return {**found, _SECTION: section}
