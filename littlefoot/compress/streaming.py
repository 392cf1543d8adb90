"""Convert a model of whole recordings to a streaming model.

DistillW2V2's second stage (Fu et al. 2023): attention is computed by chunks with a limited left context.
The positional convolution is shifted back, and a group norm over time and the normalization of the waveform
are replaced by fixed scales, which are measured on speech. The teacher of the streaming student is the
original model or the first model of the recipe.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from littlefoot.artifact import Artifact
from littlefoot.audio import reading
from littlefoot.audio.manifest import Corpus
from littlefoot.compress.distill import Distillation, denominator_of, learn, training_set
from littlefoot.compress.distillation_settings import DistillationSettings
from littlefoot.compress.methods import StepContext
from littlefoot.compress.teacher import make_teacher
from littlefoot.errors import ConfigError, LittlefootError
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import position_padding
from littlefoot.network.operations import CNN_NORM_EPS
from littlefoot.system.checks import Count, PositiveInt
from littlefoot.training.data import Batch
from littlefoot.training.module import CTCModel

MEASURED_RECORDINGS = 64


@dataclass(frozen=True)
class StreamingConfig(DistillationSettings):
    """Settings of the conversion to a streaming model."""

    chunk_frames: PositiveInt = 24
    """Frames of the front end decided at once: 24 of 20 ms are 480 ms. SEW and adapters, which join frames,
    need a multiple of what they join."""
    left_context_frames: Count = 300
    """Frames before its chunk that a frame sees."""
    right_context_frames: Count = 0
    """Frames that the positional convolution looks ahead, at the price of as much latency."""
    other_chunks: tuple[Count, ...] = ()
    """Further chunk lengths to train with, drawn at random, so that the model serves several latencies;
    0 is a chunk of the whole recording."""


def infer_shape(model: ModelConfig, config: StreamingConfig) -> ModelConfig:
    """Return the streaming model's configuration without ``waveform_gain``, which is measured on speech.

    Raises ConfigError for a model that cannot stream.
    """
    return model.replace(
        chunk_frames=config.chunk_frames,
        left_context_frames=config.left_context_frames,
        right_context_frames=config.right_context_frames,
        feat_extract_norm="affine" if model.feat_extract_norm == "group" else model.feat_extract_norm,
        littlefoot={},
    )


def stream(model: Artifact, config: StreamingConfig, step: StepContext) -> Artifact:
    """Convert a model, and train it on the outputs of its teacher.

    Raises:
        ConfigError: a model that cannot stream.
        TrainingError: as ``littlefoot.compress.distill.distill``.
    """
    student = convert(CTCModel.from_artifact(model), config, step.speech())
    data = training_set(student, config, step)
    teacher = make_teacher(model, config, step, data, student)
    objective = StreamingDistillation(student, teacher, config, denominator_of(step, student, config))
    made = learn(objective, data, step)
    chunks = sorted({config.chunk_frames, *(chunk for chunk in config.other_chunks if chunk)})
    return replace(made, config=made.config.noting(streaming={"trained_chunk_frames": chunks}))


class StreamingDistillation(Distillation[StreamingConfig]):
    """Distillation of a student that encodes every batch with another of its chunk lengths."""

    method = "streaming distillation"

    def geometry(self, batch: Batch) -> ModelConfig:
        """Return the student's configuration with the chunks of this step."""
        step = self.model.config.chunk_step
        longest = -(-batch.time_mask.shape[1] // step) * step
        chunks = [self.settings.chunk_frames, *self.settings.other_chunks]
        return self.model.config.replace(chunk_frames=self.drawn(chunks) or longest)


def convert(model: CTCModel, config: StreamingConfig, corpus: Corpus) -> CTCModel:
    """Make an untrained streaming model from the weights of a model that cannot stream.

    The loudness of ``corpus``, and the statistics of the first convolution on it, set the fixed scales.
    """
    theirs, mine = model.config, infer_shape(model.config, config)
    clips = [clip for clip in _recordings(corpus) if len(clip) >= theirs.receptive_field]
    if not clips:
        raise ConfigError("none of the recordings can be read: check the manifests")
    if model.preprocessor.get("do_normalize", True):
        loudness = float(np.median([np.sqrt(np.square(clip).mean()) for clip in clips]))
        mine = mine.replace(waveform_gain=theirs.waveform_gain / max(loudness, 1e-4))
    weights = {name: value.detach().clone() for name, value in model.named_parameters()}
    if theirs.feat_extract_norm == "group":
        _settle_group_norm(weights, theirs, mine.waveform_gain, clips)
    name = "encoder.pos_conv_embed.conv.weight"
    weights[name] = looking_back(weights[name], position_padding(theirs)[0], position_padding(mine)[0])
    made = CTCModel(mine, model.vocabulary, {}, weights, model.card)
    made.preprocessor = {**model.preprocessor, "do_normalize": False}
    return made


def looking_back(kernel: Tensor, behind: int, further: int) -> Tensor:
    """Shift a kernel (D, D / G, K), which began ``behind`` frames before its own, further back.

    What it did to each of the frames that it still sees stays the same; what it now sees anew counts nothing.
    """
    shift = further - behind
    moved = torch.zeros_like(kernel)
    if shift >= 0:
        moved[:, :, shift:] = kernel[:, :, : kernel.shape[2] - shift]
    else:
        moved[:, :, :shift] = kernel[:, :, -shift:]
    return moved


def _recordings(corpus: Corpus) -> list[Any]:
    """Some of the training speech, (T,) each."""
    rows = corpus.of_split("train")
    chosen = np.random.default_rng(0).permutation(len(rows))[:MEASURED_RECORDINGS]
    clips = []
    for row in chosen:
        try:
            clips.append(reading.read(rows[int(row)].path))
        except LittlefootError:
            continue  # the trainer counts them
    return clips


def _settle_group_norm(
    weights: dict[str, Tensor], config: ModelConfig, gain: float, clips: list[Any]
) -> None:
    """Put what the first group norm does to speech, on average, into its scale and shift."""
    name = "feature_extractor.conv_layers.0"
    kernel, bias = weights[f"{name}.conv.weight"], weights.get(f"{name}.conv.bias")
    sums = torch.zeros(len(kernel), dtype=torch.float64)
    squares, count = torch.zeros_like(sums), 0
    for clip in clips:
        waveform = torch.from_numpy(clip)[None, None] * gain
        y = torch.nn.functional.conv1d(waveform, kernel, bias, config.conv_stride[0])[0].double()  # (C, F)
        sums, squares, count = sums + y.sum(1), squares + y.square().sum(1), count + y.shape[1]
    mean = sums / count
    deviation = torch.sqrt(squares / count - mean * mean + CNN_NORM_EPS)
    scale = weights[f"{name}.layer_norm.weight"].double() / deviation
    weights[f"{name}.layer_norm.bias"] = (weights[f"{name}.layer_norm.bias"].double() - scale * mean).float()
    weights[f"{name}.layer_norm.weight"] = scale.float()
