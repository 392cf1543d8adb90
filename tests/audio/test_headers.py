"""AIFF, AU and CAF files whose headers give a wrong length: what is there is read, what is cut refused."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import pytest
from test_audio import speechlike

from littlefoot.audio import reading
from littlefoot.errors import AudioError

SOUND = (speechlike(0.4) * 32767).astype(">i2")
RAW = SOUND.tobytes()
N = len(RAW)


def au(more: int, after: bytes = b"") -> bytes:
    return b".snd" + struct.pack(">IIIII", 24, N + more, 3, 16000, 1) + RAW + after


def aiff(more: int, after: bytes = b"") -> bytes:
    rate = b"\x40\x0c\xfa" + bytes(7)  # 16000 as an extended float
    common = b"COMM" + struct.pack(">IhIh", 18, 1, N // 2, 16) + rate
    form = b"FORM" + struct.pack(">I", N + 46) + b"AIFF" + common
    return form + b"SSND" + struct.pack(">III", N + 8 + more, 0, 0) + RAW + after


def caf(more: int, after: bytes = b"") -> bytes:
    form = struct.pack(">d4sIIIII", 16000.0, b"lpcm", 0, 2, 1, 1, 16)
    head = b"caff" + struct.pack(">HH", 1, 0) + b"desc" + struct.pack(">q", len(form)) + form
    return head + b"data" + struct.pack(">qI", N + 4 + more, 0) + RAW + after


KINDS = {"au": au, "aiff": aiff, "caf": caf}
NOTHING = {"au": -N, "aiff": -N - 8, "caf": -N - 4}
"""What must be added for a length of 0."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("more", [0, 4, 44, 128, -N // 2, -N // 4, None])
def test_all_that_is_there_is_read(kind: str, more: int | None, caplog: pytest.LogCaptureFixture) -> None:
    make: Callable[[int], bytes] = KINDS[kind]
    found = reading.read(make(NOTHING[kind] if more is None else more))
    np.testing.assert_allclose(found, SOUND / 32768, atol=1e-6)
    assert ("its header" in caplog.text) == (more is None or more < 0)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_is_refused(kind: str) -> None:
    with pytest.raises(AudioError, match="is truncated: its header announces"):
        reading.read(KINDS[kind](1000))


@pytest.mark.parametrize(
    ("kind", "chunk"),
    [("aiff", b"NAME" + struct.pack(">I", 4) + b"talk"), ("caf", b"info" + struct.pack(">q", 4) + bytes(4))],
)
def test_a_chunk_behind_the_audio_is_none(kind: str, chunk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    assert len(reading.read(KINDS[kind](0, chunk))) == len(SOUND)
    assert not caplog.text
