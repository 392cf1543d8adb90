"""Structured pruning: which heads, feed-forward units and channels can go is learned, then they are removed.

As DPHuBERT (Peng et al. 2023): every head, unit and channel has a hard concrete gate (Louizos et al. 2018);
gates and weights are trained together on the distillation losses. DPHuBERT keeps the expected size near its
goal by a Lagrangian, which lags behind and overshoots; here one offset to all gates keeps it at the goal
exactly, and the gradient knows of it: to open a gate closes others, the more the larger its part of the model
is. What remains is a smaller model of the same kind, which a distillation from the first model
(``distill: {teacher: first}``) lets recover.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, Literal, get_args

import torch
from annotated_types import Gt, Le, Len, Lt
from torch import Tensor, nn

from littlefoot.artifact import Artifact
from littlefoot.compress.distill import Distillation, denominator_of, learn, training_set
from littlefoot.compress.distillation_settings import DistillationSettings
from littlefoot.compress.methods import StepContext
from littlefoot.compress.student import dimensions, importance, select
from littlefoot.compress.teacher import Teacher, make_teacher
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import AxisKind, Kind, Layer, Part
from littlefoot.system.checks import Share
from littlefoot.training.data import Batch
from littlefoot.training.module import CTCModel
from littlefoot.training.torch_ops import TorchOps

BETA, LOW, HIGH = 2 / 3, -0.1, 1.1
"""Temperature and range of the stretched distribution before it is clipped to 0 ... 1."""

PACE = 20.0
"""Factor of the learning rate of gates over that of weights."""

FIRST_SPARSITY = 0.02
"""Sparsity at the start. Without any, no gate would be closed, and training could not measure its effect."""

MULTIPLE = 8
"""Units and channels remain in multiples of this, which is what processors compute."""

PrunedPart = Literal["heads", "ffn", "conv"]
PARTS: tuple[PrunedPart, ...] = get_args(PrunedPart)
"""Parts that pruning may remove."""


@dataclass(frozen=True)
class PruneConfig(DistillationSettings):
    """Settings of one pruning."""

    sparsity: Annotated[float, Gt(0), Lt(1)] = 0.5
    """Share of the model to remove."""
    measure: Literal["parameters", "operations", "bytes"] = "operations"
    """Quantity that ``sparsity`` refers to: ``parameters``, ``operations`` (multiplications with weights per
    second of speech), or ``bytes``, as stored when the Transformer's linear layers have ``bits`` and all else
    has 8."""
    bits: Annotated[int, Gt(0), Le(8)] = 8
    """Bits of a weight, by which ``bytes`` are counted."""
    parts: Annotated[tuple[PrunedPart, ...], Len(1)] = PARTS
    """Parts to prune: attention ``heads``, feed-forward units ``ffn``, the front end's channels ``conv``."""
    ramp: Share = 0.5
    """The share of the steps over which the goal rises to ``sparsity``."""


def infer_shape(model: ModelConfig, config: PruneConfig) -> ModelConfig:
    """Return the model's configuration unchanged, because training determines what is removed.

    Raises ConfigError for a model that cannot be pruned so far.
    """
    if model.layer_blocks or model.layer_maps:
        raise ConfigError(
            "a model whose layers share weights or maps cannot be pruned: prune first, then share"
        )
    if model.linear_ranks:
        raise ConfigError("a model with factorized layers cannot be pruned: prune first, then factorize")
    least = {axis: 1 if axis.startswith("heads") else MULTIPLE for axis in prunable(model, config.parts)}
    most = 1 - size(model, least, config.measure, config.bits) / size(model, {}, config.measure, config.bits)
    if config.sparsity >= most:
        raise ConfigError(
            f"sparsity {config.sparsity} cannot be reached: {', '.join(config.parts)} are "
            f"{100 * most:.0f} % of the model's {config.measure}"
        )
    return model.replace(littlefoot={})


def prunable(model: ModelConfig, parts: tuple[str, ...]) -> dict[str, int]:
    """Return the axes that may be pruned and their sizes: ``heads3``, ``ffn3``, ``conv3``.

    Raises ConfigError for parts that the model cannot lose any of.
    """
    axes = [axis for axis in inventory(model).axes.values() if axis.kind in parts]
    for part in parts:
        if not any(axis.kind == part for axis in axes):
            raise ConfigError(
                f"the {part} of this {model.model_type} model cannot be pruned: no layer has any of its own"
            )
    return {axis.name: axis.size for axis in axes}


