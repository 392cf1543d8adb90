"""Processes that train on their own and average what they have learned now and then.

Local SGD (Stich 2019, "Local SGD converges fast and communicates little"): no gradients are exchanged, so
no process waits for another between two averages. Adam's moments are averaged with the weights, which leaves
all processes in one state: a checkpoint of one is a checkpoint of all.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def average_processes(model: nn.Module, averaged: Iterable[Tensor], optimizer: torch.optim.Optimizer) -> None:
    """Replace weights, their moving average and the optimizer's moments by their means over all processes."""
    moments = [
        value for state in optimizer.state.values() for value in state.values() if torch.is_tensor(value)
    ]
    trained = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    for value in (*trained, *averaged, *moments):
        if value.ndim:  # the counts of steps are alike
            torch.distributed.all_reduce(value)
            value /= torch.distributed.get_world_size()
