"""Define the settings of a model, with the key names of Hugging Face's ``config.json``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from littlefoot.network.provenance import Provenance
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


@dataclass(frozen=True)
class ModelSettings(Checked):
    """The settings of one CTC model, with their types and limits. Lengths are counted in samples at 16 kHz or
    in frames.
    """

    model_type: str = "wav2vec2"
    """Key of ``littlefoot.network.families.FAMILIES``."""
    vocab_size: Size = 32
    pad_token_id: Count = 0
    """The CTC blank."""

    # Convolutional front end: waveform -> frames.
    feat_extract_first: Literal["conv", "log_mel", "fbank", "whisper_mel", "nemo_mel"] = "conv"
    """First layer of the front end: a convolution (``conv``), or a log-mel spectrogram without weights, norm
    or activation (``log_mel``), whose entries in ``conv_dim``, ``conv_kernel`` and ``conv_stride`` are the
    number of bands, the window and the hop. ``fbank``: all of the front end is Kaldi's log-mel spectrogram,
    each band normalized over time; the second entries put two of its frames beside each other.
    ``whisper_mel``: Whisper's log-mel spectrogram, with the entries of ``log_mel``. It and the convolutions
    behind it read beyond both ends of a recording, where the waveform is mirrored and features are zero.
    ``nemo_mel``: NeMo's log-mel spectrogram, with the entries of ``log_mel``, each band normalized over time;
    it reads beyond both ends too, where all is zero. The convolutions behind it are two-dimensional, over
    frames and bands. From the second on, each channel has a convolution of its own, and one of a single tap
    joins the channels."""
    conv_dim: tuple[Size, ...] = (512,) * 7
    conv_kernel: tuple[Size, ...] = (10, 3, 3, 3, 3, 2, 2)
    conv_stride: tuple[Size, ...] = (5, 2, 2, 2, 2, 2, 2)
    conv_bias: bool = False
    feat_extract_norm: Literal["group", "layer", "affine", "none"] = "group"
    """Norm of the front end: a group norm over time after the first layer (``group``), a layer norm after
    each layer (``layer``), a scale and a shift for each channel of the first layer, which do not depend on
    other frames (``affine``), or none (``none``)."""
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
    linear_ranks: dict[str, Size] = field(default_factory=dict, hash=False)
    """Ranks of the blocks' linear layers that are products of two, by their names: ``NAME.down`` has as many
    outputs, which ``NAME.up`` reads."""
    hidden_act: str = "gelu"
    do_stable_layer_norm: bool = False
    """Position of the norms: True before attention and feed-forward (pre-norm), False after (post-norm)."""
    layer_norm_eps: Annotated[float, Ge(0), Le(0.1)] = 1e-5
    feature_layer_norm_eps: Annotated[float, Ge(0), Le(0.1)] | None = None
    """Epsilon of the norm before the projection; None: ``layer_norm_eps``."""
    adapter_attn_dim: Size | None = None
    """Width of MMS's per-language adapters; None if there are none."""
    conv_depthwise_kernel_size: Size = 31
    """Kernel of the convolution in each block of a Conformer."""
    attention_bias: bool = True
    """Whether attention and feed-forward layers have biases."""
    convolution_bias: bool = False
    """Whether the pointwise convolutions in a Conformer's block have biases."""
    scale_input: bool = False
    """Whether the first block's input is multiplied by the square root of its width."""
    squeeze_factor: Size = 1
    """Frames of the front end for each frame of the blocks, in SEW."""
    add_adapter: bool = False
    """Whether convolutions with strides follow the blocks, so that logits have fewer frames than they."""
    num_adapter_layers: Size = 3
    adapter_kernel_size: Size = 3
    adapter_stride: Size = 2
    adapter_act: str = "relu"
    output_hidden_size: Size | None = None
    """Channels of the adapters; None: ``hidden_size``."""

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

    position_embeddings_type: Literal["relative", "relative_key", "rotary"] | None = None
    """Positions in the attention of a Conformer. ``relative``: sinusoids of the distance (Dai et al. 2019).
    ``relative_key``: a vector for each distance (Shaw et al. 2018). ``rotary``: queries and keys are rotated
    (Su et al. 2021)."""
    left_max_position_embeddings: Count = 64
    """Distance in frames from which all earlier frames have the same vector."""
    right_max_position_embeddings: Count = 8
    """Distance in frames from which all later frames have the same vector."""
    rotary_embedding_base: Size = 10_000
    position_buckets: Count = 256
    """Half of the rows of SEW-D's table of distances."""
    max_position_embeddings: Count = 512
    """Distance in frames of the blocks from which all share a row."""

    # Streaming.
    chunk_frames: Count = 0
    """Number of the front end's frames in a chunk of a streaming model. A frame attends to its own chunk and
    to ``left_context_frames`` before it, and the positional convolution looks ``right_context_frames`` ahead.
    0: every frame attends to all others."""
    left_context_frames: Count = 0
    right_context_frames: Count = 0

    # Training.
    hidden_dropout: Share = 0.1
    activation_dropout: Share = 0.1
    attention_dropout: Share = 0.1
    feat_proj_dropout: Share = 0.0
    final_dropout: Share = 0.1
    conformer_conv_dropout: Share = 0.1
    initializer_range: Annotated[float, Ge(0), Le(10)] = 0.02

    littlefoot: Provenance = field(default_factory=Provenance, hash=False)
    """The section that littlefoot adds: format version, recipe, teacher, quantization, measured figures."""
    extra: dict[str, Any] = field(default_factory=dict, hash=False)
    """Keys of ``config.json`` that the encoder does not read. They are written back unchanged."""
