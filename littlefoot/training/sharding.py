"""Spread models over processes (FSDP, Zhao et al. 2023), with tensors that may be parts of whole ones."""

from __future__ import annotations

import re
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

# The segments of ``littlefoot.network.encoder``: gathered for their own forward and backward pass only.
_UNITS = re.compile(r"(encoder\.layers|feature_extractor\.conv_layers)\.\d+|.*\.rel_attn_embed")


def shard(model: nn.Module) -> None:
    """Keep of every parameter, in place, only this process's part; blocks are gathered as they are needed."""
    units = [module for name, module in model.named_modules() if _UNITS.fullmatch(name)]
    for unit in reversed(units):  # the inner ones first
        fully_shard(unit)
    fully_shard(model)


def local(value: Tensor) -> Tensor:
    """Return this process's part of a tensor, or all of it if it is not sharded; shares its memory."""
    return value.to_local() if isinstance(value, DTensor) else value


def whole(value: Tensor) -> Tensor:
    """Return all of a tensor. Every process must call this."""
    return value.full_tensor() if isinstance(value, DTensor) else value


@torch.no_grad()
def place(value: Tensor, target: Tensor) -> None:
    """Copy a whole tensor, the same in every process, into one that may be sharded."""
    if isinstance(target, DTensor):
        value = distribute_tensor(value.to(target.device), target.device_mesh, target.placements)
    target.copy_(value)


def whole_state(value: Any) -> Any:
    """Return a nested state of dicts and lists with all tensors whole, on the CPU. Every process must call
    this.
    """
    if isinstance(value, Tensor):
        return whole(value.detach()).cpu()
    if isinstance(value, dict):
        return {key: whole_state(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole_state(item) for item in value]
    return value


def place_optimizer_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Load an optimizer's whole state; tensors the size of a parameter are sharded as it is."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for number, values in state["state"].items():
        parameter = parameters[number]
        for key, value in values.items():
            if isinstance(parameter, DTensor) and value.shape == parameter.shape:
                sharded = torch.zeros_like(parameter)
                place(value, sharded)
                values[key] = sharded
    optimizer.load_state_dict(cast(Any, state))
