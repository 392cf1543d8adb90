"""Check that an audio file is complete, where the decoders do not.

libsndfile succeeds on incomplete files: half a WAV or Ogg file gives half the speech without a warning,
damaged Ogg pages are skipped, decoding may stop in the middle of an MP3 without a length header, and only the
first of chained Ogg streams is read. Each check follows the container's structure, in bounded memory, and
describes the fault. For FLAC, whose decoder verifies every frame, only the length is read.

Two kinds of truncation are undetectable: an MP3, AAC or live WebM recording without a length that was cut
exactly between two frames, and a WAV, AU or CAF whose writer left the length open (streamed through a pipe).
"""

import re
import struct
import zlib
from collections.abc import Callable
from typing import BinaryIO, TypeAlias

from littlefoot.errors import AudioError

# Samples that may be trimmed correctly: the length header's own frame, and the encoder's delay and
# padding, which LAME's part of that header holds in 12 bits each.
_MP3_TRIM = 1152 + 2 * 4095
# Chunk lengths that writers leave when they could not seek back to fill in the true one.
_OPEN_LENGTHS = range(0x7FFFF000, 0x80000001)


Check: TypeAlias = Callable[[BinaryIO, int], int]
"""Function that checks a seekable file of a number of bytes, whose position changes. It returns the number of
frames (samples per channel) that decoding must deliver at least, or 0 if the container does not give it. It
raises AudioError, whose message does not name the file, if the file is truncated or damaged."""


def verify(stream: BinaryIO, check: Check | None) -> int:
    """Check that a file is complete, if its format has a check; its position stays.

    The result and the errors are those of the check, with a remedy in the message.
    """
    if check is None:
        return 0
    position = stream.tell()
    try:
        least = check(stream, stream.seek(0, 2))
    except AudioError as error:
        raise AudioError(f"{error}; fetch or export it again") from error
    stream.seek(position)
    return least


def _at(stream: BinaryIO, position: int, count: int) -> bytes:
    stream.seek(position)
    return stream.read(count)


def _require(declared: int, present: int) -> None:
    if declared > present:
        raise AudioError(f"is truncated: its header announces {declared} bytes of audio, {present} are there")


def riff(stream: BinaryIO, size: int) -> int:
    """Check WAV, RF64 and AIFF: chunks of a four-letter name, a 32-bit length and as many bytes, padded to
    even.
    """
    magic = _at(stream, 0, 4)
    order, audio = (">", b"SSND") if magic == b"FORM" else (">" if magic == b"RIFX" else "<", b"data")
    long_length = 0
    position = 12
    while position + 8 <= size:
        name, length = struct.unpack(f"{order}4sI", _at(stream, position, 8))
        if name == b"ds64":  # RF64 keeps 64-bit lengths here: of the file, then of the data
            long_length = int.from_bytes(_at(stream, position + 16, 8), "little")
        if name == audio:
            if length == 0xFFFFFFFF:
                length = long_length
            if length not in _OPEN_LENGTHS:
                _require(length, size - position - 8)
            break
        position += 8 + length + length % 2
    return 0


def caf(stream: BinaryIO, size: int) -> int:
    """Check Core Audio: a four-letter name and a signed 64-bit length; -1 means up to the end of the file."""
    position = 8
    while position + 12 <= size:
        name, length = struct.unpack(">4sq", _at(stream, position, 12))
        if name == b"data" or length < 0:
            _require(length, size - position - 12)
            break
        position += 12 + length
    return 0


def au(stream: BinaryIO, size: int) -> int:
    header = _at(stream, 0, 12)
    if len(header) < 12:
        raise AudioError("is truncated: its header is incomplete")
    start, length = struct.unpack("<II" if header[:4] == b"dns." else ">II", header[4:])
    if length != 0xFFFFFFFF:
        _require(length, size - start)
    return 0


