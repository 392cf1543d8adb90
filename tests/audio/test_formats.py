"""One table of formats, by which files, pipes and live streams are told apart; one pair of conversions."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from test_audio import WHOLE as BY_LIBSNDFILE

from littlefoot.audio import folders, formats, pcm

PACKAGE = Path(formats.__file__).parents[1]


def test_a_format_is_known_by_its_first_bytes() -> None:
    expected = {
        **{"wav": "WAV", "float wav": "WAV", "rf64": "WAV", "aiff": "AIFF", "au": "AU", "caf": "CAF"},
        **{"nist": "NIST SPHERE", "flac": "FLAC", "vorbis": "Ogg", "opus": "Ogg", "mp3": "MP3"},
    }
    for kind, name in expected.items():
        found = formats.sniff(BY_LIBSNDFILE[kind][: formats.MAGIC_BYTES])
        assert found is not None
        assert found.name == name
        assert not found.is_read_by_ffmpeg
        assert formats.is_file(BY_LIBSNDFILE[kind])
        assert found.is_plain == (kind in ("wav", "float wav", "flac", "vorbis", "opus", "mp3"))


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\0\0\0\x20ftypisom", "MPEG-4 (m4a, mp4, mov, 3gp)"),
        (b"\x1aE\xdf\xa3", "Matroska (mkv, mka, webm)"),
        (b"RIFF\0\0\0\0AVI LIST", "AVI"),
        (b"RIFF\0\0\0\0QLCMfmt \0\0\0\0\1\0", "QCELP"),
        (b"FORM\0\0\0\x008SVX", "DSD (dff)"),
        (b"\xff\xf1\x50\x80", "AAC"),
        (b"\xff\xfb\x90\x00", "MP3"),
        (b"\xff\xfd\x90\x00", "MPEG audio"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "RIFF or IFF of unknown content"),
        (b"G" + bytes(187) + b"G", "MPEG transport stream (ts, m2ts)"),
        (b"ID3\4", "MP3"),
        (b"\0\1\2\3", None),
        (b"", None),
    ],
)
def test_formats_with_the_same_beginning_are_told_apart(head: bytes, name: str | None) -> None:
    found = formats.sniff(head)
    assert (found and found.name) == name


def test_adpcm_in_a_wav_file_is_not_plain() -> None:
    head = b"RIFF\0\0\0\0WAVEfmt " + struct.pack("<IHHIIHH", 20, 0x11, 1, 16000, 8110, 256, 4)
    found = formats.sniff(head)
    assert found is not None
    assert found.name == "WAV"
    assert not found.is_plain


def test_bare_samples_are_no_file() -> None:
    samples = np.random.default_rng(0).integers(-3000, 3000, 16_000).astype("<i2").tobytes()
    for head in (samples, b"\xff\xfb\x90\x00" + samples, b"\xff\xf1" + samples, bytes(3200), b"\1", b""):
        assert not formats.is_file(head)


def test_a_suffix_belongs_to_one_reader(tmp_path: Path) -> None:
    readers: dict[str, set[bool]] = {}
    for each in formats.FORMATS:
        for suffix in each.suffixes:
            readers.setdefault(suffix, set()).add(each.is_read_by_ffmpeg)
    assert all(len(found) == 1 for found in readers.values())
    for suffix in readers:
        (tmp_path / f"A{suffix.upper()}").touch()
    (tmp_path / "a.txt").touch()
    assert {path.suffix.lower() for path in folders.recordings(tmp_path)} == set(readers)


def test_the_advice_to_convert_stands_in_one_module() -> None:
    found = [path for path in PACKAGE.rglob("*.py") if "ffmpeg -i" in path.read_text(encoding="utf-8")]
    assert found == [Path(formats.__file__)]


def test_samples_of_all_types_become_floats_and_16_bits_come_back() -> None:
    shorts = np.arange(-32768, 32768).astype(np.int16)
    floats = pcm.to_float(shorts)
    assert (floats.dtype, floats.min(), floats.max()) == (np.float32, -1.0, np.float32(32767 / 32768))
    assert np.array_equal(pcm.to_int16(floats), shorts)
    assert pcm.to_int16(np.array([-2.0, 1.0, 2.0], np.float32)).tolist() == [-32768, 32767, 32767]
    assert pcm.to_float(np.array([0, 128, 255], np.uint8)).tolist() == [-1.0, 0.0, 127 / 128]
    assert pcm.to_float(np.array([-(2**31), 2**30], np.int32)).tolist() == [-1.0, 0.5]
    assert pcm.to_float(np.array([0.25])).dtype == np.float32
    assert np.array_equal(pcm.from_bytes(shorts.astype("<i2").tobytes()), shorts)
