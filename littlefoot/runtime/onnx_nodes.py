"""Build an ONNX graph: values with arithmetic, and the list of nodes and constants behind them.

Between convolutions a value (B, C, T) is an image of height one, (B, C, 1, T). OpenVINO then keeps the
channels last in memory through convolution, norm and activation. With three dimensions it would reorder the
data around every norm, which takes longer than the 8-bit convolutions themselves.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.errors import MissingExtraError

try:
    import onnx
    from onnx import TensorProto, helper
except ModuleNotFoundError as missing:
    raise MissingExtraError("an engine's graph of the network", "onnx", "openvino") from missing

OPSET = 20
IR_VERSION = 10


@dataclass(frozen=True)
class Value:
    """The output of a node: a name in the graph, with the arithmetic that the encoder uses."""

    graph: OnnxNodes
    name: str
    dtype: np.dtype[Any]
    image: bool = False
    """Whether a value (B, C, T) is an image (B, C, 1, T)."""

    def __add__(self, other: Value | float) -> Value:
        return self.graph.binary("Add", self, other)

    def __sub__(self, other: Value | float) -> Value:
        return self.graph.binary("Sub", self, other)

    def __mul__(self, other: Value | float) -> Value:
        return self.graph.binary("Mul", self, other)

    def __floordiv__(self, other: int) -> Value:
        # ONNX divides integers towards zero; ours are not negative.
        return self.graph.binary("Div", self, other)


@dataclass
class OnnxNodes:
    """The nodes and constants of a graph, in the order in which they are appended."""

    nodes: list[onnx.NodeProto] = field(default_factory=list, init=False)
    initializers: dict[str, npt.NDArray[Any]] = field(default_factory=dict, init=False)

    def append(self, kind: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """Append an operator, named after its first output."""
        self.nodes.append(helper.make_node(kind, inputs, outputs, name=outputs[0], **attributes))

    def node(
        self, kind: str, *inputs: Value | str, dtype: npt.DTypeLike = np.float32, **attributes: Any
    ) -> Value:
        """Append an operator with one output."""
        name = f"{kind}_{len(self.nodes)}"
        names = [value if isinstance(value, str) else value.name for value in inputs]
        self.append(kind, names, [name], **attributes)
        return Value(self, name, np.dtype(dtype))

    def binary(self, kind: str, a: Value, b: Value | float) -> Value:
        if not isinstance(b, Value):
            b = self.constant(np.asarray(b, dtype=a.dtype))
        return replace(self.node(kind, a, b, dtype=a.dtype), image=a.image)

    def _image(self, kind: str, *inputs: Value, **attributes: Any) -> Value:
        """Append an operator whose output is an image."""
        return replace(self.node(kind, *inputs, **attributes), image=True)

    def _elementwise(self, kind: str, x: Value, **attributes: Any) -> Value:
        return replace(self.node(kind, x, **attributes), image=x.image)

    def _as_image(self, x: Value) -> Value:
        return x if x.image else self._image("Unsqueeze", x, self.integers(2))

    def _flat(self, x: Value) -> Value:
        return self.node("Squeeze", x, self.integers(2), dtype=x.dtype) if x.image else x

    def initializer(self, name: str, array: npt.NDArray[Any]) -> Value:
        """Add a constant under a name, or return the one that has this name already."""
        if name not in self.initializers:
            self.initializers[name] = np.asarray(array, order="C")
        return Value(self, name, array.dtype)

    def constant(self, value: npt.NDArray[Any]) -> Value:
        digest = hashlib.sha256(value.tobytes()).hexdigest()[:16]
        return self.initializer(f"constant_{value.dtype}_{value.shape}_{digest}", value)

    def integers(self, *values: int) -> Value:
        return self.constant(np.array(values, dtype=np.int64))

    def as_float(self, x: Value) -> Value:
        return self.node("Cast", x, to=TensorProto.FLOAT)
