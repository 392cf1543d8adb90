"""Describe the front end: from the waveform to features."""

from __future__ import annotations

import math
from functools import partial

from littlefoot.audio import SAMPLE_RATE
from littlefoot.network import mel
from littlefoot.network.activations import activate
from littlefoot.network.config import ModelConfig
from littlefoot.network.operations import CNN_NORM_EPS, Ops, Tensor, same_padding


def front_end(
    ops: Ops, config: ModelConfig, waveform: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Run the convolutions: waveform (B, T) -> features (B, F, C), and the lengths in frames."""
    if config.feat_extract_first == "whisper_mel":
        window, hop = config.conv_kernel[0], config.conv_stride[0]
        waveform = ops.mirrored(waveform, window // 2, (window + 1) // 2 - hop, lengths)
    x = ops.reshape(waveform, (0, 1, -1))  # (B, 1, T)
    if config.waveform_gain != 1.0:
        x = x * config.waveform_gain
    if config.feat_extract_first == "fbank":
        return _fbank(ops, config, x, lengths)
    if config.feat_extract_first == "nemo_mel":
        return _images(ops, config, *_nemo_mel(ops, config, x, lengths))
    for layer, (kernel, stride) in enumerate(zip(config.counted_kernels, config.conv_stride, strict=True)):
        if lengths is not None:
            lengths = (lengths - kernel) // stride + 1
        if layer == 0 and config.feat_extract_first == "log_mel":
            x = _log_mel(ops, config, x)
            continue
        if layer == 0 and config.feat_extract_first == "whisper_mel":
            x = _whisper_mel(ops, config, x, lengths)
            continue
        name = f"feature_extractor.conv_layers.{layer}"
        x = ops.segment(name, partial(_convolution, ops, config, name, layer), x, lengths)
    return ops.transpose(x, (0, 2, 1)), lengths


def _log_mel(ops: Ops, config: ModelConfig, x: Tensor) -> Tensor:
    """Compute the log-mel spectrogram, scaled to about unit range: (B, 1, T) -> (B, C, F).

    There is no norm over the bands: it would remove the level of a frame, which distinguishes speech from
    pauses.
    """
    window, hop = config.conv_kernel[0], config.conv_stride[0]
    x = ops.fixed_conv1d(x, mel.sinusoids(window), hop)  # (B, 2 N, F): real and imaginary parts
    x = ops.fixed_conv1d(x * x, mel.bands(config.conv_dim[0], window, SAMPLE_RATE))
    return (ops.log(x + mel.FLOOR) - mel.MEAN) * (1 / mel.DEVIATION)


def _whisper_mel(ops: Ops, config: ModelConfig, x: Tensor, lengths: Tensor | None) -> Tensor:
    """Compute Whisper's log-mel spectrogram (Radford et al. 2023): (B, 1, T) -> (B, C, F).

    Values more than 80 dB below the loudest of the recording are raised to this level.
    """
    window, hop = config.conv_kernel[0], config.conv_stride[0]
    x = ops.fixed_conv1d(x, mel.sinusoids(window), hop)
    x = ops.fixed_conv1d(x * x, mel.whisper_bands(config.conv_dim[0], window, SAMPLE_RATE))
    x = ops.log(ops.activation(x - mel.WHISPER_FLOOR, "relu") + mel.WHISPER_FLOOR) * (1 / math.log(10))
    loudest = ops.largest(_within(ops, x, lengths, math.log10(mel.WHISPER_FLOOR)))  # (B, 1, 1)
    x = ops.activation(x - loudest + mel.WHISPER_RANGE, "relu") + (loudest - (mel.WHISPER_RANGE - 4.0))
    return _within(ops, x * 0.25, lengths)


def _within(ops: Ops, x: Tensor, lengths: Tensor | None, value: float = 0.0) -> Tensor:
    """Set what is behind the frames of each recording to a value, (B, C, F)."""
    return x if lengths is None else ops.masked(x, ops.valid(lengths, x, axis=2), value)


def _fbank(ops: Ops, config: ModelConfig, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Compute Kaldi's log-mel spectrogram, normalized over time: (B, 1, T) -> (B, F, C), and the lengths."""
    (bands, _), (window, stacked), (hop, _) = config.conv_dim, config.conv_kernel, config.conv_stride
    x = ops.fixed_conv1d(x, mel.kaldi_waves(), hop)
    x = ops.fixed_conv1d(x * x, mel.kaldi_bands(bands, SAMPLE_RATE))
    x = ops.log(ops.activation(x - mel.KALDI_FLOOR, "relu") + mel.KALDI_FLOOR)
    valid = None
    if lengths is not None:
        lengths = (lengths - window) // hop + 1
        valid, lengths = ops.valid(lengths, x, axis=2), lengths // stacked
    x = ops.standardize(x, 1e-7, valid)
    x = ops.fixed_conv1d(x, mel.beside(bands, stacked), stacked)
    return ops.transpose(x, (0, 2, 1)), lengths


def _nemo_mel(
    ops: Ops, config: ModelConfig, x: Tensor, lengths: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Compute NeMo's log-mel spectrogram (Kuchaiev et al. 2019), normalized: (B, 1, T) -> (B, C, F),
    and the lengths.
    """
    window, hop = config.conv_kernel[0], config.conv_stride[0]
    x = ops.fixed_conv1d(x, mel.NEMO_EMPHASIS, padding=(1, 0))
    x = _within(ops, x, lengths)
    x = ops.fixed_conv1d(x, mel.nemo_waves(window), hop, padding=(window // 2, (window + 1) // 2 - hop))
    x = ops.fixed_conv1d(x * x, mel.nemo_bands(config.conv_dim[0], SAMPLE_RATE))
    x = ops.log(x + mel.NEMO_FLOOR)
    lengths = None if lengths is None else (lengths - hop) // hop + 1
    valid = None if lengths is None else ops.valid(lengths, x, axis=2)
    x = ops.standardize(x, 1e-5, valid, of_deviation=True)
    return _within(ops, x, lengths), lengths


def _images(ops: Ops, config: ModelConfig, x: Tensor, lengths: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Run convolutions over frames and bands: a spectrogram (B, C, F) -> features (B, F', C'), and the
    lengths.
    """
    x = ops.reshape(ops.transpose(x, (0, 2, 1)), (0, 1, -1, config.conv_dim[0]))  # (B, 1, F, M)
    for layer in range(1, len(config.conv_dim)):
        if lengths is not None:
            lengths = (lengths - 1) // config.conv_stride[layer] + 1
        name = f"feature_extractor.conv_layers.{layer}"
        x = ops.segment(name, partial(_image_convolution, ops, config, name, layer), x, lengths)
    return ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (0, 0, -1)), lengths


def _image_convolution(
    ops: Ops, config: ModelConfig, name: str, layer: int, x: Tensor, lengths: Tensor | None
) -> Tensor:
    """Run one layer over frames and bands: (B, C, F, M) -> (B, C', F', M')."""
    kernel, stride = config.conv_kernel[layer], config.conv_stride[layer]
    if layer > 1:
        x = ops.conv2d(x, f"{name}.depthwise", stride, same_padding(kernel), config.conv_dim[layer - 1])
        x = ops.conv2d(x, f"{name}.conv")
    else:
        x = ops.conv2d(x, f"{name}.conv", stride, same_padding(kernel))
    x = activate(ops, x, config.feat_extract_activation)
    return x if lengths is None else x * ops.reshape(ops.valid(lengths, x, axis=2), (0, 1, -1, 1))


def _convolution(
    ops: Ops, config: ModelConfig, name: str, layer: int, x: Tensor, lengths: Tensor | None
) -> Tensor:
    """Run one layer of the front end: (B, C, T) -> (B, C', T'); ``lengths`` (B,) in its output's frames."""
    padding = same_padding(config.conv_kernel[layer]) if config.padded else (0, 0)
    x = ops.conv1d(x, f"{name}.conv", config.conv_stride[layer], padding)
    if config.feat_extract_norm == "layer":
        x = ops.layer_norm(x, f"{name}.layer_norm", CNN_NORM_EPS, axis=1)
    elif config.feat_extract_norm == "affine" and layer == 0:
        x = ops.affine(x, f"{name}.layer_norm")
    elif config.feat_extract_norm == "group" and layer == 0:
        valid = None if lengths is None else ops.valid(lengths, x, axis=2)
        x = ops.group_norm(x, f"{name}.layer_norm", CNN_NORM_EPS, valid)
    x = activate(ops, x, config.feat_extract_activation)
    return _within(ops, x, lengths) if config.padded else x
