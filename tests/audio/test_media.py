"""MPEG-4, Matroska and AAC through PyAV: the same sound, at the right time, in bounded memory, or refused."""

import io
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_audio import Pipe, speechlike

import littlefoot
from littlefoot.audio import decoding, isolation, reading
from littlefoot.errors import AudioError

av = pytest.importorskip("av", reason="PyAV (extra media) is not installed")

KINDS = {  # name -> FFmpeg's muxer, encoder, sampling rate
    "m4a": ("ipod", "aac", 44100),
    "mp4": ("mp4", "aac", 16000),
    "mov": ("mov", "pcm_s16le", 22050),
    "webm": ("webm", "libopus", 48000),
    "mkv": ("matroska", "flac", 16000),
    "aac": ("adts", "aac", 32000),
}


def encode(
    samples: NDArray[np.float32], kind: str, picture: bool = False, start: float = 0.0, **options: str
) -> bytes:
    """A file of ``samples`` at 16 kHz, whose sound begins after ``start`` seconds."""
    muxer, encoder, rate = KINDS[kind]
    file = io.BytesIO()
    if options.get("live"):  # a muxer that cannot seek leaves lengths open
        file = Pipe()
    with av.open(file, "w", format=muxer, options=options) as container:
        video = container.add_stream("mpeg4", rate=10) if picture else None
        sound = container.add_stream(encoder, rate=rate, layout="mono") if len(samples) else None
        if video is not None:
            video.width = video.height = 16
            video.pix_fmt = "yuv420p"
            for index in range(20):
                frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
                frame.pts = index
                container.mux(video.encode(frame))
            container.mux(video.encode())
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(samples[None], format="flt", layout="mono")
            frame.sample_rate = 16000
            frame.pts = round(start * 16000)
            resampler = av.AudioResampler(sound.format, "mono", rate, sound.frame_size or 1024)
            for part in [*resampler.resample(frame), *resampler.resample(None)]:
                container.mux(sound.encode(part))
            container.mux(sound.encode())
    return file.getvalue()


SAMPLES = speechlike(2.0)
WHOLE = {kind: encode(SAMPLES, kind) for kind in KINDS}


