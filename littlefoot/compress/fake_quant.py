"""A model that computes in training what its quantized artifact will compute, with gradients.

Values are rounded in the forward pass; the backward pass takes the rounding for the identity within the
range of the levels (straight-through, Bengio et al. 2013). Scales are learned with it (LSQ, Esser et al.
2020), those of inputs with an offset (LSQ+, Bhalgat et al. 2020; "elastic" in BiT, Liu et al. 2022).

While it is trained, a quantized layer NAME has beside its full-precision weight

- ``NAME.log_weight_scale`` (K * C' * G,): the logarithms of the scales of each row's G groups of columns, for
  each of the K precisions that are trained together; with 8 bits there is none, the row's largest weight
  decides. The first precision's scales define where each level begins; levels of fewer bits are several of
  them (``littlefoot.artifact.precisions``);
- ``NAME.log_input_scale`` (1,) and ``NAME.input_zero`` (1,), the zero point as a share of the range; a
  factor of a product has no zero point: its range is symmetric, in 8 bits;
- ``NAME.input_shift`` (C,): subtracted from the input before it is rounded and added after.

Layers that read the same tensor share the last three, under the first one's name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from littlefoot.artifact.packing import LARGEST_LEVEL, WeightCode
from littlefoot.artifact.precisions import upper_bits
from littlefoot.training.torch_ops import TorchOps


@dataclass(frozen=True)
class RoundingPlan:
    """Rounding of the weights and inputs of each layer."""

    weights: Mapping[str, tuple[WeightCode, ...]]
    """Codes of each layer's weight: that of the artifact, then those of the nested precisions. A layer
    without a nested precision repeats its first code."""
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Name of the layer whose input parameters each layer or factor of a product uses."""
    input_bits: Mapping[str, int] = field(default_factory=dict)
    """Input bits of each layer with input parameters of its own."""


