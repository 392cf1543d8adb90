"""The log-mel spectrogram says what a direct Fourier transform in float64 says, of each frame by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from artifacts import tiny
from checkpoints import reference_weights
from families import make, speechlike
from oracle import padded
from transformers.audio_utils import mel_filter_bank

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.audio import reading
from littlefoot.errors import ConfigError
from littlefoot.network import mel
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import encode
from littlefoot.network.front_end import front_end
from littlefoot.training.torch_ops import TorchOps

BANDS, WINDOW, HOP = 80, 400, 160


def spectrogram(bands: int = BANDS, window: int = WINDOW, hop: int = HOP) -> Artifact:
    """A model whose front end is nothing but a spectrogram."""
    return tiny(
        feat_extract_first="log_mel",
        feat_extract_norm="layer",
        conv_dim=[bands],
        conv_kernel=[window],
        conv_stride=[hop],
    )


def ours(waveform: np.ndarray, artifact: Artifact | None = None) -> np.ndarray:
    """(T,) -> (F, C) by the encoder."""
    made = artifact or spectrogram()
    ops = TorchOps({name: torch.from_numpy(weight) for name, weight in made.weights.items()})
    return encode(ops, made.config, torch.from_numpy(waveform)[None]).features[0].numpy()


def direct(waveform: np.ndarray, bands: int = BANDS, window: int = WINDOW, hop: int = HOP) -> np.ndarray:
    """(T,) -> (F, C) by the definition, in float64, for an even window."""
    time = np.arange(window)
    hann = 0.5 * (1 - np.cos(2 * np.pi * time / window))
    frequencies = np.arange(window // 2 + 1)  # with zero and half of the sample rate
    transform = np.exp(-2j * np.pi * np.outer(time, frequencies) / window)
    frames = np.lib.stride_tricks.sliding_window_view(waveform.astype(np.float64), window)[::hop] * hann
    power = np.abs(frames @ transform) ** 2 / (hann**2).sum()
    weights = mel_filter_bank(len(frequencies), bands, 0, 8000, 16_000, norm=None, mel_scale="slaney")
    return (np.log(power @ (weights / weights.sum(axis=0)) + 1e-6) + 6) / 5


@pytest.mark.parametrize(
    ("bands", "window", "hop"), [(80, 400, 160), (40, 320, 160), (64, 512, 256), (9, 90, 37)]
)
def test_it_is_that_of_a_direct_transform(bands: int, window: int, hop: int) -> None:
    found = ours(speechlike(2.0), spectrogram(bands, window, hop))
    expected = direct(speechlike(2.0), bands, window, hop)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5


@pytest.mark.parametrize("bands", [80, 128])
def test_a_parakeet_reads_what_its_feature_extractor_makes(bands: int) -> None:
    """A padded batch, with the extractor's own mask: one frame more, which is padding."""
    model = make("parakeet", num_mel_bins=bands)
    model._forward_pre_hooks.clear()  # it gets spectrograms, as in transformers
    config = ModelConfig.from_dict(model.config.to_dict())
    ops = TorchOps({name: torch.from_numpy(value) for name, value in reference_weights(model).items()})
    speech = reading.read(checkpoint.BUNDLED / "samples" / "garden.ogg")
    waveforms = [speech, 0.1 * speechlike(1.0), speech[8000:20_011], speech[:400]]
    extracted = transformers.ParakeetFeatureExtractor(bands)(waveforms, sampling_rate=16_000)
    batch, lengths = map(torch.from_numpy, padded(waveforms))
    with torch.no_grad():
        expected = model(**extracted).logits
        found = encode(ops, config, batch, lengths)
    assert found.frame_lengths is not None
    assert found.frame_lengths.tolist() == model._get_subsampling_output_length(lengths // 160).tolist()
    for ours_, theirs, count in zip(found.logits, expected, found.frame_lengths.tolist(), strict=True):
        assert (ours_[:count] - theirs[:count]).abs().max() < 1e-4


@pytest.mark.parametrize("clip", ["garden.ogg", "digits.ogg"])
def test_of_speech_the_quiet_bands_are_right_too_and_values_have_unit_range(clip: str) -> None:
    waveform = reading.normalize(reading.read(checkpoint.BUNDLED / "samples" / clip))
    found = ours(waveform)
    assert np.abs(found - direct(waveform)).max() < 1e-3
    assert abs(found.mean()) < 0.6
    assert 0.5 < found.std() < 1.5
    assert np.abs(found).max() < 4


def test_white_noise_has_power_one_in_every_band() -> None:
    noise = np.random.default_rng(0).standard_normal(60 * 16_000).astype(np.float32)
    for window in (400, 401, 512):
        logarithms = 5 * ours(noise, spectrogram(40, window, hop=window)) - 6
        np.testing.assert_allclose(np.exp(logarithms).mean(axis=0), 1, atol=0.08)


def test_a_tone_is_in_the_band_of_its_pitch() -> None:
    time = np.arange(8000) / 16_000
    corners = mel_filter_bank(201, BANDS, 0, 8000, 16_000, norm=None, mel_scale="slaney")
    for hertz in (200, 1000, 3000, 7000):
        tone = np.sin(2 * np.pi * hertz * time).astype(np.float32)
        loudest = ours(tone).mean(axis=0).argmax()
        assert corners[hertz // 40, loudest] > 0


def test_silence_is_the_floor() -> None:
    np.testing.assert_allclose(ours(np.zeros(4000, np.float32)), (np.log(1e-6) + 6) / 5, rtol=1e-6)


@pytest.mark.parametrize("frame", [0, 7, 22])
def test_a_frame_hears_its_own_window_only(frame: int) -> None:
    waveform, other = speechlike(0.25), speechlike(0.25, seed=1)
    window = slice(frame * HOP, frame * HOP + WINDOW)
    other[window] = waveform[window]
    np.testing.assert_allclose(ours(other)[frame], ours(waveform)[frame], atol=1e-6)


def test_mixed_precision_leaves_it_alone() -> None:
    expected = ours(speechlike(0.5))
    with torch.autocast("cpu", torch.bfloat16):
        np.testing.assert_array_equal(ours(speechlike(0.5)), expected)


@pytest.mark.parametrize("window", [300, 400, 401, 512])
def test_a_band_is_the_mean_of_its_frequencies(window: int) -> None:
    weights = mel.bands(40, window, 16_000)
    np.testing.assert_allclose(weights.sum(axis=1), 2, rtol=1e-5)  # real and imaginary parts
    assert weights.min() == 0


def test_a_band_without_a_frequency_is_refused() -> None:
    with pytest.raises(ConfigError, match="40 bands needs a longer window than 100 samples: band 0 is empty"):
        mel.bands(40, 100, 16_000)


def test_kaldis_spectrogram_is_that_of_transformers() -> None:
    waveform = speechlike(1.03) * np.float32(0.1)
    config = ModelConfig.from_dict({"model_type": "wav2vec2-bert"})
    ops = TorchOps({"lm_head.weight": torch.zeros(1)})
    found, _ = front_end(ops, config, torch.from_numpy(waveform)[None], None)
    extractor = transformers.SeamlessM4TFeatureExtractor()
    made = extractor(waveform, sampling_rate=16_000, return_tensors="np")
    expected = made["input_features"][0][made["attention_mask"][0] == 1]
    assert found.shape == (1, config.frames(len(waveform)), 160)
    np.testing.assert_allclose(found[0].numpy(), expected, atol=1e-3)
