"""Sharing: one block for several layers, one attention map for several layers.

W2V2-Light (Kim et al. 2022). Shared blocks make the model smaller and not faster: every layer is still
computed. A layer that uses the attention map of another has no queries, keys or softmax: that makes it faster
too. What was lost is learned back by distillation from the model that had its layers to itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from littlefoot.artifact import Artifact
from littlefoot.compress import losses
from littlefoot.compress.distill import Distillation, denominator_of, learn, training_set
from littlefoot.compress.distillation_settings import DistillationSettings, LossConfig
from littlefoot.compress.methods import StepContext
from littlefoot.compress.teacher import make_teacher
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import AxisKind, Kind, Layer, block_name, in_block
from littlefoot.system.checks import Count, PositiveInt
from littlefoot.training.data import TrainingSet
from littlefoot.training.module import CTCModel

JUDGES = 8
"""Recordings that choose the best layer of a group."""


@dataclass(frozen=True)
class ShareConfig(DistillationSettings):
    """Settings of sharing."""

    group: Count = 0
    """Number of layers that share a block; 1 for none, 0 for all of them, as in the paper."""
    order: Literal["consecutive", "cyclic"] = "consecutive"
    """Layers that share a block: ``consecutive`` ones, or ``cyclic``, in which the blocks repeat in turn."""
    layer_blocks: tuple[int, ...] = ()
    """Layer whose block each layer uses: itself, or an earlier one. Replaces ``group``."""
    map_group: Count = 1
    """Number of consecutive layers that use the attention map of the first; 1 for none, 0 for all."""
    layer_maps: tuple[int, ...] = ()
    """Instead of ``map_group``: for each layer the one whose map it uses."""
    norms: bool = True
    """Layers keep their norms."""
    delta_rank: Count = 0
    """Layers add to each shared matrix one of their own of this rank (LoRA, Hu et al. 2022)."""
    depth_embedding: bool = False
    """Whether each layer adds a trained vector to its input."""
    initialisation: Literal["mean", "middle", "best", "scratch"] = "mean"
    """Initial shared block: the ``mean`` of its group's, the ``middle`` one, the ``best`` one (whose
    sharing changes the model's posteriors least), or random weights (``scratch``)."""
    exits: tuple[PositiveInt, ...] = ()
    """Numbers of layers after which the model may stop, for more speed. In each step one of them is drawn,
    and the model's output after this layer is trained on the teacher too."""
    loss: LossConfig = field(default_factory=lambda: LossConfig(kl=1.0, hidden_mse=0.1), kw_only=True)
    seed: int = 0