class FakeQuantOps(TorchOps):
    """The encoder's operations with rounded weights and inputs.

    ``choice`` selects the precision of a forward pass in training; otherwise it is the artifact's.
    """

    def __init__(self, plan: RoundingPlan, choice: int, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._plan, self._choice = plan, choice if self.training else 0
        self._rounded: tuple[Tensor, str, Tensor] | None = None

    def conv1d(
        self, x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Tensor:
        if name not in self._plan.weights:
            return super().conv1d(x, name, stride, padding, groups)
        weights = {f"{name}.weight": self._weight(name)}
        if f"{name}.bias" in self.weights:
            weights[f"{name}.bias"] = self.weights[f"{name}.bias"]
        return TorchOps(weights).conv1d(self._input(x, name), name, stride, padding, groups)

    def linear(self, x: Tensor, name: str) -> Tensor:
        if name not in self._plan.weights:
            return super().linear(x, name)
        return F.linear(self._input(x, name), self._weight(name), self.weights.get(f"{name}.bias"))

    def matmul(self, a: Tensor, b: Tensor, name: str | None = None) -> Tensor:
        if name is not None:
            a, b = self._input(a, f"{name}.left"), self._input(b, f"{name}.right")
        return super().matmul(a, b)

    def dropout(self, x: Tensor, probability: float) -> Tensor:
        return x  # rounding is noise enough

    def _weight(self, name: str) -> Tensor:
        weight, codes = self.weights[f"{name}.weight"], self._plan.weights[name]
        choice = min(self._choice, len(codes) - 1)
        code = codes[choice]
        if code.bits >= 8:
            return rounded_to_8(weight) if code.bits == 8 else rounded_to_16(weight, code.bits)
        log_scale = self.weights[f"{name}.log_weight_scale"].reshape(len(codes), len(weight), -1)
        if choice:
            rounded = round_to_upper_bits(weight.flatten(1), log_scale[0], log_scale[choice], codes[0], code)
        else:
            rounded = round_weight(weight.flatten(1), log_scale[0], code)
        return rounded.reshape(weight.shape)

    def _input(self, x: Tensor, name: str) -> Tensor:
        owner = self._plan.inputs.get(name)
        if owner is None:
            return x
        if self._rounded is not None and self._rounded[0] is x and self._rounded[1] == owner:
            return self._rounded[2]  # query, key and value read the same tensor
        y = round_input(
            x.float(),
            self.weights[f"{owner}.log_input_scale"],
            self.weights.get(f"{owner}.input_zero"),
            self.weights.get(f"{owner}.input_shift"),
            self._plan.input_bits[owner],
        )
        self._rounded = (x, owner, y)
        return y


def round_weight(weight: Tensor, log_scale: Tensor, code: WeightCode) -> Tensor:
    """Round a layer's weight (C', C) to few bits and back.

    With one bit, that is the signs of what is left when the row's mean is taken away. Gradients of scales are
    scaled down as in LSQ, by the root of the number of weights times the largest level. In one thing they
    differ from LSQ: a weight counts as cut off half a step beyond the outermost levels, not at these. Up to
    there it is rounded like all others, to the nearest level; beyond, it has no gradient, and the scale's is
    the level.

    Args:
        log_scale: (C', G).
    """
    centred, (low, step, last) = _centred(weight, code), _ladder(code)
    count = weight.shape[1] // log_scale.shape[1]
    damped = _damped(log_scale, 1 / math.sqrt(count * code.levels[-1]))
    multipliers, row_scale = _group_scales(damped, code)
    scale = (multipliers * row_scale[:, None])[:, :, None] * step  # (C', G, 1)
    grouped = centred.reshape(*multipliers.shape, count)
    return _fake_round(grouped, scale, -low / step, 0, last, 0.5).reshape(weight.shape)


def round_to_upper_bits(
    weight: Tensor, stored_log_scale: Tensor, log_scale: Tensor, stored: WeightCode, code: WeightCode
) -> Tensor:
    """Round a layer's weight (C', C), stored with some bits, to fewer of them and back.

    Where levels begin is not this precision's to learn; its scale's gradient is the levels themselves.

    Args:
        stored_log_scale: (C', 1) of the stored levels.
        log_scale: (C', 1) of these.
    """
    with torch.no_grad():
        levels = upper_bits(weight_levels(weight, stored_log_scale, stored)[0], stored.bits, code.bits)
        edge = (stored.levels[-1] + 1) * stored_log_scale.exp()  # of what the outermost levels stand for
    centred = _centred(weight, stored)
    passed = centred * (centred.abs() <= edge)
    scale = _damped(log_scale, 1 / math.sqrt(weight.shape[1] * code.levels[-1])).exp()
    rounded: Tensor = levels * scale + (passed - passed.detach())
    return rounded


def weight_levels(weight: Tensor, log_scale: Tensor, code: WeightCode) -> tuple[Tensor, Tensor, Tensor]:
    """Return the integers that make up ``round_weight``: a weight's levels (C', C), groups' multipliers (C',
    G); and rows' scales (C',).
    """
    centred, (low, step, last) = _centred(weight, code), _ladder(code)
    multipliers, row_scale = _group_scales(log_scale, code)
    scale = (multipliers * row_scale[:, None])[:, :, None] * step
    grouped = centred.reshape(*multipliers.shape, -1)
    places = _places(grouped, scale, -low / step, 0, last)
    return (low + step * places).reshape(weight.shape), multipliers, row_scale


def _centred(weight: Tensor, code: WeightCode) -> Tensor:
    return weight - weight.mean(1, keepdim=True) if code.bits == 1 else weight


def _ladder(code: WeightCode) -> tuple[int, int, int]:
    """Return the lowest level, the step between levels, and the number of steps."""
    return code.levels[0], code.levels[1] - code.levels[0], len(code.levels) - 1


def _group_scales(log_scale: Tensor, code: WeightCode) -> tuple[Tensor, Tensor]:
    """Groups' multipliers (C', G), which are integers, and rows' scales (C',)."""
    scale = log_scale.exp()
    row_scale = scale.amax(1)
    if scale.shape[1] == 1:
        return torch.ones_like(scale), row_scale
    row_scale = row_scale / code.largest_multiplier
    return _round(scale / row_scale[:, None]).clamp(min=1), row_scale


def rounded_to_8(weight: Tensor) -> Tensor:
    """Round a weight (C', ...) as ``littlefoot.compress.rounding.round_weight`` does, and back."""
    largest = weight.detach().flatten(1).abs().amax(1)
    scale = (largest / LARGEST_LEVEL).clamp(min=torch.finfo(torch.float32).tiny)
    scale = scale.reshape(-1, *[1] * (weight.ndim - 1))
    return _round(weight / scale) * scale


def rounded_to_16(weight: Tensor, bits: int) -> Tensor:
    """Round a weight to float16 and back; with 32 bits it stays."""
    return weight if bits == 32 else weight + (weight.half().float() - weight).detach()


def round_input(x: Tensor, log_scale: Tensor, zero: Tensor | None, shift: Tensor | None, bits: int) -> Tensor:
    """Round a layer's input and back.

    Args:
        zero: the zero point as a share of the range; without it levels are symmetric.
        shift: (C,) subtracted before and added after.
    """
    damping = 1 / math.sqrt(max(x.numel(), 1) * ((1 << bits) - 1))
    scale = _damped(log_scale, damping).exp()
    low, high, offset = input_range(None if zero is None else _damped(zero, damping), bits)
    y = _fake_round(x if shift is None else x - shift, scale, offset, low, high)
    return y if shift is None else y + shift


def input_range(zero: Tensor | None, bits: int) -> tuple[int, int, Tensor | float]:
    """Return the lowest and the highest level of an input, and its zero point."""
    most = (1 << bits) - 1
    if zero is None:
        return -(1 << (bits - 1)), (1 << (bits - 1)) - 1, 0.0
    return 0, most, _round((zero * most).clamp(0, most))


class _Round(torch.autograd.Function):
    """Rounding, to even where there is a choice, with the gradient of the identity."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient


def _round(x: Tensor) -> Tensor:
    rounded: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return rounded


def _places(x: Tensor, scale: Tensor, offset: Tensor | float, low: int, high: int) -> Tensor:
    """Return the codes of values, from ``low`` to ``high``, as floats."""
    places = x / scale
    if isinstance(offset, Tensor) or offset:
        places += offset
    return places.round_().clamp_(low, high)


class _FakeRound(torch.autograd.Function):
    """(place - offset) * scale with the place nearest to x / scale + offset, in few passes over the memory.

    The gradient is that of the same with rounding for the identity, where places are not cut off.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, scale: Tensor, offset: Tensor | float, low: int, high: int, margin: float
    ) -> Tensor:
        y = _places(x, scale, offset, low, high)
        y -= offset
        y *= scale
        tensors = (x, y, scale, offset) if isinstance(offset, Tensor) else (x, y, scale)
        ctx.save_for_backward(*tensors)
        ctx.offset, ctx.low, ctx.high = offset, low - margin, high + margin
        return y

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        x, y, scale, *offsets = ctx.saved_tensors
        offset = offsets[0] if offsets else ctx.offset
        lowest, highest = (ctx.low - offset) * scale, (ctx.high - offset) * scale
        # Comparisons that give 0.0 and 1.0 are vectorised, those that give booleans are not.
        of_x = torch.ge(x, lowest, out=torch.empty_like(x))
        of_x.mul_(torch.le(x, highest, out=torch.empty_like(x))).mul_(gradient)
        # The derivative by the scale: the place less the offset, and -x / scale where nothing is cut off.
        of_scale = (torch.mul(gradient, y).addcmul_(of_x, x, value=-1)).sum_to_size(scale.shape) / scale
        of_offset = None
        if offsets:
            of_offset = (scale * (of_x - gradient).sum_to_size(scale.shape)).sum_to_size(offset.shape)
        return of_x, of_scale, of_offset, None, None, None


def _fake_round(
    x: Tensor, scale: Tensor, offset: Tensor | float, low: int, high: int, margin: float = 0.0
) -> Tensor:
    """Values at the nearest of the levels ``low`` to ``high``, with gradients of x, scale and offset.

    Args:
        scale: positive, of a shape that broadcasts to that of x.
        margin: so far beyond the outermost levels a value still has a gradient.
    """
    rounded: Tensor = _FakeRound.apply(x, scale, offset, low, high, margin)  # type: ignore[no-untyped-call]
    return rounded


def _damped(parameter: Tensor, factor: float) -> Tensor:
    """Scale the gradient of a parameter down; return the parameter unchanged."""
    return parameter * factor + (parameter * (1 - factor)).detach()
