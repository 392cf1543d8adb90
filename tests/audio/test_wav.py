"""WAV files whose headers lie: the same sound as FFmpeg reads, or more of it with a warning, or refused."""

from __future__ import annotations

import io
import itertools
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from test_audio import speechlike

from littlefoot.audio import reading
from littlefoot.errors import AudioError

av = pytest.importorskip("av", reason="PyAV (extra media) is not installed")

SOUND = (speechlike(0.4) * 32767).astype("<i2")
RAW = SOUND.tobytes()
N = len(RAW)


class Kind(NamedTuple):
    """How samples are stored."""

    tag: int
    bits: int
    channels: int
    data: bytes


def stored() -> dict[str, Kind]:
    wide = SOUND.astype(np.int32)
    three = np.frombuffer((wide << 16).astype("<i4").tobytes(), np.uint8).reshape(-1, 4)[:, 1:].tobytes()
    floats = (SOUND / 32768).astype("<f4")
    return {
        "16 bits": Kind(1, 16, 1, RAW),
        "8 bits": Kind(1, 8, 1, ((SOUND >> 8) + 128).astype(np.uint8).tobytes()),
        "24 bits": Kind(1, 24, 1, three),
        "32 bits": Kind(1, 32, 1, (wide << 16).astype("<i4").tobytes()),
        "float": Kind(3, 32, 1, floats.tobytes()),
        "double": Kind(3, 64, 1, floats.astype("<f8").tobytes()),
        "stereo": Kind(1, 16, 2, np.stack([SOUND, SOUND], 1).tobytes()),
    }


KINDS = stored()
CHUNK = b"LIST" + struct.pack("<I", 10) + b"INFOISFT\0\0"


def wav(
    kind: Kind, riff: int, data: int, before: bytes = b"", after: bytes = b"", block: int | None = None
) -> bytes:
    frame = kind.channels * kind.bits // 8
    form = struct.pack(
        "<HHIIHH", kind.tag, kind.channels, 16000, 16000 * frame, frame if block is None else block, kind.bits
    )
    head = b"RIFF" + struct.pack("<I", riff) + b"WAVE" + before + b"fmt " + struct.pack("<I", 16) + form
    return head + b"data" + struct.pack("<I", data) + kind.data + after


def by_ffmpeg(content: bytes) -> NDArray[np.float32]:
    """Mono samples (T,) as FFmpeg reads them."""
    parts = []
    with av.open(io.BytesIO(content), format="wav") as container:
        for frame in container.decode(audio=0):
            array: NDArray[Any] = frame.to_ndarray()
            if not frame.format.is_planar:
                array = array.reshape(-1, frame.layout.nb_channels).T
            scale = {"u": 128.0, "i": 2.0 ** (8 * array.dtype.itemsize - 1), "f": 1.0}[array.dtype.kind]
            shift = 1.0 if array.dtype.kind == "u" else 0.0
            parts.append(array.astype(np.float64).mean(axis=0) / scale - shift)
    found: NDArray[np.float32] = np.concatenate(parts).astype(np.float32)
    return found


def variants() -> Iterator[tuple[str, bytes]]:
    """Headers as recorders leave them, all of whose samples are there and which FFmpeg reads whole."""
    for name, kind in KINDS.items():
        n = len(kind.data)
        sizes = {
            "right": n,
            "zero": 0,
            "open": 0xFFFFFFFF,
            "open, less a header": 0xFFFFFFFF - 36,
            "open at 2 GB": 0x7FFFFFFF,
            "open as by arecord": 0x80000000,
            "whole file": n + 44,
            "whole file, less 8": n + 36,
            "one more": n + 1,
            "100 more": n + 100,
        }
        for (size, length), riff in itertools.product(sizes.items(), ("right", "zero", "open")):
            whole = {"right": n + 36, "zero": 0, "open": 0xFFFFFFFF}[riff]
            yield f"{name}, data {size}, file {riff}", wav(kind, whole, length)
        if name != "24 bits":  # of which FFmpeg loses samples then
            yield f"{name}, block 0", wav(kind, n + 36, n, block=0)
        yield f"{name}, chunk before", wav(kind, n + 54, n, before=CHUNK)
        yield f"{name}, chunk after", wav(kind, n + 54, n, after=CHUNK)
        yield f"{name}, zeros after", wav(kind, n + 36, n, after=bytes(4000))
        yield f"{name}, tag after", wav(kind, n + 36, n, after=b"TAG" + b"title".ljust(125))
        yield f"{name}, a few bytes after", wav(kind, n + 36, n, after=b"\x01\x02\x03\x04\x05")


