"""Read AIFF, AU and CAF files whose headers give a wrong length of the audio.

As in WAV (``littlefoot.audio.wav``), the length may be 0, too large by a header, or too small although no
chunk follows. libsndfile gets the file with the correct length.
"""

import io
import struct
from collections.abc import Callable
from typing import BinaryIO, NamedTuple

from littlefoot.audio.wav import SLACK


class Length(NamedTuple):
    """The length of the audio in a header, and its location."""

    place: int
    """First byte of the number."""
    form: str
    """Format of the number, for ``struct``."""
    declared: int
    present: int
    """Bytes after the header."""
    names: str | None
    """Format of the name and length of a chunk that may follow; None if none can."""


def patched(stream: BinaryIO) -> tuple[BinaryIO, str | None]:
    """Return the file with a correct length, and the fault of its header. The position changes."""
    size = stream.seek(0, 2)
    finder = _FINDERS.get(_at(stream, 0, 4))
    found = finder(stream, size) if finder is not None else None
    if found is None or found.declared < 0:
        return stream, None
    if found.present > found.declared == 0:
        wanted, warning = found.present, "its header gives no length: it is read to its end"
    elif 0 < found.declared - found.present <= SLACK:
        wanted, warning = found.present, ""
    elif 0 < found.declared < found.present and not _chunk_follows(stream, found, size):
        wanted = found.present
        warning = f"its header announces {found.declared} bytes of audio, {wanted} are there: all are read"
    else:
        return stream, None
    try:
        number = struct.pack(found.form, wanted)
    except struct.error:
        return stream, None
    return _Patched(stream, found.place, number), warning or None  # type: ignore[return-value]


def _chunk_follows(stream: BinaryIO, found: Length, size: int) -> bool:
    rest = found.present - found.declared
    if found.names is None:
        return False
    for place in (size - rest, size - rest + found.declared % 2):
        head = _at(stream, place, struct.calcsize(found.names))
        if len(head) < struct.calcsize(found.names):
            return True  # too few bytes for audio
        name, length = struct.unpack(found.names, head)
        if all(0x20 <= byte < 0x7F for byte in name) and 0 <= length <= rest:
            return True
    return False


def _au(stream: BinaryIO, size: int) -> Length | None:
    header = _at(stream, 0, 12)
    order = "<" if header[:4] == b"dns." else ">"
    if len(header) < 12:
        return None
    start, declared = struct.unpack(f"{order}II", header[4:])
    return Length(8, f"{order}I", -1 if declared == 0xFFFFFFFF else declared, size - start, None)


def _aiff(stream: BinaryIO, size: int) -> Length | None:
    """Find the length in AIFF, whose other count, of samples, libsndfile ignores."""
    position = 12
    while position + 8 <= size:
        name, length = struct.unpack(">4sI", _at(stream, position, 8))
        if name == b"SSND":
            return Length(position + 4, ">I", length, size - position - 8, ">4sI")
        position += 8 + length + length % 2
    return None


def _caf(stream: BinaryIO, size: int) -> Length | None:
    position = 8
    while position + 12 <= size:
        name, length = struct.unpack(">4sq", _at(stream, position, 12))
        if name == b"data":
            return Length(position + 4, ">q", length, size - position - 12, ">4sq")
        if length < 0:
            break
        position += 12 + length
    return None


_FINDERS: dict[bytes, Callable[[BinaryIO, int], Length | None]] = {
    b".snd": _au,
    b"dns.": _au,
    b"FORM": _aiff,
    b"caff": _caf,
}


def _at(stream: BinaryIO, position: int, count: int) -> bytes:
    stream.seek(position)
    return stream.read(count)


class _Patched(io.RawIOBase):
    """A file with some bytes replaced."""

    def __init__(self, stream: BinaryIO, place: int, content: bytes) -> None:
        self._stream, self._place, self._content = stream, place, content

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def read(self, count: int | None = -1) -> bytes:
        begin = self._stream.tell()
        data = bytearray(self._stream.read(-1 if count is None else count))
        for offset, byte in enumerate(self._content):
            if 0 <= self._place + offset - begin < len(data):
                data[self._place + offset - begin] = byte
        return bytes(data)
