"""Derive the geometry of a model from its settings: frames, strides, contexts, and each layer's sizes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import overload

import numpy as np
import numpy.typing as npt

from littlefoot.audio import SAMPLE_RATE
from littlefoot.network.families import FAMILIES, Family
from littlefoot.network.settings import ModelSettings


@dataclass(frozen=True)
class Geometry(ModelSettings):
    """The settings of one CTC model, and what follows from them. Lengths are counted in samples at 16 kHz or
    in frames.
    """

    @property
    def family(self) -> Family:
        """Return the row of the model's family."""
        return FAMILIES[self.model_type]

    @property
    def feature_stride(self) -> int:
        """Return the samples from one frame of the front end to the next."""
        return math.prod(self.conv_stride)

    @property
    def stride(self) -> int:
        """Return the samples from one frame of the logits to the next."""
        return self.feature_stride * self.adapters_stride

    @property
    def adapters_stride(self) -> int:
        """Return the frames of the blocks from one frame of the logits to the next, behind adapters."""
        return self.adapter_stride**self.num_adapter_layers if self.add_adapter else 1

    @property
    def chunk_step(self) -> int:
        """Return the frames of which a chunk has a multiple, so that no stride joins frames of two chunks."""
        return self.squeeze_factor * self.adapters_stride

    @property
    def left_block_frames(self) -> int:
        """Return ``left_context_frames`` in frames of the blocks."""
        return self.left_context_frames // self.squeeze_factor

    @property
    def norm_over_time(self) -> bool:
        """Return True if the front end needs the whole recording."""
        return self.feat_extract_norm == "group" or self.reads_levels

    @property
    def reads_levels(self) -> bool:
        """Return True if the front end reads waveforms with their own level, and normalizes spectrograms."""
        return self.feat_extract_first in ("fbank", "whisper_mel", "nemo_mel")

    @property
    def one_frame_rate(self) -> bool:
        """Return True if front end, blocks and logits have the same frames."""
        return not self.add_adapter and self.squeeze_factor == 1

    @property
    def shortest(self) -> int:
        """Return the samples of the shortest recording that has frames."""
        return self._reach(self.counted_kernels) + (self.squeeze_factor - 1) * self.feature_stride

    @property
    def feature_bands(self) -> int:
        """Return the bands that two-dimensional convolutions leave of a spectrogram; 1 without them."""
        if self.feat_extract_first != "nemo_mel":
            return 1
        return self.conv_dim[0] // math.prod(self.conv_stride[1:])

    @property
    def feature_channels(self) -> int:
        """Return the channels of the front end's features."""
        return self.conv_dim[-1] * self.feature_bands

    @property
    def projects(self) -> bool:
        """Return True if a projection is between the front end and the blocks."""
        return not self.family.unprojected or self.feature_channels != self.hidden_size

    @property
    def adapter_channels(self) -> int:
        """Return the channels of the adapters behind the blocks."""
        return self.output_hidden_size or self.hidden_size

    @property
    def receptive_field(self) -> int:
        """Return the number of samples that one frame of the front end depends on."""
        return self._reach(self.conv_kernel)

    def _reach(self, kernels: tuple[int, ...]) -> int:
        """Return the samples that one frame behind convolutions with these kernels depends on."""
        width, jump = 1, 1
        for kernel, stride in zip(kernels, self.conv_stride, strict=True):
            width += (kernel - 1) * jump
            jump *= stride
        return width

    @property
    def padded(self) -> bool:
        """Return True if the front end reads beyond both ends of a recording."""
        return self.feat_extract_first in ("whisper_mel", "nemo_mel")

    @property
    def counted_kernels(self) -> tuple[int, ...]:
        """Return the kernels of the front end without what they read beyond both ends of a recording."""
        if not self.padded:
            return self.conv_kernel
        return (self.conv_stride[0], *(1 for _ in self.conv_kernel[1:]))

    @property
    def first_time(self) -> float:
        """Return the sample at the middle of the first frame."""
        return 0.0 if self.padded else (self.receptive_field - 1) / 2

    @property
    def frame_ms(self) -> float:
        """Return the milliseconds from one frame of the logits to the next."""
        return 1000 * self.stride / SAMPLE_RATE

    @property
    def feature_frame_ms(self) -> float:
        """Return the milliseconds from one frame of the front end to the next; chunks consist of these."""
        return 1000 * self.feature_stride / SAMPLE_RATE

    @property
    def algorithmic_latency(self) -> int:
        """Return the samples from the time of a streaming model's frame to the last sample that may change
        it.

        They are those of the chunk, of the positional convolution's right context, and of the front end's
        receptive field.
        """
        ahead = self.chunk_frames - 1 + self.right_context_frames
        return ahead * self.feature_stride + self.receptive_field

    @property
    def algorithmic_latency_ms(self) -> float | None:
        """Return ``algorithmic_latency`` in milliseconds; None for a model that does not stream."""
        return 1000 * self.algorithmic_latency / SAMPLE_RATE if self.chunk_frames else None

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def attention_heads(self, layer: int) -> int:
        """Return the number of heads of one Transformer layer, each with ``head_dim`` channels."""
        return self.layer_attention_heads[layer] if self.layer_attention_heads else self.num_attention_heads

    def feed_forward_units(self, layer: int) -> int:
        """Return the number of units between the two feed-forward projections of one Transformer layer."""
        return self.layer_intermediate_size[layer] if self.layer_intermediate_size else self.intermediate_size

    def block(self, layer: int) -> int:
        """Return the layer whose weights a Transformer layer uses."""
        return self.layer_blocks[layer] if self.layer_blocks else layer

    def map(self, layer: int) -> int:
        """Return the layer whose attention map a Transformer layer uses."""
        return self.layer_maps[layer] if self.layer_maps else layer

    @overload
    def frames(self, samples: int) -> int: ...
    @overload
    def frames(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
    def frames(self, samples: int | npt.NDArray[np.int64]) -> int | npt.NDArray[np.int64]:
        """Return the frames of the logits for a number of samples; 0 for too few."""
        frames = np.asarray(self.feature_frames(samples))
        frames = np.where(frames < self.squeeze_factor, 0, frames)
        if self.add_adapter:
            frames = -(-frames // self.adapters_stride)
        return frames if frames.ndim else int(frames)

    @overload
    def feature_frames(self, samples: int) -> int: ...
    @overload
    def feature_frames(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
    def feature_frames(self, samples: int | npt.NDArray[np.int64]) -> int | npt.NDArray[np.int64]:
        """Return the frames of the front end for a number of samples; 0 for too few."""
        frames = np.asarray(samples)
        for kernel, stride in zip(self.counted_kernels, self.conv_stride, strict=True):
            frames = np.maximum((frames - kernel) // stride + 1, 0)
        return frames if frames.ndim else int(frames)
