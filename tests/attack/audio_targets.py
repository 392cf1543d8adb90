"""The readers of audio, format by format."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from functools import cache, partial

import numpy as np
import soundfile
from campaign import Target

from littlefoot.audio import SAMPLE_RATE, containers, isolation, reading

SECONDS = 0.4
MOST_SECONDS = 4000.0
"""More is no result of so small a file."""


def speechlike(seconds: float) -> np.ndarray:
    """Samples (T,) at 16 kHz."""
    time = np.arange(round(seconds * 16000)) / 16000
    voice = sum(np.sin(2 * np.pi * 120 * k * time) / k for k in range(1, 20))
    return np.float32(0.2 * voice * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time)))


def written(form: str, subtype: str | None = None, rate: int = 16000, channels: int = 1) -> bytes:
    file = io.BytesIO()
    samples = np.tile(speechlike(SECONDS)[:, None], (1, channels))
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def encoded(muxer: str, codec: str, rate: int, layout: str = "mono") -> bytes:
    import av

    file = io.BytesIO()
    with av.open(file, "w", format=muxer) as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(speechlike(SECONDS)[None], format="flt", layout="mono")
        frame.sample_rate = 16000
        resampler = av.AudioResampler(stream.format, layout, rate, stream.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode())
    return file.getvalue()


def decode(data: bytes, original: bytes) -> None:
    """Read all blocks, as the recogniser does."""
    seconds = 0.0
    for block in reading.blocks(data, 20.0):
        assert block.dtype == np.float32
        assert block.ndim == 1
        assert np.isfinite(block).all(), "samples that are not finite"
        seconds += len(block) / SAMPLE_RATE
        assert seconds < MOST_SECONDS, f"{len(data)} bytes give more than {MOST_SECONDS:g} s"
    assert seconds > 0, "no samples and no error"


def decode_guarded(data: bytes, original: bytes) -> None:
    """Where every byte of sound is under a checksum: the same sound, or refused."""
    decode(data, original)
    assert np.array_equal(reading.read(data), _truth(original)), "another sound than was recorded"


def decode_flac(data: bytes, original: bytes) -> None:
    """Only the sampling rate, the channels and the bits of the header are under no checksum."""
    unguarded = slice(18, 22)
    if data[unguarded] == original[unguarded]:
        decode_guarded(data, original)
    else:
        decode(data, original)


def prepare() -> None:
    """Decode in the process that tries, where a decoder that crashes is seen."""
    isolation.AVAILABLE = False


@cache
def _truth(original: bytes) -> np.ndarray:
    return reading.read(original)


def with_ogg_checksums(data: bytes) -> bytes:
    """Every page's checksum made right."""
    changed = bytearray(data)
    place = changed.find(b"OggS")
    while place >= 0:
        table = changed[place + 27 : place + 27 + changed[place + 26]] if place + 27 <= len(changed) else b""
        end = place + 27 + len(table) + sum(table)
        changed[place + 22 : place + 26] = bytes(4)
        checksum = containers.ogg_checksum(bytes(changed[place:end]))
        changed[place + 22 : place + 26] = struct.pack("<I", checksum)
        place = changed.find(b"OggS", place + 4)
    return bytes(changed)


def decode_apart(data: bytes, original: bytes) -> None:
    """In a process of its own, as the server does with everything; damage must not end it."""
    isolation.AVAILABLE = True
    try:
        decode_source(reading.Untrusted(io.BytesIO(data)))
    finally:
        isolation.AVAILABLE = False
        ended = [process.pid for process in isolation.started() if not process.usable]
        assert not ended, f"the process ended: {ended}"


def raw(data: bytes, original: bytes) -> None:
    """Bare samples on a pipe."""
    with reading.standard_input(_Pipe(data)) as source:
        decode_source(source)


def decode_source(source: reading.Source) -> None:
    for block in reading.blocks(source, 20.0):
        assert np.isfinite(block).all()


