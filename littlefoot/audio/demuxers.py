"""Which of FFmpeg's demuxers reads a file, by its first bytes.

FFmpeg itself never guesses: some of its formats (playlists) would open other files. A format that is read is
one row of the tables here.
"""

import re

NAMES = {
    "mov": "MPEG-4 (m4a, mp4, mov, 3gp)",
    "matroska": "Matroska (mkv, mka, webm)",
    "aac": "AAC",
    "loas": "AAC (LATM)",
    "avi": "AVI",
    "mpegts": "MPEG transport stream (ts, m2ts)",
    "mpeg": "MPEG program stream (mpg, vob)",
    "flv": "Flash video",
    "asf": "Windows Media (wma, wmv, asf)",
    "amr": "AMR",
    "ac3": "AC-3",
    "eac3": "E-AC-3",
    "dts": "DTS",
    "rm": "RealMedia",
    "ape": "Monkey's Audio",
    "wv": "WavPack",
    "tta": "True Audio",
    "mpc": "Musepack",
    "mpc8": "Musepack",
    "tak": "TAK",
    "dsf": "DSD",
    "iff": "DSD (dff)",
    "voc": "Creative Voice",
    "w64": "Wave64",
    "mxf": "MXF",
    "qcp": "QCELP",
    "oma": "Sony OpenMG",
    "nut": "NUT",
    "wav": "WAV",
    "ogg": "Ogg",
    "aiff": "AIFF",
    "caf": "CAF",
    "au": "AU",
    "mp3": "MPEG audio",
}
"""By FFmpeg's names, for messages."""

_FIRST: tuple[tuple[str, bytes], ...] = (
    ("mov", rb"....(?:ftyp|moov|mdat|wide|free|skip|pnot)"),
    ("matroska", rb"\x1a\x45\xdf\xa3"),
    ("avi", rb"RIFF....AVI[ X]"),
    ("qcp", rb"RIFF....QLCM"),
    ("flv", rb"FLV\x01"),
    ("asf", rb"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
    ("amr", rb"#!AMR"),
    ("mpeg", rb"\x00\x00\x01\xba"),
    ("eac3", rb"\x0b\x77...[\x58-\x80]"),  # the sixth byte begins with bsid: 11 to 16
    ("ac3", rb"\x0b\x77"),
    ("dts", rb"\x7f\xfe\x80\x01|\xfe\x7f\x01\x80|\x1f\xff\xe8\x00|\xff\x1f\x00\xe8"),
    ("rm", rb"\.RMF"),
    ("ape", rb"MAC "),
    ("wv", rb"wvpk"),
    ("tta", rb"TTA1"),
    ("mpc", rb"MP\+"),
    ("mpc8", rb"MPCK"),
    ("tak", rb"tBaK"),
    ("dsf", rb"DSD "),
    ("iff", rb"FRM8....|FORM....8SVX"),
    ("voc", rb"Creative Voice File"),
    ("w64", rb"riff\x2e\x91\xcf\x11"),
    ("mxf", rb"\x06\x0e\x2b\x34"),
    ("oma", rb"ea3[\x03\x04]|EA3\x01"),
    ("nut", rb"nut/multimedia"),
    ("mpegts", rb"\x47.{187}\x47|.{4}\x47.{191}\x47"),
    ("loas", rb"\x56[\xe0-\xff]"),
    ("aac", rb"ADIF|\xff[\xf0\xf1\xf8\xf9]"),  # ADTS; an MP3 has other layer bits
)
_AFTER_LIBSNDFILE: tuple[tuple[str, bytes], ...] = (
    ("wav", rb"(?:RIFF|RIFX|RF64)....WAVE"),
    ("ogg", rb"OggS"),
    ("aiff", rb"FORM....AIF"),
    ("caf", rb"caff"),
    ("au", rb"\.snd|dns\."),
    ("mp3", rb"\xff[\xe4-\xe7\xf4-\xf7\xfc-\xff]"),  # of layers I and II
)


def demuxer(head: bytes) -> str | None:
    """FFmpeg's name of the format of a file that begins with ``head``, if libsndfile need not be asked."""
    return _named(_FIRST, head)


def fallback(head: bytes) -> str | None:
    """FFmpeg's name of the format of what libsndfile did not read, such as Speex in Ogg or MP3 in WAV."""
    return _named(_AFTER_LIBSNDFILE, head)


def _named(table: tuple[tuple[str, bytes], ...], head: bytes) -> str | None:
    return next((name for name, pattern in table if re.match(pattern, head, re.DOTALL)), None)
