"""Models that heard whole recordings learn to hear them as they come."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from conftest import Run
from families import NEAREST, NORM_ORDERS, RELATIVE, STACKED, speechlike
from tones import QUIET

from littlefoot import artifact
from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest, reading
from littlefoot.compress.methods import StepContext
from littlefoot.compress.streaming import StreamingConfig, convert, looking_back, stream
from littlefoot.compress.teacher import normalized
from littlefoot.decode.beam import BeamConfig
from littlefoot.errors import ConfigError
from littlefoot.runtime import recognizer
from littlefoot.training.module import CTCModel
from littlefoot.training.train_config import TrainConfig


def of_family(family: str) -> CTCModel:
    config = oracle.tiny(family).artifact.config
    vocabulary = Vocabulary(tuple(f"t{i}" for i in range(config.vocab_size)), config.pad_token_id)
    return CTCModel.from_config(config, vocabulary, seed=2).eval()


def test_a_batch_is_normalized_as_single_recordings_are() -> None:
    waveforms = [3 + 0.2 * speechlike(0.5), speechlike(0.3)]
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    batch = torch.zeros(2, 9000)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    found = normalized(batch, lengths)
    for row, waveform in zip(found, waveforms, strict=True):
        np.testing.assert_allclose(row[: len(waveform)].numpy(), reading.normalize(waveform), atol=1e-4)
        assert not row[len(waveform) :].any()


def test_the_positional_kernel_keeps_what_it_may_still_see() -> None:
    kernel = torch.arange(1.0, 9.0)[None, None]  # frames -4 ... 3 before
    assert looking_back(kernel, 4, 7)[0, 0].tolist() == [0, 0, 0, 1, 2, 3, 4, 5]
    assert looking_back(kernel, 4, 4)[0, 0].tolist() == list(range(1, 9))
    assert looking_back(kernel, 7, 5)[0, 0].tolist() == [3, 4, 5, 6, 7, 8, 0, 0]


STRIDED = ("sew", "wav2vec2-adapters")
"""Blocks, or logits, with fewer frames than the front end."""


@pytest.mark.parametrize("family", [*NORM_ORDERS, NEAREST, *STRIDED])
def test_a_converted_model_with_one_long_chunk_says_what_it_said(family: str, tones: Path) -> None:
    """But for what the positional convolution no longer sees, which is nothing here."""
    model = of_family(family)
    kernel = model.config.num_conv_pos_embeddings
    with torch.no_grad():  # a kernel that looks back only
        model.get_parameter("encoder.pos_conv_embed.conv.weight")[:, :, kernel // 2 + 1 :] = 0
    config = StreamingConfig(chunk_frames=10_000, left_context_frames=2)
    corpus = manifest.index(tones)
    made = convert(model, config, corpus).eval()
    assert made.preprocessor["do_normalize"] is False
    assert (
        made.config.feat_extract_norm == {"group": "affine", "layer": "layer"}[model.config.feat_extract_norm]
    )
    clip = reading.read(next(iter(corpus.of_split("train"))).path)
    with torch.no_grad():
        theirs = model.encode(torch.from_numpy(reading.normalize(clip))[None]).logits
        mine = made.encode(torch.from_numpy(clip)[None]).logits
    spread = float(theirs.std())
    assert float((mine - theirs).abs().mean()) < 0.1 * spread
    twice = convert(made, config, corpus)
    assert twice.config == made.config


def test_families_that_cannot_stream_are_refused(tones: Path) -> None:
    corpus = manifest.index(tones)
    for family in (RELATIVE, STACKED):
        with pytest.raises(ConfigError, match="model cannot stream"):
            convert(of_family(family), StreamingConfig(), corpus)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk_frames": 0}, "chunk_frames must be greater than 0"),
        ({"other_chunks": (4, -1)}, r"other_chunks\[1\] must be at least 0, not -1"),
        ({"teacher": "mine"}, "teacher must be previous or first"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        StreamingConfig(**settings)


def test_a_model_learns_to_stream(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    train = TrainConfig(**{**QUIET, "steps": 200, "ema_decay": 0.9})
    config = StreamingConfig(4, left_context_frames=20, other_chunks=(2, 0), train=train)
    made = stream(teacher, config, StepContext(teacher, manifest.index(tones), tmp_path, False, print))
    assert made.config.littlefoot.training.method == "streaming distillation"
    assert made.config.littlefoot.training.dev.cer["tones"] < 0.4
    assert made.config.littlefoot.streaming.to_dict() == {"trained_chunk_frames": [2, 4]}
    saved = artifact.save(made, tmp_path / "live")
    loaded = recognizer.load(saved, precision="f32")
    assert loaded.streams
    row = next(iter(manifest.index(tones).of_split("train")))
    waveform = reading.read(row.path)
    live = loaded.stream()
    assert live.latency_seconds == pytest.approx((3 * 320 + 20 + 7 * 10 + 3 * 80) / 16_000)
    pieces = [live.feed(piece) for piece in np.array_split(waveform, 13)]
    final = [segment.text for partial in [*pieces, live.finish()] for segment in partial.final]
    assert " ".join(final) == loaded.transcribe(waveform).text
    assert any(partial.text for partial in pieces[:-3])


@pytest.mark.parametrize("family", STRIDED)
def test_a_model_with_strides_is_trained_to_stream(family: str, tones: Path, tmp_path: Path) -> None:
    model = of_family(family)
    config = StreamingConfig(
        8, left_context_frames=20, other_chunks=(16, 0), train=TrainConfig(**{**QUIET, "steps": 3})
    )
    whole = model.to_artifact()
    made = stream(whole, config, StepContext(whole, manifest.index(tones), tmp_path, False, print))
    assert made.config.littlefoot.streaming.to_dict() == {"trained_chunk_frames": [8, 16]}
    loaded = recognizer.load(artifact.save(made, tmp_path / "live"), precision="f32")
    waveform = reading.read(next(iter(manifest.index(tones).of_split("train"))).path)
    for chunk in (8, 16):
        live = loaded.stream(chunk)
        assert live.latency_seconds == pytest.approx(
            ((chunk - 1) * 40 + loaded.config.receptive_field) / 16_000
        )
        final = [s.text for piece in np.array_split(waveform, 7) for s in live.feed(piece).final]
        final += [s.text for s in live.finish().final]
        if chunk == 8:  # chunks that transcribe computes too
            assert " ".join(final) == loaded.transcribe(waveform).text
    with pytest.raises(ConfigError, match="chunk_frames 9 must be a multiple of"):
        loaded.stream(9)


# The command


@pytest.fixture(scope="module")
def live(teacher: Artifact, tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A streaming model, converted but not trained for it."""
    made = convert(CTCModel.from_artifact(teacher), StreamingConfig(4, 20), manifest.index(tones))
    return artifact.save(made.to_artifact(), tmp_path_factory.mktemp("live") / "model")