class _Pipe(io.BytesIO):
    def seekable(self) -> bool:
        return False


def _samples() -> list[bytes]:
    return [np.int16(32767 * speechlike(SECONDS)).tobytes()]


def _made(*makers: Callable[[], bytes]) -> Callable[[], list[bytes]]:
    return lambda: [make() for make in makers]


_OGG = _made(
    partial(written, "OGG", "VORBIS"),
    partial(written, "OGG", "OPUS"),
    partial(written, "OGG", "VORBIS", 8000, 2),
)

_OTHERS = (
    *(
        ("avi", "pcm_s16le"),
        ("avi", "mp2"),
        ("flv", "aac"),
        ("mpegts", "aac"),
        ("mpeg", "mp2"),
        ("rm", "ac3"),
    ),
    *(("ac3", "ac3"), ("eac3", "eac3"), ("wv", "wavpack"), ("tta", "tta"), ("w64", "pcm_s16le")),
    *(("voc", "pcm_s16le"), ("latm", "aac"), ("mp2", "mp2")),
)
"""FFmpeg's names of muxers and codecs."""

TARGETS = [
    Target(
        "WAV",
        _made(
            partial(written, "WAV"),
            partial(written, "WAV", "FLOAT", 8000),
            partial(written, "WAV", "PCM_24", 44100, 2),
            partial(written, "RF64"),
        ),
        decode,
        share=3,
    ),
    Target(
        "WAV, compressed",
        _made(
            partial(written, "WAV", "IMA_ADPCM"),
            partial(written, "WAV", "MS_ADPCM"),
            partial(written, "WAV", "GSM610", 8000),
            partial(written, "WAV", "ULAW"),
        ),
        decode,
    ),
    Target(
        "FLAC",
        _made(partial(written, "FLAC"), partial(written, "FLAC", "PCM_24", 44100, 2)),
        decode_flac,
        share=3,
    ),
    Target("Ogg", _OGG, decode_guarded),
    Target("Ogg, checksums made right", _OGG, decode, repair=with_ogg_checksums, share=2),
    Target(
        "MP3",
        _made(partial(written, "MP3"), partial(written, "MP3", None, 44100, 2)),
        decode,
        share=2,
        slowness=4,
    ),
    Target(
        "AIFF, AU, CAF, NIST",
        _made(*(partial(written, form) for form in ("AIFF", "AU", "CAF", "NIST"))),
        decode,
    ),
    Target(
        "MPEG-4",
        _made(
            partial(encoded, "mp4", "aac", 16000),
            partial(encoded, "mov", "pcm_s16le", 22050, "stereo"),
            partial(encoded, "ipod", "alac", 44100),
        ),
        decode,
        share=2,
        slowness=2,
    ),
    Target(
        "Matroska",
        _made(
            partial(encoded, "webm", "libopus", 48000),
            partial(encoded, "matroska", "pcm_s16le", 22050, "stereo"),
            partial(encoded, "matroska", "aac", 44100, "5.1"),
        ),
        decode,
        share=2,
        slowness=4,
    ),
    Target(
        "AAC",
        _made(partial(encoded, "adts", "aac", 32000), partial(encoded, "adts", "aac", 44100, "stereo")),
        decode,
        share=2,
        slowness=4,
    ),
    Target(
        "other containers of FFmpeg's",
        _made(*(partial(encoded, muxer, codec, 44100) for muxer, codec in _OTHERS)),
        decode,
        share=2,
        slowness=2,
    ),
    Target("raw PCM", _samples, raw),
    Target(
        "all formats, in another process",
        _made(
            partial(written, "WAV"),
            partial(written, "FLAC"),
            partial(written, "OGG", "OPUS"),
            partial(written, "MP3"),
            partial(encoded, "mp4", "aac", 16000),
            partial(encoded, "adts", "aac", 16000),
            partial(encoded, "webm", "libopus", 48000),
        ),
        decode_apart,
        repair=with_ogg_checksums,
        slowness=4,
    ),
]
