"""Write the single file that liblittlefoot reads: ``littlefoot export MODEL -o model.lf --to file``.

The file contains the steps that the native kernels run, so that its reader is the same for all families.
``native/src/lib/load.cpp`` reads it. All numbers are little-endian:

- **prefix**, 64 bytes: a magic number of 8 bytes; u32 version, u32 CRC-32 of the description, u64 bytes of
  the description, u64 bytes of the file, zeros, u32 CRC-32 of the preceding 60 bytes;
- **description**: a JSON text with information about the model; the sample rate, and whether waveforms are
  normalized; the chunk, left and right context of streams, in frames; the vocabulary (the text of each token,
  the blank, the word delimiter, the separator, strings whose spaces are removed); then the tensors, matrices,
  layers of the front end and steps, each a list with its length before it;
- **tensors**, each at the next multiple of 64 bytes, with zeros between them: numbers in float32 or float16,
  or rows of codes packed by ``littlefoot.artifact.packing``. The description contains their CRC-32.

A text consists of its length in bytes and its UTF-8. A step refers to a value by its number: 0 is the output
of the front end, and n is the output of step n. Matrices in floating point have 16 or 32 bits, inputs of 0
bits and no levels; layers with such a matrix have no rounding.

Version 1, which readers of version 2 read too, had no float16, and matrices in floating point only in a step
of their own, with the number 3.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import SAMPLE_RATE
from littlefoot.errors import ArtifactError, ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.operations import MASKED_SCORE
from littlefoot.runtime.native import front_end, program
from littlefoot.runtime.native.layers import Array, Matrix, Scales
from littlefoot.runtime.native.steps import Host
from littlefoot.runtime.native.unsupported import UnsupportedError
from littlefoot.system import atomic
from littlefoot.system.outputs import writing

MAGIC = b"\x89LFM\r\n\x1a\n"
VERSION = 2
ALIGNMENT = 64
PREFIX = 64
_NONE = 0xFFFFFFFF
_NORMS = {"none": 0, "channels": 1, "time": 2}
_ACTIVATIONS = {"none": 0, "gelu": 1, "relu": 2}
_LINEAR, _CONVOLUTION, _, _NORM, _ADD, _VECTOR, _ACTIVATE, _ATTENTION = range(1, 9)
_TYPES = {"u": 0, "f4": 1, "f2": 2}


def save(artifact: Artifact, name: str, target: Path, licence: str | None = None) -> None:
    """Write an artifact as one file for liblittlefoot. An interrupted call leaves no file.

    Args:
        name: name of the model, which ``littlefoot-run --info`` shows.
        licence: licence of the model, such as ``apache-2.0``; None for the one in the front matter of its
            card, if any.

    Raises:
        ConfigError: the kernels do not support an operation of the network.
        ArtifactError: the file cannot be written.
    """
    content = encode(artifact, name, licence)
    with writing(target, kind=ArtifactError), atomic.file(target) as path:
        path.write_bytes(content)


def encode(artifact: Artifact, name: str, licence: str | None = None) -> bytes:
    """Return the content of the file. Arguments and ConfigError are those of ``save``."""
    try:
        body = Body(artifact)
    except UnsupportedError as error:
        raise ConfigError(
            f"{name} cannot be exported as one file: the native kernels do not support {error}. "
            "littlefoot export --to onnx or --to openvino writes the model for an engine"
        ) from error
    config, start = artifact.config, _Record()
    start.text(json.dumps(_information(artifact, name, licence), ensure_ascii=False))
    start.u32(SAMPLE_RATE, int(artifact.preprocessor.get("do_normalize", True)))
    start.u32(config.chunk_frames, config.left_context_frames, config.right_context_frames)
    _vocabulary(start, artifact.vocabulary)
    return _assemble(start, body)


def _information(artifact: Artifact, name: str, licence: str | None) -> dict[str, Any]:
    """Return the information that ``littlefoot-run --info`` shows."""
    config, quantization = artifact.config, artifact.config.littlefoot.quantization
    found = re.match(r"---\n(?:.*\n)*?license:\s*(\S+)", artifact.card)
    return {
        "name": name,
        "licence": licence or (found[1] if found else None),
        "architecture": config.model_type,
        "parameters": artifact.parameters,
        "frame_ms": config.frame_ms,
        "latency_ms": config.algorithmic_latency_ms,
        "quantization": quantization and quantization.to_dict(),
        "tokens": artifact.vocabulary.tokens,
        "card": artifact.card,
    }


def _vocabulary(record: _Record, vocabulary: Vocabulary) -> None:
    if vocabulary.merges is not None:
        raise ConfigError("the vocabulary has pieces of words: the C library does not support this")
    if vocabulary.lower_case and any("Σ" in token for token in vocabulary.written):
        raise ConfigError(
            "the vocabulary has a capital sigma, whose lower case depends on its position in a word: the C "
            "library does not support this"
        )
    written = [token.lower() if vocabulary.lower_case else token for token in vocabulary.written]
    record.u32(len(written))
    for text in written:
        if "\0" in text:
            raise ConfigError("the vocabulary has a token with a zero byte, which would end a text in C")
        record.text(text)
    record.u32(vocabulary.blank, _NONE if vocabulary.delimiter < 0 else vocabulary.delimiter)
    record.text(vocabulary.separator)
    record.u32(len(vocabulary.cleaned))
    for text in vocabulary.cleaned:
        record.text(text)


class _Record:
    """Bytes of the description."""

    def __init__(self) -> None:
        self.bytes = bytearray()

    def u32(self, *values: int) -> None:
        self.bytes += struct.pack(f"<{len(values)}I", *values)

    def f32(self, *values: float) -> None:
        self.bytes += struct.pack(f"<{len(values)}f", *values)

    def text(self, text: str) -> None:
        encoded = text.encode()
        self.u32(len(encoded))
        self.bytes += encoded

    def optional(self, value: int | None) -> None:
        """Write 1 and the value, or 0 for None."""
        self.u32(*([0] if value is None else [1, value]))


class Body:
    """Tensors, matrices, layers and steps of a network, collected while it is written.

    Raises UnsupportedError for a network that the kernels do not run from end to end.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.tensors: list[npt.NDArray[Any]] = []
        self.matrices = _Record()
        self.matrix_count = 0
        self.front_end = _FrontEnd(self)
        front_end.write(artifact, self.front_end, self.matrix)
        self.program = _Program(self, artifact.config.feature_channels)
        biases = program.write(artifact, self.program, self.matrix, embeds=True)
        _check_masks(artifact.config, biases)

    def tensor(self, array: npt.NDArray[Any]) -> int:
        self.tensors.append(np.ascontiguousarray(array))
        return len(self.tensors) - 1

    def optional(self, record: _Record, array: Array | None) -> None:
        record.optional(None if array is None else self.tensor(array))

    def matrix(self, matrix: Matrix) -> _Numbered:
        """Add a matrix."""
        record = self.matrices
        record.u32(self.tensor(matrix.rows), len(matrix.rows), matrix.columns, matrix.bits, matrix.input_bits)
        record.u32(len(matrix.levels))
        record.bytes += struct.pack(f"<{len(matrix.levels)}i", *matrix.levels)
        self.matrix_count += 1
        return _Numbered(self.matrix_count - 1, len(matrix.rows))

    def layer(self, record: _Record, rounding: Scales | None, bias: Array | None) -> None:
        """Write what belongs to a layer's matrices."""
        if rounding is not None:
            record.f32(rounding.input_scale)
            record.u32(rounding.zero_point, self.tensor(rounding.weight_scale))
            self.optional(record, rounding.smoothing)
            self.optional(record, rounding.shift)
        self.optional(record, bias)


