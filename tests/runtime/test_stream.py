"""A stream gives what the whole recording would get, however its samples are cut."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
import pytest
import torch
from families import speechlike
from hypothesis import given, settings
from hypothesis import strategies as st

from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode.beam import BeamConfig, BeamDecoder
from littlefoot.errors import AudioError, ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.families import FAMILIES
from littlefoot.runtime.frames import ChunkedFrames, Frames, WindowedFrames
from littlefoot.runtime.registry import create, create_stream
from littlefoot.runtime.stream import Stream
from littlefoot.training.module import CTCModel

STREAMING = {"chunk_frames": 6, "left_context_frames": 10}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "layer norms": ("wav2vec2-large", {}),
    "ahead": ("wav2vec2-large", {"right_context_frames": 3}),
    "affine": ("wav2vec2-base", {"feat_extract_norm": "affine", "right_context_frames": 2}),
    "adapters": ("mms", {"waveform_gain": 7.0}),
    "pruned": ("pruned", {"right_context_frames": 4}),
    "log-mel": ("log-mel", {"right_context_frames": 1}),
    "strides": ("wav2vec2-adapters", {"chunk_frames": 8, "right_context_frames": 3}),
    "odd left context": ("wav2vec2-adapters", {"chunk_frames": 4, "left_context_frames": 7}),
    "squeezed": ("sew", {}),
    "squeezed, ahead": ("sew-projected", {"feat_extract_norm": "affine", "right_context_frames": 3}),
    "squeezed, short": ("sew", {"chunk_frames": 2, "left_context_frames": 2, "right_context_frames": 2}),
}


def streaming(kind: str, **changes: Any) -> Artifact:
    """A tiny random streaming model."""
    variant, settings = KINDS[kind]
    config = oracle.tiny(variant).artifact.config.replace(**{**STREAMING, **settings, **changes})
    vocabulary = Vocabulary(tuple(f"t{i}" for i in range(config.vocab_size)), config.pad_token_id)
    model = CTCModel.from_config(config, vocabulary, do_normalize=False, seed=4)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.mul_(3.0)  # so that attention has an opinion
            elif name.endswith("layer_norm.bias"):
                parameter.normal_(0, 0.2, generator=torch.Generator().manual_seed(len(name)))
    return model.to_artifact()


@pytest.fixture(scope="module", params=KINDS)
def artifact(request: pytest.FixtureRequest) -> Artifact:
    return streaming(request.param)


def fed(frames: Frames, waveform: np.ndarray, cuts: list[int]) -> np.ndarray:
    """Logits of a waveform that comes in pieces."""
    pieces = [frames.feed(piece) for piece in np.split(waveform, sorted(cuts))]
    return np.concatenate([*pieces, frames.finish()])


def whole(artifact: Artifact, waveform: np.ndarray) -> np.ndarray:
    with torch.no_grad():
        return (
            CTCModel.from_artifact(artifact).eval().encode(torch.from_numpy(waveform)[None]).logits[0].numpy()
        )


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_chunks_are_what_the_whole_recording_gets(artifact: Artifact, engine: str) -> None:
    stepper = create_stream(artifact, engine, precision="f32")
    waveform = speechlike(1.3)
    expected = whole(artifact, waveform)
    assert len(expected) > 4 * artifact.config.chunk_frames
    np.testing.assert_allclose(create(artifact, engine, precision="f32").run(waveform), expected, atol=1e-4)
    for cuts in ([], [1, 2, 3], [7777], list(range(0, len(waveform), 160))):
        found = fed(ChunkedFrames(artifact.config, stepper), waveform, cuts)
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_any_length_ends_well(artifact: Artifact) -> None:
    stepper = create_stream(artifact, "openvino", precision="f32")
    config = artifact.config
    for frames in [*range(20), 37]:
        samples = max(0, (frames - 1) * config.feature_stride + config.receptive_field + 3) if frames else 5
        waveform = speechlike(1.3)[:samples]
        found = fed(ChunkedFrames(config, stepper), waveform, [samples // 2])
        assert config.feature_frames(samples) == frames
        assert len(found) == config.frames(samples)
        if len(found):
            np.testing.assert_allclose(found, whole(artifact, waveform), atol=1e-4)


AHEAD = streaming("ahead")
WAVEFORM = speechlike(1.0)


@pytest.fixture(scope="module")
def shared() -> tuple[Any, np.ndarray]:
    return create_stream(AHEAD, "openvino", precision="f32"), whole(AHEAD, WAVEFORM)


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.integers(0, len(WAVEFORM)), max_size=40))
def test_samples_may_be_cut_anywhere(shared: tuple[Any, np.ndarray], cuts: list[int]) -> None:
    stepper, expected = shared
    np.testing.assert_allclose(fed(ChunkedFrames(AHEAD.config, stepper), WAVEFORM, cuts), expected, atol=1e-4)


def test_latency_is_what_a_change_of_future_samples_shows(artifact: Artifact) -> None:
    config = artifact.config
    waveform = speechlike(1.0)
    before = whole(artifact, waveform)
    changed_at = np.arange(len(waveform) // 3, 2 * len(waveform) // 3, max(1, config.stride // 4))
    longest = 0
    for at in changed_at:
        other = waveform.copy()
        other[at] += 3.0
        first = int(np.flatnonzero(np.abs(whole(artifact, other) - before).max(1) > 1e-6)[0])
        longest = max(longest, at - first * config.stride)
    assert longest < config.algorithmic_latency <= longest + config.stride


def test_streams_share_an_engine(artifact: Artifact) -> None:
    stepper = create_stream(artifact, "openvino", precision="f32")
    waveforms = [speechlike(0.8, seed) for seed in range(3)]
    streams = [ChunkedFrames(artifact.config, stepper) for _ in waveforms]
    found: list[list[np.ndarray]] = [[] for _ in waveforms]
    for start in range(0, len(waveforms[0]), 1000):
        for stream, waveform, parts in zip(streams, waveforms, found, strict=True):
            parts.append(stream.feed(waveform[start : start + 1000]))
    for stream, waveform, parts in zip(streams, waveforms, found, strict=True):
        np.testing.assert_allclose(
            np.concatenate([*parts, stream.finish()]), whole(artifact, waveform), atol=1e-4
        )


def test_state_does_not_grow() -> None:
    frames = ChunkedFrames(AHEAD.config, create_stream(AHEAD, "openvino", precision="f32"))
    sizes = []
    for seed in range(6):
        frames.feed(speechlike(1.0, seed))
        sizes.append(sum(part.nbytes for part in frames.state) + (len(frames.held) < 8000))
    assert len(set(sizes[1:])) == 1


# Text


class Script:
    """Frames that say what a test wants: token indices, one for each sample fed."""

    latency_seconds = 0.1

    def feed(self, samples: np.ndarray) -> np.ndarray:
        return np.eye(5, dtype=np.float32)[samples.astype(int)] * 20

    def finish(self) -> np.ndarray:
        return np.zeros((0, 5), np.float32)


VOCABULARY = Vocabulary(("<pad>", "|", "A", "B", "C"), 0)
A, B, C, GAP, BLANK = 2.0, 3.0, 4.0, 1.0, 0.0


def spoken(*tokens: float) -> np.ndarray:
    return np.array(tokens, np.float32)


SEARCH = BeamDecoder(VOCABULARY, 0.1, BeamConfig(beam=4))
DECODERS = pytest.mark.parametrize("decoder", [None, SEARCH], ids=["greedy", "beam"])


@DECODERS
def test_a_pause_ends_a_segment(decoder: BeamDecoder | None) -> None:
    stream = Stream(Script(), VOCABULARY, 0.1, decoder)
    assert stream.feed(spoken(BLANK, A, B)) == ("AB", [])
    assert stream.feed(spoken(BLANK, GAP, C)) == ("AB C", [])
    assert stream.feed(spoken(*[BLANK] * 6)) == ("AB C", [])
    text, final = stream.feed(spoken(*[BLANK] * 8))
    assert (text, [segment.text for segment in final]) == ("", ["AB C"])
    assert final[0].start == pytest.approx(0.1)
    assert final[0].end == pytest.approx(0.68)  # C and what is left of a word after it
    stream.feed(spoken(*[BLANK] * 30))
    assert stream.feed(spoken(B)).text == "B"
    text, final = stream.finish()
    assert [segment.text for segment in final] == ["B"]
    assert final[0].start == pytest.approx(5.0)


@DECODERS
def test_one_feed_may_hold_many_segments(decoder: BeamDecoder | None) -> None:
    stream = Stream(Script(), VOCABULARY, 0.1, decoder)
    line = spoken(A, *[BLANK] * 20, B, *[BLANK] * 20, C)
    text, final = stream.feed(line)
    assert (text, [segment.text for segment in final]) == ("C", ["A", "B"])


@DECODERS
def test_endless_speech_is_cut_at_a_word(decoder: BeamDecoder | None) -> None:
    stream = Stream(Script(), VOCABULARY, 0.1, decoder)
    texts = []
    for _ in range(200):
        partial = stream.feed(spoken(A, B, C, GAP))
        texts += [segment.text for segment in partial.final]
        assert len(partial.text.split()) <= 310 // 4  # frames of a word
    texts += [segment.text for segment in stream.finish().final]
    assert " ".join(texts) == " ".join(["ABC"] * 200)


def test_hot_words_are_heard_live() -> None:
    hot = BeamDecoder(VOCABULARY, 0.1, BeamConfig(beam=4), hotwords={"AC": 3.0})
    for decoder, expected in ((SEARCH, "AB"), (hot, "AC")):
        script = Script().feed(spoken(A, B, BLANK))
        script[1, 4] = script[1, 3] - 1.0  # C is nearly as likely as B
        stream = Stream(Told(script), VOCABULARY, 0.1, decoder)
        assert stream.feed(spoken(A)).text == expected
        assert [segment.text for segment in stream.finish().final] == [expected]


class Told(Script):
    """One answer to what is fed first."""

    def __init__(self, logits: np.ndarray) -> None:
        self.logits = logits

    def feed(self, samples: np.ndarray) -> np.ndarray:
        return self.logits


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 3), np.float32), r"shape \(2, 3\): a stream takes one channel"),
        (np.zeros(3, np.int64), "type int64"),
        (np.array([0.0, np.nan]), "NaN, infinite or absurdly large"),
        (np.array([0.0, 2.0**32]), "NaN, infinite or absurdly large"),
        ("speech", "shape"),
    ],
)
def test_bad_samples_are_refused_and_the_stream_goes_on(samples: Any, message: str) -> None:
    stream = Stream(Script(), VOCABULARY, 0.1)
    stream.feed(spoken(A))
    with pytest.raises(AudioError, match=message):
        stream.feed(samples)
    assert stream.feed(spoken(B)).text == "AB"
    stream.finish()
    for call in (lambda: stream.feed(spoken(A)), stream.finish):
        with pytest.raises(AudioError, match="is finished"):
            call()


def test_windows_of_other_models_join_without_a_gap() -> None:
    artifact = oracle.tiny("wav2vec2-base").artifact
    engine = create(artifact, "openvino", precision="f32")
    waveform = speechlike(9.5)
    frames = WindowedFrames(artifact.config, engine, True)
    found = fed(frames, waveform, list(range(0, len(waveform), 4000)))
    assert len(found) == artifact.config.frames(len(waveform))
    assert len(frames.held) < 9 * 16_000


SEW = {"squeeze_factor": 2, "do_stable_layer_norm": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk_frames": -1}, "chunk_frames must be at least 0, not -1"),
        ({"left_context_frames": 3, "chunk_frames": 0}, "need chunk_frames"),
        ({"left_context_frames": 0}, "needs left_context_frames"),
        ({"right_context_frames": 500}, "must be less than the positional"),
        ({"add_adapter": True, "chunk_frames": 12}, "chunk_frames 12 must be a multiple of 8"),
        ({"model_type": "sew", **SEW, "chunk_frames": 7}, "chunk_frames 7 must be a multiple of 2"),
        ({"model_type": "sew", **SEW, "left_context_frames": 9}, "multiple of squeeze_factor 2"),
        ({"model_type": "sew", **SEW, "right_context_frames": 15}, "kernel, 16, by squeeze_factor at least"),
        ({"feat_extract_norm": "group"}, "set feat_extract_norm to affine"),
        *(
            ({"model_type": name, **family.always}, f"a {name} model cannot stream")
            for name, family in FAMILIES.items()
            if family.cannot_stream and name != "parakeet_ctc"  # its front end has other layers
        ),
    ],
)
def test_impossible_streaming_models_are_refused(changes: dict[str, Any], message: str) -> None:
    values = {**AHEAD.config.to_dict(), "right_context_frames": 0, **changes}
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_dict(values)


def test_a_parakeet_is_refused() -> None:
    config = oracle.tiny("parakeet").artifact.config
    with pytest.raises(ConfigError, match="a parakeet_ctc model cannot stream"):
        config.replace(chunk_frames=4, left_context_frames=20)
