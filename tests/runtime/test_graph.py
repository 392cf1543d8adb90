"""The emitted ONNX network says what transformers says, in every engine and however it is stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from families import FULL_SIZE, speechlike
from oracle import VARIANTS, Oracle, build, padded, tiny

from littlefoot.network import mel
from littlefoot.network.encoder import sinusoids
from littlefoot.network.inventory import inventory
from littlefoot.runtime import graph
from littlefoot.runtime.openvino import openvino_core, openvino_model
from littlefoot.runtime.registry import create

TOLERANCE = 1e-4
"""1e-3 is promised."""

Run = Callable[..., np.ndarray]


@pytest.fixture(params=VARIANTS)
def oracle(request: pytest.FixtureRequest) -> Oracle:
    return tiny(request.param)


def onnx_runtime(network: onnx.ModelProto | Path) -> Run:
    source = network.SerializeToString() if isinstance(network, onnx.ModelProto) else network
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    def run(waveform: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        given = {"waveform": waveform} if lengths is None else {"waveform": waveform, "lengths": lengths}
        return np.asarray(session.run(["logits"], given)[0])

    return run


def open_vino(network: graph.Graph | Path) -> Run:
    core = openvino_core()
    model = core.read_model(network) if isinstance(network, Path) else openvino_model(network)
    compiled = core.compile_model(
        model, "CPU", {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    )

    def run(waveform: np.ndarray, lengths: np.ndarray | None = None) -> np.ndarray:
        given = {"waveform": waveform} if lengths is None else {"waveform": waveform, "lengths": lengths}
        return np.asarray(compiled(given)["logits"])

    return run


def worst(a: np.ndarray, b: np.ndarray) -> float:
    assert a.shape == b.shape
    return float(np.abs(a - b).max())


def test_engines_say_what_transformers_says(oracle: Oracle) -> None:
    engines = (
        create(oracle.artifact, "openvino", threads=1, precision="f32"),
        create(oracle.artifact, "onnxruntime", threads=1),
    )
    shortest = (oracle.artifact.config.shortest + 0.5) / 16_000
    for seconds in (max(0.02, shortest), 0.5, 4.0, 1.3):  # one model, whatever the length
        waveform = speechlike(seconds)
        expected = oracle.logits(waveform)
        for engine in engines:
            assert worst(engine.run(waveform), expected) <= TOLERANCE, (engine.name, seconds)


def test_a_batch_without_lengths_is_a_batch_of_full_rows(oracle: Oracle) -> None:
    waveforms = np.stack([speechlike(0.3, seed) for seed in range(3)])
    expected = np.stack([oracle.logits(waveform) for waveform in waveforms])
    network = graph.build(oracle.artifact)
    for run in (onnx_runtime(network.proto()), open_vino(network)):
        assert worst(run(waveforms), expected) <= TOLERANCE


@pytest.mark.parametrize("fill", [0.0, 3.0])
def test_with_lengths_padding_changes_nothing(oracle: Oracle, fill: float) -> None:
    waveforms = [speechlike(seconds, seed) for seed, seconds in enumerate((1.0, 0.4, 0.73))]
    batch, lengths = padded(waveforms, fill)
    network = graph.build(oracle.artifact, lengths=True)
    onnx.checker.check_model(network.proto(), full_check=True)
    for run in (onnx_runtime(network.proto()), open_vino(network)):
        logits = run(batch, lengths)
        for row, waveform in zip(logits, waveforms, strict=True):
            expected = oracle.logits(waveform)
            assert worst(row[: len(expected)], expected) <= TOLERANCE


def test_the_network_is_valid_onnx_and_names_its_ends(oracle: Oracle) -> None:
    model = graph.build(oracle.artifact).proto()
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["waveform"]
    assert [value.name for value in model.graph.output] == ["logits"]
    sizes = model.graph.output[0].type.tensor_type.shape.dim
    assert [size.dim_param or size.dim_value for size in sizes] == ["batch", "frames", 12]


def test_every_weight_is_in_the_network_once(oracle: Oracle) -> None:
    weights = sum(value.size for value in oracle.artifact.weights.values())
    spare = oracle.artifact.weights.get("masked_spec_embed", np.zeros(0)).size
    constants = sum(value.size for value in graph.build(oracle.artifact).constants.values())
    config = oracle.artifact.config
    tables = 2 * config.max_bucket_distance + 1  # of relative positions
    if config.feat_extract_first == "log_mel":
        tables += (config.conv_kernel[0] + config.conv_dim[0]) * config.conv_kernel[0]
    if config.feat_extract_first == "whisper_mel":
        waves = mel.sinusoids(config.conv_kernel[0])
        tables += waves.size + config.conv_dim[0] * len(waves) + sinusoids(config.hidden_size).size
    if config.feat_extract_first == "nemo_mel":
        tables += mel.nemo_waves(400).size + mel.nemo_bands(config.conv_dim[0], 16_000).size + 3
        tables += config.hidden_size // 2  # rates of sinusoids
    if config.feat_extract_first == "fbank":
        tables += mel.kaldi_waves().size + mel.kaldi_bands(80, 16_000).size + mel.beside(80, 2).size
    assert weights - spare <= constants <= weights + tables + 500  # shapes and epsilons


def test_observing_names_the_input_of_every_layer(oracle: Oracle) -> None:
    network = graph.build(oracle.artifact, observe=True)
    layers = [name for names in network.observed.values() for name in names]
    matrices = [layer.name for layer in inventory(oracle.artifact.config) if layer.multiplies]
    if not oracle.artifact.config.family.disentangled:  # whose table is projected as queries and keys are
        assert len(layers) == len(set(layers))
    assert set(matrices) <= set(layers)
    assert [output.name for output in network.outputs] == ["logits", *network.observed]
    shared = next(
        names for names in network.observed.values() if "encoder.layers.0.attention.q_proj" in names
    )
    rotated = oracle.artifact.config.position_embeddings_type == "rotary"  # values are not
    together = ("k_proj",) if rotated else ("k_proj", "v_proj")
    assert {f"encoder.layers.0.attention.{part}" for part in together} <= set(shared)


def test_float16_weights_run(oracle: Oracle) -> None:
    halved = {name: value.astype(np.float16) for name, value in oracle.artifact.weights.items()}
    network = graph.build(replace(oracle.artifact, weights=halved))
    waveform = speechlike(0.4)
    for run in (onnx_runtime(network.proto()), open_vino(network)):
        assert worst(run(waveform[None])[0], oracle.logits(waveform)) <= 0.05


# Storage


def wide() -> Oracle:
    """A model whose matrices are large enough to stay outside of the protobuf."""
    return tiny("wav2vec2-large", hidden_size=128, intermediate_size=256)


def test_the_skeleton_leaves_the_large_arrays_out() -> None:
    network = graph.build(wide().artifact)
    skeleton = network.skeleton()
    assert skeleton.ByteSize() < network.proto().ByteSize() / 3
    declared = {value.name for value in skeleton.graph.input} - {"waveform"}
    embedded = {tensor.name for tensor in skeleton.graph.initializer}
    assert declared == set(network.large)
    assert declared | embedded == set(network.constants)
    assert all(network.constants[name].nbytes < 1 << 14 for name in embedded)


def test_a_saved_network_is_one_file(tmp_path: Path) -> None:
    oracle, path = wide(), tmp_path / "model.onnx"
    graph.build(oracle.artifact).save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    waveform = speechlike(0.4)
    for run in (onnx_runtime(path), open_vino(path)):
        assert worst(run(waveform[None])[0], oracle.logits(waveform)) <= TOLERANCE


def test_weights_beyond_the_limit_of_protobuf_go_to_a_file_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oracle, path = wide(), tmp_path / "model.onnx"
    monkeypatch.setattr(graph, "PROTOBUF_LIMIT", 1000)
    graph.build(oracle.artifact).save(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert path.stat().st_size < (tmp_path / "model.onnx.data").stat().st_size
    onnx.checker.check_model(path, full_check=True)
    waveform = speechlike(0.4)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    for file in ("model.onnx", "model.onnx.data"):
        (tmp_path / file).rename(moved / file)
    for run in (onnx_runtime(moved / "model.onnx"), open_vino(moved / "model.onnx")):
        assert worst(run(waveform[None])[0], oracle.logits(waveform)) <= TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("family", FULL_SIZE)
def test_full_size_models_are_those_of_transformers(family: str) -> None:
    oracle = build(family, **FULL_SIZE[family])
    waveforms = [speechlike(seconds) for seconds in (0.5, 5.0)]
    expected = [oracle.logits(waveform) for waveform in waveforms]
    for name in ("openvino", "onnxruntime"):
        engine = create(oracle.artifact, name, precision="f32")
        for waveform, logits in zip(waveforms, expected, strict=True):
            assert worst(engine.run(waveform), logits) <= 1e-3, engine.name