def test_a_file_and_its_samples_on_standard_input_give_the_same_lines(
    live: Path, tones: Path, run: Run
) -> None:
    recording = next(iter(manifest.index(tones).of_split("train"))).path
    expected = recognizer.load(live).transcribe(str(recording)).text
    assert expected
    done = run("transcribe", live, recording, "--stream")
    assert (done.code, done.out) == (0, f"{expected}\n")
    as_json = run("transcribe", live, recording, "--stream", "--format", "json")
    assert json.loads(as_json.out)["text"] == expected
    searched = run("transcribe", live, recording, "--stream", "--beam", "8")
    loaded = recognizer.load(live)
    best = loaded.transcribe(str(recording), loaded.decoder(BeamConfig(8))).text
    assert (searched.code, searched.out) == (0, f"{best}\n")
    samples = np.rint(reading.read(recording) * 32768).astype("<i2").tobytes()
    piped = piped_into(live, samples)
    assert (piped.returncode, piped.stdout.decode()) == (0, f"{expected}\n")
    rubbish = piped_into(live, recording.read_bytes())
    assert rubbish.returncode == 1
    assert b"not raw PCM: convert it" in rubbish.stderr


class CtrlC:
    """What a microphone's last block is here: fed to a stream, it is Ctrl-C."""

    def __getitem__(self, place: object) -> CtrlC:
        return self

    def copy(self) -> CtrlC:
        return self

    def __array__(self, *_: object, **__: object) -> np.ndarray:
        raise KeyboardInterrupt


