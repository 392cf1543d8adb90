"""List the audio formats in one table, for files, pipes, uploads and live streams.

The first bytes identify a format, never the name of a file. libsndfile reads some formats, and FFmpeg
(``littlefoot.audio.media``) the others. FFmpeg itself never guesses: some of its formats (playlists) would
open other files.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from importlib.util import find_spec

from littlefoot.audio import containers

CONVERT = "convert it with: ffmpeg -i INPUT -ar 16000 -ac 1 OUTPUT.wav"
"""The remedy for recordings that cannot be read."""
CONVERT_TO_PCM = "convert it with: ffmpeg -i INPUT -f s16le -ac 1 -ar 16000 -"
"""The remedy where bare samples are expected."""


@dataclass(frozen=True)
class Format:
    """A row of the table."""

    name: str
    """Name for messages."""
    magic: bytes
    """Pattern of the first bytes, a regular expression."""
    suffixes: tuple[str, ...] = ()
    """Suffixes of files that are taken from a folder. Files that you name may have any suffix."""
    libsndfile: tuple[str, ...] | None = None
    """libsndfile's names, if it is the reader; None if FFmpeg is."""
    demuxer: str | None = None
    """FFmpeg's name, if it is the reader, or if it reads contents that libsndfile does not read."""
    exact_length: bool = False
    """Whether the reader takes an exact length from the header."""
    check: containers.Check | None = None
    """Check that a file is complete (``littlefoot.audio.containers``)."""
    is_plain: bool = False
    """Whether its reader is robust enough to decode files in this process."""
    is_certain: bool = True
    """Whether bare samples are unlikely to begin with the same bytes."""

    @property
    def is_read_by_ffmpeg(self) -> bool:
        """Return True if FFmpeg is the reader, and not only the fallback of libsndfile."""
        return self.libsndfile is None


_LAYER_3 = rb"\xff[\xe2\xe3\xf2\xf3\xfa\xfb][%s]" % re.escape(
    bytes(byte for byte in range(0x10, 0xF0) if byte & 0x0C != 0x0C)  # a bit rate, and a sampling rate
)
_WAV = Format(
    "WAV",
    rb"RIFF....WAVEfmt ....(?:\x01\0|\x03\0|\xfe\xff)",  # integers, floats, or the extensible form
    (".wav",),
    ("WAV", "WAVEX", "RF64"),
    demuxer="wav",
    exact_length=True,
    check=containers.riff,
    is_plain=True,
)
_MP3 = Format("MP3", rb"ID3", (".mp3",), ("MP3",), check=containers.mp3, is_plain=True)

