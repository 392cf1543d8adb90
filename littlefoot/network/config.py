"""Describe the architecture of a model, with the key names of Hugging Face's ``config.json``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, overload

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Gt, Le

from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import ConfigError
from littlefoot.network import mel
from littlefoot.network.activations import ACTIVATIONS
from littlefoot.network.families import FAMILIES, Family
from littlefoot.network.provenance import Provenance
from littlefoot.system import checks
from littlefoot.system.checks import Checked

MAX_LAYERS = 1000
"""Largest number of layers. A larger one is a damaged file, and would exhaust the memory."""

MAX_POSITIONS = 1500
"""Number of frames with different sinusoids, 30 s in Whisper. Later frames have the sinusoid of the last."""

MAX_WINDOW = 4096
"""Largest number of samples in a spectrogram's window. The filters' memory grows with its square."""

_LARGEST_INTEGER = 1 << 20
"""Largest size in a configuration. A larger one is a damaged file, and would overflow products of sizes."""

Size = Annotated[int, Gt(0), Le(_LARGEST_INTEGER)]
Count = Annotated[int, Ge(0), Le(_LARGEST_INTEGER)]
Share = Annotated[float, Ge(0), Le(1)]

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


@dataclass(frozen=True)
class ModelConfig(Checked):
    """Geometry of one CTC model. Lengths are counted in samples at 16 kHz or in frames."""

    model_type: str = "wav2vec2"
    """Key of ``littlefoot.network.families.FAMILIES``."""
    vocab_size: Size = 32
    pad_token_id: Count = 0
    """The CTC blank."""

    # Convolutional front end: waveform -> frames.
    feat_extract_first: Literal["conv", "log_mel"] = "conv"
    """First layer of the front end: a convolution (``conv``), or a log-mel spectrogram without weights, norm
    or activation (``log_mel``), whose entries in ``conv_dim``, ``conv_kernel`` and ``conv_stride`` are the
    number of bands, the window and the hop."""
    conv_dim: tuple[Size, ...] = (512,) * 7
    conv_kernel: tuple[Size, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[Size, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Literal["group", "layer", "affine"] = "group"
    """Norm of the front end: a group norm over time after the first layer (``group``), a layer norm after
    each layer (``layer``), or a scale and a shift for each channel of the first layer, which do not depend on
    other frames (``affine``)."""
    waveform_gain: Annotated[float, Ge(1e-6), Le(1e6)] = 1.0
    """Factor of the waveform, for models whose input is not normalised."""
    feat_extract_activation: str = "gelu"
    """One of ``littlefoot.network.activations.ACTIVATIONS``, as ``hidden_act``."""
    feat_proj_layer_norm: bool = True
    """Whether there is a norm before the projection. Some checkpoints have none."""

    # Transformer.
    hidden_size: Size = 768
    num_hidden_layers: Annotated[int, Gt(0), Le(MAX_LAYERS)] = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    layer_attention_heads: tuple[Size, ...] = ()
    """Number of heads in each layer of a pruned model, each of width ``head_dim``; empty if all layers have
    ``num_attention_heads``."""
    layer_intermediate_size: tuple[Size, ...] = ()
    """Number of feed-forward units in each layer of a pruned model; empty if all layers have
    ``intermediate_size``."""
    layer_blocks: tuple[Count, ...] = ()
    """Layer whose weights each layer uses: itself, or an earlier one. Empty if no layers share weights."""
    layer_maps: tuple[Count, ...] = ()
    """Layer whose attention map each layer uses: itself, or an earlier one. Empty if each computes its
    own."""
    layer_norms: bool = False
    """Whether layers that share weights have separate norms."""
    layer_delta_rank: Count = 0
    """Rank of the matrix that each layer adds to a shared one; 0 for none."""
    layer_depth_embedding: bool = False
    """Whether each layer adds a trained vector to its input."""
    hidden_act: str = "gelu"
    do_stable_layer_norm: bool = False
    """Position of the norms: True before attention and feed-forward (pre-norm), False after (post-norm)."""
    layer_norm_eps: Annotated[float, Ge(0), Le(0.1)] = 1e-5
    adapter_attn_dim: Size | None = None
    """Width of MMS's per-language adapters; None if there are none."""

    # Positions.
    num_conv_pos_embeddings: Size = 128
    """Kernel size of the positional convolution. In families with a stack of them, their number."""
    num_conv_pos_embedding_groups: Size = 16
    conv_pos_batch_norm: bool = False
    """Whether each channel is scaled and shifted before the positional convolution: HuBERT's batch norm,
    whose statistics are folded."""
    conv_pos_kernel_size: Size = 19
    """Kernel size of each of a stack of positional convolutions."""
    num_buckets: Count = 320
    """Number of buckets of the relative position bias, in families that have one."""
    max_bucket_distance: Count = 800
    """Distance in frames beyond which all relative positions share a bucket."""
    sinusoidal_positions: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Factor of the sinusoids of the frame's number that are added to the first block's input: 1 in Whisper's
    encoder, where they end at ``MAX_POSITIONS``; 0 for none."""

    # Streaming.
    chunk_frames: Count = 0
    """Number of frames in a chunk of a streaming model. A frame attends to its own chunk and to
    ``left_context_frames`` before it, and the positional convolution looks ``right_context_frames`` ahead. 0:
    every frame attends to all others."""
    left_context_frames: Count = 0
    right_context_frames: Count = 0

    # Training.
    hidden_dropout: Share = 0.1
    activation_dropout: Share = 0.1
    attention_dropout: Share = 0.1
    feat_proj_dropout: Share = 0.0
    final_dropout: Share = 0.1
    initializer_range: Annotated[float, Ge(0), Le(10)] = 0.02

    littlefoot: Provenance = field(default_factory=Provenance, hash=False)
    """The section that littlefoot adds: format version, recipe, teacher, quantization, measured figures."""
    extra: dict[str, Any] = field(default_factory=dict, hash=False)
    """Keys of ``config.json`` that the encoder does not read. They are written back unchanged."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.model_type not in FAMILIES:
            raise ConfigError(
                f"model_type '{self.model_type}' is not supported: use one of {', '.join(FAMILIES)}"
            )
        for setting in ("hidden_act", "feat_extract_activation"):
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
        if self.hidden_size % self.num_conv_pos_embedding_groups:
            raise ConfigError(
                f"hidden_size {self.hidden_size} cannot be divided into "
                f"{self.num_conv_pos_embedding_groups} groups of the positional convolution"
            )
        self._check_streaming()
        if self.feat_extract_first == "log_mel":
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

    def _check_streaming(self) -> None:
        if not self.chunk_frames:
            if self.left_context_frames or self.right_context_frames:
                raise ConfigError("left_context_frames and right_context_frames need chunk_frames")
            return
        if reason := self.family.cannot_stream:
            raise ConfigError(f"chunk_frames: a {self.model_type} model cannot stream: {reason}")
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
        if self.right_context_frames >= self.num_conv_pos_embeddings:
            raise ConfigError(
                f"right_context_frames {self.right_context_frames} must be less than the positional "
                f"convolution's kernel, {self.num_conv_pos_embeddings}"
            )

    def _check_log_mel(self) -> None:
        if self.feat_extract_norm == "group":
            raise ConfigError(
                "feat_extract_first log_mel needs feat_extract_norm 'layer': a group norm follows the first "
                "convolution, which a log-mel front end does not have"
            )
        count, window = self.conv_dim[0], self.conv_kernel[0]
        if not count < window <= MAX_WINDOW:
            raise ConfigError(
                f"conv_dim[0] and conv_kernel[0], {count} bands and a window of {window} samples: a log-mel "
                f"spectrogram needs more samples than bands, and at most {MAX_WINDOW}"
            )
        mel.bands(count, window, SAMPLE_RATE)

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
        merged = {**family.always, **family.defaults, **values} if family else values
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
        values: dict[str, Any] = {"architectures": [self.family.transformers], **self.extra}
        for f in dataclasses.fields(self):
            if f.name in ("extra", "littlefoot"):
                continue
            if f.name in _OWN and f.name not in self.own_settings:
                continue
            value = getattr(self, f.name)
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
    def stride(self) -> int:
        """Return the samples from one frame to the next."""
        product = 1
        for stride in self.conv_stride:
            product *= stride
        return product

    @property
    def receptive_field(self) -> int:
        """Return the number of samples that one frame of the front end depends on."""
        width, jump = 1, 1
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            width += (kernel - 1) * jump
            jump *= stride
        return width

    @property
    def frame_ms(self) -> float:
        """Return the milliseconds from one frame to the next."""
        return 1000 * self.stride / SAMPLE_RATE

    @property
    def algorithmic_latency(self) -> int:
        """Return the samples from the time of a streaming model's frame to the last sample that may change
        it.

        They are those of the chunk, of the positional convolution's right context, and of the front end's
        receptive field.
        """
        ahead = self.chunk_frames - 1 + self.right_context_frames
        return ahead * self.stride + self.receptive_field

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
        return {name: value for name in _OWN if (value := getattr(self, name)) != getattr(ModelConfig, name)}

    @overload
    def frames(self, samples: int) -> int: ...
    @overload
    def frames(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
    def frames(self, samples: int | npt.NDArray[np.int64]) -> int | npt.NDArray[np.int64]:
        """Return the number of frames for a number of samples; 0 below the receptive field."""
        frames = np.asarray(samples)
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            frames = np.maximum((frames - kernel) // stride + 1, 0)
        return frames if frames.ndim else int(frames)
