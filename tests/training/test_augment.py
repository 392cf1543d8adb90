"""Augmentation changes audio by as much as it says, and masks cover what they should."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from littlefoot.errors import ConfigError
from littlefoot.training import augment as augment_module
from littlefoot.training.augment import (
    CODECS,
    Augmenter,
    add_noise,
    change_gain,
    change_speed,
    mask_spans,
    quick_size,
    reverberate,
    telephone,
    through_codec,
)
from littlefoot.training.train_config import TrainConfig


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("fraction", "length"), [(0.05, 5), (0.3, 10), (0.5, 1)])
def test_masks_cover_the_configured_fraction_on_average(fraction: float, length: int) -> None:
    generator = rng()
    masks = [mask_spans(173, fraction, length, generator) for _ in range(2000)]
    assert np.mean(masks) == pytest.approx(fraction, rel=0.05)


def test_masks_reach_every_position() -> None:
    generator = rng()
    masks = np.stack([mask_spans(60, 0.2, 5, generator) for _ in range(2000)])
    assert masks.any(axis=0).all()


def test_masked_spans_have_the_configured_length() -> None:
    generator = rng()
    for _ in range(200):
        edges = np.flatnonzero(np.diff(mask_spans(100, 0.3, 6, generator), prepend=0, append=0))
        runs = edges[1::2] - edges[::2]
        assert (runs % 6 == 0).all()  # spans may touch, but not overlap


@pytest.mark.parametrize(
    ("size", "fraction", "length"), [(0, 0.5, 5), (3, 1.0, 5), (40, 1.0, 7), (40, 0.0, 7)]
)
def test_masks_of_extreme_sizes(size: int, fraction: float, length: int) -> None:
    mask = mask_spans(size, fraction, length, rng())
    assert mask.shape == (size,)
    assert mask.sum() <= size * fraction


@pytest.mark.parametrize("factor", [0.9, 1.1])
def test_speed_changes_length_and_pitch(factor: float) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(16_000) / 16_000).astype(np.float32)
    faster = change_speed(tone, factor)
    assert faster.dtype == np.float32
    assert len(faster) == pytest.approx(16_000 / factor, abs=2)
    peak = np.abs(np.fft.rfft(faster)).argmax() * 16_000 / len(faster)
    assert peak == pytest.approx(440 * factor, abs=2)


def test_speed_one_is_the_waveform_itself() -> None:
    tone = np.ones(100, np.float32)
    assert change_speed(tone, 1.0) is tone


def test_gain_stays_within_its_limit() -> None:
    generator = rng()
    gains = [20 * np.log10(change_gain(np.ones(1, np.float32), 6, generator)[0]) for _ in range(500)]
    assert -6.001 <= min(gains) < -5
    assert 5 < max(gains) <= 6.001


@pytest.mark.parametrize("samples", [32_000, 700])
def test_noise_has_the_signal_to_noise_ratio_asked_for(samples: int) -> None:
    speech = np.sin(np.arange(32_000) / 5).astype(np.float32)
    noise = add_noise(speech, rng().standard_normal(samples, dtype=np.float32), 20) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.2)


def test_noise_on_silence_and_silence_as_noise_change_nothing() -> None:
    silence, speech = np.zeros(100, np.float32), np.ones(100, np.float32)
    assert not add_noise(silence, speech, 10).any()
    np.testing.assert_array_equal(add_noise(speech, silence, 10), speech)


def test_a_room_without_echo_changes_nothing_and_delays_nothing() -> None:
    speech = rng().standard_normal(5_000).astype(np.float32)
    response = np.zeros(900, np.float32)
    response[300] = -2.0
    np.testing.assert_allclose(reverberate(speech, response), -speech, atol=1e-5)


def test_an_echo_is_heard_as_often_as_the_response_has_it() -> None:
    click = np.zeros(1_000, np.float32)
    click[100] = 1.0
    heard = reverberate(click, np.array([1.0, 0.0, 0.5], np.float32))
    assert np.flatnonzero(np.abs(heard) > 1e-4).tolist() == [100, 102]
    assert heard[102] == pytest.approx(0.5 * heard[100], rel=1e-4)
    assert np.sum(heard**2) == pytest.approx(1.0, rel=1e-4)
    assert not reverberate(np.zeros(50, np.float32), click).any()


@pytest.mark.parametrize(("hertz", "passes"), [(100, False), (1000, True), (3000, True), (5000, False)])
def test_a_telephone_lets_its_band_pass(hertz: int, passes: bool) -> None:
    tone = np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000).astype(np.float32)
    assert np.sqrt(np.mean(telephone(tone) ** 2)) == pytest.approx(np.sqrt(0.5) if passes else 0.0, abs=1e-3)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: codec[1])
def test_codecs_keep_the_length_and_nearly_the_sound(codec: tuple[str, str]) -> None:
    time = np.arange(20_011) / 16_000
    sound = (1.5 * np.sin(2 * np.pi * 300 * time * (1 + time))).astype(np.float32)  # louder than full scale
    decoded = through_codec(sound, *codec)
    assert decoded.shape == sound.shape
    assert decoded.dtype == np.float32
    assert not np.array_equal(decoded, sound)
    correlation = np.fft.irfft(np.fft.rfft(decoded, 65_536) * np.conj(np.fft.rfft(sound, 65_536)))
    assert correlation.max() > 0.9 * np.sum(sound**2)
    assert min(correlation.argmax(), 65_536 - correlation.argmax()) < 0.05 * 16_000  # delay


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    (tmp_path / "deep").mkdir()
    sound = rng().standard_normal(24_000).astype(np.float32) * np.float32(0.1)
    soundfile.write(tmp_path / "deep" / "a.wav", sound, 16_000)
    (tmp_path / "notes.txt").write_text("not a recording")
    return tmp_path


def test_everything_at_once_is_the_same_again_for_the_same_generator(recordings: Path) -> None:
    augment = Augmenter(
        TrainConfig(
            noise_probability=1.0,
            noise_folder=str(recordings),
            room_probability=1.0,
            room_folder=str(recordings),
            telephone_probability=0.5,
            codec_probability=1.0,
        )
    )
    speech = np.sin(np.arange(16_000) / 7).astype(np.float32)
    for seed in range(8):
        first, again = augment(speech, 0.9, rng(seed)), augment(speech, 0.9, rng(seed))
        np.testing.assert_array_equal(first, again)
        assert first.dtype == np.float32
        assert np.isfinite(first).all()
        assert len(first) == pytest.approx(16_000 / 0.9, abs=2)
    assert not augment.unreadable


@pytest.mark.parametrize("room", [4000.0, 1.0])
def test_kept_recordings_are_heard_as_if_they_were_read_again(
    recordings: Path, monkeypatch: pytest.MonkeyPatch, room: float
) -> None:
    monkeypatch.setattr(augment_module, "MAX_KEPT_SECONDS", room)
    settings: dict[str, Any] = {"noise_probability": 1.0, "noise_folder": str(recordings)}
    settings |= {"room_probability": 1.0, "room_folder": str(recordings)}
    reading_again, keeping = (Augmenter(TrainConfig(**settings, cache_audio=kept)) for kept in (False, True))
    speech = np.sin(np.arange(4_000) / 7).astype(np.float32)
    expected = [reading_again(speech, 1.0, rng(seed)) for seed in range(8)]
    np.testing.assert_array_equal([keeping(speech, 1.0, rng(seed)) for seed in range(8)], expected)
    (recordings / "deep" / "a.wav").unlink()
    keeping(speech, 1.0, rng())
    assert bool(keeping.unreadable) == (room < 1.5)  # the recording lasts 1.5 s


@pytest.mark.parametrize("samples", [1, 7, 16, 17, 1009, 112_001, 2**20])
def test_a_quick_size_holds_the_samples_and_has_small_factors(samples: int) -> None:
    size = quick_size(samples)
    assert samples <= size <= max(samples * 9 / 8, samples + 1)
    while size % 2 == 0:
        size //= 2
    assert size < 16


def test_a_room_is_a_convolution() -> None:
    speech, response = rng().standard_normal(1009), rng().standard_normal(211)
    response[0] = 10.0  # the direct sound
    heard = reverberate(speech.astype(np.float32), response.astype(np.float32))
    expected = np.convolve(speech, response)[:1009]
    expected *= np.sqrt(np.mean(speech**2) / np.mean(expected**2))
    np.testing.assert_allclose(heard, expected, atol=1e-4)


def test_unreadable_noise_is_noted_and_left_out(recordings: Path) -> None:
    (recordings / "deep" / "a.wav").write_bytes(b"RIFF, not")
    settings = {"noise_probability": 1.0, "noise_folder": str(recordings), "gain_db": 0.0}
    augment = Augmenter(TrainConfig(**settings))
    speech = np.ones(800, np.float32)
    np.testing.assert_array_equal(augment(speech, 1.0, rng()), speech)
    assert list(augment.unreadable) == [str(recordings / "deep" / "a.wav")]


def test_folders_without_recordings_are_refused_by_name(tmp_path: Path) -> None:
    for setting in ("noise_folder", "room_folder"):
        with pytest.raises(ConfigError, match=setting):
            Augmenter(TrainConfig(**{setting: str(tmp_path)}))
    with pytest.raises(ConfigError, match="room_folder"):
        TrainConfig(room_probability=0.5)
