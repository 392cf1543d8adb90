"""Channels and tracks: what is spoken is heard, wherever it stands, and said where that is unusual."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from test_audio import speechlike

from littlefoot.audio import reading
from littlefoot.audio.channels import Choice
from littlefoot.errors import AudioError, ConfigError
from littlefoot.transcript.conversation import transcribe_each
from littlefoot.transcript.results import Segment, Transcription, Word

Samples = NDArray[np.float32]
SOUND = speechlike(3.0)
NOISE = (0.02 * np.random.default_rng(1).standard_normal((2, len(SOUND)))).astype(np.float32)


def stereo(left: Samples, right: Samples, kind: str = "WAV") -> bytes:
    file = io.BytesIO()
    subtype = {"WAV": "FLOAT", "AIFF": "FLOAT", "FLAC": "PCM_16"}[kind]
    soundfile.write(file, np.stack([left, right], axis=1), 16000, format=kind, subtype=subtype)
    return file.getvalue()


def likeness(found: Samples, wanted: Samples) -> float:
    return float(abs(np.corrcoef(found[: len(wanted)], wanted)[0, 1]))


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "FLAC"])  # in this process, in one of its own
def test_channels_out_of_phase_are_heard_and_said(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    found = reading.read(stereo(SOUND, -SOUND, kind))
    assert likeness(found, SOUND) > 0.999
    assert "cancel each other out (they are out of phase): channel 1, the louder one" in caplog.text


def test_of_a_file_that_is_read_often_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "call.wav"
    path.write_bytes(stereo(SOUND, -SOUND))
    for _ in range(3):
        reading.read(path)
    assert len(caplog.records) == 1


@pytest.mark.parametrize("gain", [1.0, 0.8, 1.25])
def test_neither_noise_nor_gain_hides_that(gain: float) -> None:
    found = reading.read(stereo(SOUND + NOISE[0], -gain * SOUND + NOISE[1]))
    assert likeness(found, SOUND) > 0.95


@pytest.mark.parametrize("right", [SOUND, 0 * SOUND, NOISE[1], SOUND[::-1].copy(), -0.3 * SOUND])
def test_other_channels_are_averaged_without_a_word(right: Samples, caplog: pytest.LogCaptureFixture) -> None:
    found = reading.read(stereo(SOUND, right))
    np.testing.assert_allclose(found, (SOUND + right) / 2, atol=1e-6)
    assert not caplog.text


@pytest.mark.parametrize(("channel", "place"), [("left", 0), ("right", 1), ("1", 0), ("2", 1)])
def test_a_channel_can_be_chosen(channel: str, place: int, caplog: pytest.LogCaptureFixture) -> None:
    found = reading.read(reading.Selected(stereo(SOUND, NOISE[0]), Choice(channel)))
    np.testing.assert_array_equal(found, (SOUND, NOISE[0])[place])
    assert not caplog.text


def test_a_channel_that_is_missing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mono.wav"
    soundfile.write(path, SOUND, 16000)
    with pytest.raises(AudioError, match=r"mono\.wav: has 1 channel, so there is no channel 'left'"):
        reading.read(reading.Selected(path, Choice("left")))
    with pytest.raises(AudioError, match="has 2 channels, so there is no channel '3'"):
        reading.read(reading.Selected(stereo(SOUND, SOUND), Choice("3")))
    with pytest.raises(AudioError, match="has one track, so there is no track 2"):
        reading.read(reading.Selected(path, Choice(track=2)))


@pytest.mark.parametrize(("channel", "track"), [("centre", None), ("0", None), ("-1", None), ("auto", 0)])
def test_impossible_choices_are_refused(channel: str, track: int | None) -> None:
    with pytest.raises(ConfigError, match=r"unknown|impossible"):
        Choice(channel, track)


# Tracks


def film(*tracks: Samples, form: str = "matroska", codec: str = "flac") -> bytes:
    """A file with several audio tracks."""
    av = pytest.importorskip("av", reason="PyAV (extra media) is not installed")
    file = io.BytesIO()
    with av.open(file, "w", format=form) as container:
        sounds = [container.add_stream(codec, rate=16000, layout="mono") for _ in tracks]
        for sound, samples in zip(sounds, tracks, strict=True):
            frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            frame.sample_rate = 16000
            frame.pts = 0
            resampler = av.AudioResampler(sound.format, "mono", 16000, sound.frame_size or 1024)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(sound.encode(part))
            container.mux(sound.encode())
    return file.getvalue()


def test_a_silent_first_track_is_passed_over_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert likeness(reading.read(film(0 * SOUND, SOUND)), SOUND) > 0.999
    assert "its audio track 1 is silent: track 2 is taken; --track chooses another" in caplog.text


def test_the_first_track_with_sound_is_taken_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    late = SOUND * (np.arange(len(SOUND)) > 20000)
    assert likeness(reading.read(film(late.astype(np.float32), NOISE[0])), late) > 0.99
    assert not caplog.text


def test_a_track_can_be_chosen() -> None:
    content = film(SOUND, NOISE[0])
    assert likeness(reading.read(reading.Selected(content, Choice(track=2))), NOISE[0]) > 0.99
    assert likeness(reading.read(reading.Selected(content, Choice(track=1))), SOUND) > 0.99
    with pytest.raises(AudioError, match="has 2 audio tracks, so there is no track 3"):
        reading.read(reading.Selected(content, Choice(track=3)))


# Containers that FFmpeg reads

OTHERS = {
    "avi": ("avi", "pcm_s16le"),
    "mpegts": ("mpegts", "ac3"),
    "flv": ("flv", "pcm_s16le"),
    "wma": ("asf", "wmav2"),
    "ac3": ("ac3", "ac3"),
    "eac3": ("eac3", "eac3"),
    "mpg": ("mpeg", "mp2"),
    "caf": ("caf", "adpcm_ima_qt"),
    "flac in ogg": ("ogg", "flac"),
    "mp3 in wav": ("wav", "mp3"),
    "mp2": ("mp2", "mp2"),
    "tta": ("tta", "tta"),
    "wavpack": ("wv", "wavpack"),
    "w64": ("w64", "pcm_s16le"),
    "voc": ("voc", "pcm_s16le"),
    "nut": ("nut", "pcm_s16le"),
    "aiff": ("aiff", "pcm_s24be"),
}


def encoded(kind: str) -> bytes:
    av = pytest.importorskip("av", reason="PyAV (extra media) is not installed")
    form, codec = OTHERS[kind]
    rate = {"flv": 44100, "wmav2": 44100}.get(form if form == "flv" else codec, 32000)
    file = io.BytesIO()
    options = {"strict": "experimental"}
    with av.open(file, "w", format=form) as container:
        sound = container.add_stream(codec, rate=rate, layout="stereo", options=options)
        sound.bit_rate = 128_000
        frame = av.AudioFrame.from_ndarray(np.stack([SOUND, SOUND]), format="fltp", layout="stereo")
        frame.sample_rate = 16000
        frame.pts = 0
        resampler = av.AudioResampler(sound.format, "stereo", rate, sound.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    return file.getvalue()


def best_likeness(found: Samples) -> float:
    """Where encoders put the sound a little earlier or later."""
    spectra = np.fft.rfft(found, 1 << 17), np.fft.rfft(SOUND, 1 << 17)
    products = np.fft.irfft(spectra[0] * spectra[1].conj())
    return float(products.max() / np.sqrt(np.square(found).sum() * np.square(SOUND).sum()))


@pytest.mark.parametrize("kind", OTHERS)
def test_every_container_that_ffmpeg_reads_is_read(kind: str) -> None:
    found = reading.read(encoded(kind))
    assert abs(len(found) - len(SOUND)) < 5000
    assert best_likeness(found) > 0.9


def test_without_pyav_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    contents = {kind: encoded(kind) for kind in ("avi", "wma", "mp3 in wav", "flac in ogg")}
    monkeypatch.setattr("littlefoot.audio.isolation.AVAILABLE", False)
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    monkeypatch.setattr("littlefoot.audio.media.is_available", lambda: False)
    for content in contents.values():
        with pytest.raises(AudioError, match=r"pip install 'littlefoot\[media\]'"):
            reading.read(content)


# Calls


def test_every_channel_is_transcribed_with_its_speaker() -> None:
    loud = np.zeros(len(SOUND), np.float32)

    def transcribe(source: reading.Source) -> Transcription:
        first = reading.read(source)[:16000]
        name = "A" if np.array_equal(first, SOUND[:16000]) else "B"
        start = 0.5 if name == "A" else 0.2
        word = Word(name, start, start + 0.2, 1.0)
        return Transcription(name, [Segment(start, start + 0.2, name)], [word], 3.0)

    said = transcribe_each(transcribe, stereo(SOUND, loud))
    assert said.text == "B A"
    assert [(segment.text, segment.speaker) for segment in said.segments] == [("B", "right"), ("A", "left")]
    assert [(word.word, word.speaker) for word in said.words] == [("B", "right"), ("A", "left")]


def test_one_channel_has_no_speakers(tmp_path: Path) -> None:
    path = tmp_path / "mono.wav"
    soundfile.write(path, SOUND, 16000)
    for source in (path, SOUND):
        with pytest.raises(AudioError, match="has one channel, so it does not separate speakers"):
            transcribe_each(lambda source: Transcription("", [], [], 1.0), source)
