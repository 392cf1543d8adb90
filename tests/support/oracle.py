"""The same random model in transformers, which says what is right, and as an artifact."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers
import transformers.audio_utils
from checkpoints import TOKENS, reference_weights
from families import FAMILIES, make

from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.network.config import ModelConfig

torch.set_num_threads(1)  # more would only wait for each other over such small models

VARIANTS = (*FAMILIES, "pruned", "log-mel")
"""The families, and what only littlefoot has."""


@dataclass(frozen=True)
class Oracle:
    model: transformers.PreTrainedModel
    artifact: Artifact

    def logits(self, waveform: np.ndarray) -> np.ndarray:
        """(T,) -> (F, V), as transformers computes them."""
        with torch.no_grad():
            return self.model(torch.from_numpy(waveform)[None]).logits[0].numpy()


def build(variant: str, **changes: Any) -> Oracle:
    """A random model; changes go to the configuration of transformers."""
    if variant == "pruned":
        return pruned(build("wav2vec2-large", **changes))
    if variant == "log-mel":
        model = make("wav2vec2-large", **{**LOG_MEL, **changes})
        convolutions = model.base_model.feature_extractor.conv_layers
        convolutions[0] = LogMel(12, 100, 20)
        with torch.no_grad():  # noise is much the same at all times: of its bands only changes tell anything
            convolutions[1].conv.weight -= convolutions[1].conv.weight.mean(dim=2, keepdim=True)
    else:
        model = make(variant, **changes)
    config = ModelConfig.from_dict(model.config.to_dict())
    preprocessor = {"do_normalize": True, "sampling_rate": 16_000}
    artifact = Artifact(config, reference_weights(model), Vocabulary(TOKENS), preprocessor)
    return Oracle(model, artifact)


LOG_MEL = {
    "feat_extract_first": "log_mel",
    "conv_dim": [12, 24, 32],
    "conv_kernel": [100, 3, 2],
    "conv_stride": [20, 2, 2],
}


class LogMel(torch.nn.Module):
    """The spectrogram by a fast Fourier transform in float64, in the place of a first convolution."""

    def __init__(self, bands: int, window: int, hop: int) -> None:
        super().__init__()
        self.window, self.hop = window, hop
        weights = transformers.audio_utils.mel_filter_bank(
            window // 2 + 1, bands, 0, 8000, 16_000, norm=None, mel_scale="slaney"
        )
        self.bands = torch.from_numpy(weights / weights.sum(axis=0))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """(B, 1, T) -> (B, C, F)."""
        hann = torch.hann_window(self.window, periodic=True, dtype=torch.float64)
        frames = waveform[:, 0].double().unfold(1, self.window, self.hop) * hann
        power = torch.fft.rfft(frames).abs().square() / hann.square().sum()
        return ((torch.log(power @ self.bands + 1e-6) + 6) / 5).transpose(1, 2).float()


def pruned(whole: Oracle) -> Oracle:
    """The first of three layers has lost two heads, the second units, the third both.

    In transformers what is pruned is still there, but nothing reads it.
    """
    config = whole.artifact.config.replace(
        layer_attention_heads=(2, 4, 1), layer_intermediate_size=(48, 20, 5)
    )
    weights = dict(whole.artifact.weights)
    generator = np.random.default_rng(0)
    for layer, block in enumerate(whole.model.base_model.encoder.layers):
        heads = generator.permutation(config.num_attention_heads)[: config.attention_heads(layer)]
        channels = (heads[:, None] * config.head_dim + np.arange(config.head_dim)).ravel()
        units = generator.permutation(config.intermediate_size)[: config.feed_forward_units(layer)]
        name = f"encoder.layers.{layer}"
        for readers, kept, inner, outer in (
            (("q_proj", "k_proj", "v_proj"), channels, f"{name}.attention", "out_proj"),
            (("intermediate_dense",), units, f"{name}.feed_forward", "output_dense"),
        ):
            for reader in readers:
                for part in ("weight", "bias"):
                    weights[f"{inner}.{reader}.{part}"] = weights[f"{inner}.{reader}.{part}"][kept]
            weights[f"{inner}.{outer}.weight"] = weights[f"{inner}.{outer}.weight"][:, kept]
        for linear, kept in ((block.attention.out_proj, channels), (block.feed_forward.output_dense, units)):
            silent = np.setdiff1d(np.arange(linear.in_features), kept)
            with torch.no_grad():
                linear.weight[:, silent] = 0
    return replace(whole, artifact=replace(whole.artifact, config=config, weights=weights))


tiny = cache(build)
"""``build``, made once for all tests: change nothing in it."""


def padded(waveforms: list[np.ndarray], fill: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Several (T,) as one batch (B, T) and their lengths (B,)."""
    lengths = np.array([len(waveform) for waveform in waveforms])
    batch = np.full((len(waveforms), lengths.max()), fill, np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return batch, lengths
