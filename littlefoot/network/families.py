"""The families of models that the encoder computes: a row of data each.

What differs from wav2vec 2.0 stands here and is read by what it does, never by a family's name. A
new family that does nothing new is a row more, and one in ``tests/support/families.py``; one that does
something new has layers more in ``littlefoot.network.inventory`` and their use in
``littlefoot.network.encoder``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from littlefoot.network.translation import parakeet_keys, parakeet_settings, whisper_settings


@dataclass(frozen=True)
class Name:
    """A layer or tensor whose name in a checkpoint's file is not the encoder's."""

    theirs: str
    """Name in a file, without the family's prefix; ``{}`` is the number of a layer."""
    ours: str
    parts: tuple[str, ...] = ()
    """Names of the layers that stand below each other in the file's matrix; empty: it is one layer."""
    pointwise: bool = False
    """Whether the file has a convolution of one tap where the encoder has a linear layer."""
    by_heads: bool = False
    """Whether the file has a vector with a row for each head."""


@dataclass(frozen=True)
class Family:
    """One ``model_type`` of ``config.json``."""

    transformers: str
    """The class of transformers that loads a checkpoint; empty if it has none with a CTC head."""
    prefix: str
    """Before the names of all weights but the head's in a checkpoint's file."""
    names: tuple[Name, ...] = ()
    """Names that are not wav2vec 2.0's."""
    unused: tuple[str, ...] = ()
    """Beginnings of the names of weights that transformers saves, and does not use."""
    block: Literal["transformer", "conformer"] = "transformer"
    """``conformer``: Gulati et al. 2020, with a convolution and two feed-forward layers in each block."""
    block_norm_eps: float | None = None
    """Epsilon of the norms in a Conformer's blocks; None: the configuration's ``layer_norm_eps``."""
    positional: Literal["convolution", "stack", "none"] = "convolution"
    """``convolution``: one over many frames. ``stack``: several short ones, one on the other, each with a
    norm. ``none``: blocks do without."""
    squeezed: bool = False
    """Whether blocks have a frame for each ``squeeze_factor`` frames of the front end (Wu et al. 2022)."""
    unprojected: bool = False
    """Whether features as wide as the blocks enter these without a projection."""
    key_bias: bool = True
    """Whether the keys of attention have a bias."""
    disentangled: bool = False
    """Whether attention compares queries and keys with a table of distances (He et al. 2021, section 3.1),
    which all blocks share."""
    encoder_norm: bool = True
    """Whether there is a norm before or behind all blocks."""
    convolution_norm: Literal["batch", "layer"] = "batch"
    """Behind the convolution in a Conformer's block: a batch norm, which is folded into it, or a layer norm;
    with a layer norm the convolution reads no later frames."""
    requires: Mapping[str, Any] = field(default_factory=dict)
    """Settings that are computed with these values only; others are refused."""
    adapters: Literal["none", "convolution", "attention"] = "none"
    """Kind of the layers behind the blocks with ``add_adapter``. ``convolution``: convolutions with strides.
    ``attention``: Transformer blocks, which read such convolutions."""
    relative_positions: bool = False
    """Whether attention has a gated bias by bucketed distance, which all blocks take from the first one's
    table: so all have the same heads."""
    cannot_stream: str = ""
    """Reason why models of the family cannot stream; empty if they can."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings whose default in ``config.json`` is not wav2vec 2.0's."""
    always: Mapping[str, Any] = field(default_factory=dict)
    """Settings that its checkpoints may give, but which transformers does not read: it computes so."""
    settings: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    """Translation of a ``config.json`` with other keys than wav2vec 2.0's."""
    keys: Callable[[Mapping[str, Any]], dict[str, Any]] = dict
    """Translation back, to the keys of transformers."""
    preprocessor: Mapping[str, Any] = field(default_factory=dict)
    """Settings of the feature extractor that are computed with these values only; others are refused."""


def _in_blocks(theirs: str, ours: str, **kind: Any) -> Name:
    return Name(f"encoder.layers.{{}}.{theirs}", f"encoder.layers.{{}}.{ours}", **kind)


