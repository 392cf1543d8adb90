"""Audio: every readable source gives float32 mono 16 kHz; anything else gives an AudioError that helps."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from littlefoot.audio import containers, libsndfile, reading, wav
from littlefoot.errors import AudioError

Samples = NDArray[np.float32]

KINDS = {  # name -> how soundfile writes it
    "wav": {"format": "WAV", "subtype": "PCM_16"},
    "float wav": {"format": "WAV", "subtype": "FLOAT"},
    "rf64": {"format": "RF64", "subtype": "PCM_16"},
    "aiff": {"format": "AIFF", "subtype": "PCM_16"},
    "au": {"format": "AU", "subtype": "PCM_16"},
    "caf": {"format": "CAF", "subtype": "PCM_16"},
    "nist": {"format": "NIST", "subtype": "PCM_16"},
    "flac": {"format": "FLAC", "subtype": "PCM_16"},
    "vorbis": {"format": "OGG", "subtype": "VORBIS"},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "mp3": {"format": "MP3", "subtype": "MPEG_LAYER_III"},
}


def speechlike(seconds: float, rate: int = 16000) -> Samples:
    """A tone of moving pitch with noise and a pause: nothing repeats, so that a misplaced block shows."""
    time = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (200 * time + 30 * np.sin(3 * time)))
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(time))
    sound: Samples = ((tone + noise) * (np.sin(2 * time) > -0.5)).astype(np.float32)
    return sound


def encode(samples: NDArray[Any], rate: int = 16000, kind: str = "wav", **options: Any) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, **KINDS[kind], **options)
    return file.getvalue()


WHOLE = {kind: encode(speechlike(2.0), kind=kind) for kind in KINDS}


# What is read


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_same_sound(kind: str) -> None:
    samples = speechlike(2.0)
    got = reading.read(WHOLE[kind])
    assert got.dtype == np.float32
    assert got.shape == samples.shape
    assert np.corrcoef(got, samples)[0, 1] > 0.99
    assert reading.duration(WHOLE[kind]) == 2.0


def test_a_path_a_file_bytes_and_a_pipe_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ümlaut 音.wav"
    path.write_bytes(WHOLE["wav"])
    expected = reading.read(WHOLE["wav"])

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    assert np.array_equal(reading.read(path), expected)
    assert np.array_equal(reading.read(str(path)), expected)
    assert np.array_equal(reading.read(Pipe(WHOLE["wav"])), expected)
    with path.open("rb") as file:
        file.seek(100)
        assert np.array_equal(reading.read(file), expected)
        assert not file.closed


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_floating_point_array_is_taken_as_it_is(dtype: type[np.floating[Any]]) -> None:
    samples = speechlike(0.1).astype(dtype)
    got = reading.read(samples)
    assert got.dtype == np.float32
    assert np.array_equal(got, samples.astype(np.float32))


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_any_rate_becomes_16_khz(rate: int) -> None:
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    got = reading.read(encode(tone, rate, "float wav"))
    expected = np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)
    assert abs(len(got) - 16000) <= 4
    assert np.abs(got[500:15500] - expected[500:15500]).max() < 1e-3


def test_channels_are_averaged() -> None:
    left, right = speechlike(0.5), speechlike(0.5)[::-1]
    got = reading.read(encode(np.stack([left, right], axis=1), kind="float wav"))
    assert np.allclose(got, (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8000, 16000, 48000])
def test_one_sample_is_audio(rate: int) -> None:
    got = reading.read(encode(np.full(1, 0.25, np.float32), rate, "float wav"))
    assert 1 <= len(got) <= 2
    assert np.isfinite(got).all()


def test_silent_and_clipped_audio_are_audio() -> None:
    assert not reading.read(encode(np.zeros(1600, np.float32))).any()
    square = np.sign(np.sin(np.arange(1600))) * 1.0
    assert np.abs(reading.read(encode(square))).max() == pytest.approx(1, abs=1e-4)


def test_a_wav_streamed_through_a_pipe_has_no_length_and_is_read_to_its_end() -> None:
    for unknown in (0xFFFFFFFF, 0x7FFFF000, 0x80000000):
        streamed = WHOLE["wav"][:40] + struct.pack("<I", unknown) + WHOLE["wav"][44:]
        assert np.array_equal(reading.read(streamed), reading.read(WHOLE["wav"]))


def test_a_flac_without_a_length_is_read_to_its_end() -> None:
    data = bytearray(WHOLE["flac"])
    data[21] &= 0xF0  # STREAMINFO: the 36 bits of the total number of samples
    data[22:26] = bytes(4)
    assert np.array_equal(reading.read(bytes(data)), reading.read(WHOLE["flac"]))
    assert reading.duration(bytes(data)) == 2.0


# Blocks


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [16000, 24000])
def test_blocks_put_together_are_the_whole(kind: str, rate: int) -> None:
    data = encode(speechlike(3.3, rate), rate, kind)
    blocks = list(reading.blocks(data, 0.5))
    assert {len(block) for block in blocks[:-1]} == {8000}
    assert 0 < len(blocks[-1]) <= 8000
    assert np.array_equal(np.concatenate(blocks), reading.read(data))


def test_blocks_of_an_array() -> None:
    samples = speechlike(1.2)
    blocks = list(reading.blocks(samples, 0.5))
    assert [len(block) for block in blocks] == [8000, 8000, 3200]
    assert np.array_equal(np.concatenate(blocks), samples)


@pytest.mark.parametrize("kind", KINDS)
def test_reading_in_small_pieces_changes_no_sample(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    at_once, _ = soundfile.read(io.BytesIO(WHOLE[kind]), dtype="float32")
    monkeypatch.setattr(libsndfile, "BLOCK_SAMPLES", 1000)
    assert np.abs(reading.read(WHOLE[kind]) - at_once).max() < 1e-6


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_blocks_must_have_a_length(seconds: float) -> None:
    with pytest.raises(AudioError, match="positive number of seconds"):
        next(reading.blocks(WHOLE["wav"], seconds))


def test_an_hour_is_read_in_bounded_memory(tmp_path: Path) -> None:
    import tracemalloc

    path = tmp_path / "hour.flac"
    with soundfile.SoundFile(path, "w", 8000, 2, format="FLAC") as file:
        for _ in range(60):
            file.write(np.zeros((60 * 8000, 2), np.float32))
    tracemalloc.start()
    seconds = sum(len(block) for block in reading.blocks(path, 20.0)) / 16000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds == pytest.approx(3600, abs=0.01)
    assert peak < 16e6  # the whole hour would be 230 MB


# Normalization


@pytest.mark.parametrize("scale", [1.0, 1e-4, 0.0])
def test_normalization_is_that_of_transformers(scale: float) -> None:
    transformers = pytest.importorskip("transformers")
    waveform = speechlike(1.0) * np.float32(scale) + np.float32(0.1)
    reference = transformers.Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm([waveform], None)[0]
    assert np.array_equal(reading.normalize(waveform), reference)
    assert reading.normalize(waveform).dtype == np.float32


# What is refused


@pytest.mark.parametrize("kind", sorted(set(KINDS) - {"mp3"}))
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_file_cut_anywhere_is_refused(kind: str, data: st.DataObject) -> None:
    whole = WHOLE[kind]
    headers_lie = ("wav", "float wav", "rf64", "aiff", "au", "caf")  # by a few bytes
    harmless = wav.SLACK if kind in headers_lie else 0
    cut = data.draw(st.integers(0, len(whole) - 1 - harmless))
    with pytest.raises(AudioError):
        reading.read(whole[:cut])


@settings(max_examples=50, deadline=None)
@given(cut=st.integers(0, len(WHOLE["mp3"]) - 600))
def test_an_mp3_cut_anywhere_before_its_last_frame_is_refused(cut: int) -> None:
    with pytest.raises(AudioError):
        reading.read(WHOLE["mp3"][:cut])


@pytest.mark.parametrize("kind", ["flac", "vorbis", "opus"])
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_a_flipped_bit_in_checksummed_audio_is_refused(kind: str, data: st.DataObject) -> None:
    damaged = bytearray(WHOLE[kind])
    start = len(damaged) // 2  # behind the headers, of which FLAC's tags carry no checksum
    damaged[data.draw(st.integers(start, len(damaged) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(AudioError):
        reading.read(bytes(damaged))


def test_a_missing_ogg_page_is_refused() -> None:
    whole = encode(speechlike(20.0), kind="vorbis")
    pages = [i for i in range(len(whole)) if whole[i : i + 4] == b"OggS"]
    with pytest.raises(AudioError, match="page 3 is missing"):
        reading.read(whole[: pages[3]] + whole[pages[4] :])
    with pytest.raises(AudioError, match="truncated: its Ogg stream has no last page"):
        reading.read(whole[: pages[-1]])
    assert np.array_equal(reading.read(whole + b"TAG" + bytes(125)), reading.read(whole))


def test_chained_ogg_streams_are_refused_as_only_the_first_could_be_read() -> None:
    other = encode(speechlike(1.0), kind="opus")
    with pytest.raises(AudioError, match="more than one Ogg stream"):
        reading.read(WHOLE["opus"] + other)


def test_an_mp3_without_a_length_header_is_read_if_its_bit_rate_is_constant_and_refused_if_cut() -> None:
    samples = speechlike(5.0)
    whole = encode(samples, kind="mp3", bitrate_mode="CONSTANT", compression_level=0.5)
    length_header, _ = containers.mp3_frame(whole)
    got = reading.read(b"ID3\4\0\0\0\0\1\2" + bytes(130) + whole[length_header:] + b"TAG" + bytes(125))
    assert len(samples) <= len(got) < len(samples) + 3000  # the encoder's padding included
    assert reading.duration(whole[length_header:]) == len(got) / 16000
    with pytest.raises(AudioError, match="last MP3 frame is incomplete"):
        reading.read(whole[length_header:-100])


def test_an_mp3_is_refused_when_the_decoder_stops_before_its_end() -> None:
    quiet_then_loud = np.concatenate([speechlike(5.0) * 0.001, speechlike(20.0)])
    whole = encode(quiet_then_loud, kind="mp3", bitrate_mode="VARIABLE", compression_level=0.5)
    length_header, _ = containers.mp3_frame(whole)
    with pytest.raises(AudioError, match=r"only \d+ of \d+ samples could be decoded; convert it with"):
        reading.read(whole[length_header:])
    with pytest.raises(AudioError, match=r"only \d+ of \d+ samples"):
        reading.read(whole + whole)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
def test_samples_that_are_no_sound_are_refused(bad: float) -> None:
    samples = speechlike(0.5)
    samples[77] = bad
    for source in (samples, encode(samples, kind="float wav"), encode(samples, 48000, "float wav")):
        with pytest.raises(AudioError, match="NaN, infinite or absurdly large"):
            reading.read(source)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((100, 2), np.float32), r"shape \(100, 2\).*average the channels"),
        (np.zeros((), np.float32), r"shape \(\)"),
        (np.zeros(100, np.int16), "int16.*divide 16-bit integers by 32768"),
        (np.zeros(100, complex), "complex"),
        (np.zeros(0, np.float32), "empty array"),
    ],
)
def test_arrays_must_be_one_axis_of_floating_point(array: NDArray[Any], message: str) -> None:
    for function in (reading.read, reading.duration, lambda a: list(reading.blocks(a))):
        with pytest.raises(AudioError, match=message):
            function(array)


@pytest.mark.parametrize("source", [None, 3, [0.0, 0.1], io.StringIO("text")])
def test_other_types_are_refused(source: Any) -> None:
    with pytest.raises(AudioError, match="give a path, bytes, a binary file or a numpy array"):
        reading.read(source)


def test_messages_name_the_file_and_the_remedy(tmp_path: Path) -> None:
    def refused(name: str, content: bytes | None, message: str) -> None:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        for function in (reading.read, reading.duration, lambda p: list(reading.blocks(p))):
            with pytest.raises(AudioError, match=message) as caught:
                function(path)
            assert str(path) in str(caught.value)

    refused("missing.wav", None, "no such file: check the path")
    refused("empty.wav", b"", r"is empty \(0 bytes\)")
    refused("none.wav", encode(np.zeros(0, np.float32)), "holds no samples")
    refused("cut.wav", WHOLE["wav"][:999], "announces 64000 bytes of audio, 955 are there; fetch or")
    refused("cut.ogg", WHOLE["opus"][:-1], "its last Ogg page is incomplete; fetch or export it again")
    refused(
        "notes.txt",
        b"no sound at all" * 99,
        "Format not recognised.*MP3.* are read, and what FFmpeg reads.*convert it with",
    )
    refused("clip.avi", b"RIFF\0\0\0\x20AVI LIST" + bytes(999), "AVI.*export it again")
    matrix = io.BytesIO()
    soundfile.write(matrix, speechlike(0.1), 16000, format="MAT5")
    refused("matrix.mat", matrix.getvalue(), "convert it with: ffmpeg")
    hertz = bytearray(WHOLE["wav"])
    hertz[24:28] = struct.pack("<I", 1)
    refused("slow.wav", bytes(hertz), "impossible sampling rate of 1 Hz")
    with pytest.raises(AudioError, match="is a directory"):
        reading.read(tmp_path)
    with pytest.raises(AudioError, match="cannot be opened"):
        reading.read("zero\0byte.wav")


def test_a_file_that_grows_or_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recording.wav"
    for grow in (b"\0\0" * 8000, b""):
        path.write_bytes(encode(speechlike(30.0)))
        blocks = reading.blocks(path, 1.0)
        next(blocks)
        with path.open("ab" if grow else "wb") as file:
            file.write(grow)
        with pytest.raises(AudioError, match=r"recording.wav: was changed while it was read: wait until"):
            list(blocks)


# Pipes


class Pipe(io.BytesIO):
    """Gives bytes as a pipe does: at most so many at once, and no way back."""

    def seekable(self) -> bool:
        return False

    def seek(self, *position: int) -> int:
        raise io.UnsupportedOperation

    def read(self, count: int | None = -1) -> bytes:
        return super().read(min(count, 1001) if count and count > 0 else count)


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_on_a_pipe_is_known_by_what_it_holds(kind: str) -> None:
    with reading.standard_input(Pipe(WHOLE[kind])) as source:
        assert np.array_equal(reading.read(source), reading.read(WHOLE[kind]))


@pytest.mark.parametrize("level", [1.0, 0.001, 0.0])
def test_bare_samples_on_a_pipe_are_pcm(level: float) -> None:
    samples = np.round(speechlike(3.0) * level * 32767).astype("<i2")
    with reading.standard_input(Pipe(samples.tobytes())) as source:
        assert isinstance(source, reading.Pcm)
        blocks = list(reading.blocks(source, 0.5))
    assert {len(block) for block in blocks} == {8000}
    assert np.array_equal(np.concatenate(blocks), samples.astype(np.float32) / 32768)
    with reading.standard_input(Pipe(samples.tobytes())) as source:
        assert reading.duration(source) == 3.0


def test_an_hour_of_bare_samples_is_read_in_bounded_memory() -> None:
    import tracemalloc

    class Endless(io.RawIOBase):
        left = 3600 * 32000

        def read(self, count: int = -1) -> bytes:
            count = min(count, self.left)
            self.left -= count
            return bytes(count)

    tracemalloc.start()
    with reading.standard_input(Endless()) as source:  # type: ignore[arg-type]
        seconds = sum(len(block) for block in reading.blocks(source, 20.0)) / 16000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds == 3600
    assert peak < 8e6


def test_bare_samples_that_end_in_the_middle_of_one_are_refused() -> None:
    samples = np.round(speechlike(2.0) * 32767).astype("<i2").tobytes()
    with reading.standard_input(Pipe(samples[:-1])) as source:
        blocks = reading.blocks(source, 1.0)
        assert len(next(blocks)) == 16000
        with pytest.raises(AudioError, match="standard input: ends in the middle of a sample: it was cut"):
            list(blocks)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        ("These are no samples, ünd they are long enough. ".encode() * 100, "neither an audio file"),
        (np.random.default_rng(0).bytes(50_000), "neither an audio file .* nor raw PCM"),
    ],
)
def test_what_is_obviously_no_sound_is_not_taken_for_samples(content: bytes, message: str) -> None:
    with pytest.raises(AudioError, match=message), reading.standard_input(Pipe(content)):
        pass


@settings(max_examples=200, deadline=None)
@given(start=st.integers(-32768, 32767), loud=st.floats(0, 1))
def test_samples_that_look_like_a_frame_header_are_samples(start: int, loud: float) -> None:
    samples = np.round(speechlike(1.0) * loud * 32767).astype("<i2")
    samples[0] = start
    with reading.standard_input(Pipe(samples.tobytes())) as source:
        assert isinstance(source, reading.Pcm)


# Fuzzing: whatever the bytes, finite samples or an AudioError


def read_or_refuse(data: bytes) -> None:
    try:
        got = reading.read(data)
    except AudioError:
        return
    assert got.dtype == np.float32
    assert got.ndim == 1
    assert len(got) > 0
    assert np.isfinite(got).all()


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=400), magic=st.sampled_from([b"", b"RIFF", b"fLaC", b"OggS", b"ID3", b"FORM"]))
def test_random_bytes(data: bytes, magic: bytes) -> None:
    read_or_refuse(magic + data)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_mutated_files(kind: str, data: st.DataObject) -> None:
    mutated = bytearray(WHOLE[kind][:8000])
    headers = st.integers(0, 100)
    positions = data.draw(st.lists(st.one_of(headers, st.integers(0, len(mutated) - 1)), max_size=8))
    for position in positions:
        mutated[position] = data.draw(st.integers(0, 255))
    # Often the whole file, lest everything is refused for its length alone.
    rest = WHOLE[kind][8000:] if data.draw(st.booleans()) else b""
    read_or_refuse(bytes(mutated) + rest)


def flac_that_counts(samples: int) -> bytes:
    """Of SPEECH, whose header has another number of samples (RFC 9639, section 8.2)."""
    data = bytearray(encode(SPEECH, kind="flac"))
    data[21] = data[21] & 0xF0 | samples >> 32
    data[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(data)


SPEECH = speechlike(2.2)


@pytest.mark.parametrize("count", [1, 800, 4096, len(SPEECH) - 1])
def test_a_flac_header_that_counts_too_few_samples_is_refused(count: int) -> None:
    with pytest.raises(AudioError, match=f"holds more than the {count} samples that its header counts"):
        reading.read(flac_that_counts(count))


def test_a_flac_header_that_counts_too_many_samples_is_refused() -> None:
    with pytest.raises(AudioError, match="only 35200 of 35201 samples could be decoded"):
        reading.read(flac_that_counts(len(SPEECH) + 1))
    with pytest.raises(AudioError, match="only 35200 of"):
        reading.read(flac_that_counts(1 << 35))


def test_tags_before_and_after_a_flac_file_and_a_count_of_none_are_no_damage() -> None:
    plain = reading.read(encode(SPEECH, kind="flac"))
    tag = b"ID3\4\0\0\0\0\0\x0a" + bytes(10)
    for data in (
        flac_that_counts(0),
        tag + encode(SPEECH, kind="flac"),
        encode(SPEECH, kind="flac") + b"TAG" + b"x" * 125,
    ):
        assert np.array_equal(reading.read(data), plain)
    assert reading.duration(encode(SPEECH, kind="flac")) == reading.duration(flac_that_counts(0)) == 2.2
