"""Read and write safetensors files as numpy arrays, bfloat16 included.

Arrays are views of a private memory map: nothing is copied before it is used, and engines that require
writable memory can share it. Arrays that do not begin at a multiple of their numbers' size are copied.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.errors import CheckpointError

Arrays = dict[str, npt.NDArray[Any]]

_DTYPES: dict[str, npt.DTypeLike] = {
    "I64": np.int64,
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": np.uint16,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_HEADER_LIMIT = 100_000_000
_MAPPED_AROUND = 1 << 16
"""Bytes that Linux maps around a page that is read; a multiple of its size."""


def read(path: Path) -> tuple[Arrays, dict[str, str]]:
    """Read the tensors of a file, with bfloat16 widened to float32, and its metadata.

    Raises CheckpointError that names the file and its fault.
    """
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size < 8:
                raise CheckpointError(f"{path}: not a safetensors file, or cut off: it has {size} bytes")
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(size - 8, _HEADER_LIMIT):
        raise CheckpointError(
            f"{path}: not a safetensors file, or cut off: its header is longer than the file"
        )
    try:
        header = json.loads(data[8 : 8 + length])
        metadata = header.pop("__metadata__", {})
        tensors = {name: _tensor(data, 8 + length, entry) for name, entry in header.items()}
        _check_places([entry["data_offsets"] for entry in header.values()], size - 8 - length)
        return tensors, dict(metadata)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError) as error:
        raise CheckpointError(f"{path}: damaged safetensors header, or cut off ({error})") from error


def _tensor(data: mmap.mmap, base: int, entry: Mapping[str, Any]) -> npt.NDArray[Any]:
    start, end = entry["data_offsets"]
    shape = tuple(entry["shape"])
    if not all(type(number) is int for number in (start, end, *shape)):
        raise ValueError("a tensor's shape and place must be integers")
    if entry["dtype"] not in _DTYPES:
        raise ValueError(f"tensors of type {entry['dtype']} are not supported")
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    count = int(np.prod(shape, dtype=np.int64))
    if any(size < 0 for size in shape) or start < 0 or count * dtype.itemsize != end - start:
        raise ValueError("a tensor's shape and size disagree")
    array = np.frombuffer(data, dtype, count, base + start).reshape(shape)
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (array.astype(np.uint32) << 16).view(np.float32)
    return array if array.flags.aligned else array.copy()


def _check_places(places: list[Sequence[int]], size: int) -> None:
    """Check that the tensors follow one another and fill the file, as the format demands.

    Tensors that overlap would take more memory than the file has bytes. Raises ValueError.
    """
    reached = 0
    for start, end in sorted(map(tuple, places)):
        if start != reached:
            raise ValueError("tensors overlap" if start < reached else "there are bytes between tensors")
        reached = end
    if reached != size:
        raise ValueError(f"the tensors have {reached} bytes, and the file {size}")


def release(array: npt.NDArray[Any]) -> None:
    """Give the memory of an array of ``read`` back. What is read again is loaded from the disk again, without
    changes that were made in place.

    An array in memory of its own is left alone.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if not isinstance(base, mmap.mmap) or not hasattr(mmap, "MADV_DONTNEED"):
        return
    begin = array.ctypes.data - np.frombuffer(base, np.uint8).ctypes.data
    first = begin // _MAPPED_AROUND * _MAPPED_AROUND
    end = min(-(-(begin + array.nbytes) // _MAPPED_AROUND) * _MAPPED_AROUND, len(base))
    base.madvise(mmap.MADV_DONTNEED, first, end - first)


def write(path: Path, arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> None:
    """Write a file and flush it to the disk."""
    from safetensors.numpy import save_file

    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path, dict(metadata))
    path.chmod(0o644)  # safetensors makes files that only their owner can read
    with path.open("rb") as file:
        os.fsync(file.fileno())


def file_bytes(arrays: Mapping[str, npt.NDArray[Any]], metadata: Mapping[str, str]) -> int:
    """Return the number of bytes of the file that ``write`` would make."""
    kinds = {np.dtype(dtype): kind for kind, dtype in _DTYPES.items() if kind != "BF16"}
    ranks = {dtype: rank for rank, dtype in enumerate(kinds)}  # of those of the same width
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0

    def order(item: tuple[str, npt.NDArray[Any]]) -> tuple[int, int, str]:
        return -item[1].dtype.itemsize, ranks[item[1].dtype], item[0]

    for name, array in sorted(arrays.items(), key=order):
        start, end = end, end + array.nbytes
        entry = {"dtype": kinds[array.dtype], "shape": list(array.shape), "data_offsets": [start, end]}
        header[name] = entry
    length = len(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode())
    return 8 + -(-length // 8) * 8 + end


def checksums(arrays: Mapping[str, npt.NDArray[Any]]) -> dict[str, str]:
    """Compute a digest of each tensor's type, shape and bytes."""
    with ThreadPoolExecutor() as pool:
        return dict(zip(arrays, pool.map(_checksum, arrays.values()), strict=True))


def _checksum(array: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256(f"{array.dtype.name} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).view(np.uint8).data if array.size else b"")
    return digest.hexdigest()[:32]
