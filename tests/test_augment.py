"""Augmentation changes audio by as much as it says, and masks cover what they should."""

from __future__ import annotations

import numpy as np
import pytest

from littlefoot.model.augment import add_noise, change_gain, change_speed, mask_spans


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


def test_noise_has_the_signal_to_noise_ratio_asked_for() -> None:
    speech = np.sin(np.arange(32_000) / 5).astype(np.float32)
    noise = add_noise(speech, (20, 20), rng()) - speech
    assert 10 * np.log10(np.mean(speech**2) / np.mean(noise**2)) == pytest.approx(20, abs=0.2)


def test_noise_on_silence_is_silence() -> None:
    assert not add_noise(np.zeros(100, np.float32), (10, 40), rng()).any()
