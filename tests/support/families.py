"""Random models of every supported family in transformers, the oracle of the parity tests."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import transformers
import transformers.audio_utils
from transformers.modeling_outputs import CausalLMOutput

TINY: dict[str, Any] = {
    "vocab_size": 12,
    "pad_token_id": 0,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": [24, 24, 32],
    "conv_kernel": [10, 3, 2],
    "conv_stride": [5, 4, 2],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}

_WHISPER: dict[str, Any] = {
    "d_model": 32,
    "encoder_layers": 3,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    **{f"decoder_{part}": 1 for part in ("layers", "attention_heads", "ffn_dim")},
    **dict.fromkeys(("bos_token_id", "eos_token_id", "decoder_start_token_id"), 1),
}

# name -> (architecture, settings on top of the family's defaults)
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "wav2vec2-base": ("Wav2Vec2", {"feat_extract_norm": "group", "do_stable_layer_norm": False}),
    "wav2vec2-large": (
        "Wav2Vec2",
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "wav2vec2-odd-kernel": ("Wav2Vec2", {"num_conv_pos_embeddings": 15, "conv_bias": True}),
    "mms": (
        "Wav2Vec2",
        {
            "feat_extract_norm": "layer",
            "do_stable_layer_norm": True,
            "conv_bias": True,
            "adapter_attn_dim": 8,
        },
    ),
    "hubert-base": ("Hubert", {"feat_extract_norm": "group"}),
    "hubert-large": (
        "Hubert",
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "hubert-no-projection-norm": ("Hubert", {"feat_proj_layer_norm": False}),
    "wavlm-base": ("WavLM", {"feat_extract_norm": "group", "num_buckets": 32, "max_bucket_distance": 80}),
    "wavlm-large": (
        "WavLM",
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "conv_bias": True},
    ),
    "hubert-batch-norm": ("Hubert", {"conv_pos_batch_norm": True, "hidden_act": "gelu_new"}),
    "unispeech": (
        "UniSpeech",
        {"feat_extract_norm": "layer", "do_stable_layer_norm": True, "hidden_act": "silu"},
    ),
    "unispeech-sat": ("UniSpeechSat", {"feat_extract_norm": "group", "hidden_act": "quick_gelu"}),
    "wav2vec2-adapters": (
        "Wav2Vec2",
        {
            "add_adapter": True,
            "num_adapter_layers": 2,
            "output_hidden_size": 20,
            "feat_extract_norm": "layer",
        },
    ),
    "wavlm-adapters": ("WavLM", {"add_adapter": True, "num_adapter_layers": 1}),
    "conformer-relative": (
        "Wav2Vec2Conformer",
        {"feat_extract_norm": "layer", "conv_depthwise_kernel_size": 7, "hidden_act": "swish"},
    ),
    "conformer-rotary": (
        "Wav2Vec2Conformer",
        {"position_embeddings_type": "rotary", "conv_depthwise_kernel_size": 5, "add_adapter": True},
    ),
    "conformer-no-positions": ("Wav2Vec2Conformer", {"position_embeddings_type": None}),
    "sew-d": (
        "SEWD",
        {"conv_dim": [24, 24, 28], "position_buckets": 8, "max_position_embeddings": 24},
    ),
    "sew": ("SEW", {"feat_extract_norm": "layer", "num_conv_pos_embeddings": 7}),
    "sew-projected": ("SEW", {"conv_dim": [24, 24, 28]}),
    "bert-relative-key": (
        "Wav2Vec2Bert",
        {
            "conv_depthwise_kernel_size": 7,
            "left_max_position_embeddings": 9,
            "right_max_position_embeddings": 3,
            "add_adapter": True,
            "output_hidden_size": 20,
        },
    ),
    "bert-relative": ("Wav2Vec2Bert", {"position_embeddings_type": "relative", "add_adapter": True}),
    "bert-rotary": ("Wav2Vec2Bert", {"position_embeddings_type": "rotary", "hidden_act": "gelu"}),
    "parakeet": ("Parakeet", {"hidden_act": "silu", "conv_kernel_size": 5}),
    "parakeet-no-bias": (
        "Parakeet",
        {
            **dict.fromkeys(("attention_bias", "convolution_bias", "scale_input"), False),
            "num_mel_bins": 128,
        },
    ),
    "whisper": ("Whisper", {**_WHISPER, "encoder_ffn_dim": 48}),
    "whisper-128": ("Whisper", {**_WHISPER, "num_mel_bins": 128, "activation_function": "gelu_new"}),
    "data2vec-audio": (
        "Data2VecAudio",
        {"num_conv_pos_embeddings": 3, "conv_pos_kernel_size": 7, "conv_bias": False},
    ),
}

# Which stand for a kind of networks in tests that are not about all families.
NORM_ORDERS = ("wav2vec2-base", "wav2vec2-large")
"""Norms after attention and feed-forward layers, and before them."""
NEAREST = "hubert-base"
"""Which differs from wav2vec 2.0 by its name alone."""
RELATIVE, RELATIVE_LARGE = "wavlm-base", "wavlm-large"
"""With a bias by relative position."""
RELATIVE_TYPE = "wavlm"
STACKED = "data2vec-audio"
"""With several positional convolutions, one on the other, and settings that it does not read."""

_FULL_FRONT_END: dict[str, Any] = {
    "vocab_size": 12,
    "conv_dim": [512] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_feat_extract_layers": 7,
    "num_conv_pos_embedding_groups": 16,
}
_BASE = {
    **_FULL_FRONT_END,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
_LARGE = {
    **_FULL_FRONT_END,
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
_POSITIONS = {"num_conv_pos_embeddings": 128}
_SEW_FRONT_END = {
    "conv_dim": [64, *[128] * 4, *[256] * 4, *[512] * 4],
    "conv_kernel": [10, 3, 1, 3, 1, 3, 1, 3, 1, 2, 1, 2, 1],
    "conv_stride": [5, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1, 2, 1],
    "num_feat_extract_layers": 13,
}

# family -> the settings of its published size
FULL_SIZE: dict[str, dict[str, Any]] = {
    "wav2vec2-base": {**_BASE, **_POSITIONS},
    "wav2vec2-large": {**_LARGE, **_POSITIONS},
    "mms": {**_LARGE, **_POSITIONS, "adapter_attn_dim": 16},
    "hubert-base": {**_BASE, **_POSITIONS},
    "hubert-large": {**_LARGE, **_POSITIONS},
    "wavlm-base": {**_BASE, **_POSITIONS, "num_buckets": 320, "max_bucket_distance": 800},
    "wavlm-large": {**_LARGE, **_POSITIONS, "num_buckets": 320, "max_bucket_distance": 800},
    "conformer-relative": {**_BASE, **_POSITIONS, "conv_depthwise_kernel_size": 31},
    "sew": {
        **_BASE,
        **_POSITIONS,
        "hidden_size": 512,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        **_SEW_FRONT_END,
    },
    # sew-d-base-plus, with the convolution of 31 frames that all but the k127 models have
    "sew-d": {
        **_BASE,
        "num_hidden_layers": 24,
        "num_conv_pos_embeddings": 31,
        "position_buckets": 256,
        "max_position_embeddings": 512,
        **_SEW_FRONT_END,
    },
    "bert-relative-key": {
        **{key: value for key, value in _BASE.items() if "conv" not in key and "feat" not in key},
        "conv_depthwise_kernel_size": 31,
        "left_max_position_embeddings": 64,
        "right_max_position_embeddings": 8,
        "output_hidden_size": 768,
    },
    "whisper": {
        **dict.fromkeys(("vocab_size", "max_target_positions"), 12),
        "d_model": 512,
        "encoder_layers": 6,
        "encoder_attention_heads": 8,
        "encoder_ffn_dim": 2048,
    },
    "parakeet": {
        "hidden_size": 512,
        "num_hidden_layers": 17,
        "num_attention_heads": 8,
        "intermediate_size": 2048,
        "subsampling_conv_channels": 256,
        "conv_kernel_size": 9,
    },
    "data2vec-audio": {**_BASE, "num_conv_pos_embeddings": 5, "conv_pos_kernel_size": 19},
}


def make(family: str, seed: int = 0, **changes: Any) -> transformers.PreTrainedModel:
    """A random CTC model of a family for evaluation, every parameter away from its initial value."""
    architecture, settings = FAMILIES[family]
    model_class = getattr(transformers, f"{architecture}ForCTC", WhisperForCTC)
    torch.manual_seed(seed)
    model = model_class(configuration(architecture, {**settings, **changes})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.02)
        if isinstance(model, transformers.ParakeetForCTC):  # or logits would be the same at all times
            for parameter in model.encoder.subsampling.parameters():
                if parameter.ndim > 1:
                    torch.nn.init.kaiming_normal_(parameter)
            model.encoder.subsampling.linear.weight /= model.encoder.input_scale
        for name, statistic in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                statistic.add_(torch.rand_like(statistic))
    return reading_waveforms(model)


def configuration(architecture: str, settings: dict[str, Any]) -> transformers.PreTrainedConfig:
    """A configuration of the sizes of ``TINY``, with other settings."""
    if architecture == "Parakeet":
        known = transformers.ParakeetEncoderConfig().to_dict()
        tiny = {key: TINY[key] for key in TINY if key in known}
        encoder = {**tiny, "subsampling_conv_channels": 6, **settings}
        blank = TINY["vocab_size"] - 1
        ends = {key: encoder.pop(key, value) for key, value in (("vocab_size", 12), ("pad_token_id", blank))}
        return transformers.ParakeetCTCConfig(encoder_config=encoder, **ends)
    config_class = getattr(transformers, f"{architecture}Config")
    known = config_class().to_dict()
    return config_class(**{**{key: value for key, value in TINY.items() if key in known}, **settings})


def reading_waveforms(model: transformers.PreTrainedModel) -> transformers.PreTrainedModel:
    """A model that is called with waveforms, also one that reads spectrograms in transformers."""
    if isinstance(model, transformers.ParakeetForCTC):
        spectrogram = ParakeetSpectrogram(model.encoder.config.num_mel_bins)
        model.feature_extractor = ParakeetStem(spectrogram, model.encoder.subsampling)
        model.register_forward_pre_hook(lambda module, arguments: (spectrogram(arguments[0]),))
    elif model.main_input_name == "input_features":
        model.base_model.feature_extractor = Fbank()
        model.register_forward_pre_hook(
            lambda module, arguments: (module.base_model.feature_extractor(arguments[0]).transpose(1, 2),)
        )
    return model


class Fbank(torch.nn.Module):
    """What SeamlessM4TFeatureExtractor computes, of a batch of the same length and with gradients."""

    def __init__(self) -> None:
        super().__init__()
        extractor = transformers.SeamlessM4TFeatureExtractor()
        self.bands, self.window = (torch.from_numpy(x) for x in (extractor.mel_filters, extractor.window))

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, C, F)."""
        frames = (waveform.double() * 2**15).unfold(1, 400, 160)
        frames = frames - frames.mean(-1, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], -1)
        power = torch.fft.rfft((frames - 0.97 * before) * self.window, 512).abs().square()
        x = (power @ self.bands).clamp(min=1.192092955078125e-07).log()
        x = (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True) + 1e-7)
        x = x[:, : x.shape[1] // 2 * 2]
        return x.reshape(len(x), -1, 2 * x.shape[2]).transpose(1, 2).float()


class ParakeetSpectrogram(torch.nn.Module):
    """What ParakeetFeatureExtractor computes, of rows of the same length, in float64 and with gradients."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.bands = transformers.ParakeetFeatureExtractor(bands).mel_filters.double()

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, F, C)."""
        x = waveform.double()
        x = torch.cat([x[:, :1], x[:, 1:] - 0.97 * x[:, :-1]], 1)
        window = torch.hann_window(400, periodic=False, dtype=torch.float64)
        waves = torch.stft(x, 512, 160, 400, window, pad_mode="constant", return_complex=True)
        x = (self.bands @ waves[..., : waveform.shape[1] // 160].abs().square() + 2**-24).log()
        x = (x - x.mean(2, keepdim=True)) / (x.std(2, keepdim=True) + 1e-5)
        return x.transpose(1, 2).float()


class ParakeetStem(torch.nn.Module):
    """The spectrogram and the convolutions behind it."""

    def __init__(self, spectrogram: ParakeetSpectrogram, subsampling: torch.nn.Module) -> None:
        super().__init__()
        self.parts = (spectrogram, subsampling)  # whose weights are those of the model

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, C, F)."""
        spectrogram, subsampling = self.parts
        x = spectrogram(waveform)[:, None]
        for layer in subsampling.layers:
            x = layer(x)
        return x.transpose(1, 2).flatten(2).transpose(1, 2)


class WhisperStem(torch.nn.Module):
    """The spectrogram of WhisperFeatureExtractor, of a batch of the same length, unpadded and in float64, and
    the encoder's convolutions."""

    def __init__(self, encoder: transformers.models.whisper.modeling_whisper.WhisperEncoder) -> None:
        super().__init__()
        extractor = transformers.WhisperFeatureExtractor(feature_size=encoder.num_mel_bins)
        self.bands = torch.from_numpy(extractor.mel_filters)
        self.convolutions = (encoder.conv1, encoder.conv2)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, C, F)."""
        window = torch.hann_window(400, dtype=torch.float64)
        waves = torch.stft(waveform.double(), 400, 160, window=window, return_complex=True)[..., :-1]
        x = (self.bands.T @ waves.abs().square()).clamp(min=1e-10).log10()
        x = ((x.maximum(x.amax((1, 2), keepdim=True) - 8) + 4) / 4).float()
        for convolution in self.convolutions:
            x = torch.nn.functional.gelu(convolution(x))
        return x


class WhisperForCTC(transformers.WhisperPreTrainedModel):
    """Whisper's encoder with a CTC head: transformers has none, and its encoder takes 30 s only."""

    def __init__(self, config: transformers.WhisperConfig) -> None:
        super().__init__(config)
        self.model = transformers.WhisperModel(config)
        self.model.feature_extractor = WhisperStem(self.model.encoder)
        self.lm_head = torch.nn.Linear(config.d_model, config.vocab_size)
        self.post_init()
        self.main_input_name = "input_values"

    def forward(self, waveform: torch.Tensor) -> CausalLMOutput:
        """(B, T) -> logits (B, F, V)."""
        encoder = self.model.encoder
        x = self.model.feature_extractor(waveform).transpose(1, 2)
        x = x + encoder.embed_positions.weight[: x.shape[1]]
        for layer in encoder.layers:
            x = layer(x, attention_mask=None)
        return CausalLMOutput(logits=self.lm_head(encoder.layer_norm(x)))


def speechlike(seconds: float, seed: int = 0) -> np.ndarray:
    """Noise with a slowly moving level and zero mean, (T,) float32 at 16 kHz."""
    generator = np.random.default_rng(seed)
    count = int(seconds * 16_000)
    level = 0.6 + 0.4 * np.sin(np.arange(count) * 2 * np.pi / 5000)
    return (generator.standard_normal(count) * level).astype(np.float32)
