"""A teacher's log posteriors of a frame as 16-bit numbers: all of them, or the likeliest tokens'."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt


def record_width(vocabulary_size: int, top_k: int) -> int:
    """Return the count of 16-bit numbers that are kept of a frame."""
    return 2 * top_k if top_k else vocabulary_size


def pack(log_posteriors: npt.NDArray[np.float32], top_k: int) -> npt.NDArray[np.uint16]:
    """Return (F, V) as 16-bit numbers (F, record): tokens, then their values as float16; or all values."""
    if not top_k:
        return log_posteriors.astype(np.float16).view(np.uint16)
    tokens = np.argsort(-log_posteriors, axis=1, kind="stable")[:, :top_k]
    values = np.take_along_axis(log_posteriors, tokens, 1).astype(np.float16)
    return np.concatenate([tokens.astype(np.uint16), values.view(np.uint16)], 1)


def unpack(records: npt.NDArray[np.uint16], vocabulary_size: int, top_k: int) -> npt.NDArray[np.float32]:
    """Return the log posteriors (F, V) of what ``pack`` made."""
    if not top_k:
        return records.view(np.float16).astype(np.float32)
    tokens = records[:, :top_k].astype(np.int64)
    values = np.ascontiguousarray(records[:, top_k:]).view(np.float16).astype(np.float32)
    others = max(vocabulary_size - top_k, 1)
    left = np.clip(1 - np.exp(values).sum(1), 1e-6, None) / others
    result = np.repeat(np.log(left)[:, None], vocabulary_size, 1).astype(np.float32)
    np.put_along_axis(result, tokens, values, 1)
    return result
