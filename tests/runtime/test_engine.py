"""Engines: what they refuse, and that the cache of compiled models is quick, safe and never wrong."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import artifacts
import numpy as np
import oracle
import pytest
import torch
from families import NORM_ORDERS, RELATIVE, RELATIVE_LARGE, STACKED, speechlike

from littlefoot.artifact import Artifact
from littlefoot.compress.calibration import collect
from littlefoot.compress.quantize import QuantizeConfig, quantize_static
from littlefoot.compress.rounding import fit
from littlefoot.errors import ConfigError, EngineError, MissingExtraError
from littlefoot.runtime import cache, graph, onnx_ops, openvino, protocols, registry
from littlefoot.runtime.frames import ChunkedFrames
from littlefoot.runtime.protocols import EngineSettings, Part
from littlefoot.runtime.registry import BACKENDS
from littlefoot.system import machine
from littlefoot.training.module import CTCModel

WAVEFORM = speechlike(0.5)


@pytest.fixture
def artifact() -> Artifact:
    return artifacts.tiny()


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Artifact]:
    """The artifacts that were compiled rather than taken from the cache."""
    seen: list[Artifact] = []
    original = graph.build_part

    def counted(artifact: Artifact, part: Part) -> graph.Graph:
        seen.append(artifact)
        return original(artifact, part)

    monkeypatch.setattr(graph, "build_part", counted)
    return seen


@pytest.fixture
def has_bf16() -> bool:
    return "BF16" in openvino.openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def run(artifact: Artifact, **options: Any) -> np.ndarray:
    """Logits by a new OpenVINO engine, as a new process would make it."""
    return registry.create(artifact, "openvino", **{"threads": 1, "precision": "f32", **options}).run(
        WAVEFORM
    )


def missing(name: str) -> Callable[[str], object]:
    return lambda asked: None if asked == name else importlib.util.find_spec(asked)


def test_a_signal_is_handled_when_engines_are_gone() -> None:
    """OpenVINO's stack for signal handlers, see ``openvino_core``; a crash would end the process."""
    script = """
import os, signal
from artifacts import tiny
from littlefoot.runtime.registry import create
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
first, second = (create(tiny(), "openvino", 1, "f32", cached=False) for _ in range(2))
del first
del second
os.kill(os.getpid(), signal.SIGUSR1)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=Path(__file__).parents[1] / "support",
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


# The cache


def test_a_second_start_takes_the_compiled_model_from_the_cache(
    artifact: Artifact, compiled: list[Artifact], cache_directory: Path
) -> None:
    first, second = run(artifact), run(artifact)
    assert len(compiled) == 1
    assert len(list(cache_directory.glob("*.blob"))) == 1
    np.testing.assert_array_equal(first, second)


def test_a_model_that_is_tried_once_stays_out_of_the_cache(
    artifact: Artifact, compiled: list[Artifact], cache_directory: Path
) -> None:
    run(artifact, cached=False)
    assert len(compiled) == 1
    assert not cache_directory.exists()


def flip(data: bytes) -> bytes:
    """Damage that OpenVINO does not notice and answers with wrong numbers."""
    place = len(data) // 100
    return data[:place] + bytes(byte ^ 255 for byte in data[place : place + 64]) + data[place + 64 :]


@pytest.mark.parametrize(
    "damage",
    [
        flip,
        lambda data: data[: len(data) // 2],
        lambda data: data[:3],
        lambda data: b"",
        lambda data: bytes(len(data)),
        lambda data: b"rubbish" * 1000,
    ],
    ids=["flipped", "cut", "cut in the checksum", "empty", "zeros", "rubbish"],
)
def test_a_damaged_entry_is_discarded_and_rebuilt(
    damage: Callable[[bytes], bytes], artifact: Artifact, compiled: list[Artifact], cache_directory: Path
) -> None:
    expected = run(artifact)
    (entry,) = cache_directory.glob("*.blob")
    entry.write_bytes(damage(entry.read_bytes()))
    np.testing.assert_array_equal(run(artifact), expected)
    assert len(compiled) == 2
    np.testing.assert_array_equal(run(artifact), expected)
    assert len(compiled) == 2
    assert cache.load(entry.name) is not None


def test_a_model_from_the_cache_keeps_the_memory_that_it_uses(
    artifact: Artifact, cache_directory: Path
) -> None:
    expected = run(artifact)
    later = registry.create(artifact, "openvino", threads=1, precision="f32")
    gc.collect()
    np.testing.assert_array_equal(later.run(WAVEFORM), expected)


def test_an_entry_that_the_engine_does_not_know_is_rebuilt(
    artifact: Artifact, compiled: list[Artifact], cache_directory: Path
) -> None:
    expected = run(artifact)
    (entry,) = cache_directory.glob("*.blob")
    cache.store(entry.name, b"from another build of the engine")
    np.testing.assert_array_equal(run(artifact), expected)
    assert len(compiled) == 2


def test_a_cache_that_cannot_be_written_is_no_error(
    artifact: Artifact, compiled: list[Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = run(artifact, cached=False)
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    for place in (blocked, blocked / "below", Path("/proc/littlefoot")):
        monkeypatch.setenv("LITTLEFOOT_CACHE", str(place))
        np.testing.assert_array_equal(run(artifact), expected)
    assert len(compiled) == 4


def test_a_cache_that_may_only_be_read_serves(
    artifact: Artifact, compiled: list[Artifact], monkeypatch: pytest.MonkeyPatch
) -> None:
    run(artifact)

    def forbidden(*args: object, **kwargs: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(Path, "touch", forbidden)
    monkeypatch.setattr(Path, "unlink", forbidden)
    run(artifact)
    assert len(compiled) == 1


def test_a_full_disk_leaves_nothing_behind(cache_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, target: Path) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    cache.store("entry.blob", b"content")
    assert list(cache_directory.iterdir()) == []
    assert cache.load("entry.blob") is None


def content(entry: str) -> bytes | None:
    data = cache.load(entry)
    return None if data is None else data.tobytes()


def test_the_oldest_entries_make_room(cache_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LIMIT_BYTES", 250)
    for age, name in ((30, "oldest"), (20, "older")):
        cache.store(name, bytes(96))
        then = (cache_directory / name).stat().st_mtime - age
        os.utime(cache_directory / name, (then, then))
    assert content("oldest") == bytes(96)  # which makes it the youngest
    cache.store("new", bytes(96))
    assert content("older") is None
    assert content("oldest") == content("new") == bytes(96)


def test_the_key_changes_with_all_that_the_compiled_model_depends_on(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {"INFERENCE_NUM_THREADS": 2, "INFERENCE_PRECISION_HINT": "f32"}
    first = "feature_extractor.conv_layers.0.conv.weight"
    touched = artifact.weights[first].copy()
    touched.flat[-1] += 1e-6
    keys = [
        cache.key(artifact, "openvino", **settings),
        cache.key(replace(artifact, weights={**artifact.weights, first: touched}), "openvino", **settings),
        cache.key(
            replace(artifact, config=artifact.config.replace(layer_norm_eps=1e-4)), "openvino", **settings
        ),
        cache.key(artifact, "openvino", **{**settings, "INFERENCE_NUM_THREADS": 1}),
        cache.key(artifact, "openvino", **{**settings, "INFERENCE_PRECISION_HINT": "bf16"}),
    ]
    root = Path(cache.__file__).parent.parent
    sources = [source.relative_to(root) for source in cache.graph_sources(root)]
    assert {Path("network/encoder.py"), Path("network/activations.py"), Path("runtime/graph.py")} <= set(
        sources
    )
    for source in sources:
        package = tmp_path / str(source).replace("/", "-")
        for name in sources:
            copy = package / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes((root / name).read_bytes())
        with (package / source).open("a") as file:
            file.write("# changed")
        with monkeypatch.context() as patch:
            patch.setattr(cache, "__file__", str(package / "runtime" / "cache.py"))
            keys.append(cache.key(artifact, "openvino", **settings))
    monkeypatch.setattr(machine, "package_version", lambda package: "2099.1")
    keys.append(cache.key(artifact, "openvino", **settings))
    assert len(set(keys)) == len(keys)


def test_the_key_does_not_change_with_what_the_network_does_not_read(artifact: Artifact) -> None:
    described = artifact.config.replace(littlefoot={"recipe": [{"another": {}}]})
    assert cache.key(artifact, "openvino") == cache.key(
        replace(artifact, config=described, card="Another card"), "openvino"
    )


def test_threads_and_precision_have_entries_of_their_own(
    artifact: Artifact, cache_directory: Path, has_bf16: bool
) -> None:
    run(artifact)
    run(artifact, threads=2)
    assert len(list(cache_directory.glob("*.blob"))) == 2
    if has_bf16:
        run(artifact, precision="bf16")
        assert len(list(cache_directory.glob("*.blob"))) == 3


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LITTLEFOOT_CACHE", str(tmp_path / "own"))
    assert cache.directory() == tmp_path / "own"
    monkeypatch.delenv("LITTLEFOOT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.directory() == tmp_path / "littlefoot"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.directory() == Path.home() / ".cache" / "littlefoot"
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # as if it were not set
    assert cache.directory() == Path.home() / ".cache" / "littlefoot"


# What is asked for


def test_both_engines_give_the_same_logits(artifact: Artifact) -> None:
    a, b = (registry.create(artifact, name, precision="f32") for name in ("openvino", "onnxruntime"))
    assert (a.name, b.name) == ("openvino", "onnxruntime")
    np.testing.assert_allclose(a.run(WAVEFORM), b.run(WAVEFORM), atol=1e-3)


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("parallel", [1, 2])
def test_threads_may_share_an_engine(artifact: Artifact, name: str, parallel: int) -> None:
    shared = registry.create(artifact, name, threads=2, cached=False, parallel=parallel)
    clips = [speechlike(0.1 + 0.05 * number) for number in range(8)]
    expected = [shared.run(clip) for clip in clips]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            for logits, wanted in zip(pool.map(shared.run, clips), expected, strict=True):
                np.testing.assert_allclose(logits, wanted, rtol=1e-4, atol=1e-4)


def test_an_unknown_engine_is_refused(artifact: Artifact) -> None:
    with pytest.raises(ConfigError, match="'tensorrt' is unknown: use auto, native, openvino or onnx"):
        registry.create(artifact, "tensorrt")


@pytest.mark.parametrize("threads", [0, 100_000])
def test_an_impossible_number_of_threads_is_refused(artifact: Artifact, threads: int) -> None:
    with pytest.raises(ConfigError, match=f"threads must be from 1 to 1024, not {threads}"):
        registry.create(artifact, threads=threads)


def test_an_unknown_precision_is_refused(artifact: Artifact) -> None:
    with pytest.raises(ConfigError, match=r"'fp8' is unknown: use one of auto, f32, bf16"):
        registry.create(artifact, precision="fp8")


def test_bf16_is_not_taken_for_f32_in_silence(
    artifact: Artifact, has_bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineError, match="onnxruntime computes in f32"):
        registry.create(artifact, "onnxruntime", precision="bf16")
    if has_bf16:
        assert np.abs(run(artifact, precision="bf16") - run(artifact)).max() > 1e-4
    else:
        with pytest.raises(EngineError, match="no bfloat16 instructions"):
            run(artifact, precision="bf16")


def test_full_precision_stays_in_f32_by_default(artifact: Artifact) -> None:
    np.testing.assert_array_equal(run(artifact, precision="auto"), run(artifact))


def test_onnx_runtime_that_is_not_installed_is_named_with_its_extra(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "find_spec", missing("onnxruntime"))
    with pytest.raises(MissingExtraError, match=r"pip install 'littlefoot\[onnxruntime\]'"):
        registry.create(artifact, "onnxruntime")


def test_openvino_that_is_not_installed_is_named(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocols, "find_spec", missing("openvino"))
    with pytest.raises(MissingExtraError, match=r"pip install .littlefoot\[openvino\]"):
        registry.create(artifact, "openvino")
    assert registry.create(artifact).name == "onnxruntime"


def test_auto_takes_the_faster_engine(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    assert registry.create(artifact).name == "openvino"
    section = {"quantization": {"bits": 8, "mode": "dynamic", "kept": []}}
    dynamic = replace(artifact, config=artifact.config.replace(littlefoot=section))
    assert registry.create(dynamic).name == "onnxruntime"
    monkeypatch.setattr(protocols, "find_spec", missing("onnxruntime"))
    assert registry.create(dynamic).name == "openvino"


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_first_recording_of_one_frame_changes_no_later_one(name: str, artifact: Artifact) -> None:
    first, other = (registry.create(artifact, name, threads=1, precision="f32") for _ in range(2))
    assert len(first.run(WAVEFORM[: artifact.config.receptive_field])) == 1
    for samples in (len(WAVEFORM), 1000):
        np.testing.assert_allclose(first.run(WAVEFORM[:samples]), other.run(WAVEFORM[:samples]), atol=1e-4)


def test_a_single_frame_in_8_bits_is_right() -> None:
    """Which a stream may end with. OpenVINO 2026.4 computes convolutions of these shapes wrong then."""
    geometry: dict[str, Any] = {
        "conv_dim": [16, 32, 32],
        "conv_kernel": [20, 8, 4],
        "conv_stride": [10, 8, 4],
        "feat_extract_norm": "layer",
        "chunk_frames": 4,
        "left_context_frames": 8,
    }
    model = artifacts.tiny(**geometry)
    config, inputs = model.config, collect(model, [WAVEFORM])
    made = quantize_static(model, inputs, {i.layers: fit(i, model.weights) for i in inputs}, QuantizeConfig())
    both = [(made, "openvino"), (artifacts.as_computed(made), "onnxruntime")]
    engines = [registry.create(model, name, threads=1, precision="f32") for model, name in both]
    settings = EngineSettings(threads=1, precision="f32", cached=False)
    parts = [BACKENDS[name].create(model, settings, "features") for model, name in both]
    steppers = [registry.create_stream(model, name, threads=1, precision="f32") for model, name in both]
    for count in (5, 1, 9, 1):
        waveform = WAVEFORM[: (count - 1) * config.stride + config.receptive_field]
        streams = [ChunkedFrames(config, stepper) for stepper in steppers]
        live = [np.concatenate([stream.feed(waveform), stream.finish()]) for stream in streams]
        expected = engines[1].run(waveform)
        assert len(expected) == count
        for found in (engines[0].run(waveform), *live):
            assert np.sqrt(np.square(found - expected).mean()) < 0.01 * expected.std()
        features = [part.run(waveform) for part in parts]
        np.testing.assert_allclose(*features, atol=0.05 * features[1].std())


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_network_that_the_engine_refuses_is_an_error_of_ours(
    name: str, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx_ops.OnnxOps, "softmax", lambda ops, x: ops.node("NoSuchOperator", x))
    with pytest.raises(EngineError, match="refused the model"):
        registry.create(artifact, name)


def test_recordings_are_padded_to_few_lengths() -> None:
    lengths = np.unique(np.geomspace(1, 20 * 16_000, 3000).astype(int)).tolist()
    padded = [openvino.padded_length(samples) for samples in lengths]
    assert all(samples <= length for samples, length in zip(lengths, padded, strict=True))
    assert all(length <= 1.0906 * samples + 1 for samples, length in zip(lengths, padded, strict=True))
    assert padded == sorted(padded)
    assert len({length for length in padded if length > 1600}) <= 62
    assert (
        openvino.padded_length(667 * 480)
        == openvino.padded_length(openvino.padded_length(667 * 480))
        == 320_320
    )  # a window
    assert openvino.padded_length(3, at_least=720) == openvino.padded_length(720)


@pytest.mark.parametrize("family", [*NORM_ORDERS, RELATIVE, STACKED, "mms", "pruned"])
def test_padding_changes_nothing(family: str) -> None:
    model = CTCModel.from_artifact(oracle.tiny(family).artifact).eval()
    found = registry.create(oracle.tiny(family).artifact, "openvino", precision="f32")
    for samples in (401, 900, 12_345, 16_000):
        waveform = speechlike(1.5)[:samples]
        with torch.no_grad():
            expected = model.encode(torch.from_numpy(waveform)[None]).logits[0].numpy()
        np.testing.assert_allclose(found.run(waveform), expected, atol=1e-4)


@pytest.mark.parametrize("family", [*NORM_ORDERS, RELATIVE_LARGE])
def test_padding_changes_nothing_in_8_bits(family: str) -> None:
    full = oracle.tiny(family).artifact
    inputs = collect(full, [speechlike(2.0, seed) for seed in range(3)])
    small = quantize_static(full, inputs, {i.layers: fit(i, full.weights) for i in inputs}, QuantizeConfig())
    padded = registry.create(small, "openvino", precision="f32")
    exact = registry.create(artifacts.as_computed(small), "onnxruntime")  # which does not pad
    for samples in (900, 12_345, 16_000):
        expected = exact.run(speechlike(1.5)[:samples])
        error = padded.run(speechlike(1.5)[:samples]) - expected
        assert np.sqrt(np.square(error).mean()) < 0.03 * expected.std()


# memory

LONG = {"num_conv_pos_embeddings": 300, "num_conv_pos_embedding_groups": 16, "conv_bias": True}


@pytest.mark.parametrize("name", ["openvino", "onnxruntime"])
def test_a_long_positional_convolution_is_a_sum_of_short_ones(name: str) -> None:
    model = artifacts.tiny(**LONG)
    waveform = speechlike(0.8)
    with torch.no_grad():
        expected = CTCModel.from_artifact(model).eval().encode(torch.from_numpy(waveform)[None]).logits[0]
    found = registry.create(model, name).run(waveform)
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-3 * float(expected.std()))
    convolutions = [node.input[1] for node in graph.build(model).nodes if node.op_type == "Conv"]
    assert [name.rpartition(".")[2] for name in convolutions if "pos_conv" in name] == ["0", "128", "256"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"num_conv_pos_embeddings": 2048, "num_conv_pos_embedding_groups": 512},
        {"num_conv_pos_embeddings": 128, "num_conv_pos_embedding_groups": 16},
    ],
    ids=["long kernel", "usual kernel"],
)
def test_memory_does_not_grow_with_the_number_of_lengths(changes: dict[str, int]) -> None:
    script = """
import json, sys
import numpy as np
from artifacts import tiny
from littlefoot.runtime.registry import create

changes = json.loads(sys.argv[1])
front = {"conv_dim": [16, 32], "conv_kernel": [400, 2], "conv_stride": [160, 2]}
model = tiny(hidden_size=512, num_attention_heads=8, intermediate_size=512, **front, **changes)
engine = create(model, "openvino", threads=2, cached=False)

def resident() -> float:
    return int(open("/proc/self/statm").read().split()[1]) * 4096 / 1e6

rng = np.random.default_rng(0)
for seconds in (20.0, 15.0, 0.5):
    engine.run(rng.standard_normal(int(seconds * 16_000)).astype(np.float32))
before = resident()
for seconds in np.exp(rng.uniform(np.log(0.3), np.log(20), 200)):
    engine.run(rng.standard_normal(int(seconds * 16_000)).astype(np.float32))
print(before, resident())
"""
    command = [sys.executable, "-c", script, json.dumps(changes)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1] / "support"), *sys.path]),
    }
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True, env=environment)
    before, after = map(float, done.stdout.split())
    assert after < before + 600, (before, after)
