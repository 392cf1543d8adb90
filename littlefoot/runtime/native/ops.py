"""The encoder's operations as steps of a native program: what inference runs where weights stay packed.

``littlefoot.network.encoder`` is played once, with values that only remember how they came about; what is
left is a short list of steps, each a call of ``littlefoot_native.Program``. Attention is recognised by its
parts: heads split off, a product, a softmax, another product. Masks depend on the number of frames only: they
are computed with numpy when a recording comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.errors import LittlefootError

Array = npt.NDArray[Any]


class UnsupportedError(LittlefootError):
    """A network has an operation that the native program does not have."""


@dataclass(frozen=True)
class Host:
    """A value that depends on the number of frames only, without the batch."""

    compute: Callable[[int], Array]

    def _with(self, other: Host | float, operation: Callable[[Any, Any], Any]) -> Host:
        if isinstance(other, Host):
            return Host(lambda frames: operation(self.compute(frames), other.compute(frames)))
        return Host(lambda frames: operation(self.compute(frames), other))

    def __add__(self, other: Host | float) -> Host:
        return self._with(other, np.add)

    def __sub__(self, other: Host | float) -> Host:
        return self._with(other, np.subtract)

    def __mul__(self, other: Host | float) -> Host:
        return self._with(other, np.multiply)

    def __floordiv__(self, other: int) -> Host:
        return self._with(other, np.floor_divide)


@dataclass(frozen=True)
class Rows:
    """The output (B, F, C) of a step, times a factor."""

    ops: NativeOps
    step: int
    factor: float = 1.0

    def __add__(self, other: Rows | Host) -> Rows:
        if self.factor != 1.0 or (isinstance(other, Rows) and other.factor != 1.0):
            raise UnsupportedError("a sum of scaled values")
        if isinstance(other, Host):
            return self.ops.record(AddVector(self.step, other.compute(0)))
        return self.ops.record(Add(self.step, other.step))

    def __mul__(self, factor: float) -> Rows:
        if not isinstance(factor, float):
            raise UnsupportedError("a product of two values")
        return replace(self, factor=self.factor * factor)


@dataclass(frozen=True)
class Columns:
    """Rows transposed, (B, C, F), as convolutions have them."""

    rows: Rows


@dataclass(frozen=True)
class Heads:
    """Rows split into heads of ``width`` channels: (B, F, H, K), or transposed."""

    rows: Rows
    width: int


@dataclass(frozen=True)
class Scores:
    """Products (B, H, F, F) of queries and keys, and what is added to them; after the softmax, a map."""

    query: Heads
    key: Heads
    name: str | None
    biases: tuple[Host, ...] = ()

    def __add__(self, other: Host) -> Scores:
        if not isinstance(other, Host):
            raise UnsupportedError("attention scores with a bias that depends on the audio")
        return replace(self, biases=(*self.biases, other))


@dataclass(frozen=True)
class Mixed:
    """Values (B, H, F, K), mixed by a map."""

    scores: Scores
    value: Heads


@dataclass(frozen=True)
class Input:
    """The program's input."""


@dataclass(frozen=True)
class Linear:
    """``name`` of each of the layers whose outputs stand side by side."""

    names: tuple[str, ...]
    source: int
    activation: str = "none"
    residual: int | None = None


@dataclass(frozen=True)
class Convolution:
    """Over time, in groups of channels, with as many outputs as frames."""

    name: str
    source: int
    behind: int
    """Frames before its own that it sees."""
    groups: int
    activation: str = "none"
    residual: int | None = None


@dataclass(frozen=True)
class Activate:
    source: int
    kind: str


@dataclass(frozen=True)
class Norm:
    source: int
    name: str | None
    eps: float


@dataclass(frozen=True)
class Add:
    source: int
    other: int


@dataclass(frozen=True)
class AddVector:
    source: int
    vector: Array


@dataclass(frozen=True)
class Attention:
    query: int
    key: int
    value: int
    head_dim: int
    scale: float
    name: str | None
    """Of the product of queries and keys."""
    biases: tuple[Host, ...]


