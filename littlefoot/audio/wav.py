"""Read WAV files with wrong headers, as FFmpeg does.

Recorders that stream or were killed leave a length of 0 or of 4 GB. Others write the size of the file instead
of the data's, the number of samples instead of bytes, or a length that has wrapped at 4 GiB. This module
finds the data, and libsndfile gets them after a correct header.
"""

import io
import struct
from typing import BinaryIO, NamedTuple

from littlefoot.errors import AudioError

SLACK = 128
"""Bytes that may be missing, 4 ms: writers add the length of a header to that of the data."""
_OPEN = (*range(0x7FFFF000, 0x80000001), *range(0xFFFFFF00, 0x100000000))
_UNFINISHED = (0, 0xFFFFFFFF)
"""Lengths of a whole file whose header was not completed."""
_JUNK_SECONDS = 0.1
"""Length beyond which bytes after the data that form no chunk count as audio."""
_PCM = (1, 3)
_TRAILERS = (b"TAG", b"ID3", b"APETAGEX")


class Found(NamedTuple):
    """The location of the samples of a WAV file."""

    form: bytes
    """Content of the chunk ``fmt ``."""
    start: int
    """First byte of the samples."""
    length: int
    """Length of the samples in bytes."""
    order: str
    """Byte order of numbers: ``<`` or ``>``."""
    warning: str | None
    """Fault of the header, if the file is readable nevertheless."""

    @property
    def is_mpeg(self) -> bool:
        """Return True if the file contains MP2 or MP3."""
        return struct.unpack(f"{self.order}H", self.form[:2])[0] in (0x50, 0x55)


def find(stream: BinaryIO) -> Found | None:
    """Find the samples; return None for a file that is not WAV or has no format. The position changes.

    Raises AudioError, whose message does not name the file, if it is truncated.
    """
    size = stream.seek(0, 2)
    head = _at(stream, 0, 12)
    if head[:4] not in (b"RIFF", b"RIFX", b"RF64") or head[8:] != b"WAVE":
        return None
    order = ">" if head[:4] == b"RIFX" else "<"
    (whole,) = struct.unpack(f"{order}I", head[4:8])
    form, long_length, position = b"", 0, 12
    while position + 8 <= size:
        name, length = struct.unpack(f"{order}4sI", _at(stream, position, 8))
        start = position + 8
        if name == b"data":
            if len(form) < 16:
                return None
            if length == 0xFFFFFFFF and long_length:
                whole = length = long_length
            count, warning = _length(stream, form, order, whole, start, length, size - start)
            return Found(form, start, count, order, warning)
        if name == b"fmt ":
            form = _at(stream, start, min(length, 1 << 12))
        elif name == b"ds64":  # RF64 keeps 64-bit lengths here: of the file, then of the data
            long_length = int.from_bytes(_at(stream, start + 8, 8), "little")
        position = start + length
        if length % 2 and not _is_name(_at(stream, position, 4)):  # some writers omit the padding
            position += 1
    return None


def _length(
    stream: BinaryIO, form: bytes, order: str, whole: int, start: int, declared: int, present: int
) -> tuple[int, str | None]:
    """Return the bytes of samples, and the fault of the header."""
    if declared in _OPEN:  # streamed through a pipe
        return present, None
    if declared == 0:
        if present == 0 or _are_chunks(stream, start, present):
            return 0, None
        return present, "its header gives no length: it is read to its end"
    if declared > present:
        if declared - present > SLACK and whole not in _UNFINISHED:
            raise AudioError(
                f"is truncated: its header announces {declared} bytes of audio, {present} are there; fetch "
                "or export it again"
            )
        return present, None
    at, rest = start + declared, present - declared
    if rest < 8 or _are_chunks(stream, at, rest) or _are_chunks(stream, at + 1, rest - 1):
        return declared, None
    if _at(stream, at, 8).startswith(_TRAILERS) or _is_zero(stream, at, rest):
        return declared, None
    rate = struct.unpack(f"{order}I", form[8:12])[0]
    if rest < _JUNK_SECONDS * rate:
        return declared, f"{rest} bytes behind its audio are unknown, and left out"
    return present, f"its header announces {declared} bytes of audio, {present} are there: all are read"


def _are_chunks(stream: BinaryIO, position: int, count: int) -> bool:
    """Return True if chunks with names and lengths fill the bytes; the last one may be truncated."""
    end = position + count
    found = 0
    while position + 8 <= end:
        name, length = struct.unpack("<4sI", _at(stream, position, 8))
        if not _is_name(name) or (length > count and not found):
            return False
        found += 1
        position += 8 + length + length % 2
    return found > 0


def _is_name(name: bytes) -> bool:
    return len(name) == 4 and all(0x20 <= byte < 0x7F for byte in name)


def _is_zero(stream: BinaryIO, position: int, count: int) -> bool:
    """Return True if the bytes are only the padding of some recorders' blocks."""
    stream.seek(position)
    while count > 0 and (data := stream.read(min(count, 1 << 16))):
        if data.count(0) < len(data):
            return False
        count -= len(data)
    return True


def _at(stream: BinaryIO, position: int, count: int) -> bytes:
    stream.seek(position)
    return stream.read(count)


class Corrected(io.RawIOBase):
    """A WAV file with a corrected header: a chunk ``fmt `` and a chunk ``data`` of the file."""

    def __init__(self, stream: BinaryIO, found: Found) -> None:
        self._stream = stream
        self._head = _header(found)
        self._start, self._length = found.start, found.length
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        base = (0, self._position, len(self._head) + self._length)[whence]
        if base + offset < 0:
            raise ValueError("negative position")
        self._position = base + offset
        return self._position

    def read(self, count: int | None = -1) -> bytes:
        size = len(self._head) + self._length
        end = size if count is None or count < 0 else min(size, self._position + count)
        data = self._head[self._position : end]
        if end > len(self._head):
            inside = max(self._position - len(self._head), 0)
            self._stream.seek(self._start + inside)
            data += self._stream.read(end - len(self._head) - inside)
        self._position += len(data)
        return data


def _header(found: Found) -> bytes:
    form, order = found.form, found.order
    kind, channels, rate, _, block, bits = struct.unpack(f"{order}HHIIHH", form[:16])
    if kind in _PCM and channels and (block == 0 or block % channels):
        block = channels * ((bits + 7) // 8)
        if block < 1 << 16 and rate * block < 1 << 32:
            form = struct.pack(f"{order}HHIIHH", kind, channels, rate, rate * block, block, bits) + form[16:]
    chunk = struct.pack(f"{order}4sI", b"fmt ", len(form)) + form + b"\0" * (len(form) % 2)
    if found.length < 0xFFFFFF00 - len(chunk) - 12:
        whole = len(chunk) + 12 + found.length
        magic = b"RIFX" if order == ">" else b"RIFF"
        return (
            struct.pack(f"{order}4sI4s", magic, whole, b"WAVE")
            + chunk
            + struct.pack(f"{order}4sI", b"data", found.length)
        )
    long = struct.pack("<4sIQQQI", b"ds64", 28, len(chunk) + 48 + found.length, found.length, 0, 0)
    start = struct.pack("<4sI4s", b"RF64", 0xFFFFFFFF, b"WAVE")
    return start + long + chunk + struct.pack("<4sI", b"data", 0xFFFFFFFF)
