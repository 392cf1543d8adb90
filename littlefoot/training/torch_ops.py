"""The encoder's operations on PyTorch tensors: what training runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": partial(F.gelu, approximate="tanh"),
    "relu": F.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "erf": torch.erf,
    "softplus": F.softplus,
}


class TorchOps:
    """Plays ``littlefoot.network.encoder.encode`` with autograd.

    ``training`` switches dropout on. ``time_mask`` (B, F) and ``feature_mask`` (B, D) are boolean
    SpecAugment masks over the projected features: masked frames become ``masked_spec_embed``,
    masked channels zero. ``run`` calls the segments of the network, ``run(name, part, *values)``; without
    it they are called as they are.
    """

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        training: bool = False,
        time_mask: Tensor | None = None,
        feature_mask: Tensor | None = None,
        run: Callable[..., Any] | None = None,
    ) -> None:
        self.weights = weights
        self.training = training
        self.time_mask = time_mask
        self.feature_mask = feature_mask
        self.run = run

    def segment(self, name: str, part: Callable[..., Any], *values: Any) -> Any:
        return part(*values) if self.run is None else self.run(name, part, *values)

    def weight(self, name: str) -> Tensor:
        return self.weights[name]

    def conv1d(
        self, x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Tensor:
        # As an image of height one with the channels last in memory: the layer norms of the front end then
        # need no copies, which makes training on a CPU 1.3 times as fast.
        x = F.pad(x, padding)[:, :, None].to(memory_format=torch.channels_last)
        weight = self.weights[f"{name}.weight"][:, :, None].to(memory_format=torch.channels_last)
        return F.conv2d(x, weight, self.weights.get(f"{name}.bias"), (1, stride), groups=groups).squeeze(2)

    def conv2d(
        self, x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias")
        return F.conv2d(F.pad(x, padding * 2), weight, bias, stride, groups=groups)

    def fixed_conv1d(
        self,
        x: Tensor,
        kernel: npt.NDArray[np.float32],
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
    ) -> Tensor:
        # As a product: reduced precision, of autocast or of convolutions on GPUs, would drown quiet bands.
        with torch.autocast(x.device.type, enabled=False):
            windows = F.pad(x.float(), padding).unfold(2, kernel.shape[2], stride)  # (B, C, T', K), a view
            return torch.einsum("bctk,ock->bot", windows, self.constant(kernel))

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"))

    def layer_norm(self, x: Tensor, name: str | None, eps: float, axis: int = -1) -> Tensor:
        x = x.movedim(axis, -1)
        weight = None if name is None else self.weights[f"{name}.weight"]
        bias = None if name is None else self.weights[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias, eps).movedim(-1, axis)

    def group_norm(self, x: Tensor, name: str, eps: float, valid: Tensor | None) -> Tensor:
        weight, bias = self.weights[f"{name}.weight"], self.weights[f"{name}.bias"]
        if valid is None:
            return F.group_norm(x, x.shape[1], weight, bias, eps)
        x, valid = x.float(), valid.float()[:, None]  # (B, C, T), (B, 1, T): sums over seconds need float32
        count = valid.sum(-1, keepdim=True).clamp(min=1)  # of no frames NaN would reach all gradients
        centred = x - (x * valid).sum(-1, keepdim=True) / count
        variance = (centred.square() * valid).sum(-1, keepdim=True) / count
        return centred * torch.rsqrt(variance + eps) * weight[:, None] + bias[:, None]

    def mirrored(self, x: Tensor, before: int, after: int, lengths: Tensor | None) -> Tensor:
        place = torch.arange(-before, x.shape[1] + after, device=x.device).abs()
        last = (x.shape[1] if lengths is None else lengths[:, None]) - 1
        place = (last - (last - place).abs()).clamp(min=0)
        return x.gather(1, place.expand(len(x), -1))

    def masked(self, x: Tensor, valid: Tensor, value: float) -> Tensor:
        return torch.where(valid[:, None] > 0, x, value)

    def largest(self, x: Tensor) -> Tensor:
        return x.amax((1, 2), keepdim=True)

    def affine(self, x: Tensor, name: str) -> Tensor:
        return x * self.weights[f"{name}.weight"][:, None] + self.weights[f"{name}.bias"][:, None]

    def activation(self, x: Tensor, kind: str) -> Tensor:
        return _ACTIVATIONS[kind](x)

    def average_pool(self, x: Tensor, size: int) -> Tensor:
        return F.avg_pool1d(x, size)

    def pad_to(self, x: Tensor, like: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, like.shape[1] - x.shape[1]))

    def standardize(self, x: Tensor, eps: float, valid: Tensor | None, of_deviation: bool = False) -> Tensor:
        x = x.float()
        counted = torch.ones_like(x[:, :1]) if valid is None else valid.float()[:, None]  # (B, 1, T)
        count = counted.sum(-1, keepdim=True)
        centred = x - (x * counted).sum(-1, keepdim=True) / count.clamp(min=1)
        variance = (centred.square() * counted).sum(-1, keepdim=True) / (count - 1).clamp(min=1)
        if of_deviation:
            return centred / (variance.clamp(min=1e-30).sqrt() + eps)  # at zero the root has no gradient
        return centred * torch.rsqrt(variance + eps)

    def sinusoids(self, positions: Tensor, rates: npt.NDArray[np.float32]) -> Tensor:
        angles = positions[:, None].float() * self.constant(rates)
        return torch.cat([angles.sin(), angles.cos()], 1)

    def skew(self, x: Tensor) -> Tensor:
        frames = x.shape[2]
        rows = x.flatten(2)[:, :, frames:]  # each begins one column further left than the one above it
        return rows.reshape(*x.shape[:3], 2 * frames - 1)[..., :frames]

    def log(self, x: Tensor) -> Tensor:
        return x.log()

    def sigmoid(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def softmax(self, x: Tensor) -> Tensor:
        return torch.softmax(x, dim=-1)

    def matmul(self, a: Tensor, b: Tensor, name: str | None = None) -> Tensor:
        return a @ b

    def sum(self, x: Tensor, axis: int) -> Tensor:
        return x.sum(axis)

    def clip(self, x: Tensor, low: int, high: int) -> Tensor:
        return x.clamp(low, high)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(shape)])

    def transpose(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.permute(*axes)

    def slice(self, x: Tensor, axis: int, start: int, end: int | None) -> Tensor:
        return x[(slice(None),) * axis + (slice(start, end),)]

    def concat(self, values: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(list(values), axis)

    def last(self, x: Tensor, axis: int, count: int) -> Tensor:
        return x.narrow(axis, x.shape[axis] - count, count)

    def less(self, a: Tensor, b: Tensor) -> Tensor:
        return (a < b).float()

    def gather(self, table: Tensor, indices: Tensor) -> Tensor:
        return table[indices]

    def positions(self, x: Tensor, axis: int) -> Tensor:
        return torch.arange(x.shape[axis], device=x.device)

    def valid(self, lengths: Tensor, x: Tensor, axis: int) -> Tensor:
        return (self.positions(x, axis) < lengths[:, None]).to(x.dtype)

    def constant(self, value: npt.NDArray[Any]) -> Tensor:
        device = next(iter(self.weights.values())).device
        return torch.from_numpy(value).to(device)

    def dropout(self, x: Tensor, probability: float) -> Tensor:
        return F.dropout(x, probability, training=True) if self.training and probability else x

    def mask_spans(self, x: Tensor) -> Tensor:
        if self.time_mask is not None:
            embedding = self.weights["masked_spec_embed"].to(x.dtype)
            x = torch.where(self.time_mask[:, :, None], embedding, x)
        if self.feature_mask is not None:
            x = x.masked_fill(self.feature_mask[:, None, :], 0.0)
        return x

    def begin_anywhere(self, positions: Tensor, count: int) -> Tensor:
        room = count - len(positions)
        return positions + torch.randint(room, ()) if self.training and room > 0 else positions