def prune(model: Artifact, config: PruneConfig, step: StepContext) -> Artifact:
    """Train gates with the model itself as the teacher, and remove the closed parts.

    Raises:
        ConfigError: a sparsity that what may go cannot give, or parts that the model cannot lose any of.
        TrainingError: as ``littlefoot.compress.distill.distill``.
    """
    infer_shape(model.config, config)
    student = CTCModel.from_artifact(model)
    gates = Gates(student, config.parts, config.measure, config.bits)
    data = training_set(student, config, step)
    teacher = make_teacher(model, config, step, data)
    gated = learn(Pruning(student, teacher, gates, config, denominator_of(step, student, config)), data, step)
    made = remove(CTCModel.from_artifact(gated), gates, config.sparsity).to_artifact()
    after, before = (size(m.config, {}, config.measure, config.bits) for m in (made, model))
    step.progress(f"{100 * (1 - after / before):.1f} % of the {config.measure} went")
    return made


class Gates(nn.Module):
    """A hard concrete gate for each index of the axes of ``prunable``.

    What its methods call ``goal`` is the share of the model that is closed, as expected.
    """

    def __init__(self, model: CTCModel, parts: tuple[str, ...], measure: str, bits: int = 8) -> None:
        super().__init__()
        self._config, self._measure, self._bits = model.config, measure, bits
        config, weights = model.config, dict(model.named_parameters())
        self._scaled = nn.ParameterDict(
            {
                axis: nn.Parameter(_standing(weights, config, axis, count) / PACE)
                for axis, count in prunable(config, parts).items()
            }
        )

    def log_odds(self, goal: float) -> dict[str, Tensor]:
        """Return the log odds by axis: the learned values, with the offset at which the expected size is the
        goal.

        The offset d solves size(a + d) = goal for the learned a, so its derivative by a_i is minus the share
        of a_i in how the size changes with all of them.
        """
        learned = {axis: PACE * value for axis, value in self._scaled.items()}
        offset = self._offset({axis: value.detach() for axis, value in learned.items()}, goal)
        slopes = {axis: (value.detach() + offset).requires_grad_() for axis, value in learned.items()}
        with torch.enable_grad():
            total = self._size(expected(slopes))
        grads = torch.autograd.grad(total, list(slopes.values()))
        change = torch.stack([grad.sum() for grad in grads]).sum().clamp(min=1e-12)
        moves = [(g * (a - a.detach())).sum() for g, a in zip(grads, learned.values(), strict=True)]
        shared = offset - torch.stack(moves).sum() / change
        return {axis: value + shared for axis, value in learned.items()}

    @torch.no_grad()
    def _offset(self, learned: Mapping[str, Tensor], goal: float) -> float:
        return self._solved(goal, lambda offset: expected({a: v + offset for a, v in learned.items()}))

    def _solved(self, goal: float, kept: Callable[[float], Mapping[str, Any]]) -> float:
        """Find by bisection the offset at which the expected size is the goal; the size grows with the
        offset.
        """
        wanted = (1 - goal) * float(self._size({}))

        def miss(offset: float) -> float:
            return float(self._size(kept(offset))) - wanted

        low, high = -60.0, 60.0
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if miss(middle) < 0 else (low, middle)
        return min(low, high, key=lambda offset: abs(miss(offset)))  # counts may jump past the goal

    def _size(self, kept: Mapping[str, Any]) -> Any:
        return size(self._config, kept, self._measure, self._bits)

    def drawn(self, goal: float) -> dict[str, Tensor]:
        """Random gates in 0 ... 1, most of them exactly 0 or 1, with gradients to their log odds."""
        return {axis: draw(log_odds) for axis, log_odds in self.log_odds(goal).items()}

    @torch.no_grad()
    def settled(self, goal: float) -> dict[str, Tensor]:
        """Return deterministic gates: the highest of each axis stay, as many as the goal's size allows."""
        log_odds = self.log_odds(goal)
        offset = self._solved(
            goal, lambda offset: _whole_counts({a: v + offset for a, v in log_odds.items()})
        )
        counts = _whole_counts({axis: value + offset for axis, value in log_odds.items()})
        result = {}
        for axis, value in log_odds.items():
            kept = value.topk(counts[axis]).indices
            gates = (torch.sigmoid(value) * (HIGH - LOW) + LOW).clamp(1e-3, 1)
            result[axis] = torch.zeros_like(value).index_copy(0, kept, gates[kept])
        return result


