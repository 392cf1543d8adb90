"""Make a wav2vec 2.0 recogniser from the Transformer blocks of a Whisper encoder.

The blocks of both networks are the same, so ``begin`` copies them. Whisper's stem, a log-mel spectrogram with
two convolutions, becomes a front end of plain convolutions, which ``graft_front_end`` trains by regression:
it needs recordings, but no texts. A CTC head, training on texts and a change of positions follow as steps of
the recipe ``graft``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import WORD_DELIMITER, Vocabulary
from littlefoot.audio import SAMPLE_RATE
from littlefoot.compress import whisper as whispers
from littlefoot.compress.methods import StepContext
from littlefoot.compress.whisper import HOP, WINDOW, Whisper
from littlefoot.errors import ConfigError
from littlefoot.network import mel
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import project
from littlefoot.network.front_end import front_end
from littlefoot.training import train as trainer
from littlefoot.training.data import Batch
from littlefoot.training.module import CTCModel, Parameters
from littlefoot.training.objective import Objective
from littlefoot.training.torch_ops import TorchOps
from littlefoot.training.train_config import TrainConfig

SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>", WORD_DELIMITER)
"""The first tokens of a new vocabulary, in the order of wav2vec 2.0's; the first is the blank."""

LOUDNESS = 0.07
"""Root mean square of the recordings that the Whisper reads; the front end reads normalised ones."""

KERNELS, STRIDES = (WINDOW, 1, 1, 3, 3), (HOP, 1, 1, 1, 2)
"""Kernels and strides of the front end: its windows are Whisper's, and its receptive field that of the
stem."""

_CONSTANTS = 36
"""Channels of the first convolution that do not depend on the waveform; with Whisper's window 832 in all."""
_SKIPPED = 2
"""Frames at either end of a recording in which Whisper reads padding."""


@dataclass(frozen=True)
class FrontEndConfig:
    """Settings of the regression onto a Whisper's stem."""

    whisper: str = ""
    """Checkpoint directory whose stem is copied."""
    train: TrainConfig = field(default_factory=TrainConfig)


def infer_shape(model: ModelConfig, config: FrontEndConfig) -> ModelConfig:
    """Return the configuration unchanged. Raises ConfigError for a model that ``begin`` did not make."""
    if (model.conv_kernel, model.conv_stride) != (KERNELS, STRIDES):
        raise ConfigError(
            "front_end: the model's convolutions do not stand where a Whisper's stem does: "
            "this step is for what littlefoot graft begins with"
        )
    return model


def alphabet(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the characters of texts, without spaces, in their order."""
    return tuple(sorted({character for text in texts for character in text} - {" "}))


def begin(whisper: Whisper, letters: Sequence[str], channels: int = 512) -> Artifact:
    """Make the initial model: a Whisper's blocks, a Fourier transform as front end, a random head.

    Args:
        letters: letters of the texts to recognise.
        channels: channels of the front end's convolutions after the first.

    Raises ConfigError for repeated letters and for special tokens.
    """
    tokens = (*SPECIAL_TOKENS, *letters)
    if len(set(tokens)) != len(tokens) or any(not letter for letter in letters):
        raise ConfigError("the alphabet must name every letter once, and none of " + " ".join(SPECIAL_TOKENS))
    frequencies = len(mel.sinusoids(WINDOW)) // 2
    config = ModelConfig(
        vocab_size=len(tokens),
        conv_dim=(4 * frequencies + _CONSTANTS, *(channels,) * 4),
        conv_kernel=KERNELS,
        conv_stride=STRIDES,
        conv_bias=True,
        feat_extract_norm="layer",
        hidden_size=whisper.width,
        num_hidden_layers=whisper.layers,
        num_attention_heads=whisper.heads,
        intermediate_size=whisper.units,
        do_stable_layer_norm=True,
        sinusoidal_positions=1.0,
        hidden_dropout=0.0,  # Whisper's blocks were trained without dropout
        activation_dropout=0.0,
        attention_dropout=0.0,
        final_dropout=0.0,
    )
    made = CTCModel.from_config(config, Vocabulary(tokens, 0)).to_artifact()
    made.weights.update(whisper.blocks())
    made.weights["encoder.pos_conv_embed.conv.weight"][:] = 0  # trained when the sinusoids are removed
    made.weights["masked_spec_embed"][:] = 0
    _begin_with_fourier(made)
    return made


def _begin_with_fourier(model: Artifact) -> None:
    """Initialise the first convolution as a windowed Fourier transform, and the second as mel bands.

    Cosine and sine occur with both signs, because GELU of a value and of its negative add up to a smooth
    modulus. Constant channels keep the level through the layer norm.
    """
    prefix = "feature_extractor.conv_layers"
    waves = mel.sinusoids(WINDOW)[:, 0]  # (2 N, window)
    first, bias = (model.weights[f"{prefix}.0.conv.{leaf}"] for leaf in ("weight", "bias"))
    first[:], bias[:] = 0, 0
    first[: 2 * len(waves), 0] = np.concatenate([waves, -waves])
    bias[2 * len(waves) :] = 0.1
    triangles = mel.triangles(80, WINDOW, SAMPLE_RATE)[:, 1 : len(waves) // 2 + 1]  # (80, N)
    triangles = triangles / triangles.sum(1, keepdims=True)
    second = model.weights[f"{prefix}.1.conv.weight"]
    second[: len(triangles), : 2 * len(waves), 0] = np.tile(triangles, 4)


def graft_front_end(model: Artifact, config: FrontEndConfig, step: StepContext) -> Artifact:
    """Train the convolutions and the projection to have the outputs of a Whisper's stem.

    Raises ConfigError for another Whisper than the model's, and what ``training.train.train`` raises.
    """
    infer_shape(model.config, config)
    if step.untrained:
        return model
    whisper = whispers.read(Path(config.whisper))
    if any(not np.array_equal(model.weights[name], value) for name, value in whisper.blocks().items()):
        raise ConfigError(f"{config.whisper} is not the Whisper that this model's blocks are from")
    out = step.directory / "model"
    speech = step.speech().of_split("train")  # no dev rows: the head is random
    trainer.train(Regression(CTCModel.from_artifact(model), whisper), speech, config.train, out, step.resume)
    return artifacts.load(out)


class Regression(Objective):
    """The share of the variance of a Whisper's stem that the front end misses."""

    needs_text = False
    method = "regression onto a Whisper's stem"

    def __init__(self, model: CTCModel, whisper: Whisper) -> None:
        super().__init__(model)
        self._stem = whisper.stem

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        model = self.model
        ops = TorchOps(Parameters(model), self.training)
        features, frames = front_end(ops, model.config, batch.waveforms, batch.lengths)
        found = project(ops, model.config, features).float()  # (B, F, D)
        assert frames is not None  # lengths were given
        with torch.no_grad(), torch.autocast(found.device.type, enabled=False):
            # Frame j of the front end lies where frame j + 1 of the stem does, 200 samples later.
            wanted = self._stem(LOUDNESS * batch.waveforms[:, WINDOW // 2 :].float())[:, 1:]
        count = min(found.shape[1], wanted.shape[1])
        found, wanted = found[:, :count], wanted[:, :count]
        place = torch.arange(count, device=found.device)
        valid = (place >= _SKIPPED) & (place < frames[:, None] - _SKIPPED)  # (B, F)
        missed = (found - wanted).square()[valid].mean()
        return {"loss": missed / wanted[valid].var()}
