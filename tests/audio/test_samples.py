"""The Python door: samples in every usual form, lists of recordings, recognisers closed and pickled."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from oracle import tiny
from test_audio import speechlike

import littlefoot
from littlefoot import artifact
from littlefoot.audio.samples import is_several, recording
from littlefoot.errors import AudioError, ConfigError, EngineError
from littlefoot.runtime.recognizer import Recognizer

SOUND = speechlike(1.5)
SHORTS = (SOUND * 32767).astype(np.int16)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifact.save(tiny("wav2vec2-base").artifact, tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def recognizer(directory: Path) -> Iterator[Recognizer]:
    with littlefoot.load(str(directory), threads=1, parallel=2) as loaded:
        yield loaded


SAME: dict[str, Any] = {
    "float64": SOUND.astype(np.float64),
    "float16": SOUND.astype(np.float16),
    "int16": SHORTS,
    "int32": SHORTS.astype(np.int32) << 16,
    "uint8": ((SHORTS >> 8) + 128).astype(np.uint8),
    "list": SOUND.tolist(),
    "list of integers": SHORTS.tolist(),
    "tensor": torch.from_numpy(SOUND).requires_grad_(),
    "stereo": np.stack([SOUND, SOUND]),
    "stereo, time first": np.stack([SOUND, SOUND], axis=1),
    "one channel": SOUND[None],
    "out of phase": np.stack([SOUND, -SOUND]),
    "datasets": {"path": "a.wav", "array": SOUND, "sampling_rate": 16000},
    "torchcodec": SimpleNamespace(
        get_all_samples=lambda: SimpleNamespace(data=torch.from_numpy(SOUND)[None], sample_rate=16000)
    ),
}


@pytest.mark.parametrize("kind", SAME)
def test_samples_are_taken_in_every_usual_form(kind: str) -> None:
    found: NDArray[np.float32] = recording(SAME[kind])  # type: ignore[assignment]
    assert found.dtype == np.float32
    tolerance = {"uint8": 0.02, "float16": 1e-3}.get(kind, 1e-4)
    np.testing.assert_allclose(found, SOUND, atol=tolerance)


@pytest.mark.parametrize(("rate", "given"), [(8000, None), (48000, None), (44100, 44100)])
def test_any_rate_becomes_16_khz(rate: int, given: int | None) -> None:
    samples = speechlike(1.5, rate)
    if given is None:
        found = recording({"array": samples, "sampling_rate": rate})
    else:
        found = recording(samples, given)
    assert len(found) == pytest.approx(len(SOUND), abs=2)  # type: ignore[arg-type]


def test_files_in_rows_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, SOUND, 16000)
    assert recording({"path": str(path), "bytes": None}) == str(path)
    assert recording({"path": None, "bytes": path.read_bytes()}) == path.read_bytes()
    assert recording(path) == path


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.zeros((20, 30)), "at most 16 channels"),
        (np.zeros((2, 2, 100)), r"shape \(2, 2, 100\)"),
        (np.zeros(9, np.complex64), "of complex64 was given"),
        (np.zeros(9, np.bool_), "of bool was given"),
        ([10**6, 5], "of int64 was given"),
        ([[0.0], [0.0, 1.0]], "make no array"),
        ({"text": "HELLO"}, r"a dictionary of text was given: it needs 'array'"),
        (None, "a NoneType of object was given"),
    ],
)
def test_other_things_are_refused(given: Any, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        recording(given)


def test_impossible_rates_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rate of 0 Hz is impossible"):
        recording(SOUND, 0)
    with pytest.raises(ConfigError, match=r"a\.wav: contains its own sampling rate"):
        recording("a.wav", 8000)


def test_a_list_is_several_recordings_unless_it_holds_numbers() -> None:
    for several in (["a.wav"], [SOUND], ({"array": SOUND},), [], [b"RIFF"], [[0.1, 0.2]]):
        assert is_several(several)
    for one in ([0.1], [1, 2], SOUND, "a.wav", b"RIFF", {"array": SOUND}, [np.float32(1)]):
        assert not is_several(one)


# Recognisers


def test_a_list_of_recordings_gives_what_each_gives(recognizer: Recognizer, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, SOUND, 16000, subtype="FLOAT")
    sources = [SOUND[:9000], path, {"array": SOUND, "sampling_rate": 16000}, SHORTS, SOUND[:12000]]
    found = recognizer.transcribe(sources)
    assert [each.duration for each in found] == pytest.approx([9000 / 16000, 1.5, 1.5, 1.5, 0.75])
    assert found[:2] == [recognizer.transcribe(SOUND[:9000]), recognizer.transcribe(str(path))]
    assert found[1] == found[2]
    assert recognizer.transcribe([]) == []


def test_a_rate_changes_what_is_heard(recognizer: Recognizer) -> None:
    assert recognizer.transcribe(SOUND, sampling_rate=8000).duration == pytest.approx(3.0)
    assert len(recognizer.logits(SOUND, 8000)) > 1.9 * len(recognizer.logits(SOUND))
    np.testing.assert_array_equal(recognizer.logits(SOUND.tolist()), recognizer.logits(SOUND))


def test_a_pickled_recogniser_is_loaded_again(recognizer: Recognizer) -> None:
    again = pickle.loads(pickle.dumps(recognizer))
    assert again.specification == recognizer.specification
    assert again.transcribe(SOUND) == recognizer.transcribe(SOUND)
    with pytest.raises(pickle.PicklingError, match=r"only a recogniser that littlefoot\.load made"):
        pickle.dumps(Recognizer(tiny("wav2vec2-base").artifact, recognizer.engine))


def test_a_recogniser_says_what_it_is(recognizer: Recognizer, directory: Path) -> None:
    assert repr(recognizer) == f"<Recognizer {directory}: 0.0 million parameters, openvino>"


def test_a_closed_recogniser_says_so(directory: Path) -> None:
    with littlefoot.load(str(directory), threads=1) as loaded:
        loaded.transcribe(SOUND)
    with pytest.raises(EngineError, match="the recogniser is closed"):
        loaded.transcribe(SOUND)


@pytest.mark.parametrize("setting", [{"threads": 0}, {"threads": -1}, {"parallel": 0}])
def test_impossible_counts_are_refused(setting: dict[str, int], directory: Path) -> None:
    with pytest.raises(ConfigError, match="must be at least 1, not"):
        littlefoot.load(str(directory), **setting)  # type: ignore[arg-type]