_CONFORMER_NAMES = (
    _in_blocks("ffn1_layer_norm", "first_feed_forward_norm"),
    _in_blocks("ffn1", "first_feed_forward"),
    _in_blocks("self_attn_layer_norm", "layer_norm"),
    *(_in_blocks(f"self_attn.linear_{part}", f"attention.{part}_proj") for part in ("q", "k", "v", "out")),
    *(_in_blocks(f"self_attn.pos_bias_{part}", f"attention.pos_bias_{part}", by_heads=True) for part in "uv"),
    _in_blocks("self_attn", "attention"),
    _in_blocks(
        "conv_module.pointwise_conv1",
        "conv_module.pointwise_conv1",
        parts=("value", "gate"),
        pointwise=True,
    ),
    _in_blocks("conv_module.pointwise_conv2", "conv_module.pointwise_conv2", pointwise=True),
    _in_blocks("ffn2_layer_norm", "feed_forward_norm"),
    _in_blocks("ffn2", "feed_forward"),
)

_SEW_NAMES = (
    Name("layer_norm", "feature_projection.layer_norm"),
    Name("feature_projection", "feature_projection.projection"),
    Name("encoder.upsample.projection", "encoder.upsample", parts=("0", "1")),
)

_SEW_DEFAULTS = {
    "squeeze_factor": 2,
    "conv_dim": (64, 128, 128, 128, 128, 256, 256, 256, 256, 512, 512, 512, 512),
    "conv_stride": (5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1),
    "conv_kernel": (10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1),
}
_DEBERTA_NAMES = tuple(
    Name(f"encoder.encoder.layer.{{}}.{theirs}", f"encoder.layers.{{}}.{ours}")
    for theirs, ours in {
        "attention.self.query_proj": "attention.q_proj",
        "attention.self.key_proj": "attention.k_proj",
        "attention.self.value_proj": "attention.v_proj",
        "attention.output.dense": "attention.out_proj",
        "attention.output.LayerNorm": "layer_norm",
        "intermediate.dense": "feed_forward.intermediate_dense",
        "output.dense": "feed_forward.output_dense",
        "output.LayerNorm": "final_layer_norm",
    }.items()
)

_SUBSAMPLING = {
    "0": "1.conv",
    "2": "2.depthwise",
    "3": "2.conv",
    "5": "3.depthwise",
    "6": "3.conv",
}
_FAST_CONFORMER: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("norm_feed_forward1", "first_feed_forward_norm", {}),
    ("norm_feed_forward2", "feed_forward_norm", {}),
    ("norm_self_att", "layer_norm", {}),
    ("norm_conv", "conv_module.layer_norm", {}),
    ("norm_out", "final_layer_norm", {}),
    *(
        (f"feed_forward{number}.linear{layer}", f"{part}.{name}_dense", {})
        for number, part in ((1, "first_feed_forward"), (2, "feed_forward"))
        for layer, name in ((1, "intermediate"), (2, "output"))
    ),
    ("self_attn.o_proj", "attention.out_proj", {}),
    ("self_attn.relative_k_proj", "attention.linear_pos", {}),
    *((f"self_attn.bias_{part}", f"attention.pos_bias_{part}", {"by_heads": True}) for part in "uv"),
    ("self_attn", "attention", {}),
    (
        "conv.pointwise_conv1",
        "conv_module.pointwise_conv1",
        {"parts": ("value", "gate"), "pointwise": True},
    ),
    ("conv.pointwise_conv2", "conv_module.pointwise_conv2", {"pointwise": True}),
    ("conv.norm", "conv_module.batch_norm", {}),
    ("conv", "conv_module", {}),
)

