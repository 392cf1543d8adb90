"""Describe the architecture of a model, with the key names of Hugging Face's ``config.json``."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import ConfigError
from littlefoot.network import mel
from littlefoot.network.activations import ACTIVATIONS
from littlefoot.network.families import FAMILIES, Family
from littlefoot.network.settings import MAX_WINDOW, ModelSettings
from littlefoot.system import checks

# Keys that are not in transformers. They are written to config.json only if they differ from the default.
_OWN = (
    "feat_extract_first",
    "waveform_gain",
    "sinusoidal_positions",
    "layer_attention_heads",
    "layer_intermediate_size",
    "layer_blocks",
    "layer_maps",
    "layer_norms",
    "layer_delta_rank",
    "layer_depth_embedding",
    "chunk_frames",
    "left_context_frames",
    "right_context_frames",
)
# Keys that only some families of transformers know; config.json has them where they say something.
_RARE = (
    "conv_pos_batch_norm",
    "add_adapter",
    "adapter_kernel_size",
    "adapter_stride",
    "num_adapter_layers",
    "output_hidden_size",
    "position_embeddings_type",
    "rotary_embedding_base",
    "conv_depthwise_kernel_size",
    "conformer_conv_dropout",
    "squeeze_factor",
    "position_buckets",
    "max_position_embeddings",
    "feature_layer_norm_eps",
    "left_max_position_embeddings",
    "right_max_position_embeddings",
    "adapter_act",
)


@dataclass(frozen=True)
class ModelConfig(ModelSettings):
    """Geometry of one CTC model. Lengths are counted in samples at 16 kHz or in frames."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_type not in FAMILIES:
            raise ConfigError(
                f"model_type '{self.model_type}' is not supported: use one of {', '.join(FAMILIES)}"
            )
        for setting in ("hidden_act", "feat_extract_activation", "adapter_act"):
            if (name := getattr(self, setting)) not in ACTIVATIONS:
                raise ConfigError(f"{setting} '{name}' is not supported: use one of {', '.join(ACTIVATIONS)}")
        if not len(self.conv_dim) == len(self.conv_kernel) == len(self.conv_stride) > 0:
            raise ConfigError(
                f"conv_dim, conv_kernel and conv_stride must have one entry per layer, but have "
                f"{len(self.conv_dim)}, {len(self.conv_kernel)} and {len(self.conv_stride)}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"hidden_size {self.hidden_size} cannot be divided into {self.num_attention_heads} heads"
            )
        buckets, limit = self.num_buckets, 4 * self.max_bucket_distance - 1
        if self.family.relative_positions and not 4 <= buckets <= limit:
            raise ConfigError(
                f"num_buckets {self.num_buckets} must be at least 4, and less than four times "
                f"max_bucket_distance, which is {self.max_bucket_distance}"
            )
        self._check_layers("layer_attention_heads", self.num_attention_heads)
        self._check_layers("layer_intermediate_size", self.intermediate_size)
        if self.layer_attention_heads and self.family.relative_positions:
            raise ConfigError(
                f"layer_attention_heads: all layers of a {self.model_type} model share one position bias for "
                "all heads, so each must have all heads"
            )
        self._check_sharing()
        self._check_frames()
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            raise ConfigError(
                f"hidden_size {self.hidden_size} cannot be divided into "
                f"{self.num_conv_pos_embedding_groups} groups of the positional convolution"
            )
        self._check_streaming()
        if self.feat_extract_first in ("log_mel", "whisper_mel"):
            self._check_log_mel()
        if self.pad_token_id >= self.vocab_size:
            raise ConfigError(
                f"pad_token_id {self.pad_token_id} is outside the vocabulary of {self.vocab_size} tokens"
            )

    def _check_sharing(self) -> None:
        for name in ("layer_blocks", "layer_maps"):
            sources = getattr(self, name)
            if len(sources) not in (0, self.num_hidden_layers):
                raise ConfigError(
                    f"{name} must have one entry per layer, but has {len(sources)} for "
                    f"{self.num_hidden_layers}: every layer must be in a group"
                )
            for layer, source in enumerate(sources):
                if not source <= layer or sources[source] != source:
                    raise ConfigError(
                        f"{name}[{layer}] is {source}: name the layer itself, or an earlier one that does"
                    )
                if self.attention_heads(layer) != self.attention_heads(source):
                    raise ConfigError(
                        f"{name}: layers {source} and {layer} have {self.attention_heads(source)} and "
                        f"{self.attention_heads(layer)} heads, so they cannot share weights or maps"
                    )
                same_units = self.feed_forward_units(layer) == self.feed_forward_units(source)
                if name == "layer_blocks" and not same_units:
                    raise ConfigError(
                        f"{name}: layers {source} and {layer} have different feed-forward units"
                    )
        if not self.layer_blocks and (
            self.layer_norms or self.layer_delta_rank or self.layer_depth_embedding
        ):
            raise ConfigError("layer_norms, layer_delta_rank and layer_depth_embedding need layer_blocks")

    def _check_frames(self) -> None:
        """Check what changes the number of frames behind the front end, and the convolutions of blocks."""
        for key, value in self.family.requires.items():
            found = self.extra.get(key, value)
            found = tuple(sorted(found)) if isinstance(found, list | tuple) else found
            if found != value:
                raise ConfigError(
                    f"{key} {found} of a {self.model_type} model is not supported, only {value}"
                )
        if self.family.disentangled and not 4 <= self.position_buckets <= self.max_position_embeddings:
            raise ConfigError(
                f"position_buckets {self.position_buckets} must be at least 4, and at most "
                f"max_position_embeddings, which is {self.max_position_embeddings}"
            )
        if self.add_adapter and self.family.adapters == "none":
            raise ConfigError(f"add_adapter: transformers has no adapters for {self.model_type} models")
        if self.add_adapter and self.adapter_kernel_size != 3:
            raise ConfigError(
                f"adapter_kernel_size {self.adapter_kernel_size} is not supported: with any other than 3 "
                "transformers counts other frames than it computes"
            )
        if self.add_adapter and self.family.adapters == "attention":
            if self.adapter_stride not in (2, 3):
                raise ConfigError(f"adapter_stride must be 2 or 3, not {self.adapter_stride}")
            if self.adapter_channels % self.num_attention_heads:
                raise ConfigError(
                    f"output_hidden_size {self.adapter_channels} cannot be divided into "
                    f"{self.num_attention_heads} heads"
                )
        if self.feat_extract_first == "fbank":
            for setting, wanted in (
                ("conv_dim", (80, 160)),
                ("conv_kernel", (400, 2)),
                ("conv_stride", (160, 2)),
            ):
                if getattr(self, setting) != wanted:
                    raise ConfigError(f"{setting} must be {list(wanted)} where feat_extract_first is fbank")
        if self.squeeze_factor != (2 if self.family.squeezed else 1):
            raise ConfigError(
                f"squeeze_factor {self.squeeze_factor} is not supported: it is 2 in published SEW models, "
                "and 1 in others"
            )
        if self.family.squeezed and self.num_conv_pos_embeddings < 4:
            raise ConfigError(
                f"num_conv_pos_embeddings {self.num_conv_pos_embeddings}: a squeezed model needs at least 4"
            )
        if self.family.block == "conformer" and self.conv_depthwise_kernel_size % 2 == 0:
            raise ConfigError(
                f"conv_depthwise_kernel_size must be odd, not {self.conv_depthwise_kernel_size}"
            )
        if self.position_embeddings_type is not None and self.head_dim % 2:
            raise ConfigError(
                f"position_embeddings_type {self.position_embeddings_type} needs heads of an even width, "
                f"not {self.head_dim}"
            )

    def _check_streaming(self) -> None:
        if not self.chunk_frames:
            if self.left_context_frames or self.right_context_frames:
                raise ConfigError("left_context_frames and right_context_frames need chunk_frames")
            return
        if reason := self.family.cannot_stream:
            raise ConfigError(f"chunk_frames: a {self.model_type} model cannot stream: {reason}")
        if self.chunk_frames % self.chunk_step:
            raise ConfigError(
                f"chunk_frames {self.chunk_frames} must be a multiple of {self.chunk_step}, as many frames "
                "as the model's strides join"
            )
        if self.left_context_frames % self.squeeze_factor:
            raise ConfigError(
                f"left_context_frames {self.left_context_frames} must be a multiple of squeeze_factor "
                f"{self.squeeze_factor}"
            )
        if self.conv_pos_batch_norm:
            raise ConfigError(
                "chunk_frames: the batch norm before the positional convolution (conv_pos_batch_norm) would"
                " shift the zeros before the beginning of a stream too"
            )
        if self.sinusoidal_positions:
            raise ConfigError(
                "chunk_frames: sinusoids of the frame's number end after 30 s: put the step positions, which "
                "trains a model without them, first"
            )
        if self.feat_extract_norm == "group":
            raise ConfigError(
                "chunk_frames: a group norm over time needs the whole recording: set feat_extract_norm to "
                "affine"
            )
        if not self.left_context_frames:
            raise ConfigError("chunk_frames needs left_context_frames, at least 1")
        if self.right_context_frames > self.num_conv_pos_embeddings - self.squeeze_factor:
            raise ConfigError(
                f"right_context_frames {self.right_context_frames} must be less than the positional "
                f"convolution's kernel, {self.num_conv_pos_embeddings}, by squeeze_factor at least"
            )

    def _check_log_mel(self) -> None:
        if self.feat_extract_norm == "group":
            raise ConfigError(
                f"feat_extract_first {self.feat_extract_first} needs feat_extract_norm 'layer' or 'none': a "
                "group norm follows the first convolution, which a log-mel front end does not have"
            )
        count, window = self.conv_dim[0], self.conv_kernel[0]
        if not count < window <= MAX_WINDOW:
            raise ConfigError(
                f"conv_dim[0] and conv_kernel[0], {count} bands and a window of {window} samples: a log-mel "
                f"spectrogram needs more samples than bands, and at most {MAX_WINDOW}"
            )
        if self.feat_extract_first == "log_mel":
            mel.bands(count, window, SAMPLE_RATE)
        elif self.conv_stride[0] > window // 2:
            raise ConfigError(
                f"conv_stride[0] {self.conv_stride[0]} must be at most half of the spectrogram's window, "
                f"{window} samples"
            )

    def _check_layers(self, name: str, most: int) -> None:
        """Raise ConfigError unless there is one entry, at most ``most``, for each layer, or none at all."""
        sizes = getattr(self, name)
        if len(sizes) not in (0, self.num_hidden_layers):
            raise ConfigError(
                f"{name} must have one entry per layer, but has {len(sizes)} for {self.num_hidden_layers}"
            )
        for layer, size in enumerate(sizes):
            if size > most:
                raise ConfigError(f"{name}[{layer}] must be at most {most}, not {size}")

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelConfig:
        """Read a parsed ``config.json``. Raises ConfigError, which names the wrong key."""
        if "model_type" not in values:
            raise ConfigError("the configuration has no model_type: it is not a model's config.json")
        known = {f.name for f in dataclasses.fields(cls)} - {"extra"}
        model_type = values["model_type"]
        family = FAMILIES.get(model_type) if isinstance(model_type, str) else None
        merged = family.settings({**family.always, **family.defaults, **values}) if family else values
        arguments: dict[str, Any] = {"extra": {}}
        for key, value in merged.items():
            if key not in known:
                arguments["extra"][key] = value
            else:
                given = tuple(value) if isinstance(value, list) else value
                arguments[key] = checks.value(cls, key, given, strict=key != "littlefoot")
        return cls(**arguments)

    @classmethod
    def unknown_keys(cls, values: Mapping[str, Any]) -> set[str]:
        """Return the keys of a parsed ``config.json`` that ``from_dict`` keeps in ``extra``."""
        return set(values) - ({f.name for f in dataclasses.fields(cls)} - {"extra"})

    def to_dict(self) -> dict[str, Any]:
        """Return the content of ``config.json``, from which ``from_dict`` makes an equal configuration."""
        known = [self.family.transformers] if self.family.transformers else []
        values: dict[str, Any] = {"architectures": known, **self.extra}
        for f in dataclasses.fields(self):
            if f.name in ("extra", "littlefoot"):
                continue
            if f.name in _OWN and f.name not in self.own_settings:
                continue
            value = getattr(self, f.name)
            if f.name in _RARE and value == f.default and f.name not in self.family.defaults:
                continue
            values[f.name] = list(value) if isinstance(value, tuple) else value
        values["num_feat_extract_layers"] = len(self.conv_dim)
        if noted := self.littlefoot.to_dict():
            values["littlefoot"] = noted
        return values

    def replace(self, **changes: Any) -> ModelConfig:
        """Return a copy with some fields changed, and check it."""
        return dataclasses.replace(self, **changes)

    def noting(self, **sections: Any) -> ModelConfig:
        """Return a copy with some sections of ``littlefoot`` changed."""
        return self.replace(littlefoot={**self.littlefoot.to_dict(), **sections})

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
        return self.feat_extract_first in ("fbank", "whisper_mel")

    @property
    def one_frame_rate(self) -> bool:
        """Return True if front end, blocks and logits have the same frames."""
        return not self.add_adapter and self.squeeze_factor == 1

    @property
    def shortest(self) -> int:
        """Return the samples of the shortest recording that has frames."""
        return self._reach(self.counted_kernels) + (self.squeeze_factor - 1) * self.feature_stride

    @property
    def projects(self) -> bool:
        """Return True if a projection is between the front end and the blocks."""
        return not self.family.unprojected or self.conv_dim[-1] != self.hidden_size

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
        return self.feat_extract_first == "whisper_mel"

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

    def first_layers(self, count: int) -> ModelConfig:
        """Return the configuration of a model that ends after the first ``count`` layers.

        Raises ConfigError if the model has fewer layers, or for a count below 1.
        """
        if not 1 <= count <= self.num_hidden_layers:
            raise ConfigError(f"layers {count}: the model has 1 to {self.num_hidden_layers}")
        per_layer = ("layer_attention_heads", "layer_intermediate_size", "layer_blocks", "layer_maps")
        return self.replace(
            num_hidden_layers=count, **{name: getattr(self, name)[:count] for name in per_layer}
        )

    @property
    def own_settings(self) -> dict[str, Any]:
        """Return the settings, by key, that prevent transformers from loading the model."""
        usual = {**self.family.always, **self.family.defaults}
        return {
            name: value
            for name in _OWN
            if (value := getattr(self, name)) != usual.get(name, getattr(ModelConfig, name))
        }

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