class _Numbered(NamedTuple):
    """A matrix of the file."""

    number: int
    outputs: int


class _FrontEnd:
    """Recorder of layers with the methods of ``littlefoot_native.FrontEnd``."""

    def __init__(self, body: Body) -> None:
        self._body = body
        self.record, self.count = _Record(), 0

    def waveform_layer(self, weight: Array, stride: int, bias: Array | None, **behind: Any) -> None:
        self._begin(weight.shape[1], stride, **behind)
        self.record.u32(len(weight), self._body.tensor(weight))
        self._body.optional(self.record, bias)
        self._end(**behind)

    def window_layer(
        self,
        matrix: _Numbered,
        taps: int,
        stride: int,
        rounding: Scales | None,
        bias: Array | None,
        **behind: Any,
    ) -> None:
        self._begin(taps, stride, **behind)
        self.record.u32(matrix.number)
        self._body.layer(self.record, rounding, bias)
        self._end(**behind)

    def _begin(self, taps: int, stride: int, norm: str, activation: str, **behind: Any) -> None:
        self.record.u32(taps, stride, _NORMS[norm], _ACTIVATIONS[activation])

    def _end(
        self,
        norm: str,
        norm_weight: Array | None,
        norm_bias: Array | None,
        eps: float,
        activation: str,
    ) -> None:
        if norm != "none":
            self._body.optional(self.record, norm_weight)
            self._body.optional(self.record, norm_bias)
            self.record.f32(eps)
        self.count += 1