class SharedDistillation(Distillation[ShareConfig]):
    """Distillation of a model whose layers share, and which may stop early."""

    method = "distillation with shared layers"

    def more_terms(self, hidden_states: list[Tensor], theirs: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Return the divergence of the model's outputs after fewer layers."""
        if not self.settings.exits:
            return {}
        early = self.model.head(hidden_states[self.drawn(self.settings.exits)])
        return {"exit_kl": losses.kl_divergence(early, theirs, valid, self.loss.temperature)}


def share(model: Artifact, config: ShareConfig, step: StepContext) -> Artifact:
    """Let layers share, and train the result on the outputs of its teacher.

    Raises:
        ConfigError: groups that do not fit the layers, or a model whose layers share already.
        TrainingError: as ``littlefoot.compress.distill.distill``.
    """
    original = CTCModel.from_artifact(model)
    geometry = shared_geometry(original.config, config)
    data = training_set(original, config, step)
    student = make_shared(original, geometry, config, data)
    teacher = make_teacher(model, config, step, data, student)
    objective = SharedDistillation(student, teacher, config, denominator_of(step, student, config))
    made = learn(objective, data, step)
    if not config.exits:
        return made
    exits = sorted({*config.exits, geometry.num_hidden_layers})
    return replace(made, config=made.config.noting(exits=exits))


def infer_shape(model: ModelConfig, config: ShareConfig) -> ModelConfig:
    """Return the shared model's configuration. Raises ConfigError if the layers cannot share."""
    return shared_geometry(model, config)


def sources(depth: int, group: int, order: str = "consecutive") -> tuple[int, ...]:
    """Return for each layer the first layer of its group."""
    size = group or depth
    if order == "consecutive":
        return tuple(layer - layer % size for layer in range(depth))
    return tuple(layer % -(-depth // size) for layer in range(depth))


def shared_geometry(theirs: ModelConfig, config: ShareConfig) -> ModelConfig:
    """Return the configuration of the shared model. Raises ConfigError if the layers cannot share."""
    if theirs.layer_blocks or theirs.layer_maps:
        raise ConfigError(
            "the model's layers share already: share blocks and maps in one step, "
            "of a model whose layers have their own"
        )
    if theirs.linear_ranks:
        raise ConfigError("factorized layers have different ranks: share first, then factorize")
    depth = theirs.num_hidden_layers
    blocks = config.layer_blocks or sources(depth, config.group, config.order)
    maps = config.layer_maps or sources(depth, config.map_group)
    alone = tuple(range(depth))
    if blocks == alone and maps == alone:
        raise ConfigError("group 1 and map_group 1 share nothing: raise one of them")
    if config.exits and max(config.exits) >= depth:
        raise ConfigError(
            f"exits {list(config.exits)}: a model of {depth} layers may stop after 1 to {depth - 1}"
        )
    if config.exits and not theirs.one_frame_rate:
        raise ConfigError("exits: a model may stop early only if its blocks have the frames of its logits")
    shares = blocks != alone
    return _sharing(
        theirs,
        layer_blocks=blocks if shares else (),
        layer_maps=() if maps == alone else maps,
        layer_norms=config.norms and shares,
        layer_delta_rank=config.delta_rank if shares else 0,
        layer_depth_embedding=config.depth_embedding and shares,
        littlefoot={},
    )


def _sharing(model: ModelConfig, **changes: Any) -> ModelConfig:
    """Return a configuration whose layers share. Pruned layers of a group get the width of the widest."""
    shared = model.replace(layer_attention_heads=(), layer_intermediate_size=(), **changes)
    return shared.replace(
        layer_attention_heads=_widest(model.layer_attention_heads, shared.layer_blocks, shared.layer_maps),
        layer_intermediate_size=_widest(model.layer_intermediate_size, shared.layer_blocks),
    )


def _widest(sizes: tuple[int, ...], *groups: tuple[int, ...]) -> tuple[int, ...]:
    """Return for each layer the largest size among those that share with it, directly or through others."""
    widest = list(sizes)
    for _ in sizes:
        for shared in groups:
            for layer, source in enumerate(shared if sizes else ()):
                widest[layer] = widest[source] = max(widest[layer], widest[source])
    return tuple(widest)


def make_shared(model: CTCModel, geometry: ModelConfig, config: ShareConfig, data: TrainingSet) -> CTCModel:
    """Make a model with the geometry of ``shared_geometry`` and blocks initialised from ``model``."""
    groups: dict[int, list[int]] = {}
    for layer in range(geometry.num_hidden_layers):
        groups.setdefault(geometry.block(layer), []).append(layer)
    chosen: dict[int, list[int]] = groups
    if config.initialisation == "middle":
        chosen = {block: [layers[len(layers) // 2]] for block, layers in groups.items()}
    elif config.initialisation == "best":
        chosen = {block: [best_layer(model, layers, data)] for block, layers in groups.items()}
    made = CTCModel.from_config(geometry, model.vocabulary, seed=config.seed)
    made.preprocessor, made.card = dict(model.preprocessor), model.card
    weights = {name: value.detach() for name, value in model.named_parameters()}
    random = {name: value.detach().clone() for name, value in made.named_parameters()}
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if (value := _initial(name, random, weights, chosen, config, geometry)) is not None:
                parameter.copy_(value)
    return made


def _initial(
    name: str,
    random: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    chosen: Mapping[int, Sequence[int]],
    config: ShareConfig,
    geometry: ModelConfig,
) -> Tensor | None:
    """Return a weight of the shared model; None leaves it ``random``, or zero if it is a layer's delta."""
    layers = inventory(geometry)
    owner, place = layers.owner(name), in_block(name)
    if place is None or owner.kind is Kind.TABLE:  # a table of positions is that of all layers
        return weights[name]
    layer, part = place
    if part == "depth_embedding":
        return None
    if part.startswith("delta."):
        if config.initialisation == "scratch":
            return None
        *path, side, _ = part.removeprefix("delta.").split(".")
        block = geometry.block(layer)
        whole = layers.layers[f"{block_name(block)}.{'.'.join(path)}"]
        fresh = random[f"{whole.name}.weight"]
        part = f"{'.'.join(path)}.weight"
        own, shared = (_mean(part, whole, fresh, weights, of) for of in ([layer], chosen[block]))
        return low_rank(own - shared, geometry.layer_delta_rank)[0 if side == "up" else 1]
    if owner.kind is Kind.NORM and geometry.layer_norms:
        return weights[name]
    if config.initialisation == "scratch" and geometry.layer_blocks:
        return None
    return _mean(part, owner, random[name], weights, chosen[layer])


def _mean(
    part: str, layer: Layer, random: Tensor, weights: Mapping[str, Tensor], blocks: Sequence[int]
) -> Tensor:
    """Return the mean of a tensor of ``layer``, called ``part`` in each of some blocks, of ``random``'s
    shape.

    Where pruned layers are narrower, it is the mean of the others. What none of them has is random, but
    nothing reads it: so it changes nothing to begin with, and can be trained.
    """
    total, count = torch.zeros_like(random), torch.zeros_like(random)
    for block in blocks:
        weight = weights[f"{block_name(block)}.{part}"]
        there = tuple(slice(size) for size in weight.shape)
        total[there] += weight
        count[there] += 1
    inputs = layer.axes[1] if random.ndim > 1 else None
    reads = inputs is not None and inputs.kind in (AxisKind.HEADS, AxisKind.UNITS)
    return torch.where(count > 0, total / count.clamp(min=1), 0 * random if reads else random)


def low_rank(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Return the two factors, (C', rank) and (rank, C), of the closest matrix of that rank (Eckart & Young
    1936).
    """
    left, values, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    rank_there = min(rank, len(values))
    root = values[:rank_there].sqrt()
    up = torch.zeros(matrix.shape[0], rank)
    down = torch.zeros(rank, matrix.shape[1])
    up[:, :rank_there] = (left[:, :rank_there] * root).float()
    down[:rank_there] = (root[:, None] * right[:rank_there]).float()
    return up, down


@torch.no_grad()
def best_layer(model: CTCModel, layers: Sequence[int], data: TrainingSet) -> int:
    """Return the layer of a group whose weights, used by all of the group, change the model's posteriors
    least.
    """
    if len(layers) == 1:
        return layers[0]
    clips = list(_clips(data))
    alone = range(model.config.num_hidden_layers)
    geometry = _sharing(
        model.config,
        layer_blocks=tuple(layers[0] if layer in layers else layer for layer in alone),
        layer_norms=True,
    )
    weights = {name: value.detach() for name, value in model.named_parameters()}
    model.eval()
    expected = [model.encode(clip).logits for clip in clips]
    divergences = []
    for candidate in layers:
        chosen = {layer: [candidate if layer == layers[0] else layer] for layer in alone}
        made = CTCModel.from_config(geometry, model.vocabulary)
        random = {name: value.detach().clone() for name, value in made.named_parameters()}
        for name, parameter in made.named_parameters():
            value = _initial(name, random, weights, chosen, ShareConfig(), geometry)
            assert value is not None  # it has neither deltas nor embeddings
            parameter.copy_(value)
        found = [made.eval().encode(clip).logits for clip in clips]
        each = [
            losses.kl_divergence(mine, theirs, torch.ones(mine.shape[:2]))
            for mine, theirs in zip(found, expected, strict=True)
        ]
        divergences.append(float(torch.stack(each).mean()))
    return layers[int(np.argmin(divergences))]


def _clips(data: TrainingSet) -> list[Tensor]:
    """Return a few recordings, prepared, (1, T) each."""
    places = np.random.default_rng(0).permutation(len(data)).tolist()
    usable = (w for w in data.recordings(places) if data.model.frames(len(w)) > 0)
    return [torch.from_numpy(waveform)[None] for waveform in itertools.islice(usable, JUDGES)]