def nist(stream: BinaryIO, size: int) -> int:
    """Check SPHERE: a text header of fields such as ``sample_count -i 46797``."""
    count = re.search(rb"\nsample_count -i (\d{1,12})\n", _at(stream, 0, 1024))
    return int(count[1]) if count else 0


def flac_count(stream: BinaryIO) -> range:
    """Locate the number of samples in a FLAC file's header (RFC 9639, section 8.2): five bytes, of the first
    of which the four lower bits belong to it. Empty if the file does not begin as FLAC does.
    """
    head = _at(stream, 0, 10)
    start = 10 + _syncsafe(head[6:10]) if head[:3] == b"ID3" else 0
    return range(start + 21, start + 26) if _at(stream, start, 5) in _FLAC_STARTS else range(0)


def flac(stream: BinaryIO, size: int) -> int:
    place = flac_count(stream)
    return int.from_bytes(_at(stream, place.start, 5), "big") & (1 << 36) - 1 if place else 0


_FLAC_STARTS = (b"fLaC\0", b"fLaC\x80")  # STREAMINFO, which comes first, and may be the last block too


def _syncsafe(data: bytes) -> int:
    """Decode the length of an ID3 tag: seven bits in each byte."""
    return sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(data))


_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def ogg_checksum(page: bytes) -> int:
    """Compute the CRC-32 of RFC 3533: zlib's polynomial, most significant bit first, started and ended with
    zero.

    zlib works least significant bit first and inverts before and after, so the bits are turned
    around on both sides and the inversions undone.
    """
    value = zlib.crc32(page.translate(_REVERSED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{value:032b}"[::-1], 2)


def ogg(stream: BinaryIO, size: int) -> int:
    """Check Ogg pages (RFC 3533, section 6): complete, undamaged, in sequence, of one stream that ends."""
    position = expected = flags = 0
    serial = None
    while position < size:
        header = _at(stream, position, 27)
        if header[:4] != b"OggS" and flags & 4:
            break  # something foreign, such as a tag, after the end of the stream
        table = stream.read(header[26]) if len(header) == 27 else b""
        page = header + table + stream.read(sum(table))
        if len(header) < 27 or len(page) < 27 + header[26] + sum(table):
            raise AudioError("is truncated: its last Ogg page is incomplete")
        checksum = int.from_bytes(page[22:26], "little")
        if header[:4] != b"OggS" or ogg_checksum(page[:22] + bytes(4) + page[26:]) != checksum:
            raise AudioError(f"is damaged: the Ogg page at byte {position} is not what was written")
        number = int.from_bytes(page[18:22], "little")
        if serial not in (None, page[14:18]):
            raise AudioError("holds more than one Ogg stream, of which only the first could be read")
        if number != expected:
            raise AudioError(f"is damaged: Ogg page {expected} is missing before byte {position}")
        serial, expected, flags = page[14:18], number + 1, header[5]
        position += len(page)
    if not flags & 4:
        raise AudioError("is truncated: its Ogg stream has no last page")
    return 0


_MP3_KBPS = {  # layer III; index 0 ("free format") and 15 are not used
    1: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    2: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_MP3_RATES = (44100, 48000, 32000, 0)


def mp3_frame(header: bytes) -> tuple[int, int]:
    """Return bytes and samples of a layer III frame from its first four bytes; (0, 0) if it is none."""
    word = int.from_bytes(header[:4], "big")
    version = {3: 1, 2: 2, 0: 4}.get(word >> 19 & 3)  # MPEG 1, 2, 2.5: divisors of the rates
    if word >> 21 != 0x7FF or version is None or word >> 17 & 3 != 1:
        return 0, 0
    kbps = _MP3_KBPS[min(version, 2)][word >> 12 & 15]
    rate = _MP3_RATES[word >> 10 & 3] // version
    if not kbps or not rate:
        return 0, 0
    samples = 1152 if version == 1 else 576
    return samples // 8 * kbps * 1000 // rate + (word >> 9 & 1), samples


def _mp3_announced(frame: bytes) -> int:
    """Return the number of frames after this one in a length header; 0 without a length or a header.

    It starts with "Xing", or "Info" where the bit rate is constant, after the side information of an
    empty frame, whose length depends on the kind of frame.
    """
    header = re.search(rb"(?:Xing|Info)(....)(....)", frame, re.DOTALL)
    return int.from_bytes(header[2], "big") if header and header[1][3] & 1 else 0


def mp3(stream: BinaryIO, size: int) -> int:
    """Count the samples frame by frame, past ID3 tags, as far as the frames can be followed."""
    position = samples = frames = announced = 0
    while position + 10 <= size:
        header = _at(stream, position, 10)
        if header[:3] == b"ID3":
            position += 10 + _syncsafe(header[6:10])
            continue
        length, count = mp3_frame(header)
        if not length:
            break
        if not frames:
            announced = _mp3_announced(_at(stream, position, 64))
        position += length
        samples += count
        frames += 1
        if position > size:
            raise AudioError("is truncated: its last MP3 frame is incomplete")
    if frames < announced:
        raise AudioError(f"is truncated: its header announces {announced} MP3 frames, {frames} are there")
    return max(0, samples - _MP3_TRIM)


def boxes(stream: BinaryIO, size: int) -> int:
    """Check MPEG-4 and QuickTime (ISO/IEC 14496-12, section 4.2): 32-bit lengths, names, 64-bit lengths if
    1.
    """
    position = 0
    names = set()
    while position + 8 <= size:
        length, name = struct.unpack(">I4s", _at(stream, position, 8))
        if length == 1:
            length = int.from_bytes(stream.read(8), "big")
        if length == 0:  # up to the end of the file
            length = size - position
        if length < 8:
            break
        names.add(name)
        if position + length > size:
            raise AudioError(
                f"is truncated: {length} bytes of it are announced at byte {position},"
                f" {size - position} are there"
            )
        position += length
    if b"moov" not in names:
        raise AudioError("is truncated, or its recording was interrupted: it has no index (moov)")
    return 0


_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675


def ebml(stream: BinaryIO, size: int) -> int:
    """Check Matroska and WebM (RFC 8794, sections 5 and 6): identifiers and lengths of 1 to 8 bytes.

    A live recording leaves the lengths of its segment and clusters open; their contents are followed instead.
    """
    position = 0
    while position < size:
        header = _at(stream, position, 12)
        width = 9 - header[0].bit_length()  # of the identifier, which keeps its marker
        if width > 4:
            break
        identifier = int.from_bytes(header[:width], "big")
        bytes_of_length = 9 - header[width].bit_length() if len(header) > width else 9
        if len(header) < width + bytes_of_length:
            raise AudioError("is truncated: its last Matroska element is incomplete")
        if bytes_of_length > 8:
            break
        length = int.from_bytes(header[width : width + bytes_of_length], "big")
        length &= (1 << 7 * bytes_of_length) - 1
        is_open = length == (1 << 7 * bytes_of_length) - 1
        position += width + bytes_of_length
        if not is_open and position + length > size:
            raise AudioError(
                f"is truncated: {length} bytes of it are announced at byte {position},"
                f" {size - position} are there"
            )
        if is_open and identifier not in (_SEGMENT, _CLUSTER):
            break
        if identifier != _SEGMENT and not is_open:
            position += length
    return 0


def adts_frame(header: bytes) -> int:
    """Return the bytes of an AAC frame (ISO/IEC 13818-7, section 6.2) from its first seven; 0 if it is
    none.
    """
    if len(header) < 7 or header[0] != 0xFF or header[1] & 0xF6 != 0xF0:
        return 0
    length = (header[3] & 3) << 11 | header[4] << 3 | header[5] >> 5
    return length if length > 7 else 0


def adts(stream: BinaryIO, size: int) -> int:
    position = 0
    while length := adts_frame(_at(stream, position, 7)):
        position += length
    if position > size or (0 < size - position < 7):
        raise AudioError("is truncated: its last AAC frame is incomplete")
    return 0
