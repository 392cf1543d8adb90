"""liblittlefoot through its C header, for tests: ctypes declarations and a small wrapper."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_double, c_float, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "native"
BUILT = Path(os.environ.get("LITTLEFOOT_LIB_BUILD", ROOT / ".venv" / "liblittlefoot"))
"""Where `make .venv/liblittlefoot/built` puts the library and the programs that check it."""

Array = npt.NDArray[np.float32]

OK, ARGUMENT, CANNOT_READ, NOT_A_MODEL, VERSION, DAMAGED, UNSUPPORTED, MEMORY, FINISHED = range(9)


class Error(Structure):
    _fields_ = (("code", c_int), ("message", c_char * 256))


class Word(Structure):
    _fields_ = (("text", c_char_p), ("start", c_double), ("end", c_double), ("confidence", c_double))


class Segment(Structure):
    _fields_ = (
        ("text", c_char_p),
        ("start", c_double),
        ("end", c_double),
        ("words", POINTER(Word)),
        ("word_count", c_size_t),
    )


class Update(Structure):
    _fields_ = (
        ("partial", c_char_p),
        ("segments", POINTER(Segment)),
        ("segment_count", c_size_t),
        ("logits", POINTER(c_float)),
        ("frames", c_size_t),
    )


class RefusedError(Exception):
    """A code other than LF_OK."""

    def __init__(self, code: int, sentence: str) -> None:
        super().__init__(sentence)
        self.code, self.sentence = code, sentence


class Recognised(NamedTuple):
    text: str
    words: list[tuple[str, float, float, float]]
    logits: Array


class Heard(NamedTuple):
    """What a stream gave: the text of the segment, segments that ended, and logits."""

    partial: str
    segments: list[tuple[str, float, float]]
    logits: Array


class Library:
    """Calls that raise RefusedError instead of returning codes."""

    def __init__(self, path: Path) -> None:
        self.c = ctypes.CDLL(str(path))
        for name in ("lf_version", "lf_description", "lf_kernels", "lf_text"):
            getattr(self.c, name).restype = c_char_p
        self.c.lf_token_count.restype = c_size_t
        self.c.lf_frame_seconds.restype = self.c.lf_stream_latency.restype = c_double
        self.c.lf_words.restype = POINTER(Word)
        self.c.lf_logits.restype = POINTER(c_float)

    def check(self, code: int, error: Error) -> None:
        assert code == error.code
        if code != OK:
            raise RefusedError(code, error.message.decode())

    def open(self, source: Path | bytes, kernels: str | None = None, threads: int = 1) -> Model:
        model, error = c_void_p(), Error()
        name = kernels.encode() if kernels else None
        if isinstance(source, bytes):
            code = self.c.lf_open_memory(
                c_char_p(source), c_size_t(len(source)), name, threads, byref(model), byref(error)
            )
        else:
            code = self.c.lf_open(os.fsencode(source), name, threads, byref(model), byref(error))
        assert bool(model) == (code == OK)
        self.check(code, error)
        return Model(self, model)


class Model:
    def __init__(self, library: Library, pointer: c_void_p) -> None:
        self._library, self._c, self._model = library, library.c, pointer
        self.tokens = self._c.lf_token_count(pointer)
        self.description: str = self._c.lf_description(pointer).decode()
        self.streaming = bool(self._c.lf_is_streaming(pointer))

    def __del__(self) -> None:
        self._c.lf_close(self._model)

    def transcribe(self, samples: Array) -> Recognised:
        result, error, count = c_void_p(), Error(), c_size_t()
        code = self._c.lf_transcribe(
            self._model, _pointer(samples), c_size_t(len(samples)), byref(result), byref(error)
        )
        self._library.check(code, error)
        try:
            found = self._c.lf_words(result, byref(count))
            words = [(w.text.decode(), w.start, w.end, w.confidence) for w in found[: count.value]]
            logits = self._c.lf_logits(result, byref(count))
            return Recognised(
                self._c.lf_text(result).decode(), words, _array(logits, count.value, self.tokens)
            )
        finally:
            self._c.lf_free(result)

    def stream(self, chunk_frames: int = 0) -> Stream:
        stream, error = c_void_p(), Error()
        code = self._c.lf_stream_open(self._model, chunk_frames, byref(stream), byref(error))
        self._library.check(code, error)
        return Stream(self._library, stream, self.tokens)


class Stream:
    def __init__(self, library: Library, pointer: c_void_p, tokens: int) -> None:
        self._library, self._c, self._stream, self._tokens = library, library.c, pointer, tokens
        self.latency_seconds: float = self._c.lf_stream_latency(pointer)

    def __del__(self) -> None:
        self._c.lf_stream_close(self._stream)

    def feed(self, samples: Array) -> Heard:
        return self._call(self._c.lf_stream_feed, _pointer(samples), c_size_t(len(samples)))

    def finish(self) -> Heard:
        return self._call(self._c.lf_stream_finish)

    def _call(self, function: Any, *arguments: Any) -> Heard:
        update, error = Update(), Error()
        self._library.check(function(self._stream, *arguments, byref(update), byref(error)), error)
        segments = [(s.text.decode(), s.start, s.end) for s in update.segments[: update.segment_count]]
        return Heard(update.partial.decode(), segments, _array(update.logits, update.frames, self._tokens))


def feed_all(stream: Stream, samples: Array, size: int) -> Iterator[Heard]:
    """Feed samples in pieces of one size, and finish."""
    for at in range(0, len(samples), size):
        yield stream.feed(samples[at : at + size])
    yield stream.finish()


def build(folder: Path, *settings: str) -> Path:
    """Build the library into a folder with CMake. Needs it and a compiler."""
    configure = ("cmake", "-S", str(SOURCES), "-B", str(folder), "-DCMAKE_BUILD_TYPE=Release", *settings)
    for command in (configure, ("cmake", "--build", str(folder), "-j", "2")):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def missing_tools(*tools: str) -> list[str]:
    return [tool for tool in tools if shutil.which(tool) is None]


def _pointer(samples: Array) -> Any:
    assert samples.dtype == np.float32
    assert samples.flags.c_contiguous
    return samples.ctypes.data_as(POINTER(c_float))


def _array(pointer: Any, rows: int, columns: int) -> Array:
    if not rows:
        return np.zeros((0, columns), np.float32)
    return np.ctypeslib.as_array(pointer, (rows, columns)).copy()
