"""The moving average of a model's weights over training, which is what is evaluated and saved."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from littlefoot.training.sharding import local, place, whole


class MovingAverage:
    """An exponential moving average of a model's parameters, sharded as they are."""

    def __init__(self, model: nn.Module) -> None:
        self._means = {name: value.detach().clone() for name, value in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, decay: float, step: int) -> None:
        """Move towards the model's weights; faster in the first steps, so that the start is forgotten."""
        decay = min(decay, (1 + step) / (10 + step))
        means, values = map(local, self._means.values()), map(local, model.parameters())
        torch._foreach_lerp_(list(means), list(values), 1 - decay)

    def weights(self) -> dict[str, Tensor]:
        """The averaged weights; all processes must ask at once where they are sharded."""
        return {name: whole(mean) for name, mean in self._means.items()}

    def tensors(self) -> Iterable[Tensor]:
        """The averages themselves, which may be changed in place."""
        return self._means.values()

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Continue from what ``weights`` returned."""
        for name, mean in self._means.items():
            place(weights[name], mean)
