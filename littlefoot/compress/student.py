"""A smaller model made of the weights of a larger one: fewer layers, narrower widths, another front end.

Layers are chosen as in Shrinking Bigfoot (Peng et al. 2021). Of a narrower axis (hidden channels,
feed-forward units, heads, channels of a convolution) those are kept whose weights are largest: the norm of
everything that is read from or written to them, a measure that needs no data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import Axis, AxisKind, Kind, Part, block_name, convolution_of, in_block
from littlefoot.system.checks import Checked
from littlefoot.training.module import HEAD, HEAD_PROJECTION, CTCModel


@dataclass(frozen=True)
class Size:
    """A student of DistillW2V2 (Fu et al. 2023), as shares of its teacher, which is LARGE in the paper."""

    layers: float
    width: float
    """Share of the hidden size and of the feed-forward units."""
    channels: float = 1.0
    """Share of the channels of each convolution of the front end."""


SIZES: Mapping[str, Size] = {
    "S1": Size(1 / 2, 3 / 4),
    "S2": Size(1 / 2, 1 / 2),
    "S3": Size(1 / 2, 3 / 8),
    "S4": Size(10 / 24, 3 / 8),
    "S5": Size(10 / 24, 3 / 8, channels=13 / 16),
}
"""The paper's students. It gives the numbers of parameters (94.4, 44.4, 26.9, 23.3 and about 22 million),
widths and depths. Unknown are the heads, which are as few here as the teacher's width of a head allows (64
channels for LARGE), and the convolutions of S5: 416 of 512 channels make 21.9 million parameters."""


@dataclass(frozen=True)
class StudentConfig(Checked):
    """Differences between a student and its teacher. None keeps the teacher's value."""

    layers: int | float | tuple[int, ...] | None = None
    """Transformer layers: their number, a share of the teacher's (such as 0.5; rounded up), or a list (from
    0)."""
    initialisation: Literal["every_k", "spread", "first_k", "last_k"] = "every_k"
    """Teacher layers for a number of layers: ``every_k`` (0, k, 2k, ... with k the integer ratio of the
    depths, so the first ones if they are more than half), ``spread`` (as evenly as possible, with the first
    and the last), ``first_k`` or ``last_k``."""
    size: Literal["S1", "S2", "S3", "S4", "S5"] | None = None
    """One of SIZES, which gives what is None of ``layers``, widths, heads and ``conv_dim``."""
    hidden_size: int | float | None = None
    """A number, or a share of the teacher's (0.375); so are heads and ``intermediate_size``."""
    num_attention_heads: int | float | None = None
    """Heads of a layer; pruned layers that have fewer keep them. The same holds for ``intermediate_size``."""
    intermediate_size: int | float | None = None
    feat_extract_first: Literal["conv", "log_mel"] | None = None
    """First layer of the front end. If it is not the teacher's, or if the number of mel bands changes, the
    front end and the projection are initialised at random, and their sizes are free. ``log_mel`` implies
    layer norms."""
    conv_dim: tuple[int, ...] | None = None
    conv_kernel: tuple[int, ...] | None = None
    """Convolutions whose kernel differs from the teacher's begin random, and so do those it lacks."""
    conv_stride: tuple[int, ...] | None = None
    faithful: bool = False
    """Leave the positional convolution and the encoder's last norm random, as the authors' code did."""
    head_projection: bool = False
    """Train a narrower student with its teacher's head, behind a projection to the teacher's width, as in
    DistillW2V2. The saved model has their product for a head. The projection begins as the choice of the
    channels that the student keeps, so both ways begin with the same outputs."""
    seed: int = 0

    def sized(self, teacher: ModelConfig) -> StudentConfig:
        """Return the settings with the sizes of ``size`` for this teacher."""
        if self.size is None:
            return self
        size, own = SIZES[self.size], self
        hidden = own.hidden_size if own.hidden_size is not None else size.width
        units = own.intermediate_size if own.intermediate_size is not None else size.width
        heads, channels = own.num_attention_heads, own.conv_dim
        if heads is None:
            heads = _fewest_heads(_share("hidden_size", hidden, teacher), teacher)
        if channels is None and size.channels != 1:
            channels = tuple(round(size.channels * width) for width in teacher.conv_dim)
        return replace(
            own,
            layers=size.layers if own.layers is None else own.layers,
            hidden_size=hidden,
            num_attention_heads=heads,
            intermediate_size=units,
            conv_dim=channels,
            size=None,
        )


