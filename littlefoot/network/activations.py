"""The activations of transformers, by their names there, over the few that backends offer.

Functions with parameters of their own, ``prelu`` and ``xielu``, are not among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

Tensor = Any


class _Ops(Protocol):
    def activation(self, x: Tensor, kind: str) -> Tensor: ...


Activation = Callable[[_Ops, Tensor], Tensor]

PRIMITIVES = ("gelu", "gelu_tanh", "relu", "sigmoid", "tanh", "erf", "softplus")
"""Kinds that ``Ops.activation`` computes."""


def activate(ops: _Ops, x: Tensor, name: str) -> Tensor:
    """Apply the activation of a name in ACTIVATIONS to each value."""
    return ACTIVATIONS[name](ops, x)


def _primitive(kind: str) -> Activation:
    return lambda ops, x: ops.activation(x, kind)


def _gated(gate: Callable[[_Ops, Tensor], Tensor]) -> Activation:
    return lambda ops, x: x * gate(ops, x)


def _relu6(ops: _Ops, x: Tensor) -> Tensor:
    return ops.activation(x, "relu") - ops.activation(x - 6.0, "relu")


def _relu_squared(ops: _Ops, x: Tensor) -> Tensor:
    positive = ops.activation(x, "relu")
    return positive * positive


def _clipped_gelu(ops: _Ops, x: Tensor) -> Tensor:
    """At most 10; the lower limit, -10, is never reached."""
    return ops.activation(ops.activation(x, "gelu") * -1.0 + 10.0, "relu") * -1.0 + 10.0


def _laplace(ops: _Ops, x: Tensor) -> Tensor:
    """Ma et al., "Mega: Moving average equipped gated attention", ICLR 2023, section 3.3."""
    centred = (x - 0.707107) * (1 / (0.282095 * math.sqrt(2.0)))
    return ops.activation(centred, "erf") * 0.5 + 0.5


_GELU, _GELU_TANH, _SILU = (
    _primitive("gelu"),
    _primitive("gelu_tanh"),
    _gated(lambda ops, x: ops.activation(x, "sigmoid")),
)

ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": _GELU,
    "gelu_python": _GELU,
    "gelu_10": _clipped_gelu,
    "gelu_new": _GELU_TANH,
    "gelu_fast": _GELU_TANH,
    "gelu_accurate": _GELU_TANH,
    "gelu_pytorch_tanh": _GELU_TANH,
    "gelu_python_tanh": _GELU_TANH,
    "quick_gelu": _gated(lambda ops, x: ops.activation(x * 1.702, "sigmoid")),
    "silu": _SILU,
    "swish": _SILU,
    "hardswish": _gated(lambda ops, x: _relu6(ops, x + 3.0) * (1 / 6)),
    "mish": _gated(lambda ops, x: ops.activation(ops.activation(x, "softplus"), "tanh")),
    "relu": _primitive("relu"),
    "relu2": _relu_squared,
    "relu6": _relu6,
    "leaky_relu": lambda ops, x: x * 0.01 + ops.activation(x, "relu") * 0.99,
    "laplace": _laplace,
    "sigmoid": _primitive("sigmoid"),
    "tanh": _primitive("tanh"),
    "linear": lambda ops, x: x,
}
"""Activations by their names in ``config.json``."""