class _Program:
    """Recorder of steps with the methods of ``littlefoot_native.Program``."""

    def __init__(self, body: Body, width: int) -> None:
        self._body, self._widths = body, [width]
        self.record, self.count = _Record(), 0

    def linear(
        self,
        source: int,
        matrix: _Numbered,
        rounding: Scales | None,
        bias: Array | None,
        activation: str,
        residual: int,
    ) -> int:
        self.record.u32(_LINEAR, source, matrix.number)
        return self._product(matrix.outputs, rounding, bias, activation, residual)

    def convolution(
        self,
        source: int,
        matrices: list[_Numbered],
        taps: int,
        behind: int,
        rounding: Scales | None,
        bias: Array | None,
        activation: str,
        residual: int,
    ) -> int:
        self.record.u32(_CONVOLUTION, source, taps, behind, len(matrices))
        self.record.u32(*(matrix.number for matrix in matrices))
        width = sum(matrix.outputs for matrix in matrices)
        return self._product(width, rounding, bias, activation, residual)

    def layer_norm(self, source: int, weight: Array | None, bias: Array | None, eps: float) -> int:
        self.record.u32(_NORM, source)
        self._body.optional(self.record, weight)
        self._body.optional(self.record, bias)
        self.record.f32(eps)
        return self._value(self._widths[source])

    def add(self, source: int, other: int) -> int:
        self.record.u32(_ADD, source, other)
        return self._value(self._widths[source])

    def add_vector(self, source: int, vector: Array) -> int:
        self.record.u32(_VECTOR, source, self._body.tensor(vector))
        return self._value(self._widths[source])

    def activate(self, source: int, activation: str) -> int:
        self.record.u32(_ACTIVATE, source, _ACTIVATIONS[activation])
        return self._value(self._widths[source])

    def attention(
        self,
        query: tuple[int, int],
        key: tuple[int, int],
        value: tuple[int, int],
        heads: int,
        head_dim: int,
        scale: float,
        query_scale: float,
        key_scale: float,
        bias: int,
    ) -> int:
        self.record.u32(_ATTENTION, heads, head_dim, *query, *key, *value)
        self.record.f32(scale, query_scale, key_scale)
        self.record.u32(int(bias >= 0))
        return self._value(heads * head_dim)

    def _product(
        self, width: int, rounding: Scales | None, bias: Array | None, activation: str, residual: int
    ) -> int:
        self._body.layer(self.record, rounding, bias)
        self.record.u32(_ACTIVATIONS[activation])
        self.record.optional(None if residual < 0 else residual)
        return self._value(width)

    def _value(self, width: int) -> int:
        self._widths.append(width)
        self.count += 1
        return self.count


def _check_masks(config: ModelConfig, biases: list[tuple[Host, ...]]) -> None:
    """Raise UnsupportedError if a bias is not the mask of chunks, the only one that a file can contain."""
    chunk, left = config.chunk_frames, config.left_context_frames
    for bias in biases:
        frame = np.arange(left + 2 * chunk + 1)
        begin = frame[:, None] // max(1, chunk) * chunk
        seen = (frame >= begin - left) & (frame < begin + chunk)
        mask = np.where(seen, 0, MASKED_SCORE).astype(np.float32)
        if not (chunk and np.array_equal(program.total_bias(bias, len(frame))[0], mask)):
            raise UnsupportedError("attention scores with a bias other than a mask of chunks")


def _assemble(start: _Record, body: Body) -> bytes:
    """Build the file. The size of the description does not depend on the positions of the tensors."""
    parts = (
        (body.matrix_count, body.matrices),
        (body.front_end.count, body.front_end.record),
        (body.program.count, body.program.record),
    )
    entry = struct.Struct("<IIQQ")
    size = len(start.bytes) + 4 + entry.size * len(body.tensors)
    size += sum(4 + len(record.bytes) for _, record in parts)
    at = _up(PREFIX + size)
    start.u32(len(body.tensors))
    content = bytearray()
    for array in body.tensors:
        kind = _kind(array)
        stored = array.tobytes() if kind == "u" else array.astype(f"<{kind}", copy=False).tobytes()
        content += bytes(_up(len(content)) - len(content))
        start.bytes += entry.pack(_TYPES[kind], zlib.crc32(stored), at + len(content), len(stored))
        content += stored
    for count, record in parts:
        start.u32(count)
        start.bytes += record.bytes
    description = bytes(start.bytes)
    prefix = struct.pack("<8sIIQQ", MAGIC, VERSION, zlib.crc32(description), size, at + len(content))
    prefix = prefix.ljust(PREFIX - 4, b"\0")
    prefix += struct.pack("<I", zlib.crc32(prefix))
    return prefix + description + bytes(at - PREFIX - size) + bytes(content)


def _kind(array: npt.NDArray[Any]) -> str:
    """Return the key of ``_TYPES`` for a tensor."""
    if array.dtype.kind != "f":
        return "u"
    return "f2" if array.dtype == np.float16 else "f4"


def _up(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
