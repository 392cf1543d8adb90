"""The architecture of a model, in the key names of Hugging Face's ``config.json``."""

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
"""More can only be damage, and would take all memory."""

MAX_POSITIONS = 1500
"""Frames that have sinusoids of their own, 30 s in Whisper; later ones have those of the last."""

MAX_WINDOW = 4096
"""Samples of a spectrogram's window; its filters take memory by the square of it."""

_LARGEST_INTEGER = 1 << 20
"""Of any size in a configuration: more can only be damage, and would overflow products of sizes."""

Size = Annotated[int, Gt(0), Le(_LARGEST_INTEGER)]
Count = Annotated[int, Ge(0), Le(_LARGEST_INTEGER)]
Share = Annotated[float, Ge(0), Le(1)]

# Keys that transformers does not know; config.json has them only where they say something.
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
    """One of ``littlefoot.network.families.FAMILIES``."""
    vocab_size: Size = 32
    pad_token_id: Count = 0
    """The CTC blank."""

    # Convolutional front end: waveform -> frames.
    feat_extract_first: Literal["conv", "log_mel"] = "conv"
    """``conv``: the first layer is a convolution as the others. ``log_mel``: it is a log-mel spectrogram,
    without weights, norm or activation; its entries below are the number of bands, the window and the hop."""
    conv_dim: tuple[Size, ...] = (512,) * 7
    conv_kernel: tuple[Size, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[Size, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Literal["group", "layer", "affine"] = "group"
    """``group``: one group norm over time after the first layer. ``layer``: a layer norm after each.
    ``affine``: each channel of the first layer is scaled and shifted, without a look at other times."""
    waveform_gain: Annotated[float, Ge(1e-6), Le(1e6)] = 1.0
    """The waveform is multiplied by it: for models that hear it as it comes, without normalization."""
    feat_extract_activation: str = "gelu"
    """One of ``littlefoot.network.activations.ACTIVATIONS``, as ``hidden_act``."""
    feat_proj_layer_norm: bool = True
    """Whether there is a norm before the projection, which some checkpoints leave out."""

    # Transformer.
    hidden_size: Size = 768
    num_hidden_layers: Annotated[int, Gt(0), Le(MAX_LAYERS)] = 12
    num_attention_heads: Size = 12
    intermediate_size: Size = 3072
    layer_attention_heads: tuple[Size, ...] = ()
    """Heads that pruning left in each layer, as wide as before; empty: ``num_attention_heads`` in all."""
    layer_intermediate_size: tuple[Size, ...] = ()
    """Feed-forward units that pruning left in each layer; empty: ``intermediate_size`` in all."""
    layer_blocks: tuple[Count, ...] = ()
    """The layer whose weights each layer uses: itself, or an earlier one; empty: every layer has its own."""
    layer_maps: tuple[Count, ...] = ()
    """The layer whose attention map each layer uses: itself, or an earlier one; empty: each its own."""
    layer_norms: bool = False
    """Layers that share weights have norms of their own."""
    layer_delta_rank: Count = 0
    """To each shared matrix every layer adds one of its own of this rank; 0: none."""
    layer_depth_embedding: bool = False
    """Every layer adds a vector of its own to its input."""
    hidden_act: str = "gelu"
    do_stable_layer_norm: bool = False
    """True: norms before attention and feed-forward (pre-norm). False: after (post-norm)."""
    layer_norm_eps: Annotated[float, Ge(0), Le(0.1)] = 1e-5
    adapter_attn_dim: Size | None = None
    """Width of MMS's per-language adapters, None without."""

    # Positions.
    num_conv_pos_embeddings: Size = 128
    """Kernel of the positional convolution; of a stack of them their number."""
    num_conv_pos_embedding_groups: Size = 16
    conv_pos_batch_norm: bool = False
    """Whether each channel is scaled and shifted before the positional convolution: HuBERT's batch norm,
    whose statistics are folded."""
    conv_pos_kernel_size: Size = 19
    """Kernel of each of a stack of positional convolutions."""
    num_buckets: Count = 320
    """Buckets of the bias by relative position, where the family has one."""
    max_bucket_distance: Count = 800
    """Distance in frames beyond which all relative positions share a bucket."""
    sinusoidal_positions: Annotated[float, Ge(0), Le(1e6)] = 0.0
    """Sinusoids of the frame's number are added to the first block's input, times this: 1 in Whisper's
    encoder, where they end at ``MAX_POSITIONS``; 0 for none."""

    # Streaming.
    chunk_frames: Count = 0
    """0: every frame attends to all others. Else to those of its own chunk of so many frames, and of
    ``left_context_frames`` before it; and the positional convolution looks ``right_context_frames`` ahead."""
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
    """What littlefoot adds: format version, recipe, teacher, quantization, measured figures."""
    extra: dict[str, Any] = field(default_factory=dict, hash=False)
    """Keys of ``config.json`` that the encoder does not read; written back as they were."""

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
                        f"{self.attention_heads(layer)} heads, so they can share nothing"
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
                "chunk_frames: sinusoids of the frame's number end after 30 s: the step positions, which "
                "teaches a model to do without them, must come first"
            )
        if self.feat_extract_norm == "group":
            raise ConfigError(
                "chunk_frames: a group norm over time would wait for the end: set feat_extract_norm to affine"
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
                "feat_extract_first log_mel needs feat_extract_norm 'layer': a group norm would follow the "
                "first convolution, which it has not"
            )
        count, window = self.conv_dim[0], self.conv_kernel[0]
        if not count < window <= MAX_WINDOW:
            raise ConfigError(
                f"conv_dim[0] and conv_kernel[0], {count} bands and a window of {window} samples: a log-mel "
                f"spectrogram needs more samples than bands, and at most {MAX_WINDOW}"
            )
        mel.bands(count, window, SAMPLE_RATE)

    def _check_layers(self, name: str, most: int) -> None:
        """One entry for each Transformer layer, at most ``most``, or none at all."""
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
        """Read a parsed ``config.json``. Raises ConfigError naming the key that is wrong."""
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
        """The keys of a parsed ``config.json`` that ``from_dict`` keeps in ``extra``."""
        return set(values) - ({f.name for f in dataclasses.fields(cls)} - {"extra"})

    def to_dict(self) -> dict[str, Any]:
        """The content of ``config.json``; ``from_dict`` of it gives an equal config."""
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
        """A copy with some fields changed, checked anew."""
        return dataclasses.replace(self, **changes)

    def noting(self, **sections: Any) -> ModelConfig:
        """A copy with some sections of ``littlefoot`` changed."""
        return self.replace(littlefoot={**self.littlefoot.to_dict(), **sections})

    @property
    def family(self) -> Family:
        """What the models of its type have of their own."""
        return FAMILIES[self.model_type]

    @property
    def stride(self) -> int:
        """Samples from one frame to the next."""
        product = 1
        for stride in self.conv_stride:
            product *= stride
        return product

    @property
    def receptive_field(self) -> int:
        """Samples that one frame of the front end looks at."""
        width, jump = 1, 1
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            width += (kernel - 1) * jump
            jump *= stride
        return width

    @property
    def frame_ms(self) -> float:
        """Milliseconds from one frame to the next."""
        return 1000 * self.stride / SAMPLE_RATE

    @property
    def algorithmic_latency(self) -> int:
        """Samples from the time of a streaming model's frame to the last sample that may change it.

        Its chunk, what the positional convolution looks ahead, and how far the front end's frames reach.
        """
        ahead = self.chunk_frames - 1 + self.right_context_frames
        return ahead * self.stride + self.receptive_field

    @property
    def algorithmic_latency_ms(self) -> float | None:
        """``algorithmic_latency`` in milliseconds; None for a model that does not stream."""
        return 1000 * self.algorithmic_latency / SAMPLE_RATE if self.chunk_frames else None

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_attention_heads

    def attention_heads(self, layer: int) -> int:
        """Heads of one Transformer layer, ``head_dim`` channels each."""
        return self.layer_attention_heads[layer] if self.layer_attention_heads else self.num_attention_heads

    def feed_forward_units(self, layer: int) -> int:
        """Units between the two feed-forward projections of one Transformer layer."""
        return self.layer_intermediate_size[layer] if self.layer_intermediate_size else self.intermediate_size

    def block(self, layer: int) -> int:
        """The layer whose weights a Transformer layer uses."""
        return self.layer_blocks[layer] if self.layer_blocks else layer

    def map(self, layer: int) -> int:
        """The layer whose attention map a Transformer layer uses."""
        return self.layer_maps[layer] if self.layer_maps else layer

    def first_layers(self, count: int) -> ModelConfig:
        """The configuration of a model that ends after ``count`` of these layers.

        Raises ConfigError for a count that it does not have.
        """
        if not 1 <= count <= self.num_hidden_layers:
            raise ConfigError(f"layers {count}: the model has 1 to {self.num_hidden_layers}")
        per_layer = ("layer_attention_heads", "layer_intermediate_size", "layer_blocks", "layer_maps")
        return self.replace(
            num_hidden_layers=count, **{name: getattr(self, name)[:count] for name in per_layer}
        )

    @property
    def own_settings(self) -> dict[str, Any]:
        """The settings of this model, by key, for which transformers cannot load it."""
        return {name: value for name in _OWN if (value := getattr(self, name)) != getattr(ModelConfig, name)}

    @overload
    def frames(self, samples: int) -> int: ...
    @overload
    def frames(self, samples: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]: ...
    def frames(self, samples: int | npt.NDArray[np.int64]) -> int | npt.NDArray[np.int64]:
        """Frames that the front end makes of so many samples; 0 for less than the receptive field."""
        frames = np.asarray(samples)
        for kernel, stride in zip(self.conv_kernel, self.conv_stride, strict=True):
            frames = np.maximum((frames - kernel) // stride + 1, 0)
        return frames if frames.ndim else int(frames)
