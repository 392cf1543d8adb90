"""Emit the ONNX graph of an artifact in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.errors import MissingExtraError
from littlefoot.network.encoder import StreamState, embed, encode, encode_chunk, head, transform
from littlefoot.network.front_end import front_end
from littlefoot.runtime.onnx_nodes import IR_VERSION, OPSET, Value
from littlefoot.runtime.onnx_ops import OnnxOps
from littlefoot.runtime.protocols import Part
from littlefoot.runtime.stream_state import ADAPTER, FEATURES, SEEN, VALID, WAVEFORM, stream_state

try:
    import onnx
    from onnx import TensorProto, helper
except ModuleNotFoundError as missing:
    raise MissingExtraError("an engine's graph of the network", "onnx", "openvino") from missing

LENGTHS, LOGITS, EMBEDDING = "lengths", "logits", "embedding"

_LARGE = 1 << 14
"""Bytes from which an array stays outside of the protobuf, because copying all weights takes seconds."""
PROTOBUF_LIMIT = 1_900_000_000


@dataclass
class Graph:
    """A network as ONNX, with its large arrays beside it."""

    nodes: list[onnx.NodeProto]
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]
    constants: dict[str, npt.NDArray[Any]]
    """Every initializer by name."""
    observed: dict[str, list[str]]
    """Names of the tensors that layers read, with their layers; outputs of a graph built with ``observe``."""
    strides: dict[str, int]
    """The stride of every convolution."""
    hidden: list[str] = field(default_factory=list)
    """Names of the input of the first Transformer layer and the output of each; outputs of a graph built with
    ``hidden``."""

    @property
    def large(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays that ``skeleton`` leaves out."""
        return {name: array for name, array in self.constants.items() if array.nbytes >= _LARGE}

    def skeleton(self) -> onnx.ModelProto:
        """Build the model with its large arrays as inputs, which an engine fills in without a copy."""
        large = self.large
        declared = [_value_info(name, array.dtype, array.shape) for name, array in large.items()]
        small = [name for name in self.constants if name not in large]
        return self._model([*self.inputs, *declared], small)

    def proto(self) -> onnx.ModelProto:
        """Build the complete model. Use ``save`` for a model that may exceed the 2 GB of a protobuf."""
        return self._model(self.inputs, self.constants)

    def external(self, location: str = "weights") -> onnx.ModelProto:
        """Build the model with its large arrays declared as parts of a file, in the order of ``large``."""
        model = self._model(self.inputs, [name for name in self.constants if name not in self.large])
        offset = 0
        for name, array in self.large.items():
            tensor = TensorProto(
                name=name,
                dims=array.shape,
                data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
                data_location=TensorProto.EXTERNAL,
            )
            for key, value in {"location": location, "offset": offset, "length": array.nbytes}.items():
                tensor.external_data.add(key=key, value=str(value))
            offset += array.nbytes
            model.graph.initializer.append(tensor)
        return model

    def save(self, path: Path) -> None:
        """Write an ONNX file. Weights of more than 2 GB are written to ``<name>.data`` beside it."""
        if sum(array.nbytes for array in self.constants.values()) < PROTOBUF_LIMIT:
            onnx.save(spell_out_zero_points(self.proto()), path)
            return
        data = path.with_name(f"{path.name}.data")
        with data.open("wb") as file:
            for array in self.large.values():
                file.write(array.data)
        onnx.save(spell_out_zero_points(self.external(data.name)), path)

    def _model(self, inputs: list[onnx.ValueInfoProto], embedded: Iterable[str]) -> onnx.ModelProto:
        tensors = [onnx.numpy_helper.from_array(self.constants[name], name) for name in embedded]
        return helper.make_model(
            helper.make_graph(self.nodes, "littlefoot", inputs, self.outputs, tensors),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="littlefoot",
        )