VARIANTS = dict(variants())


def test_there_are_enough_variants() -> None:
    assert len(VARIANTS) >= 200


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_there_is_read_as_ffmpeg_reads_it(kind: str) -> None:
    for name, content in VARIANTS.items():
        if not name.startswith(f"{kind},"):
            continue
        found = reading.read(content)
        expected = by_ffmpeg(content)
        assert len(found) == len(SOUND), name
        np.testing.assert_allclose(found, expected[: len(found)], atol=2e-4, err_msg=name)
        assert len(expected) == len(found), name


# Beyond what FFmpeg does


@pytest.mark.parametrize("length", [N // 2, N // 4, len(SOUND) // 2, 2])
def test_a_length_that_is_too_small_is_said_and_all_is_read(
    length: int, caplog: pytest.LogCaptureFixture
) -> None:
    found = reading.read(wav(KINDS["16 bits"], N + 36, length))
    np.testing.assert_array_equal(found, reading.read(wav(KINDS["16 bits"], N + 36, N)))
    assert f"announces {length} bytes of audio, {N} are there: all are read" in caplog.text


def test_a_length_of_nothing_is_said(caplog: pytest.LogCaptureFixture) -> None:
    reading.read(wav(KINDS["16 bits"], N + 36, 0))
    assert "its header gives no length: it is read to its end" in caplog.text


def test_a_right_header_is_read_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    reading.read(VARIANTS["16 bits, chunk after"])
    assert not caplog.text


def test_an_empty_recording_with_a_chunk_behind_it_holds_no_samples() -> None:
    with pytest.raises(AudioError, match="holds no samples"):
        reading.read(wav(KINDS["16 bits"]._replace(data=b""), 36, 0, after=CHUNK))


@pytest.mark.parametrize("missing", [200, N // 2])
def test_what_is_cut_is_refused(missing: int) -> None:
    content = wav(KINDS["16 bits"], N + 36, N)
    with pytest.raises(
        AudioError, match=rf"truncated: its header announces {N} bytes of audio, {N - missing}"
    ):
        reading.read(content[:-missing])


def test_a_chunk_without_its_padding_is_passed_over() -> None:
    odd = b"note" + struct.pack("<I", 3) + b"abc"
    assert len(reading.read(wav(KINDS["16 bits"], N + 47, N, before=odd))) == len(SOUND)


def test_other_orders_and_lengths_of_64_bits_are_read() -> None:
    form = struct.pack(">HHIIHH", 1, 1, 16000, 32000, 2, 16)
    turned = SOUND.astype(">i2").tobytes()
    big = b"RIFX" + struct.pack(">I", N + 36) + b"WAVEfmt " + struct.pack(">I", 16) + form
    big += b"data" + struct.pack(">I", N) + turned
    form = struct.pack("<HHIIHH", 1, 1, 16000, 32000, 2, 16)
    long = (
        b"RF64"
        + struct.pack("<I", 0xFFFFFFFF)
        + b"WAVEds64"
        + struct.pack("<IQQQI", 28, N + 80, N, N // 2, 0)
    )
    long += b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", 0xFFFFFFFF) + RAW
    expected = reading.read(wav(KINDS["16 bits"], N + 36, N))
    for content in (big, long):
        np.testing.assert_array_equal(reading.read(content), expected)
