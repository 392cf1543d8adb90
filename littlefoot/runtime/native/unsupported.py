"""Refuse the operations of the encoder that a native backend does not support."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from littlefoot.errors import LittlefootError
from littlefoot.network.operations import Ops

ACTIVATIONS = ("gelu", "relu")
"""The kernels compute these of ``littlefoot.network.activations.PRIMITIVES``."""


class UnsupportedError(LittlefootError):
    """A network has an operation, named by the message, that the native package does not support."""


def _refuse(operation: str) -> NoReturn:
    raise UnsupportedError(f"the operation {operation}")


class LimitedOps(Ops):
    """Every operation of ``littlefoot.network.encoder``, without an implementation.

    A backend overrides the operations that it supports; the others raise UnsupportedError. Operations that
    have an effect only in training return their input.
    """

    def segment(self, name: str, part: Callable[..., Any], *values: Any) -> Any:
        return part(*values)

    def dropout(self, x: Any, probability: float) -> Any:
        return x

    def mask_spans(self, x: Any) -> Any:
        return x

    def conv1d(
        self, x: Any, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Any:
        _refuse("conv1d")

    def conv2d(
        self, x: Any, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Any:
        _refuse("conv2d")

    def fixed_conv1d(
        self, x: Any, kernel: npt.NDArray[np.float32], stride: int = 1, padding: tuple[int, int] = (0, 0)
    ) -> Any:
        _refuse("fixed_conv1d")

    def linear(self, x: Any, name: str) -> Any:
        _refuse("linear")

    def layer_norm(self, x: Any, name: str | None, eps: float, axis: int = -1) -> Any:
        _refuse("layer_norm")

    def group_norm(self, x: Any, name: str, eps: float, valid: Any) -> Any:
        _refuse("group_norm")

    def mirrored(self, x: Any, before: int, after: int, lengths: Any) -> Any:
        _refuse("mirrored")

    def masked(self, x: Any, valid: Any, value: float) -> Any:
        _refuse("masked")

    def largest(self, x: Any) -> Any:
        _refuse("largest")

    def affine(self, x: Any, name: str) -> Any:
        _refuse("affine")

    def activation(self, x: Any, kind: str) -> Any:
        _refuse("activation")

    def average_pool(self, x: Any, size: int) -> Any:
        _refuse("average_pool")

    def pad_to(self, x: Any, like: Any) -> Any:
        _refuse("pad_to")

    def standardize(self, x: Any, eps: float, valid: Any, of_deviation: bool = False) -> Any:
        _refuse("standardize")

    def sinusoids(self, positions: Any, rates: npt.NDArray[np.float32]) -> Any:
        _refuse("sinusoids")

    def skew(self, x: Any) -> Any:
        _refuse("skew")

    def log(self, x: Any) -> Any:
        _refuse("log")

    def sigmoid(self, x: Any) -> Any:
        _refuse("sigmoid")

    def softmax(self, x: Any) -> Any:
        _refuse("softmax")

    def matmul(self, a: Any, b: Any, name: str | None = None) -> Any:
        _refuse("matmul")

    def sum(self, x: Any, axis: int) -> Any:
        _refuse("sum")

    def clip(self, x: Any, low: int, high: int) -> Any:
        _refuse("clip")

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        _refuse("reshape")

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        _refuse("transpose")

    def slice(self, x: Any, axis: int, start: int, end: int | None) -> Any:
        _refuse("slice")

    def concat(self, values: Sequence[Any], axis: int) -> Any:
        _refuse("concat")

    def last(self, x: Any, axis: int, count: int) -> Any:
        _refuse("last")

    def less(self, a: Any, b: Any) -> Any:
        _refuse("less")

    def gather(self, table: Any, indices: Any) -> Any:
        _refuse("gather")

    def positions(self, x: Any, axis: int) -> Any:
        _refuse("positions")

    def valid(self, lengths: Any, x: Any, axis: int) -> Any:
        _refuse("valid")

    def weight(self, name: str) -> Any:
        _refuse("weight")

    def constant(self, value: npt.NDArray[Any]) -> Any:
        _refuse("constant")

    def begin_anywhere(self, positions: Any, count: int) -> Any:
        _refuse("begin_anywhere")