def spell_out_zero_points(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add the zero points, all zero, of 8-bit weights with a scale for each output; return the model.

    If ONNX Runtime 1.31 computes exactly without VNNI (``session.x64quantprecision``), it takes a missing
    zero point for a single number, and fails.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for number, node in enumerate(model.graph.node):
        if node.op_type != "DequantizeLinear" or len(node.input) > 2 or node.input[0] not in tensors:
            continue
        name = f"zero_points.{number}"
        zeros = np.zeros(tuple(tensors[node.input[1]].dims), np.int8)
        model.graph.initializer.append(onnx.numpy_helper.from_array(zeros, name))
        node.input.append(name)
    return model


def separate_uses(model: onnx.ModelProto, large: dict[str, npt.NDArray[Any]]) -> None:
    """Give each use of an integer weight that layers share a name of its own, with the same memory.

    Without this, ONNX Runtime converts such a weight to unsigned twice, and fails.

    Args:
        large: the arrays outside of the model; they get the new names too.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    used: set[str] = set()
    for number, node in enumerate(model.graph.node):
        place = {"MatMulInteger": 1, "DequantizeLinear": 0}.get(node.op_type)
        if place is None or node.input[place] not in tensors:
            continue
        name = node.input[place]
        if name in used:
            node.input[place] = f"{name}.{number}"
            model.graph.initializer.add().CopyFrom(tensors[name])
            model.graph.initializer[-1].name = node.input[place]
            if name in large:
                large[node.input[place]] = large[name]
        used.add(name)


def build(artifact: Artifact, lengths: bool = False, observe: bool = False, hidden: bool = False) -> Graph:
    """Emit the whole network.

    Inputs: ``waveform`` (batch, samples) float32 at 16 kHz, normalised if the preprocessor's settings ask it;
    with ``lengths`` also ``lengths`` (batch,) int64, the samples of each padded utterance.
    Output: ``logits`` (batch, frames, vocabulary) float32, before the softmax;
    with ``observe`` also the input of every convolution and linear layer,
    with ``hidden`` the hidden states (batch, frames, hidden size).
    """
    ops = OnnxOps(artifact.weights)
    inputs = [_value_info(WAVEFORM, np.float32, ["batch", "samples"])]
    waveform = Value(ops, WAVEFORM, np.dtype(np.float32))
    length = None
    if lengths:
        inputs.append(_value_info(LENGTHS, np.int64, ["batch"]))
        length = Value(ops, LENGTHS, np.dtype(np.int64))
    result = encode(ops, artifact.config, waveform, length)
    outputs = [_output(ops, LOGITS, result.logits, ["batch", "frames", artifact.config.vocab_size])]
    observed: dict[str, list[str]] = {}
    for layer, values in ops.layer_inputs.items():
        for value in values:
            observed.setdefault(value.name, []).append(layer)
    if observe:
        outputs += [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in observed]
    states = []
    if hidden:
        states = [f"hidden.{layer}" for layer in range(len(result.hidden_states))]
        shape: list[int | str] = ["batch", "frames", artifact.config.hidden_size]
        outputs += [
            _output(ops, name, value, shape) for name, value in zip(states, result.hidden_states, strict=True)
        ]
    return Graph(ops.nodes, inputs, outputs, ops.initializers, observed, ops.strides, states)


def build_padded(artifact: Artifact) -> Graph:
    """Emit the network for one padded recording.

    Inputs: ``waveform`` (1, samples), with zeros after the recording, and ``lengths`` (1,) int64, the samples
    of the recording. Output: ``logits`` (1, frames, vocabulary) of the recording's frames. The padding is
    masked in the front end and cut off before the Transformer, because OpenVINO 2026.4 computes 8-bit
    attention wrong if its scores have a mask of padding.
    """
    ops, config = OnnxOps(artifact.weights), artifact.config
    inputs = [
        _value_info(WAVEFORM, np.float32, [1, "samples"]),
        _value_info(LENGTHS, np.int64, [1]),
    ]
    waveform, length = (
        Value(ops, name, np.dtype(kind)) for name, kind in ((WAVEFORM, np.float32), (LENGTHS, np.int64))
    )
    features, frames = front_end(ops, config, waveform, length)
    assert frames is not None  # length was given
    x = embed(ops, config, features, ops.valid(frames, features, axis=1))
    features = ops.node("Slice", features, ops.integers(0), frames, ops.integers(1), dtype=features.dtype)
    if config.family.squeezed:
        frames = frames // config.squeeze_factor
    x = ops.node("Slice", x, ops.integers(0), frames, ops.integers(1), dtype=x.dtype)
    logits = head(ops, config, transform(ops, config, x)[-1], features=features)
    outputs = [_output(ops, LOGITS, logits, [1, "frames", config.vocab_size])]
    return Graph(ops.nodes, inputs, outputs, ops.initializers, {}, ops.strides)


def build_features(artifact: Artifact) -> Graph:
    """Emit the front end: ``waveform`` (batch, samples) -> ``features`` (batch, frames, channels)."""
    ops = OnnxOps(artifact.weights)
    x, _ = front_end(ops, artifact.config, Value(ops, WAVEFORM, np.dtype(np.float32)), None)
    outputs = [_output(ops, FEATURES, x, ["batch", "frames", artifact.config.feature_channels])]
    inputs = [_value_info(WAVEFORM, np.float32, ["batch", "samples"])]
    return Graph(ops.nodes, inputs, outputs, ops.initializers, {}, ops.strides)


def build_embedding(artifact: Artifact) -> Graph:
    """Emit the layers between the front end and the first Transformer block.

    Input: ``features`` (batch, frames, channels). Output: ``embedding`` (batch, frames, hidden size).
    """
    ops, config = OnnxOps(artifact.weights), artifact.config
    x = embed(ops, config, Value(ops, FEATURES, np.dtype(np.float32)))
    outputs = [_output(ops, EMBEDDING, x, ["batch", "frames", config.hidden_size])]
    inputs = [_value_info(FEATURES, np.float32, ["batch", "frames", config.feature_channels])]
    return Graph(ops.nodes, inputs, outputs, ops.initializers, {}, ops.strides)


def build_stream(artifact: Artifact) -> Graph:
    """Emit the network of a streaming model for one chunk (``littlefoot.network.encoder.encode_chunk``).

    Inputs: ``waveform`` (batch, samples), ``valid`` (batch, new frames), ``seen`` (batch,) int64, and the
    parts of ``stream_state``. The samples are those of the new frames, from the first sample of the first
    frame to the last sample of the last; later samples are ignored. Outputs: ``logits`` (batch, frames,
    vocabulary), and ``next.NAME`` for each part NAME of the state.
    """
    ops, config = OnnxOps(artifact.weights), artifact.config
    tensors = stream_state(config)
    inputs = [
        _value_info(WAVEFORM, np.float32, ["batch", "samples"]),
        _value_info(VALID, np.float32, ["batch", "new_frames"]),
        _value_info(SEEN, np.int64, ["batch"]),
    ]
    for tensor in tensors:
        shape: tuple[int | str, ...] = (
            tensor.shape if tensor.shape == tensor.start else ("tail", *tensor.shape[1:])
        )
        inputs.append(_value_info(tensor.name, np.float32, ["batch", *shape]))
    values = {info.name: Value(ops, info.name, np.dtype(np.float32)) for info in inputs}
    values[SEEN] = Value(ops, SEEN, np.dtype(np.int64))
    layers = range(config.num_hidden_layers)
    state = StreamState(
        values[FEATURES],
        {layer: values[f"keys.{layer}"] for layer in layers if config.map(layer) == layer},
        [values[f"values.{layer}"] for layer in layers],
        values[SEEN],
        [value for name, value in values.items() if name.startswith(f"{ADAPTER}.")],
    )
    features, _ = front_end(ops, config, values[WAVEFORM], None)
    count = ops.node("Shape", values[VALID], start=1, dtype=np.int64)
    features = ops.node("Slice", features, ops.integers(0), count, ops.integers(1), dtype=features.dtype)
    logits, after = encode_chunk(ops, config, features, values[VALID], state)
    made = {FEATURES: after.features}
    made |= {f"keys.{layer}": value for layer, value in after.keys.items()}
    made |= {f"values.{layer}": value for layer, value in enumerate(after.values)}
    made |= {f"{ADAPTER}.{layer}": value for layer, value in enumerate(after.adapters)}
    outputs = [_output(ops, LOGITS, logits, ["batch", "frames", config.vocab_size])]
    for tensor in tensors:
        dimensions: list[int | str] = ["batch", *tensor.shape]
        if tensor.frames_axis is not None:
            dimensions[tensor.frames_axis] = "block_frames"
        outputs.append(_output(ops, f"next.{tensor.name}", made[tensor.name], dimensions))
    return Graph(ops.nodes, inputs, outputs, ops.initializers, {}, ops.strides)


def build_part(artifact: Artifact, part: Part) -> Graph:
    """Emit a part of the network."""
    emit: dict[Part, Callable[[Artifact], Graph]] = {
        "whole": build,
        "padded": build_padded,
        "features": build_features,
        "embedding": build_embedding,
        "chunk": build_stream,
    }
    return emit[part](artifact)


def _output(ops: OnnxOps, name: str, value: Value, shape: Iterable[int | str]) -> onnx.ValueInfoProto:
    """Give a value the name of an output."""
    ops.append("Identity", [value.name], [name])
    return _value_info(name, value.dtype, shape)


def _value_info(name: str, dtype: npt.DTypeLike, shape: Iterable[int | str]) -> onnx.ValueInfoProto:
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return helper.make_tensor_value_info(name, kind, list(shape))