FAMILIES: Mapping[str, Family] = {
    # Also XLS-R and MMS.
    "wav2vec2": Family("Wav2Vec2ForCTC", "wav2vec2.", adapters="convolution"),
    "hubert": Family("HubertForCTC", "hubert."),
    "wavlm": Family(
        "WavLMForCTC",
        "wavlm.",
        relative_positions=True,
        adapters="convolution",
        cannot_stream="its relative positions reach over the whole recording",
    ),
    "wav2vec2-conformer": Family(
        "Wav2Vec2ConformerForCTC",
        "wav2vec2_conformer.",
        names=_CONFORMER_NAMES,
        unused=("encoder.pos_conv_embed.", "encoder.embed_positions."),
        block="conformer",
        block_norm_eps=1e-5,
        positional="none",
        adapters="convolution",
        cannot_stream="the convolution in each of its blocks looks ahead",
        defaults={"position_embeddings_type": "relative"},
        always={"do_stable_layer_norm": True},
    ),
    "sew": Family(
        "SEWForCTC",
        "sew.",
        names=_SEW_NAMES,
        squeezed=True,
        unprojected=True,
        defaults=_SEW_DEFAULTS,
        always={"do_stable_layer_norm": False},
    ),
    "sew-d": Family(
        "SEWDForCTC",
        "sew_d.",
        names=(
            *_SEW_NAMES,
            *_DEBERTA_NAMES,
            Name("encoder.encoder.rel_embeddings", "encoder.rel_embeddings"),
            Name("encoder.encoder.LayerNorm", "encoder.rel_embeddings_norm"),
        ),
        squeezed=True,
        unprojected=True,
        disentangled=True,
        encoder_norm=False,
        cannot_stream="its attention compares the distances of frames, and a stream keeps earlier frames "
        "without their order",
        requires={
            "relative_attention": True,
            "share_att_key": True,
            "pos_att_type": ("c2p", "p2c"),
            "norm_rel_ebd": "layer_norm",
            "max_relative_positions": -1,
            "conv_kernel_size": 0,
        },
        defaults={
            **_SEW_DEFAULTS,
            "hidden_act": "gelu_python",
            "layer_norm_eps": 1e-7,
            "feature_layer_norm_eps": 1e-5,
            "position_buckets": 256,
            "max_position_embeddings": 512,
        },
        always={"do_stable_layer_norm": False},
    ),
    "wav2vec2-bert": Family(
        "Wav2Vec2BertForCTC",
        "wav2vec2_bert.",
        names=(
            *_CONFORMER_NAMES,
            *(
                Name(
                    f"adapter.layers.{{}}.self_attn.linear_{part}",
                    f"adapter.layers.{{}}.attention.{part}_proj",
                )
                for part in ("q", "k", "v", "out")
            ),
            Name("adapter.layers.{}.ffn", "adapter.layers.{}.feed_forward"),
        ),
        block="conformer",
        positional="none",
        encoder_norm=False,
        convolution_norm="layer",
        adapters="attention",
        cannot_stream="its spectrogram is normalized over the whole recording",
        requires={"feature_projection_input_dim": 160, "use_intermediate_ffn_before_adapter": False},
        defaults={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 16,
            "intermediate_size": 4096,
            "hidden_act": "swish",
            "position_embeddings_type": "relative_key",
            "num_adapter_layers": 1,
        },
        always={
            "do_stable_layer_norm": True,
            "feat_extract_first": "fbank",
            "feat_extract_norm": "layer",
            "conv_dim": (80, 160),
            "conv_kernel": (400, 2),
            "conv_stride": (160, 2),
        },
    ),
    # FastConformer (Rekesh et al. 2023).
    "parakeet_ctc": Family(
        "ParakeetForCTC",
        "",
        names=(
            *(
                Name(f"encoder.subsampling.layers.{theirs}", f"feature_extractor.conv_layers.{ours}")
                for theirs, ours in _SUBSAMPLING.items()
            ),
            Name("encoder.subsampling.linear", "feature_projection.projection"),
            *(_in_blocks(theirs, ours, **kind) for theirs, ours, kind in _FAST_CONFORMER),
            Name("ctc_head", "lm_head", pointwise=True),
        ),
        block="conformer",
        positional="none",
        encoder_norm=False,
        cannot_stream="its spectrogram is normalized over the whole recording, and the convolution in each "
        "of its blocks looks ahead",
        requires={
            "encoder_config.subsampling_factor": 8,
            "encoder_config.subsampling_conv_kernel_size": 3,
            "encoder_config.subsampling_conv_stride": 2,
        },
        defaults={
            "hidden_size": 1024,
            "num_hidden_layers": 24,
            "num_attention_heads": 8,
            "intermediate_size": 4096,
            "hidden_act": "silu",
            "conv_depthwise_kernel_size": 9,
            "convolution_bias": True,
            "scale_input": True,
            "conformer_conv_dropout": 0.0,
            "final_dropout": 0.0,
        },
        always={
            "do_stable_layer_norm": True,
            "feat_extract_first": "nemo_mel",
            "feat_extract_norm": "none",
            "feat_extract_activation": "relu",
            "feat_proj_layer_norm": False,
            "conv_kernel": (400, 3, 3, 3),
            "conv_stride": (160, 2, 2, 2),
            "conv_bias": True,
            "position_embeddings_type": "relative",
        },
        settings=parakeet_settings,
        keys=parakeet_keys,
        preprocessor={"hop_length": 160, "n_fft": 512, "win_length": 400, "preemphasis": 0.97},
    ),
    # The encoder of a Whisper, with a head that transformers has no class for.
    "whisper": Family(
        "",
        "model.",
        names=(
            *(
                Name(f"encoder.conv{number}", f"feature_extractor.conv_layers.{number}.conv")
                for number in (1, 2)
            ),
            _in_blocks("self_attn", "attention"),
            _in_blocks("self_attn_layer_norm", "layer_norm"),
            _in_blocks("fc1", "feed_forward.intermediate_dense"),
            _in_blocks("fc2", "feed_forward.output_dense"),
        ),
        unused=("encoder.embed_positions.", "decoder.", "proj_out."),
        positional="none",
        unprojected=True,
        key_bias=False,
        cannot_stream="its spectrogram depends on the loudest frame of the whole recording, and its "
        "positions end after 30 s",
        requires={"max_source_positions": 1500},
        defaults={
            "hidden_size": 384,
            "num_hidden_layers": 4,
            "num_attention_heads": 6,
            "intermediate_size": 1536,
            "hidden_dropout": 0.0,
            "activation_dropout": 0.0,
            "attention_dropout": 0.0,
            "final_dropout": 0.0,
        },
        always={
            "do_stable_layer_norm": True,
            "feat_extract_first": "whisper_mel",
            "feat_extract_norm": "none",
            "feat_extract_activation": "gelu",
            "feat_proj_layer_norm": False,
            "conv_kernel": (400, 3, 3),
            "conv_stride": (160, 1, 2),
            "conv_bias": True,
            "sinusoidal_positions": 1.0,
        },
        settings=whisper_settings,
        preprocessor={"hop_length": 160, "n_fft": 400},
    ),
    "unispeech": Family("UniSpeechForCTC", "unispeech."),
    "unispeech-sat": Family("UniSpeechSatForCTC", "unispeech_sat."),
    "data2vec-audio": Family(
        "Data2VecAudioForCTC",
        "data2vec_audio.",
        positional="stack",
        cannot_stream="its positional convolutions, one on the other, look far ahead",
        defaults={"num_conv_pos_embeddings": 5},
        always={"feat_extract_norm": "layer", "do_stable_layer_norm": False},
    ),
}
"""Families by ``model_type``."""

NO_CTC: Mapping[str, str] = {
    **dict.fromkeys(
        ("parakeet_rnnt", "parakeet_tdt"),
        "it is a transducer, whose decoder writes the text: of Parakeets only those with a CTC head "
        "(parakeet_ctc) can be read",
    ),
    "parakeet_encoder": "it is an encoder without a head: of Parakeets only those with a CTC head "
    "(parakeet_ctc) can be read",
}
"""Reasons why models that are relatives of a family cannot be read, by ``model_type``."""