FORMATS = (
    # The formats of FFmpeg come first, since some begin like a WAV or an AIFF file.
    Format(
        "MPEG-4 (m4a, mp4, mov, 3gp)",
        rb"....(?:ftyp|moov|mdat|wide|free|skip|pnot)",
        (".m4a", ".m4b", ".m4v", ".mp4", ".mov", ".3gp"),
        demuxer="mov",
        exact_length=True,
        check=containers.boxes,
    ),
    Format(
        "Matroska (mkv, mka, webm)",
        rb"\x1a\x45\xdf\xa3",
        (".webm", ".mkv", ".mka"),
        demuxer="matroska",
        check=containers.ebml,
    ),
    Format("AVI", rb"RIFF....AVI[ X]", (".avi",), demuxer="avi"),
    Format("QCELP", rb"RIFF....QLCM", demuxer="qcp"),
    Format("Flash video", rb"FLV\x01", (".flv",), demuxer="flv"),
    Format(
        "Windows Media (wma, wmv, asf)",
        rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11",
        (".wma", ".wmv"),
        demuxer="asf",
    ),
    Format("AMR", rb"#!AMR", (".amr",), demuxer="amr"),
    Format(
        "MPEG program stream (mpg, vob)", rb"\x00\x00\x01\xba", (".mpg",), demuxer="mpeg", is_certain=False
    ),
    # The sixth byte of E-AC-3 begins with bsid: 11 to 16.
    Format("E-AC-3", rb"\x0b\x77...[\x58-\x80]", demuxer="eac3", is_certain=False),
    Format("AC-3", rb"\x0b\x77", (".ac3",), demuxer="ac3", is_certain=False),
    Format(
        "DTS",
        rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|\x1f\xff\xe8\x00|\xff\x1f\x00\xe8",
        demuxer="dts",
        is_certain=False,
    ),
    Format("RealMedia", rb"\.RMF", demuxer="rm"),
    Format("Monkey's Audio", rb"MAC ", (".ape",), demuxer="ape"),
    Format("WavPack", rb"wvpk", (".wv",), demuxer="wv"),
    Format("True Audio", rb"TTA1", demuxer="tta"),
    Format("Musepack", rb"MP\+", demuxer="mpc"),
    Format("Musepack", rb"MPCK", demuxer="mpc8"),
    Format("TAK", rb"tBaK", demuxer="tak"),
    Format("DSD", rb"DSD ", demuxer="dsf"),
    Format("DSD (dff)", rb"FRM8....|FORM....8SVX", demuxer="iff"),
    Format("Creative Voice", rb"Creative Voice File", demuxer="voc"),
    Format("Wave64", rb"riff\x2e\x91\xcf\x11", (".w64",), demuxer="w64"),
    Format("MXF", rb"\x06\x0e\x2b\x34", demuxer="mxf", is_certain=False),
    Format("Sony OpenMG", rb"ea3[\x03\x04]|EA3\x01", demuxer="oma"),
    Format("NUT", rb"nut/multimedia", demuxer="nut"),
    Format("AAC (LATM)", rb"\x56[\xe0-\xff]", demuxer="loas", is_certain=False),
    # ADTS; an MP3 has other layer bits.
    Format(
        "AAC",
        rb"ADIF|\xff[\xf0\xf1\xf8\xf9]",
        (".aac",),
        demuxer="aac",
        check=containers.adts,
        is_certain=False,
    ),
    # The formats of libsndfile, with contents that FFmpeg reads, such as Speex in Ogg or MP3 in WAV.
    _WAV,
    replace(_WAV, magic=rb"(?:RIFF|RIFX|RF64)....WAVE", is_plain=False),
    Format(
        "FLAC",
        rb"fLaC",
        (".flac",),
        ("FLAC",),
        exact_length=True,
        check=containers.flac,
        is_plain=True,
    ),
    Format(
        "Ogg",
        rb"OggS",
        (".ogg", ".oga", ".opus", ".spx"),
        ("OGG",),
        demuxer="ogg",
        exact_length=True,
        check=containers.ogg,
        is_plain=True,
    ),
    _MP3,
    replace(_MP3, magic=_LAYER_3, is_certain=False),
    # Layers I and II. libsndfile calls them MP3.
    Format(
        "MPEG audio",
        rb"\xff[\xe4-\xe7\xf4-\xf7\xfc-\xff]",
        (".mp2",),
        (),
        demuxer="mp3",
        is_certain=False,
    ),
    Format(
        "AIFF",
        rb"FORM....AIF",
        (".aif", ".aiff"),
        ("AIFF",),
        demuxer="aiff",
        exact_length=True,
        check=containers.riff,
    ),
    Format("AU", rb"\.snd|dns\.", (".au",), ("AU",), demuxer="au", exact_length=True, check=containers.au),
    Format("CAF", rb"caff", (".caf",), ("CAF",), demuxer="caf", exact_length=True, check=containers.caf),
    Format("NIST SPHERE", rb"NIST", (".sph",), ("NIST",), exact_length=True, check=containers.nist),
    Format("RIFF or IFF of unknown content", rb"RIFF|RIFX|RF64|FORM", libsndfile=()),
    # The last one, since two bytes that are far apart identify it.
    Format(
        "MPEG transport stream (ts, m2ts)",
        rb"\x47.{187}\x47|.{4}\x47.{191}\x47",
        (".ts", ".m2ts"),
        demuxer="mpegts",
        is_certain=False,
    ),
)
"""The first row whose pattern matches counts. To read another format, add a row."""

SUFFIXES = tuple(
    dict.fromkeys(
        suffix
        for each in sorted(FORMATS, key=lambda each: each.is_read_by_ffmpeg)
        for suffix in each.suffixes
    )
)
"""Suffixes of files that are taken from a folder; those that need no FFmpeg come first."""

_OF_LIBSNDFILE = list(dict.fromkeys(each.name for each in FORMATS if each.libsndfile))


def readable() -> str:
    """State which formats are read, and what to do with another, for messages."""
    known = f"{', '.join(_OF_LIBSNDFILE[:-1])} and {_OF_LIBSNDFILE[-1]} are read, and what FFmpeg reads"
    if find_spec("av") is None:
        return f"{known} with: pip install 'littlefoot[media]'; or {CONVERT}"
    return f"{known}; {CONVERT}"


MAGIC_BYTES = 200
"""Number of bytes that ``sniff`` needs."""


def sniff(head: bytes) -> Format | None:
    """Return the format of data that begin with ``head``, or None if they begin like none in the table."""
    return next((each for each in FORMATS if re.match(each.magic, head, re.DOTALL)), None)


def is_file(head: bytes) -> bool:
    """Return True if data that begin with ``head``, some kilobytes, are a file rather than bare samples."""
    found = sniff(head)
    if found is not None and found.is_certain:
        return True
    # Bare samples may begin like the header of one frame, but not like two in a row.
    for length in (containers.mp3_frame(head)[0], containers.adts_frame(head)):
        second = head[length : length + 7]
        if length and (containers.mp3_frame(second)[0] or containers.adts_frame(second)):
            return True
    return False


def of_libsndfile(name: str) -> Format | None:
    """Return the format with this name in libsndfile, or None if littlefoot does not read it."""
    return next((each for each in FORMATS if name in (each.libsndfile or ())), None)
