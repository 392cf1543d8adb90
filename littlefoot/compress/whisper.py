"""Read the encoder of a Whisper checkpoint (Radford et al. 2023), and compute its stem.

Whisper's encoder is a log-mel spectrogram, two convolutions (the stem), sinusoids of the frame's number and
Transformer blocks. Its blocks are the pre-norm blocks of wav2vec 2.0 under other names.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from littlefoot.artifact import state_dict
from littlefoot.artifact.json_files import read_json
from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import CheckpointError
from littlefoot.network import mel

WINDOW, HOP = 400, 160
"""Samples of Whisper's spectrogram: 25 ms and 10 ms."""

_PREFIXES = ("model.encoder.", "encoder.")
_BLOCK = {
    "self_attn.q_proj": "attention.q_proj",
    "self_attn.k_proj": "attention.k_proj",
    "self_attn.v_proj": "attention.v_proj",
    "self_attn.out_proj": "attention.out_proj",
    "self_attn_layer_norm": "layer_norm",
    "fc1": "feed_forward.intermediate_dense",
    "fc2": "feed_forward.output_dense",
    "final_layer_norm": "final_layer_norm",
}
"""Names of a block's parts, Whisper's and wav2vec 2.0's."""


@dataclass(frozen=True)
class Whisper:
    """An encoder of ``layers`` blocks."""

    name: str
    width: int
    layers: int
    heads: int
    units: int
    """Units of the feed-forward layers."""
    mels: int
    """Bands of the spectrogram."""
    weights: dict[str, npt.NDArray[np.float32]]
    """Weights by their names in the checkpoint, without the encoder's prefix."""

    def blocks(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the Transformer's weights, final norm included, under wav2vec 2.0's names."""
        made: dict[str, npt.NDArray[np.float32]] = {}
        for leaf in ("weight", "bias"):
            made[f"encoder.layer_norm.{leaf}"] = self.weights[f"layer_norm.{leaf}"]
            for layer in range(self.layers):
                for theirs, mine in _BLOCK.items():
                    name = f"layers.{layer}.{theirs}.{leaf}"
                    value = self.weights.get(name)
                    if value is None and leaf == "bias" and theirs == "self_attn.k_proj":
                        value = np.zeros(self.width, np.float32)  # Whisper's keys have no bias
                    if value is None:
                        raise CheckpointError(f"{self.name}: the encoder's weight {name} is missing")
                    made[f"encoder.layers.{layer}.{mine}.{leaf}"] = value
        return made

    def stem(self, waveforms: Tensor) -> Tensor:
        """Compute the stem, whose output the sinusoids are added to: waveforms (B, T) -> (B, T // 320, D).

        Each waveform is computed separately, in float32; it must not be padded.
        """
        x = self.log_mel(waveforms)  # (B, M, T // 160)
        for layer, stride in (("conv1", 1), ("conv2", 2)):
            weight, bias = (self._tensors[f"{layer}.{leaf}"].to(x.device) for leaf in ("weight", "bias"))
            x = F.gelu(F.conv1d(x, weight, bias, stride, padding=1))
        return x.transpose(1, 2)

    def log_mel(self, waveforms: Tensor) -> Tensor:
        """Compute Whisper's spectrogram: (B, T) -> (B, M, T // 160)."""
        window = torch.hann_window(WINDOW, device=waveforms.device)
        spectrum = torch.stft(waveforms, WINDOW, HOP, window=window, return_complex=True)[..., :-1]
        bands = torch.from_numpy(mel.triangles(self.mels, WINDOW, SAMPLE_RATE)).to(waveforms.device)
        x = (bands @ spectrum.abs().square()).clamp(min=1e-10).log10()
        x = torch.maximum(x, x.amax((1, 2), keepdim=True) - 8.0)
        return (x + 4.0) / 4.0

    @cached_property
    def _tensors(self) -> dict[str, Tensor]:
        return {name: torch.from_numpy(v) for name, v in self.weights.items() if name.startswith("conv")}


def read(directory: Path) -> Whisper:
    """Read the encoder of a Hugging Face checkpoint, with or without a decoder.

    Raises CheckpointError for a directory that holds no Whisper, or one without its encoder's weights.
    """
    config = read_json(directory / "config.json")
    if config.get("model_type") != "whisper":
        raise CheckpointError(
            f"{directory}: model_type is '{config.get('model_type')}': a graft needs a Whisper's checkpoint"
        )
    if config.get("activation_function", "gelu") != "gelu":
        raise CheckpointError(f"{directory}: activation_function must be gelu in a Whisper encoder")

    def size(key: str) -> int:
        value: Any = config.get(key)
        if not isinstance(value, int) or value < 1:
            raise CheckpointError(f"{directory}: config.json has no size {key}: it is not a Whisper's")
        return value

    weights = {}
    for name, value in state_dict.read(directory).items():
        prefix = next((prefix for prefix in _PREFIXES if name.startswith(prefix)), None)
        if prefix is not None:
            weights[name.removeprefix(prefix)] = np.asarray(value, np.float32)
    if "conv1.weight" not in weights:
        raise CheckpointError(f"{directory}: the checkpoint holds no weights of a Whisper encoder")
    made = Whisper(
        name=directory.name,
        width=size("d_model"),
        layers=size("encoder_layers"),
        heads=size("encoder_attention_heads"),
        units=size("encoder_ffn_dim"),
        mels=weights["conv1.weight"].shape[1],
        weights=weights,
    )
    if size("num_mel_bins") != made.mels:
        raise CheckpointError(
            f"{directory}: num_mel_bins is {size('num_mel_bins')}, but the first convolution has {made.mels}"
        )
    made.blocks()
    return made
