"""The operations of a backend, over which the network is described.

``littlefoot.training.torch_ops`` carries them out on tensors with gradients; ``littlefoot.runtime.onnx_ops``
adds them to an ONNX graph. Shapes are those of ``littlefoot.network.encoder``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Tensor = Any
"""A value of the backend in use. It supports + - * and //, with numpy's broadcasting."""

CNN_NORM_EPS = 1e-5
MASKED_SCORE = -1e9
"""Summand of attention scores of padding: exp() of it is zero, and it is finite in bfloat16."""


class Ops(Protocol):
    """The operations of a backend. ``name`` is the weights' name without .weight / .bias."""

    def segment(self, name: str, part: Callable[..., Any], *values: Any) -> Any:
        """Compute ``part(*values)``, a part of the network that uses weights below ``name``."""

    def conv1d(
        self, x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Tensor:
        """Convolve (B, C, T) -> (B, C', T')."""

    def conv2d(
        self, x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Tensor:
        """Convolve images (B, C, F, M) -> (B, C', F', M') in floating point, alike along F and M."""

    def fixed_conv1d(
        self,
        x: Tensor,
        kernel: npt.NDArray[np.float32],
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> Tensor:
        """Convolve (B, C, T) -> (B, C', T') with a constant kernel (C', C, K), which is never quantized."""

    def linear(self, x: Tensor, name: str) -> Tensor:
        """Apply a linear layer, (..., C) -> (..., C')."""

    def layer_norm(self, x: Tensor, name: str | None, eps: float, axis: int = -1) -> Tensor:
        """Normalise over ``axis``; without scale and shift if ``name`` is None."""

    def group_norm(self, x: Tensor, name: str, eps: float, valid: Tensor | None) -> Tensor:
        """Normalise each channel of (B, C, T) over time, counting only frames where ``valid`` (B, T) is 1."""

    def mirrored(self, x: Tensor, before: int, after: int, lengths: Tensor | None) -> Tensor:
        """Continue waveforms (B, T) on both sides by their own samples in reverse order, without those at the
        ends: (B, before + T + after). A waveform ends at its length (B,), and without lengths at T.
        """

    def masked(self, x: Tensor, valid: Tensor, value: float) -> Tensor:
        """Set the frames of (B, C, T) where ``valid`` (B, T) is 0 to a value."""

    def largest(self, x: Tensor) -> Tensor:
        """Return the largest value of each (C, T): (B, C, T) -> (B, 1, 1)."""

    def affine(self, x: Tensor, name: str) -> Tensor:
        """Scale and shift each channel of (B, C, T)."""

    def activation(self, x: Tensor, kind: str) -> Tensor:
        """One of ``littlefoot.network.activations.PRIMITIVES``."""

    def average_pool(self, x: Tensor, size: int) -> Tensor:
        """Mean of each ``size`` frames, (B, C, T) -> (B, C, T // size)."""

    def pad_to(self, x: Tensor, like: Tensor) -> Tensor:
        """Add frames of zeros to (B, F', D) until there are as many as in another value (B, F, C)."""

    def standardize(self, x: Tensor, eps: float, valid: Tensor | None, of_deviation: bool = False) -> Tensor:
        """Bring each channel of (B, C, T) to mean 0 and unbiased variance 1 over time, counting only frames
        where ``valid`` (B, T) is 1. ``eps`` is added to the variance, or to the deviation.
        """

    def sinusoids(self, positions: Tensor, rates: npt.NDArray[np.float32]) -> Tensor:
        """Return (N, 2 R): sines, then cosines, of integers (N,) times each of R rates."""

    def skew(self, x: Tensor) -> Tensor:
        """Return (B, H, F, F) of (B, H, F, 2 F): in row i and column j what stands in column F - i + j."""

    def log(self, x: Tensor) -> Tensor: ...
    def sigmoid(self, x: Tensor) -> Tensor: ...
    def softmax(self, x: Tensor) -> Tensor:
        """Compute the softmax over the last axis."""

    def matmul(self, a: Tensor, b: Tensor, name: str | None = None) -> Tensor:
        """Multiply two values; a product with a name may be quantized."""

    def sum(self, x: Tensor, axis: int) -> Tensor: ...
    def clip(self, x: Tensor, low: int, high: int) -> Tensor: ...
    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """Reshape; 0 keeps a dimension, and -1 takes the remaining entries."""

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor: ...
    def slice(self, x: Tensor, axis: int, start: int, end: int | None) -> Tensor:
        """Take the entries up to ``end``, which counts from the end if it is negative; all of them if it is
        None.
        """

    def concat(self, values: Sequence[Tensor], axis: int) -> Tensor: ...
    def last(self, x: Tensor, axis: int, count: int) -> Tensor:
        """Take the last ``count`` entries along an axis."""

    def less(self, a: Tensor, b: Tensor) -> Tensor:
        """Return 1.0 if integers a < b, else 0.0."""

    def gather(self, table: Tensor, indices: Tensor) -> Tensor:
        """Look up rows of ``table``."""

    def positions(self, x: Tensor, axis: int) -> Tensor:
        """Return the integers 0 ... n - 1 along an axis of x."""

    def valid(self, lengths: Tensor, x: Tensor, axis: int) -> Tensor:
        """Return (B, n), 1.0 before each length (B,) and 0.0 after it; n is the size of x along ``axis``."""

    def weight(self, name: str) -> Tensor: ...
    def constant(self, value: npt.NDArray[Any]) -> Tensor: ...
    def dropout(self, x: Tensor, probability: float) -> Tensor:
        """Apply dropout in training; do nothing otherwise."""

    def mask_spans(self, x: Tensor) -> Tensor:
        """Mask spans of the projected features (B, F, D) in training (SpecAugment); do nothing otherwise."""

    def begin_anywhere(self, positions: Tensor, count: int) -> Tensor:
        """Shift frame numbers (F,) at random below ``count`` in training; do nothing otherwise."""


def same_padding(kernel: int) -> tuple[int, int]:
    """Return the padding that keeps the length; an even kernel reads one frame less after each frame."""
    return kernel // 2, (kernel - 1) // 2