def similarity(got: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    length = min(len(got), len(expected))
    return float(np.corrcoef(got[:length], expected[:length])[0, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_sound_whatever_its_name(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "misnamed.wav"
    path.write_bytes(WHOLE[kind])
    got = reading.read(path)
    assert got.dtype == np.float32
    # An AAC stream alone does not say what the encoder put before and after.
    delay = 1024 * 16000 // KINDS[kind][2] if kind == "aac" else 0
    assert len(SAMPLES) <= len(got) + 20 <= len(SAMPLES) + 4096
    assert similarity(got[delay:], SAMPLES) > 0.98
    assert reading.duration(path) == pytest.approx(2, abs=0.15)
    assert reading.duration(path, exact=False) == pytest.approx(2, abs=0.15)
    assert np.array_equal(reading.read(WHOLE[kind]), got)
    with reading.standard_input(Pipe(WHOLE[kind])) as source:
        assert np.array_equal(reading.read(source), got)


def test_a_live_recording_has_open_lengths() -> None:
    live = encode(SAMPLES, "webm", live="1")
    assert similarity(reading.read(live), SAMPLES) > 0.98
    with pytest.raises(AudioError, match="truncated"):
        reading.read(live[:-5])


def test_sound_that_begins_after_the_picture_keeps_its_time() -> None:
    got = reading.read(encode(SAMPLES, "mp4", picture=True, start=1.5))
    assert not np.abs(got[: round(1.4 * 16000)]).max() > 1e-3
    assert similarity(got[round(1.5 * 16000) :], SAMPLES) > 0.98


def with_a_gap(seconds: float) -> bytes:
    """Half of SAMPLES, and the other half so many seconds later by its time stamps."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for half, start in ((SAMPLES[:16000], 0), (SAMPLES[16000:], 16000 + round(seconds * 16000))):
            frame = av.AudioFrame.from_ndarray((half * 32767).astype(np.int16)[None], "s16", "mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def test_a_pause_in_the_time_stamps_is_silence_but_not_without_end() -> None:
    got = reading.read(with_a_gap(100.0))
    assert len(got) == pytest.approx(102 * 16000, abs=16)
    assert not got[17000 : 100 * 16000].any()
    assert similarity(got[-16000:], SAMPLES[16000:]) > 0.98
    with pytest.raises(AudioError, match=r"its time stamps make 3700 s of silence around 1 s of sound"):
        reading.read(with_a_gap(3700.0))


def test_channels_are_averaged() -> None:
    file = io.BytesIO()
    left, right = speechlike(1.0), -0.5 * speechlike(1.0)
    with av.open(file, "w", format="mov") as container:
        stream = container.add_stream("pcm_s16le", rate=16000, layout="stereo")
        both = (np.stack([left, right], axis=1) * 32767).astype(np.int16).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate = 16000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert np.abs(reading.read(file.getvalue()) - (left + right) / 2).max() < 1e-3


@pytest.mark.parametrize("layout", ["5.1", "7.1"])
@pytest.mark.parametrize(("muxer", "encoder"), [("mp4", "aac"), ("mov", "pcm_s16le")])
def test_many_channels_are_averaged_whichever_way_they_are_stored(
    layout: str, muxer: str, encoder: str
) -> None:
    """PyAV's own conversion of eight planes reads memory that is not theirs."""
    got = read_here(many_channels(muxer, encoder, layout))
    count = {"5.1": 6, "7.1": 8}[layout]
    assert similarity(got[: len(SAMPLES)], SAMPLES / count) > 0.98
    assert np.std(got[:16000]) == pytest.approx(np.std(SAMPLES[:16000]) / count, rel=0.1)


def many_channels(muxer: str, encoder: str, layout: str) -> bytes:
    """A file with the sound of SAMPLES in its centre, and silence in its other channels."""
    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        sound = container.add_stream(encoder, rate=16000, layout=layout)
        frame = av.AudioFrame.from_ndarray(SAMPLES[None], format="flt", layout="mono")
        frame.sample_rate, frame.pts = 16000, 0
        resampler = av.AudioResampler(sound.format, layout, 16000, sound.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(sound.encode(part))
        container.mux(sound.encode())
    return file.getvalue()


def read_here(data: bytes) -> NDArray[np.float32]:
    """Decode in this process, which dies if the decoder does."""
    with decoding.opened(io.BytesIO(data), "the file") as recording:
        return np.concatenate(list(recording.pieces))


def test_half_an_hour_is_read_in_bounded_memory(tmp_path: Path) -> None:
    import psutil

    path = tmp_path / "long.mkv"
    path.write_bytes(encode(np.tile(speechlike(10.0), 180), "mkv"))
    process = psutil.Process()
    list(reading.blocks(WHOLE["mkv"]))
    before = process.memory_info().rss
    peak = seconds = 0.0
    for block in reading.blocks(path, 20.0):
        seconds += len(block) / 16000
        peak = max(peak, process.memory_info().rss - before)
    assert seconds == pytest.approx(1800, abs=0.1)
    assert peak < 40e6  # the samples would be 115 MB


# What is refused


@pytest.mark.skipif(not isolation.AVAILABLE, reason="recordings are decoded in this process")
def test_without_pyav_the_decoding_process_says_it_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['av'] = None")
    (tmp_path / "film.mp4").write_bytes(WHOLE["mp4"])
    paths = os.pathsep.join([str(tmp_path), str(Path(littlefoot.__file__).parents[1])])
    code = f"from littlefoot.audio import reading; reading.read({str(tmp_path / 'film.mp4')!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": paths}, capture_output=True, text=True
    )
    assert re.search(r"AudioError: .*film.mp4: MPEG-4 .* needs the package 'av': .*\[media\]", done.stderr)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused(kind: str, data: st.DataObject) -> None:
    whole = WHOLE[kind]
    cut = data.draw(st.integers(0, len(whole) - 1))
    if kind == "aac":
        cut = min(cut, len(whole) - 1)
        if ends_between_frames(whole, cut):
            return
    with pytest.raises(AudioError):
        reading.read(whole[:cut])


def ends_between_frames(data: bytes, cut: int) -> bool:
    position = 0
    while position < cut:
        position += (data[position + 3] & 3) << 11 | data[position + 4] << 3 | data[position + 5] >> 5
    return 0 < position == cut


def index_first(data: bytes) -> bytes:
    """Move the box moov before mdat, as for the web, and its chunk offsets with it."""
    start = data.index(b"moov") - 4
    moov = bytearray(data[start:])
    offsets = moov.index(b"stco") + 8
    count = int.from_bytes(moov[offsets : offsets + 4], "big")
    for place in range(offsets + 4, offsets + 4 + 4 * count, 4):
        offset = int.from_bytes(moov[place : place + 4], "big") + len(moov)
        moov[place : place + 4] = offset.to_bytes(4, "big")
    head = int.from_bytes(data[:4], "big")
    return data[:head] + bytes(moov) + data[head:start]


def test_a_file_with_its_index_first_is_refused_when_cut() -> None:
    whole = index_first(encode(speechlike(10.0), "m4a"))
    assert np.array_equal(reading.read(whole), reading.read(encode(speechlike(10.0), "m4a")))
    assert whole.index(b"moov") < whole.index(b"mdat")
    with pytest.raises(AudioError, match=r"truncated: \d+ bytes of it are announced at byte \d+, \d+ are"):
        reading.read(whole[: len(whole) // 2])


def test_a_stream_that_changes_its_channels_is_refused() -> None:
    mono, many = encode(SAMPLES, "aac"), many_channels("adts", "aac", "5.1")
    with pytest.raises(AudioError, match=r"changes after 2\.\d\d s from .* 1 channel, .* 6 channels"):
        read_here(encode(SAMPLES, "aac") + many)
    assert len(read_here(mono + mono)) > 1.9 * len(read_here(mono))


def test_the_file_that_killed_the_server_is_refused() -> None:
    path = Path(__file__).parents[3] / "shared/cases/17-aac-layout-changes.aac"
    if not path.exists():
        pytest.skip("../shared is not here")
    with pytest.raises(AudioError, match="from 16000 Hz, 1 channel, fltp to 16000 Hz, 51 channels"):
        read_here(path.read_bytes())


def test_an_impossible_sampling_rate_is_refused() -> None:
    """Of so few samples a second, a short file would be hours of sound."""
    data = bytearray(WHOLE["mov"])
    place = data.index(b"sowt") + 28  # 16.16 bits (QuickTime's sound sample description)
    assert data[place : place + 2] == (22050).to_bytes(2, "big")
    data[place : place + 2] = (8).to_bytes(2, "big")
    with pytest.raises(AudioError, match="impossible sampling rate of 8 Hz"):
        reading.read(bytes(data))


def test_samples_of_64_bits_are_refused_with_a_remedy() -> None:
    """libsndfile does not know them, and PyAV makes no arrays of them."""
    data = (SAMPLES * 2.0**62).astype("<i8").tobytes()
    form = struct.pack("<HHIIHH", 1, 1, 16000, 128000, 8, 64)
    wav = b"RIFF" + struct.pack("<I", 36 + len(data)) + b"WAVEfmt " + struct.pack("<I", 16) + form
    with pytest.raises(AudioError, match="has samples of the format s64: convert it with"):
        reading.read(wav + b"data" + struct.pack("<I", len(data)) + data)


def test_a_recording_without_its_index_is_named_so() -> None:
    whole = WHOLE["m4a"]
    cut = whole[: whole.index(b"moov") - 4]
    with pytest.raises(AudioError, match=r"recording was interrupted: it has no index \(moov\)"):
        reading.read(cut)


def test_a_video_without_sound_says_so() -> None:
    with pytest.raises(AudioError, match=r"holds no audio \(video only\)"):
        reading.read(encode(np.zeros(0, np.float32), "mp4", picture=True))


def test_a_sound_track_without_samples_is_refused() -> None:
    file = io.BytesIO()
    with av.open(file, "w", format="mov") as container:
        container.add_stream("pcm_s16le", rate=16000, layout="mono")
        container.start_encoding()
    with pytest.raises(AudioError, match=r"holds no (samples|audio)"):
        reading.read(file.getvalue())


def test_without_pyav_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    monkeypatch.setattr(isolation, "AVAILABLE", False)
    with pytest.raises(AudioError, match=r"MPEG-4 .* needs the package 'av': .*littlefoot\[media\]"):
        reading.read(WHOLE["mp4"])


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_damaged_files_are_read_or_refused(kind: str, data: st.DataObject) -> None:
    mutated = bytearray(WHOLE[kind])
    places = st.one_of(st.integers(0, min(2000, len(mutated) - 1)), st.integers(0, len(mutated) - 1))
    for position in data.draw(st.lists(places, min_size=1, max_size=8)):
        mutated[position] = data.draw(st.integers(0, 255))
    try:
        seconds: Any = 0
        for block in reading.blocks(bytes(mutated), 1.0):
            assert np.isfinite(block).all()
            seconds += len(block) / 16000
            if seconds > 60:  # time stamps that jump are silence
                break
        assert seconds > 0
    except AudioError:
        return