def make_student(teacher: CTCModel, student: StudentConfig) -> CTCModel:
    """Make a model with the student's geometry and the weights of the teacher that fit into it.

    Raises ConfigError for a geometry that is impossible or larger than the teacher's.
    """
    student = student.sized(teacher.config)
    chosen = chosen_layers(teacher.config.num_hidden_layers, student)
    config = geometry(teacher.config, student, chosen)
    made = CTCModel.from_config(config, teacher.vocabulary, seed=student.seed)
    made.preprocessor = dict(teacher.preprocessor)
    weights = dict(teacher.named_parameters())
    kept = kept_indices(weights, teacher.config, config, chosen)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if not _stays_random(name, teacher.config, config, student.faithful):
                source = _of_teacher(name, config, chosen)
                parameter.copy_(select(weights[source], dimensions(source, teacher.config), kept))
    return _with_head_of(teacher, made, kept) if student.head_projection and "hidden" in kept else made


def _with_head_of(teacher: CTCModel, student: CTCModel, kept: Mapping[str, Tensor]) -> CTCModel:
    """Give the student its teacher's head, after a projection that selects the channels it keeps."""
    projection = torch.zeros(teacher.config.hidden_size, student.config.hidden_size)
    projection[kept["hidden"], torch.arange(student.config.hidden_size)] = 1.0
    weights = {name: value.detach() for name, value in student.named_parameters()}
    weights[HEAD] = teacher.get_parameter(HEAD).detach().clone()
    return student.with_weights({**weights, HEAD_PROJECTION: projection})


def _stays_random(name: str, teacher: ModelConfig, student: ModelConfig, faithful: bool) -> bool:
    layer = inventory(student).owner(name)
    if layer.part is Part.POSITIONS or layer.name == "encoder.layer_norm":
        return faithful
    if layer.part not in (Part.FRONT_END, Part.PROJECTION) or layer.optional:
        return False
    if _other_front_end(teacher, student):
        return True
    if (number := convolution_of(name)) is None:
        return len(student.conv_dim) != len(teacher.conv_dim)
    mine, theirs = (config.conv_kernel[number : number + 1] for config in (student, teacher))
    return mine != theirs


def _other_front_end(teacher: ModelConfig, student: ModelConfig) -> bool:
    """Return True if no later convolution of the teacher fits the outputs of the student's first layer."""
    bands = [config.conv_dim[0] for config in (teacher, student) if config.feat_extract_first != "conv"]
    return len(bands) == 1 or len(set(bands)) == 2


def _of_teacher(name: str, student: ModelConfig, chosen: tuple[int, ...]) -> str:
    """Return the teacher's name of a student's weight."""
    place = in_block(name)
    if place is None or inventory(student).owner(name).kind is Kind.TABLE:  # which is that of all layers
        return name
    return f"{block_name(chosen[place[0]])}.{place[1]}"


def select(weight: Tensor, axes: tuple[Axis | int, ...], kept: Mapping[str, Tensor]) -> Tensor:
    """Return the part of a teacher's weight that the student keeps, by the names of the axes."""
    for dimension, axis in enumerate(axes):
        if isinstance(axis, int):
            continue
        if axis.kind is AxisKind.GROUP and "hidden" in kept:
            # Each output channel reads the input channels of its own group; the same number is kept in each.
            size = weight.shape[1]
            groups = kept["hidden"] // size
            width = len(kept["hidden"]) // int(groups[-1] + 1)
            inner = kept["hidden"].reshape(-1, width) % size  # (groups, width)
            weight = weight.take_along_dim(inner[groups][:, :, None], dim=1)
        elif axis.name in kept and axis.kind is AxisKind.IMAGES:  # each has its bands beside each other
            bands = torch.arange(axis.width)
            weight = weight.index_select(dimension, (kept[axis.name][:, None] * axis.width + bands).flatten())
        elif axis.name in kept:
            weight = weight.index_select(dimension, kept[axis.name])
    return weight