def draw(log_odds: Tensor) -> Tensor:
    """Gates of the hard-concrete distribution (Louizos et al. 2018), of the shape of their log odds."""
    uniform = torch.rand_like(log_odds).clamp(1e-6, 1 - 1e-6)
    soft = torch.sigmoid((torch.logit(uniform) + log_odds) / BETA)
    return (soft * (HIGH - LOW) + LOW).clamp(0, 1)


def _whole_counts(log_odds: Mapping[str, Tensor]) -> dict[str, int]:
    """Return the number that stays of each axis: the expected number, in multiples that processors need."""
    counts = {}
    for axis, stay in expected(log_odds).items():
        there = len(log_odds[axis])
        multiple = 1 if axis.startswith("heads") else min(MULTIPLE, there)
        counts[axis] = min(there, max(multiple, round(float(stay) / multiple) * multiple))
    return counts


def expected(log_odds: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the expected number that stays of each axis: the sum of P(gate > 0)."""
    shift = BETA * math.log(-LOW / HIGH)
    return {axis: torch.sigmoid(value - shift).sum() for axis, value in log_odds.items()}


def _standing(weights: Mapping[str, Tensor], config: ModelConfig, axis: str, count: int) -> Tensor:
    """Initialise gates (count,) by how much larger their weights are than the mean of the axis."""
    scores = importance(weights, config, axis).reshape(count, -1).sum(1)
    return 0.5 * (scores - scores.mean()) / scores.std(correction=0).clamp(min=1e-6)


class GatedOps(TorchOps):
    """The encoder's operations with gates: drawn anew for each call in training, settled otherwise.

    A gate scales what its head, unit or channel gives to the next layer; norms over channels count only those
    whose gate is open. So a model with settled gates computes what it computes when the closed ones are gone.
    """

    def __init__(self, gates: Gates, goal: float, config: ModelConfig, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._gates = gates.drawn(goal) if self.training else gates.settled(goal)
        self._layers = inventory(config).layers

    def conv1d(
        self, x: Tensor, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Tensor:
        y = super().conv1d(x, name, stride, padding, groups)
        return y if _norm_of(name) in self._layers else self._gated(y, name)

    def group_norm(self, x: Tensor, name: str, eps: float, valid: Tensor | None) -> Tensor:
        return self._gated(super().group_norm(x, name, eps, valid), name)

    def affine(self, x: Tensor, name: str) -> Tensor:
        return self._gated(super().affine(x, name), name)

    def layer_norm(self, x: Tensor, name: str | None, eps: float, axis: int = -1) -> Tensor:
        gate = None if name is None else self._gates.get(_axis(self._layers[name], 0))
        if name is None or gate is None:
            return super().layer_norm(x, name, eps, axis)
        x, is_open = x.movedim(axis, -1).float(), (gate.detach() > 0).float()
        count = is_open.sum().clamp(min=1)
        centred = (x - (x * is_open).sum(-1, keepdim=True) / count) * is_open
        y = centred * torch.rsqrt(centred.square().sum(-1, keepdim=True) / count + eps)
        y = (y * self.weights[f"{name}.weight"] + self.weights[f"{name}.bias"]) * is_open
        if self._layers[name].part is Part.FRONT_END:  # the projection's inputs were scaled already
            y = y * gate
        return y.movedim(-1, axis)

    def linear(self, x: Tensor, name: str) -> Tensor:
        if (gate := self._gates.get(_inputs(self._layers[name]))) is not None:
            x = x * gate.repeat_interleave(x.shape[-1] // len(gate))
        return super().linear(x, name)

    def _gated(self, x: Tensor, name: str) -> Tensor:
        gate = self._gates.get(_axis(self._layers[name], 0))
        return x if gate is None else x * gate[:, None]


def _axis(layer: Layer, dimension: int) -> str:
    """Return the name of the axis of a dimension of a layer's weight; an empty text if it has none."""
    axis = layer.axes[dimension]
    return "" if axis is None else axis.name


def _inputs(layer: Layer) -> str:
    """Return the axis that is gated at a linear layer's inputs; an empty text if there is none.

    Channels of the front end are gated where a convolution gives them.
    """
    axis = layer.axes[1] if layer.kind is Kind.LINEAR else None
    return axis.name if axis is not None and axis.kind in (AxisKind.HEADS, AxisKind.UNITS) else ""


def _norm_of(convolution: str) -> str:
    """Return the name of the norm after a convolution of the front end, if there is one."""
    return f"{convolution.removesuffix('.conv')}.layer_norm"


class Pruning(Distillation[PruneConfig]):
    """Distillation of a gated model from its own full self, while more and more of it is closed."""

    keeps_newest = True
    method = "pruning by distillation"

    def __init__(self, model: CTCModel, teacher: Teacher, gates: Gates, *settings: Any) -> None:
        super().__init__(model, teacher, *settings)
        self.gates = gates

    def make_ops(self, *arguments: Any) -> TorchOps:
        """Gate the model by the goal of this step."""
        return GatedOps(self.gates, self.goal(), self.model.config, *arguments)

    def goal(self) -> float:
        """Return the share of the model that is closed in this step, as expected: it rises, then stays."""
        risen = min(self.step / max(self.settings.ramp * self.settings.train.steps, 1), 1.0)
        return FIRST_SPARSITY + risen * (self.settings.sparsity - FIRST_SPARSITY)

    def _same_features_as_teacher(self) -> bool:
        return False  # gates change what its front end gives

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the distillation's terms and ``sparsity``, the expected share that is removed."""
        return {**super().forward(batch), "sparsity": torch.tensor(self.goal())}


def size(config: ModelConfig, kept: Mapping[str, Any], measure: str, bits: int = 8) -> Any:
    """Parameters of the matrices, multiplications with them per second of speech, or their bytes.

    Args:
        kept: how many heads, units and channels stay, by axis; those not in it stay all.
        bits: of the Transformer's linear layers, where ``measure`` is ``bytes``; all else has 8.
    """
    axes = inventory(config).axes
    total: Any = 0.0
    for names, each in _terms(config, measure, bits).items():
        total = total + math.prod((kept.get(name, axes[name].size) for name in names), start=each)
    return total


@lru_cache(maxsize=64)
def _terms(config: ModelConfig, measure: str, bits: int) -> Mapping[tuple[str, ...], float]:
    """Return a model's size as a sum of products: the cost of one index for each set of multiplied axes."""
    terms: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for layer in inventory(config):
        if layer.multiplies:
            costs = {
                "parameters": 1.0,
                "operations": layer.uses * layer.frames.per_second,
                "bytes": bits / 8 if layer.packable else 1.0,
            }
            axes = [axis for axis in layer.axes if axis is not None and axis.kind in PARTS]
            counts = math.prod(axis.size for axis in axes)
            terms[tuple(axis.name for axis in axes)] += costs[measure] * math.prod(layer.shape) / counts
    return terms


@torch.no_grad()
def remove(model: CTCModel, gates: Gates, goal: float) -> CTCModel:
    """Remove the parts with closed gates, and multiply the other weights by the values of their gates."""
    settled = gates.settled(goal)
    config, axes = model.config, inventory(model.config).axes
    kept: dict[str, Tensor] = {}
    counts: dict[str, int] = {}
    scales: dict[str, Tensor] = {}
    for axis, gate in settled.items():
        kept[axis] = gate.nonzero()[:, 0]
        counts[axis], scales[axis] = len(kept[axis]), gate
        if (width := axes[axis].width) > 1:
            inner = torch.arange(width)
            kept[axis] = (kept[axis][:, None] * width + inner).flatten()
            scales[axis] = gate.repeat_interleave(width)

    layers = range(config.num_hidden_layers)
    heads = tuple(counts.get(f"heads{i}", config.attention_heads(i)) for i in layers)
    smaller = config.replace(
        conv_dim=tuple(counts.get(f"conv{i}", n) for i, n in enumerate(config.conv_dim)),
        layer_attention_heads=heads if any(axis.startswith("heads") for axis in counts) else (),
        layer_intermediate_size=tuple(counts.get(f"ffn{i}", config.feed_forward_units(i)) for i in layers),
        littlefoot={},
    )
    weights = {}
    for name, weight in model.named_parameters():
        value = weight.detach()
        if (axis := _scaled(name, config)) in scales:
            value = value * (scales[axis] if value.ndim < 3 else scales[axis][:, None, None])
        weights[name] = select(value, dimensions(name, config), kept).contiguous()
    return CTCModel(smaller, model.vocabulary, model.preprocessor, weights, model.card)


def _scaled(name: str, config: ModelConfig) -> str:
    """Return the axis whose gates multiply a weight's last dimension, or a kernel's first; or none."""
    layers = inventory(config)
    layer = layers.owner(name)
    if layer.part is not Part.FRONT_END:
        return _inputs(layer) if name.endswith(".weight") else ""
    normed = layer.kind is Kind.CONVOLUTION and _norm_of(layer.name) in layers
    return "" if normed else _axis(layer, 0)