def sound_card(samples: np.ndarray) -> SimpleNamespace:
    """A stand-in for sounddevice, which hears ``samples`` (N,)."""

    class PortAudioError(Exception):
        pass

    @contextmanager
    def input_stream(
        samplerate: int, blocksize: int, channels: int, dtype: str, callback: Callable[..., None]
    ) -> Iterator[None]:
        if not len(samples):
            raise PortAudioError("no such device")
        assert (samplerate, channels, dtype) == (16_000, 1, "float32")
        reused = np.zeros((blocksize, 1), np.float32)  # as a sound card's memory is
        for start in range(0, len(samples), blocksize):
            block = samples[start : start + blocksize, None]
            reused[: len(block)] = block
            callback(reused[: len(block)], len(block), None, None)
        callback(CtrlC(), 0, None, None)
        yield

    return SimpleNamespace(InputStream=input_stream, PortAudioError=PortAudioError)


def test_a_microphone(live: Path, tones: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    recording = next(iter(manifest.index(tones).of_split("train"))).path
    expected = recognizer.load(live).transcribe(str(recording)).text
    monkeypatch.setitem(sys.modules, "sounddevice", sound_card(reading.read(recording)))
    heard = run("transcribe", live, "mic", "--stream")
    assert (heard.code, heard.out) == (0, f"{expected}\n")
    assert "listening; Ctrl-C ends" in heard.err
    monkeypatch.setitem(sys.modules, "sounddevice", sound_card(np.zeros(0, np.float32)))
    deaf = run("transcribe", live, "mic", "--stream")
    assert deaf.code == 1
    assert "the microphone cannot be opened: no such device" in deaf.err
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    missing = run("transcribe", live, "mic", "--stream")
    assert missing.code != 0
    assert "littlefoot[mic]" in missing.err


def piped_into(model: Path, data: bytes) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "littlefoot", "transcribe", str(model), "-", "--stream"]
    return subprocess.run(command, input=data, capture_output=True, check=False)


def test_other_chunks_than_it_was_trained_with_are_warned_of(
    live: Path, caplog: pytest.LogCaptureFixture
) -> None:
    loaded = recognizer.load(live)
    assert loaded.stream(8).latency_seconds > loaded.stream(4).latency_seconds
    assert "chunks of 8 frames: the model was trained with 4 (80 ms)" in caplog.text
    assert len(caplog.records) == 1
    with pytest.raises(ConfigError, match="at least 1"):
        loaded.stream(0)


def test_what_cannot_be_streamed_is_refused(live: Path, tones: Path, run: Run) -> None:
    recording = next(iter(manifest.index(tones))).path
    for options in (["--format", "srt"], ["--output-dir", "out"], [str(recording)]):
        refused = run("transcribe", live, recording, "--stream", *options)
        assert refused.code == 2
        assert "--stream takes one recording" in refused.err
    refused = run("transcribe", live, recording, "--stream", "--format", "json", "--alternatives", "2")
    assert refused.code == 2
    assert "--stream has no place for --alternatives" in refused.err
    assert run("transcribe", live, recording, "--chunk-ms", "100").code == 2
    refused = run("transcribe", live, recording, "--stream", "--chunk-ms", "0")
    assert refused.code == 2
    assert "must be greater than 0" in refused.err
    assert run("transcribe", live, recording.with_name("missing.wav"), "--stream").code == 1


def test_info_knows_the_latency(live: Path, run: Run) -> None:
    shown = json.loads(run("info", live, "--json").out)
    assert shown["algorithmic_latency_ms"] == pytest.approx((3 * 320 + 20 + 7 * 10 + 3 * 80) / 16)