def chosen_layers(depth: int, student: StudentConfig) -> tuple[int, ...]:
    """Return the teacher's layers that initialise the student's."""
    if student.layers is None:
        return tuple(range(depth))
    if isinstance(student.layers, tuple):
        if not student.layers or not all(0 <= layer < depth for layer in student.layers):
            raise ConfigError(f"layers {list(student.layers)}: choose from the teacher's, 0 to {depth - 1}")
        return student.layers
    count = student.layers
    if isinstance(count, float):
        if not 0 < count <= 1:
            raise ConfigError(f"layers {count}: a share of the teacher's lies between 0 and 1")
        count = math.ceil(round(count * depth, 6))
    if not 1 <= count <= depth:
        raise ConfigError(f"layers {count}: the teacher has {depth}, and a student needs at least one")
    if student.initialisation == "every_k":
        return tuple(range(0, depth, depth // count))[:count]
    if student.initialisation == "spread":
        gaps = max(count - 1, 1)
        return tuple((2 * number * (depth - 1) + gaps) // (2 * gaps) for number in range(count))
    return tuple(range(count)) if student.initialisation == "first_k" else tuple(range(depth - count, depth))


def geometry(teacher: ModelConfig, student: StudentConfig, chosen: tuple[int, ...]) -> ModelConfig:
    """Return the student's configuration. Raises ConfigError if the teacher's does not allow it."""
    student = student.sized(teacher)
    names = (
        "hidden_size",
        "num_attention_heads",
        "intermediate_size",
        "feat_extract_first",
        "conv_dim",
        "conv_kernel",
        "conv_stride",
    )
    changes = {
        name: _share(name, value, teacher) for name in names if (value := getattr(student, name)) is not None
    }
    if student.feat_extract_first == "log_mel":
        changes["feat_extract_norm"] = "layer"
    heads = changes.get("num_attention_heads", teacher.num_attention_heads)
    units = changes.get("intermediate_size", teacher.intermediate_size)
    if teacher.layer_blocks or teacher.layer_maps or teacher.linear_ranks:
        if student != StudentConfig(initialisation=student.initialisation, seed=student.seed):
            raise ConfigError(
                "layers that are factorized, or share weights, keep their geometry: make the student first, "
                "then factorize or share"
            )
        return teacher.replace(littlefoot={})
    config = teacher.replace(
        num_hidden_layers=len(chosen),
        layer_attention_heads=_at_most(heads, teacher.layer_attention_heads, chosen),
        layer_intermediate_size=_at_most(units, teacher.layer_intermediate_size, chosen),
        littlefoot={},
        **changes,
    )
    for name in ("hidden_size", "num_attention_heads", "intermediate_size", "head_dim"):
        mine, theirs = getattr(config, name), getattr(teacher, name)
        if mine > theirs:
            raise ConfigError(f"the student's {name} {mine} is larger than the teacher's {theirs}")
    if config.family.relative_positions and config.hidden_size != teacher.hidden_size:
        raise ConfigError(
            f"a {config.model_type} student keeps its teacher's hidden_size and heads: all its layers share "
            "their positions"
        )
    _check_fixed_sizes(teacher, config, chosen)
    known = () if _other_front_end(teacher, config) else teacher.conv_dim
    for layer, (mine, theirs) in enumerate(zip(config.conv_dim, known, strict=False)):
        if mine > theirs:
            raise ConfigError(f"the student's conv_dim[{layer}] {mine} is larger than the teacher's {theirs}")
    return config


def _check_fixed_sizes(teacher: ModelConfig, config: ModelConfig, chosen: tuple[int, ...]) -> None:
    """Raise ConfigError for a layer that the teacher lacks, or of a size that no student can change."""
    if config.projects and not teacher.projects and not _other_front_end(teacher, config):
        raise ConfigError(
            f"the student cannot have hidden_size {config.hidden_size}: its teacher has no projection, "
            "so its features are as wide as its blocks"
        )
    theirs = inventory(teacher)
    for layer in inventory(config):
        if layer.part in (Part.FRONT_END, Part.PROJECTION) or not layer.tensors:
            continue
        place = in_block(layer.name)
        name = layer.name if place is None else f"{block_name(chosen[place[0]])}.{place[1]}"
        fixed = [size for size in layer.dimensions if isinstance(size, int)]
        if name not in theirs or fixed != [
            size for size in theirs.layers[name].dimensions if isinstance(size, int)
        ]:
            raise ConfigError(
                f"the student cannot have hidden_size {config.hidden_size}: {layer.name} of a "
                f"{config.model_type} model fits its teacher's {teacher.hidden_size} only"
            )


def _share(name: str, value: Any, teacher: ModelConfig) -> Any:
    """Return a size, or a share of the teacher's size. Raises ConfigError if that is not a whole number."""
    if not isinstance(value, float):
        return value
    size = value * getattr(teacher, name)
    if not 0 < value <= 1 or not size.is_integer():
        raise ConfigError(
            f"{name} {value}: a share lies between 0 and 1, and of the teacher's {getattr(teacher, name)} it "
            "must be a whole number"
        )
    return int(size)


def _fewest_heads(hidden_size: int, teacher: ModelConfig) -> int:
    """Return the fewest heads that divide a width and are no wider than the teacher's."""
    fitting = (heads for heads in range(1, hidden_size + 1) if hidden_size % heads == 0)
    return next(heads for heads in fitting if hidden_size // heads <= teacher.head_dim)


def _at_most(size: int, sizes: tuple[int, ...], chosen: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sizes of the chosen layers, at most ``size``; empty if the teacher has none per layer."""
    return tuple(min(size, sizes[layer]) for layer in chosen) if sizes else ()


def kept_indices(
    weights: Mapping[str, Tensor], teacher: ModelConfig, student: ModelConfig, chosen: tuple[int, ...]
) -> dict[str, Tensor]:
    """Return the indices that the student keeps, ascending, of each axis of the teacher that shrinks."""
    kept: dict[str, Tensor] = {}
    known = inventory(teacher).axes

    def narrow(axis: str, size: int, groups: int = 1) -> None:
        """Keep ``size`` indices, the same number in each of ``groups`` equal parts of the axis."""
        if axis in known and size < known[axis].size:
            scores = importance(weights, teacher, axis)
            parts = scores.reshape(groups, -1)
            best = parts.topk(size // groups, dim=1).indices.sort(dim=1).values
            kept[axis] = (best + torch.arange(groups)[:, None] * parts.shape[1]).flatten()

    narrow("hidden", student.hidden_size, student.num_conv_pos_embedding_groups)
    if not _other_front_end(teacher, student):
        for layer, width in enumerate(student.conv_dim[: len(teacher.conv_dim)]):
            narrow(f"conv{layer}", width)
    for axis in known.values():
        if axis.kind is AxisKind.ADAPTER_UNITS:
            narrow(axis.name, student.intermediate_size)
    for number, layer in enumerate(chosen):
        if teacher.block(layer) != layer:  # it has another's, and a shared model keeps its geometry
            continue
        narrow(f"ffn{layer}", student.feed_forward_units(number))
        if f"heads{layer}" not in known:
            continue
        channels = importance(weights, teacher, f"heads{layer}").reshape(-1, teacher.head_dim)
        heads = channels.sum(1).topk(student.attention_heads(number)).indices.sort().values
        inner = channels[heads].topk(student.head_dim, dim=1).indices.sort(dim=1).values
        if inner.numel() < channels.numel():
            kept[f"heads{layer}"] = (inner + heads[:, None] * teacher.head_dim).flatten()
    return kept


def importance(weights: Mapping[str, Tensor], config: ModelConfig, axis: str) -> Tensor:
    """Compute for each index of an axis the log norm of its weights, summed over all matrices."""
    scores = []
    for name, weight in weights.items():
        for dimension, found in enumerate(dimensions(name, config)):
            if not isinstance(found, int) and found.name == axis and weight.ndim > 1:
                others = [d for d in range(weight.ndim) if d != dimension]
                norms = torch.linalg.vector_norm(weight.detach().float(), dim=others)
                if found.kind is AxisKind.IMAGES:
                    norms = norms.reshape(-1, found.width).norm(dim=1)
                scores.append(norms.clamp(min=1e-12).log())
    return torch.stack(scores).sum(0)


def dimensions(name: str, config: ModelConfig) -> tuple[Axis | int, ...]:
    """Return the axis of each dimension of a weight, or its size if a student cannot have fewer."""
    return inventory(config).owner(name).tensors[name]