Product = Linear | Convolution
"""What may have an activation and a residual."""

Step = Input | Product | Activate | Norm | Add | AddVector | Attention


def sources(step: Step) -> list[int]:
    """The steps whose outputs a step reads."""
    match step:
        case Linear() | Convolution():
            return [step.source] if step.residual is None else [step.source, step.residual]
        case Activate() | Norm() | AddVector():
            return [step.source]
        case Add():
            return [step.source, step.other]
        case Attention():
            return [step.query, step.key, step.value]
    return []


@dataclass
class NativeOps:
    """Plays the encoder into ``steps``. Raises UnsupportedError for what a program does not have.

    Args:
        weights: arrays by name.
    """

    weights: Mapping[str, Array]
    steps: list[Step] = field(default_factory=lambda: [Input()])

    def input(self) -> Rows:
        return Rows(self, 0)

    def record(self, step: Step) -> Rows:
        self.steps.append(step)
        return Rows(self, len(self.steps) - 1)

    def segment(self, name: str, part: Callable[..., Any], *values: Any) -> Any:
        return part(*values)

    def linear(self, x: Rows, name: str) -> Rows:
        return self.record(Linear((name,), _plain(x)))

    def conv1d(
        self, x: Any, name: str, stride: int = 1, padding: tuple[int, int] = (0, 0), groups: int = 1
    ) -> Columns:
        if not isinstance(x, Columns) or stride != 1 or groups == 1:
            raise UnsupportedError("a convolution other than over positions")
        return Columns(self.record(Convolution(name, _plain(x.rows), padding[0], groups)))

    def mask_spans(self, x: Rows) -> Rows:
        return x

    def begin_anywhere(self, positions: Host, count: int) -> Host:
        raise UnsupportedError("sinusoidal positions")

    def layer_norm(self, x: Rows, name: str | None, eps: float, axis: int = -1) -> Rows:
        return self.record(Norm(_plain(x), name, eps))

    def activation(self, x: Any, kind: str) -> Any:
        if isinstance(x, Columns):
            return Columns(self.activation(x.rows, kind))
        return self.record(Activate(_plain(x), kind))

    def softmax(self, x: Scores) -> Scores:
        return x

    def matmul(self, a: Any, b: Any, name: str | None = None) -> Scores | Mixed:
        if isinstance(a, Heads) and isinstance(b, Heads):
            return Scores(a, b, name)
        if isinstance(a, Scores) and isinstance(b, Heads):
            return Mixed(a, b)
        raise UnsupportedError("a product of two values other than attention")

    def reshape(self, x: Any, shape: Sequence[int]) -> Any:
        if isinstance(x, Host):
            return Host(lambda frames: x.compute(frames).reshape(shape))
        if isinstance(x, Rows) and len(shape) == 4:
            return Heads(x, shape[3])
        if isinstance(x, Mixed) and tuple(shape) == (0, 0, -1):
            scores = x.scores
            scale = scores.query.rows.factor * scores.key.rows.factor
            return self.record(
                Attention(
                    scores.query.rows.step,
                    scores.key.rows.step,
                    _plain(x.value.rows),
                    x.value.width,
                    scale,
                    scores.name,
                    scores.biases,
                )
            )
        raise UnsupportedError(f"a change of shape to {tuple(shape)}")

    def transpose(self, x: Any, axes: Sequence[int]) -> Any:
        if isinstance(x, Host):
            return Host(lambda frames: x.compute(frames).transpose(axes))
        if isinstance(x, Rows) and tuple(axes) == (0, 2, 1):
            return Columns(x)
        if isinstance(x, Columns) and tuple(axes) == (0, 2, 1):
            return x.rows
        if isinstance(x, Heads | Mixed) and tuple(axes) in ((0, 2, 1, 3), (0, 2, 3, 1)):
            return x  # the kernels find heads where they are
        raise UnsupportedError("a transposed value")

    def weight(self, name: str) -> Host:
        array = self.weights[name].astype(np.float32, copy=False)
        return Host(lambda frames: array)

    def constant(self, value: Array) -> Host:
        return Host(lambda frames: value)

    def positions(self, x: Rows, axis: int) -> Host:
        return Host(np.arange)

    def less(self, a: Host, b: Host) -> Host:
        return Host(lambda frames: (a.compute(frames) < b.compute(frames)).astype(np.float32))

    def clip(self, x: Host, low: int, high: int) -> Host:
        return Host(lambda frames: x.compute(frames).clip(low, high))

    def gather(self, table: Host, indices: Host) -> Host:
        return Host(lambda frames: table.compute(frames)[indices.compute(frames)])

    def dropout(self, x: Any, probability: float) -> Any:
        return x

    def _missing(self, *arguments: Any, **settings: Any) -> Any:
        raise UnsupportedError("an operation beyond linear layers, norms and attention")

    fixed_conv1d = group_norm = affine = log = sigmoid = sum = _missing
    slice = concat = last = valid = _missing


