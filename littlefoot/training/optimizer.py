"""The optimizer of training, its learning rates, and frozen weights."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Sequence

import torch
from torch import nn

from littlefoot.errors import ConfigError
from littlefoot.network.layers import in_block
from littlefoot.training.module import CTCModel
from littlefoot.training.train_config import TrainConfig

_BEFORE_BLOCKS = ("feature_extractor.", "feature_projection.", "encoder.pos_conv_embed.", "masked_spec_embed")


def learning_rate(config: TrainConfig, step: int) -> float:
    """Compute the rate: linear warm-up to ``lr``, ``hold_steps`` there, then decay to zero at ``steps``."""
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    begin = config.warmup_steps + config.hold_steps
    done = max(step - begin, 0) / max(config.steps - begin, 1)
    if config.schedule == "cosine":
        return config.lr * 0.5 * (1 + math.cos(math.pi * done))
    return config.lr * (1 - done) if config.schedule == "linear" else config.lr


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.Optimizer:
    """Make AdamW (Loshchilov & Hutter 2019) with weight decay on matrices only."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    depth = blocks(model)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.ndim > 1 else 0.0
            groups.setdefault((lr_scale(name.removeprefix("model."), depth, config), decay), []).append(
                parameter
            )
    return torch.optim.AdamW(
        [
            {"params": members, "weight_decay": decay, "lr_scale": scale}
            for (scale, decay), members in sorted(groups.items(), key=lambda group: group[0], reverse=True)
        ],
        lr=config.lr,
        betas=(0.9, 0.98),
        fused=True,
    )


def freeze(model: CTCModel, patterns: Sequence[str]) -> None:
    """Train all weights but those whose names match a pattern. Raises ConfigError if one matches none."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise ConfigError(f"train.freeze: no weight's name fits '{pattern}'; one is called {names[-1]}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))


def blocks(model: nn.Module) -> int:
    """Count the Transformer blocks in the names of a module's weights."""
    places = (in_block(name.removeprefix("model.")) for name, _ in model.named_parameters())
    return max((place[0] for place in places if place), default=-1) + 1


def lr_scale(name: str, depth: int, config: TrainConfig) -> float:
    """Return the factor of the learning rate for a weight of a model with this number of blocks."""
    scale = 1.0
    if place := in_block(name):
        scale = config.layer_lr_decay ** (depth - 1 - place[0])
    elif name.startswith(_BEFORE_BLOCKS):
        scale = config.layer_lr_decay**depth
    for pattern, factor in config.lr_scales.items():
        if fnmatch.fnmatchcase(name, pattern):
            return scale * factor
    return scale
