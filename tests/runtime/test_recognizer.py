"""Recognition of audio of any length, from any source, in bounded memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import artifacts
import checkpoints
import numpy as np
import pytest
import soundfile
import torch
import transformers
from families import make, speechlike
from hypothesis import given
from hypothesis import strategies as st
from oracle import tiny

import littlefoot
from littlefoot import artifact as artifact_files
from littlefoot.artifact import Artifact, checkpoint
from littlefoot.audio import reading
from littlefoot.decode.arpa import write_arpa
from littlefoot.decode.beam import BeamConfig
from littlefoot.decode.ngram import estimate
from littlefoot.errors import AudioError
from littlefoot.network.config import ModelConfig
from littlefoot.runtime import recognizer, registry
from littlefoot.runtime import windows as windowing
from littlefoot.runtime.recognizer import Recognizer
from littlefoot.runtime.windows import windows

RATE = 16_000
BLANK, DELIMITER, E, T, A = 0, 4, 5, 6, 7  # in artifacts.TOKENS


class Levels:
    """An engine that sees nothing beyond a frame's receptive field: its first sample chooses the token.

    0 is the blank, k / 16 token k. The last sample is added to all logits.
    """

    name = "levels"

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.lengths: list[int] = []

    def run(self, waveform: np.ndarray) -> np.ndarray:
        self.lengths.append(len(waveform))
        starts = np.arange(self.config.frames(len(waveform))) * self.config.stride
        first, last = waveform[starts], waveform[starts + self.config.receptive_field - 1]
        tokens = np.arange(self.config.vocab_size, dtype=np.float32)
        return np.asarray(last[:, None] - 100 * np.abs(16 * first[:, None] - tokens))


@pytest.fixture
def model() -> Artifact:
    return artifacts.tiny()  # do_normalize is false


@pytest.fixture
def real() -> Recognizer:
    """A tiny random model that says something else at any time."""
    model = artifacts.talkative(artifacts.tiny(), speechlike(1.0))
    return Recognizer(model, registry.create(model, "openvino", threads=1))


@pytest.fixture
def levels(model: Artifact) -> Recognizer:
    return Recognizer(model, Levels(model.config))


def spell(*parts: tuple[float, float]) -> np.ndarray:
    """Audio for ``Levels``: (seconds, token) after another."""
    return np.concatenate(
        [np.full(round(seconds * RATE), token / 16, np.float32) for seconds, token in parts]
    )


# Windows


class Cut:
    """A front end of any geometry."""

    def __init__(self, stride: int, receptive_field: int) -> None:
        self.stride, self.receptive_field = stride, receptive_field

    def frames(self, samples: int) -> int:
        return max(0, (samples - self.receptive_field) // self.stride + 1)


@given(
    sizes=st.lists(st.integers(0, 900), max_size=12),
    stride=st.integers(1, 16),
    overlap=st.integers(0, 20),
    window=st.integers(160, 400),
)
def test_decided_frames_join_without_gap_or_overlap(
    sizes: list[int], stride: int, overlap: int, window: int
) -> None:
    front = Cut(stride, stride + overlap)
    total = sum(sizes)
    samples = np.arange(total, dtype=np.float32)  # each sample says where it is
    blocks = np.split(samples, np.cumsum(sizes)[:-1]) if sizes else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowing, "WINDOW_SECONDS", window / RATE)
        patch.setattr(windowing, "CONTEXT_SECONDS", 50 / RATE)
        cut = list(windows(blocks, front.frames, stride))
    decided: list[float] = []
    for part in cut:
        assert len(part.samples) <= window + stride
        assert 0 <= part.first_frame < part.end_frame <= front.frames(len(part.samples))
        starts = [frame * stride for frame in range(part.first_frame, part.end_frame)]
        decided += part.samples[starts].tolist()
    assert decided == [frame * stride for frame in range(front.frames(total))]


@given(sizes=st.lists(st.integers(1, 900), min_size=1, max_size=8))
def test_windows_see_their_neighbours_on_both_sides(sizes: list[int]) -> None:
    stride, total = 8, sum(sizes)
    front = Cut(stride, 20)
    blocks = np.split(np.arange(total, dtype=np.float32), np.cumsum(sizes)[:-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windowing, "WINDOW_SECONDS", 400 / RATE)
        patch.setattr(windowing, "CONTEXT_SECONDS", 80 / RATE)
        cut = list(windows(blocks, front.frames, stride))
    for part in cut[1:]:
        assert part.first_frame * stride == 80
    for part in cut[:-1]:
        assert len(part.samples) - part.end_frame * stride == 80


def test_the_defaults_fit_every_published_geometry() -> None:
    config = ModelConfig()
    samples = np.zeros(75 * RATE, np.float32)
    cut = list(windows([samples], config.frames, config.stride))
    assert sum(part.end_frame - part.first_frame for part in cut) == config.frames(len(samples))
    assert max(len(part.samples) for part in cut) == 20 * RATE
    assert [part.first_frame for part in cut[1:]] == [100] * (len(cut) - 1)  # 2 s


# Long audio


def test_long_audio_gives_in_windows_what_it_gives_whole(levels: Recognizer) -> None:
    generator = np.random.default_rng(0)
    waveform = generator.uniform(0, 0.7, 65 * RATE).astype(np.float32)
    whole = Levels(levels.config).run(waveform)
    found = levels.logits(waveform)
    assert len(levels.engine.lengths) == 4  # type: ignore[attr-defined]
    np.testing.assert_array_equal(found, whole)


def test_words_have_their_times_in_the_whole_recording(levels: Recognizer) -> None:
    waveform = spell((25, BLANK), (0.5, E), (0.5, T), (1, DELIMITER), (30, BLANK), (0.5, A), (5, BLANK))
    result = levels.transcribe(waveform, vad="off")
    assert result.text == "ET A"
    assert result.duration == 62.5
    first, second = result.words
    frame = levels.config.frame_ms / 1000
    assert (first.start, first.end) == pytest.approx((25, 26), abs=frame)
    assert (second.start, second.end) == pytest.approx((57, 57.58), abs=frame)
    assert [(segment.text, segment.start) for segment in result.segments] == [
        ("ET", first.start),
        ("A", second.start),
    ]


def test_a_word_across_windows_is_one_word(levels: Recognizer) -> None:
    # Letters go on from 14 to 24 s, while the first window decides up to 18 s.
    waveform = spell((14, BLANK), (5, E), (5, T), (1, BLANK))
    result = levels.transcribe(waveform, vad="off")
    assert [word.word for word in result.words] == ["ET"]
    assert result.words[0].end - result.words[0].start == pytest.approx(10.08, abs=0.02)


def test_normalisation_is_as_the_preprocessor_says() -> None:
    model = artifacts.tiny(feat_extract_norm="layer", conv_bias=True)
    waveform = speechlike(0.5)
    loud = 5 * waveform + 0.5
    plain, normalizing = (
        Recognizer(
            replace(model, preprocessor={"do_normalize": wish, "sampling_rate": RATE}),
            registry.create(model, "openvino", threads=1, precision="f32"),
        )
        for wish in (False, True)
    )
    np.testing.assert_allclose(normalizing.logits(loud), normalizing.logits(waveform), atol=1e-3)
    np.testing.assert_allclose(normalizing.logits(loud), plain.logits(reading.normalize(loud)), atol=1e-3)
    assert np.abs(plain.logits(loud) - plain.logits(waveform)).max() > 1e-2


def test_blocks_are_read_only_when_they_are_needed(
    levels: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    behind: list[float] = []

    def blocks(source: object, seconds: float) -> Iterator[np.ndarray]:
        for index in range(10):
            read.append(index)
            yield np.zeros(round(seconds * RATE), np.float32)

    run = levels.engine.run

    def watched(waveform: np.ndarray) -> np.ndarray:
        behind.append(len(read) * windowing.WINDOW_SECONDS - sum(levels.engine.lengths) / RATE)  # type: ignore[attr-defined]
        return run(waveform)

    monkeypatch.setattr(recognizer.reading, "blocks", blocks)
    monkeypatch.setattr(levels.engine, "run", watched)
    assert levels.transcribe("anything", vad="off").duration == 200
    assert len(behind) >= 10
    assert max(behind) <= 2 * windowing.WINDOW_SECONDS


def test_memory_does_not_grow_with_the_length(levels: Recognizer, tmp_path: Path) -> None:
    peaks = []
    for minutes in (1, 10):
        path = tmp_path / f"{minutes}.wav"
        soundfile.write(path, np.zeros(minutes * 60 * RATE, np.int16), RATE)
        levels.transcribe(path, vad="off")  # what is imported or kept once does not count
        tracemalloc.start()
        levels.transcribe(path, vad="off")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    samples_of_ten_minutes = 10 * 60 * RATE * 4
    assert peaks[1] - peaks[0] < samples_of_ten_minutes / 3


# Pauses that are passed over


class Spoken:
    """A detector that calls speech what is not zero, in frames of 10 ms."""

    frame = 160

    def __init__(self) -> None:
        self._left = np.zeros(0, np.float32)

    def feed(self, samples: np.ndarray) -> np.ndarray:
        samples = np.concatenate([self._left, samples])
        whole = len(samples) - len(samples) % 160
        self._left = samples[whole:]
        return np.asarray((samples[:whole].reshape(-1, 160) > 0).any(axis=1))

    def finish(self) -> np.ndarray:
        return self.feed(np.zeros(-len(self._left) % 160, np.float32))


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognizer, "create_detector", lambda name: None if name == "off" else Spoken())


TALK = (
    (21.3, BLANK),
    *((0.3, E), (0.3, T)),
    (0.9, BLANK),  # passed over in part: no delimiter is heard in it
    *((0.3, A), (0.1, BLANK), (0.2, DELIMITER), (0.3, E)),
    (30, BLANK),
    *((24, E), (4, T), (0.2, DELIMITER), (0.3, A)),
    (5, BLANK),
)


@pytest.mark.usefixtures("spoken")
def test_words_keep_their_times_where_silence_is_passed_over(levels: Recognizer) -> None:
    result = levels.transcribe(spell(*TALK), vad="energy")
    assert result.text == "ET A E ET A"
    assert result.duration == pytest.approx(sum(seconds for seconds, _ in TALK))
    starts = [21.3, 22.8, 23.4, 53.7, 81.9]
    frame = levels.config.frame_ms / 1000
    assert [word.start for word in result.words] == pytest.approx(starts, abs=2 * frame)
    heard = sum(levels.engine.lengths) / RATE  # type: ignore[attr-defined]
    assert heard < 50


@pytest.mark.usefixtures("spoken")
def test_a_beam_search_does_not_join_words_over_silence(levels: Recognizer) -> None:
    start = spell(*TALK[:8])
    expected = levels.transcribe(start, vad="energy")
    result = levels.transcribe(start, levels.decoder(BeamConfig(beam=2)), vad="energy")
    assert result.text == "ET A E"
    assert [word.start for word in result.words] == [word.start for word in expected.words]


@pytest.mark.usefixtures("spoken")
def test_what_is_silent_has_no_text_and_a_short_clip_is_heard_whole(levels: Recognizer) -> None:
    silent = levels.transcribe(spell((60, BLANK)), vad="energy")
    assert (silent.text, silent.duration, levels.engine.lengths) == ("", 60.0, [])  # type: ignore[attr-defined]
    levels.transcribe(spell((0.3, E), (15, BLANK)), vad="energy")
    assert levels.engine.lengths == [round(15.3 * RATE)]  # type: ignore[attr-defined]


# Beam search


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "WINDOW_SECONDS", 1.0)
    monkeypatch.setattr(windowing, "CONTEXT_SECONDS", 0.1)


@pytest.mark.usefixtures("short_windows")
def test_a_beam_search_gives_clear_speech_as_it_is(levels: Recognizer) -> None:
    waveform = spell((1.2, BLANK), (0.1, E), (0.2, T), (0.1, DELIMITER), (1, BLANK), (0.1, A), (0.2, BLANK))
    expected = levels.transcribe(waveform, vad="off")
    found = levels.transcribe(waveform, levels.decoder(), alternatives=3, vad="off")
    assert (found.text, found.segments, found.duration) == (expected.text, expected.segments, 2.9)
    assert [(w.word, w.start, w.end) for w in found.words] == [
        (w.word, w.start, w.end) for w in expected.words
    ]
    assert [each.text for each in found.alternatives] == ["ET A"]
    assert levels.transcribe(waveform, levels.decoder()).alternatives == []
    assert levels.transcribe(np.zeros(1, np.float32), levels.decoder()).text == ""


@pytest.mark.usefixtures("short_windows")
def test_windows_of_a_long_recording_are_one_search(real: Recognizer) -> None:
    waveform = speechlike(2.5)
    decoder = real.decoder(BeamConfig(beam=4), hotwords={"tea": 0.5})
    search = decoder.start()
    search.feed(real.logits(waveform))
    found = search.finish(best=2)
    result = real.transcribe(waveform, decoder, alternatives=2, vad="off")
    assert result.words == found.words
    assert result.alternatives == found.alternatives
    assert result.text == found.alternatives[0].text


def test_a_language_model_and_hot_words_change_what_is_nearly_as_likely(
    levels: Recognizer, tmp_path: Path
) -> None:
    # Between T (6) and A (7), nearer to T.
    waveform = spell((0.1, BLANK), (0.005, 6.45), (0.1, BLANK))
    assert levels.transcribe(waveform).text == "T"
    write_arpa(estimate([["A"]] * 9 + [["T"]], order=2), tmp_path / "words.arpa")
    (tmp_path / "hot.txt").write_text("a\t50\n")
    (tmp_path / "words.txt").write_text("A\n")
    config = BeamConfig(alpha=50, beta=0, token_floor=-np.inf, score_range=np.inf)
    for decoder in (
        levels.decoder(config, tmp_path / "words.arpa"),
        levels.decoder(config, hotwords=tmp_path / "hot.txt"),
        levels.decoder(config, lexicon=tmp_path / "words.txt"),
    ):
        assert levels.transcribe(waveform, decoder).text == "A"


# Sources


def test_path_bytes_file_and_array_agree(real: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, 0.1 * speechlike(1.5), RATE)
    samples, _ = soundfile.read(path, dtype="float32")
    expected = real.transcribe(path)
    assert expected.words
    assert expected.duration == 1.5
    for source in (str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), samples):
        assert real.transcribe(source) == expected


def test_the_text_is_the_words(real: Recognizer) -> None:
    result = real.transcribe(speechlike(2))
    assert result.text == " ".join(word.word for word in result.words)
    assert " ".join(segment.text for segment in result.segments) == result.text
    assert all(0 <= word.start < word.end <= 2 + 0.01 and 0 < word.confidence <= 1 for word in result.words)


def test_one_recognizer_serves_many_recordings(real: Recognizer) -> None:
    first = real.transcribe(speechlike(1, seed=1))
    for seconds in (0.01, 3, 0.2):
        real.transcribe(speechlike(seconds))
    assert real.transcribe(speechlike(1, seed=1)) == first


@pytest.mark.parametrize("samples", [1, 2, 24])
def test_audio_too_short_for_a_frame_has_no_text(real: Recognizer, samples: int) -> None:
    assert real.config.frames(samples) == 0
    result = real.transcribe(np.ones(samples, np.float32))
    assert (result.text, result.segments, result.words) == ("", [], [])
    assert result.duration == samples / RATE
    assert real.logits(np.ones(samples, np.float32)).shape == (0, 12)


def test_the_shortest_audio_with_a_frame_has_one(real: Recognizer) -> None:
    assert real.logits(np.ones(real.config.receptive_field, np.float32)).shape == (1, 12)


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silence_gives_finite_logits(model: Artifact, level: float) -> None:
    normalizing = replace(model, preprocessor={"do_normalize": True, "sampling_rate": RATE})
    listener = Recognizer(normalizing, registry.create(normalizing, threads=1))
    logits = listener.logits(np.full(RATE, level, np.float32))
    assert np.isfinite(logits).all()
    listener.transcribe(np.full(RATE, level, np.float32))


def test_a_read_only_array_is_fine(real: Recognizer) -> None:
    waveform = speechlike(0.5)
    expected = real.logits(waveform)
    waveform.flags.writeable = False
    np.testing.assert_array_equal(real.logits(waveform), expected)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (np.zeros(0, np.float32), "empty array"),
        (np.array([0.0, np.nan] * 1000, np.float32), "NaN"),
        (np.array([0.0, np.inf] * 1000, np.float32), "infinite"),
        (np.zeros((2, 2, 1000), np.float32), "samples are"),
        (np.zeros(1000, np.complex64), "floating point"),
        (b"", "empty"),
        (b"RIFF but no audio", "is not readable audio"),
        ("missing.wav", "no such file"),
    ],
)
def test_what_is_no_audio_is_refused(real: Recognizer, source: object, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        real.transcribe(source)  # type: ignore[arg-type]
    if isinstance(source, np.ndarray):
        with pytest.raises(AudioError, match=message):
            real.logits(source)


# Loading


def test_a_checkpoint_of_transformers_is_loaded_and_says_the_same(tmp_path: Path) -> None:
    oracle = tiny("wav2vec2-large")
    directory = checkpoints.write(make("wav2vec2-large"), tmp_path / "model")
    waveform = 0.1 * speechlike(1.0)
    expected = oracle.logits(reading.normalize(waveform))
    for name in ("openvino", "onnxruntime"):
        loaded = littlefoot.load(str(directory), engine=name, threads=1)
        np.testing.assert_allclose(loaded.logits(waveform), expected, atol=1e-3)


def test_an_artifact_is_loaded_and_says_the_same(tmp_path: Path) -> None:
    waveform = speechlike(1.0)
    model = artifacts.talkative(artifacts.tiny(), waveform)
    real = Recognizer(model, registry.create(model, "openvino", threads=1))
    artifact_files.save(model, tmp_path / "model")
    loaded = littlefoot.load(str(tmp_path / "model"), threads=1)
    np.testing.assert_allclose(loaded.logits(waveform), real.logits(waveform), atol=1e-4)
    assert loaded.transcribe(waveform).text == real.transcribe(waveform).text


def test_a_parakeet_writes_what_its_processor_decodes(tmp_path: Path) -> None:
    """Pieces of words, from a checkpoint as transformers saves it, and from the artifact made of it."""
    count = len(checkpoints.PIECES)
    model = make("parakeet", vocab_size=count, pad_token_id=count - 1)
    model._forward_pre_hooks.clear()  # it gets spectrograms, as in transformers
    checkpoints.write_pieces(tmp_path)
    processor = transformers.AutoProcessor.from_pretrained(tmp_path)
    waveform = speechlike(15.0)
    inputs = processor(waveform, sampling_rate=16_000)
    with torch.no_grad():
        logits = model(**inputs).logits[0]
        model.ctc_head.weight /= logits.std(0)[:, None, None]  # or the same token would win everywhere
        model.ctc_head.bias.copy_((model.ctc_head.bias - logits.mean(0)) / logits.std(0))
        expected = processor.batch_decode(model.generate(**inputs), skip_special_tokens=True)[0]
    assert len(expected.split()) > 2
    model.save_pretrained(tmp_path)
    loaded = littlefoot.load(tmp_path, "openvino", precision="f32")
    assert loaded.transcribe(waveform).text == " ".join(expected.split())
    saved = artifact_files.save(checkpoint.load(tmp_path), tmp_path / "artifact")
    assert littlefoot.load(saved, "onnxruntime").transcribe(waveform).text == " ".join(expected.split())
    again = transformers.ParakeetForCTC.from_pretrained(saved).eval()
    processor = transformers.AutoProcessor.from_pretrained(saved)
    inputs = processor(waveform, sampling_rate=16_000)
    assert processor.batch_decode(again.generate(**inputs), skip_special_tokens=True)[0] == expected