def _plain(x: Any) -> int:
    if not isinstance(x, Rows) or x.factor != 1.0:
        raise UnsupportedError("a layer whose input is not a plain value")
    return x.step


def fuse(steps: Sequence[Step], mergeable: Callable[[str, str], bool]) -> dict[int, Step]:
    """The steps that are left, by their numbers: activations and residuals join the products before them, and
    linear layers that read the same rounded value for one attention become one.

    Args:
        mergeable: whether two layers may be computed as one.
    """
    left: dict[int, Step] = dict(enumerate(steps))

    def uses(number: int) -> list[Step]:
        return [step for step in left.values() if number in sources(step)]

    def absorb(number: int, into: int, step: Step) -> None:
        left[into] = step
        del left[number]
        for at, other in left.items():
            left[at] = _renamed(other, number, into)

    for number, step in list(left.items()):
        step = left[number]
        if isinstance(step, Activate):
            before = left[step.source]
            if isinstance(before, Product) and before.residual is None and len(uses(step.source)) == 1:
                absorb(number, step.source, replace(before, activation=step.kind))
        elif isinstance(step, Add):
            for source, other in ((step.other, step.source), (step.source, step.other)):
                summand = _first_of_sum(left, source)
                before = left[summand]
                if (
                    isinstance(before, Product)
                    and before.residual is None
                    and other < summand
                    and len(uses(source)) == len(uses(summand)) == 1
                ):
                    left[summand] = replace(before, residual=other)
                    absorb(number, source, left[source])
                    break
    for step in list(left.values()):
        if isinstance(step, Attention):
            _merge(left, step, mergeable)
    return left


def _first_of_sum(steps: Mapping[int, Step], number: int) -> int:
    """Of products that are each other's residuals, the one that has none."""
    step = steps[number]
    while isinstance(step, Product) and step.residual is not None:
        number, step = step.residual, steps[step.residual]
    return number


def _renamed(step: Step, old: int, new: int) -> Step:
    changed: dict[str, Any] = {
        name: new
        for name in ("source", "other", "residual", "query", "key", "value")
        if getattr(step, name, None) == old
    }
    return replace(step, **changed) if changed else step


def _merge(left: dict[int, Step], attention: Attention, mergeable: Callable[[str, str], bool]) -> None:
    """Make query, key and value of an attention one linear layer, the names in this order."""
    numbers = (attention.query, attention.key, attention.value)
    layers = [left.get(number) for number in numbers]
    if len(set(numbers)) < 3 or not all(
        isinstance(layer, Linear)
        and len(layer.names) == 1
        and layer.activation == "none"
        and layer.residual is None
        for layer in layers
    ):
        return
    linear = [layer for layer in layers if isinstance(layer, Linear)]
    first = linear[0]
    same = all(layer.source == first.source and mergeable(first.names[0], layer.names[0]) for layer in linear)
    only = all(sum(number in sources(step) for step in left.values()) == 1 for number in numbers)
    if same and only:
        at = min(numbers)
        left[at] = Linear(tuple(layer.names[0] for layer in linear), first.source)
        for number in numbers:
            if number != at:
                del left[number]
        for other, step in left.items():
            if step is attention:
                left[other] = replace(attention, query=at, key=at, value=at)
                break
