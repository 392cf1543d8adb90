"""Layers that share blocks and attention maps compute what copies of the shared weights would."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from families import NEAREST, NORM_ORDERS, RELATIVE, RELATIVE_LARGE, STACKED, speechlike
from test_student import LARGE
from tones import QUIET
from torch.nn.functional import gelu, layer_norm

import littlefoot
from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest
from littlefoot.compress.calibration import collect
from littlefoot.compress.methods import StepContext
from littlefoot.compress.quantize import QuantizeConfig, quantize_dynamic, quantize_static
from littlefoot.compress.rounding import fit
from littlefoot.compress.share import (
    ShareConfig,
    SharedDistillation,
    best_layer,
    low_rank,
    make_shared,
    share,
    shared_geometry,
    sources,
)
from littlefoot.compress.teacher import LiveTeacher
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.weights import expected_weights
from littlefoot.runtime.frames import ChunkedFrames
from littlefoot.runtime.registry import create, create_stream
from littlefoot.training.data import TrainingSet
from littlefoot.training.module import CTCModel
from littlefoot.training.train_config import TrainConfig

WAVEFORM = speechlike(0.6)
SHARING = {"layer_blocks": (0, 0, 2, 2), "layer_maps": (0, 0, 2, 2)}


def random_model(family: str = "wav2vec2-large", seed: int = 5, **changes: Any) -> CTCModel:
    """Four layers with an opinion."""
    config = oracle.tiny(family).artifact.config.replace(num_hidden_layers=4, **changes)
    vocabulary = Vocabulary(tuple(f"t{i}" for i in range(config.vocab_size)), config.pad_token_id)
    model = CTCModel.from_config(config, vocabulary, seed=seed).eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "encoder.layers" in name:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


def logits(model: CTCModel) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().encode(torch.from_numpy(WAVEFORM)[None]).logits[0]


def written_out(model: CTCModel) -> CTCModel:
    """A model without sharing, whose layers have copies of their blocks."""
    config = model.config.replace(
        layer_blocks=(), layer_norms=False, layer_delta_rank=0, layer_depth_embedding=False
    )
    given = {name: value.detach() for name, value in model.named_parameters()}
    weights = {}
    for name in expected_weights(config):
        if not name.startswith("encoder.layers."):
            weights[name] = given[name]
            continue
        layer, part = name.removeprefix("encoder.layers.").split(".", 1)
        own, block = f"encoder.layers.{layer}", f"encoder.layers.{model.config.block(int(layer))}"
        source = own if "norm" in part and model.config.layer_norms and "adapter" not in part else block
        value = given[f"{source}.{part}"]
        delta = f"{own}.delta.{part.removesuffix('.weight')}"
        if f"{delta}.up.weight" in given:
            value = value + given[f"{delta}.up.weight"] @ given[f"{delta}.down.weight"]
        weights[name] = value
    return CTCModel(config, model.vocabulary, model.preprocessor, weights)


def test_layers_are_grouped() -> None:
    assert sources(6, 2) == (0, 0, 2, 2, 4, 4)
    assert sources(5, 3) == (0, 0, 0, 3, 3)
    assert sources(4, 0) == (0, 0, 0, 0)
    assert sources(6, 3, "cyclic") == (0, 1, 0, 1, 0, 1)
    assert sources(5, 2, "cyclic") == (0, 1, 2, 0, 1)


def test_one_block_for_all_layers_of_large_has_the_papers_parameters() -> None:
    config = ModelConfig.from_dict({**LARGE, "num_hidden_layers": 24, "layer_blocks": [0] * 24})
    count = sum(int(np.prod(shape)) for shape in expected_weights(config).values())
    whole = sum(int(np.prod(s)) for s in expected_weights(ModelConfig.from_dict(LARGE)).values())
    assert count == 25_757_216  # the paper's 25.75 million; 27.70 with the heads of pre-training
    assert whole - count == 23 * 12_596_224
    assert 1 - count / whole > 0.91


@pytest.mark.parametrize("family", [*NORM_ORDERS, "mms", NEAREST, RELATIVE_LARGE, STACKED])
@pytest.mark.parametrize("own", [{}, {"layer_norms": True}, {"layer_norms": True, "layer_delta_rank": 3}])
def test_shared_blocks_compute_what_copies_would(family: str, own: dict[str, Any]) -> None:
    model = random_model(family, layer_blocks=(0, 0, 2, 0), **own)
    torch.testing.assert_close(logits(model), logits(written_out(model)), atol=1e-5, rtol=1e-4)


def test_depth_embeddings_are_added() -> None:
    model = random_model(layer_blocks=(0, 0, 0, 0), layer_depth_embedding=True)
    before = logits(model)
    with torch.no_grad():
        model.get_parameter("encoder.layers.2.depth_embedding")[::2] += 1.0
    assert (logits(model) - before).abs().max() > 1e-3


def reference(model: CTCModel) -> torch.Tensor:
    """Logits of a pre-norm model, in float64 and one frame after the other where it can be."""
    w = {name: value.detach().double() for name, value in model.named_parameters()}
    config = model.config
    with torch.no_grad():
        x = model.encode(torch.from_numpy(WAVEFORM)[None]).hidden_states[0][0].double()  # (F, D)
    maps: dict[int, torch.Tensor] = {}
    for layer in range(config.num_hidden_layers):
        block = f"encoder.layers.{config.block(layer)}"

        def linear(y: torch.Tensor, part: str, block: str = block) -> torch.Tensor:
            return y @ w[f"{block}.{part}.weight"].T + w[f"{block}.{part}.bias"]

        def norm(y: torch.Tensor, part: str, block: str = block) -> torch.Tensor:
            return layer_norm(y, y.shape[-1:], w[f"{block}.{part}.weight"], w[f"{block}.{part}.bias"])

        y = norm(x, "layer_norm")
        heads = [
            slice(h * config.head_dim, (h + 1) * config.head_dim) for h in range(config.num_attention_heads)
        ]
        if config.map(layer) == layer:
            q, k = linear(y, "attention.q_proj"), linear(y, "attention.k_proj")
            maps[layer] = torch.stack(
                [torch.softmax(q[:, h] @ k[:, h].T / config.head_dim**0.5, -1) for h in heads]
            )
        v = linear(y, "attention.v_proj")
        used = maps[config.map(layer)]
        mixed = torch.cat([used[number] @ v[:, h] for number, h in enumerate(heads)], 1)
        x = x + linear(mixed, "attention.out_proj")
        y = norm(x, "final_layer_norm")
        x = x + linear(gelu(linear(y, "feed_forward.intermediate_dense")), "feed_forward.output_dense")
    x = layer_norm(x, x.shape[-1:], w["encoder.layer_norm.weight"], w["encoder.layer_norm.bias"])
    return x @ w["lm_head.weight"].T + w["lm_head.bias"]


@pytest.mark.parametrize("maps", [(), (0, 0, 2, 2), (0, 0, 0, 0), (0, 1, 1, 0)])
@pytest.mark.parametrize("blocks", [(), (0, 0, 2, 2)])
def test_reused_maps_are_those_of_the_layer_before(maps: Any, blocks: Any) -> None:
    model = random_model(layer_maps=maps, layer_blocks=blocks)
    torch.testing.assert_close(logits(model).double(), reference(model), atol=1e-5, rtol=1e-4)
    names = dict(model.named_parameters())
    for layer in range(4):
        attends = any(
            model.config.block(other) == layer and model.config.map(other) == other for other in range(4)
        )
        assert (f"encoder.layers.{layer}.attention.q_proj.weight" in names) == attends


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("family", [*NORM_ORDERS, RELATIVE])
def test_engines_share_too(family: str, engine: str) -> None:
    model = random_model(family, **SHARING, layer_norms=True, layer_delta_rank=2, layer_depth_embedding=True)
    found = create(model.to_artifact(), engine, precision="f32").run(WAVEFORM)
    np.testing.assert_allclose(found, logits(model).numpy(), atol=1e-4)


def test_a_shared_model_streams() -> None:
    model = random_model(**SHARING, chunk_frames=5, left_context_frames=7, right_context_frames=2)
    frames = ChunkedFrames(model.config, create_stream(model.to_artifact(), "openvino", precision="f32"))
    found = np.concatenate([*(frames.feed(part) for part in np.array_split(WAVEFORM, 9)), frames.finish()])
    np.testing.assert_allclose(found, logits(model).numpy(), atol=1e-4)


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_a_shared_model_in_8_bits_has_one_range_for_all_uses(mode: str) -> None:
    model = random_model(**{**SHARING, "layer_maps": (0, 0, 2, 3)}, layer_norms=True)
    made = model.to_artifact()
    config = QuantizeConfig(mode)
    if mode == "static":
        inputs = collect(made, [speechlike(2.0, seed) for seed in range(3)])
        names = [name for found in inputs for name in found.layers]
        assert len(names) == len(set(names))
        small = quantize_static(made, inputs, {i.layers: fit(i, made.weights) for i in inputs}, config)
    else:
        small = quantize_dynamic(made, config)
    engine = "openvino" if mode == "static" else "onnxruntime"
    exact = logits(model).numpy()
    found = create(small, engine, precision="f32").run(WAVEFORM)
    assert np.sqrt(np.square(found - exact).mean()) < 0.1 * exact.std()


def test_an_artifact_has_every_shared_tensor_once(tmp_path: Path) -> None:
    model = random_model(**SHARING)
    path = artifacts.save(model.to_artifact(), tmp_path / "shared")
    loaded = artifacts.load(path)
    assert (loaded.config.layer_blocks, loaded.config.layer_maps) == tuple(SHARING.values())
    assert not any(name.startswith("encoder.layers.1.") for name in loaded.weights)
    whole = artifacts.save(written_out(model).to_artifact(), tmp_path / "whole")
    sizes = [(directory / "model.safetensors").stat().st_size for directory in (path, whole)]
    assert sizes[0] < sizes[1]


# Initialisation


def data_for(model: CTCModel, tones: Path) -> TrainingSet:
    rows = manifest.index(tones).of_split("train")
    return TrainingSet(rows, model.vocabulary, model.config, TrainConfig(**QUIET), True, needs_text=False)


PRUNED = {"layer_attention_heads": (2, 4, 1, 3), "layer_intermediate_size": (48, 20, 5, 30)}


@pytest.mark.parametrize("pruning", [{}, PRUNED], ids=["whole", "pruned"])
@pytest.mark.parametrize("initialisation", ["mean", "middle", "best"])
def test_deltas_of_full_rank_give_back_the_layers(
    initialisation: str, pruning: dict[str, Any], tones: Path
) -> None:
    model = random_model("wav2vec2-large", **pruning)
    for number in range(4):  # biases are shared, and have no deltas
        for name, parameter in model.named_parameters():
            if name.startswith(f"encoder.layers.{number}.") and name.endswith("bias") and "norm" not in name:
                parameter.data.zero_()
    config = ShareConfig(group=2, delta_rank=64, initialisation=initialisation)
    made = make_shared(model, shared_geometry(model.config, config), config, data_for(model, tones))
    torch.testing.assert_close(logits(made), logits(model), atol=1e-4, rtol=1e-3)


def test_the_closest_matrix_of_a_rank() -> None:
    matrix = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))
    up, down = low_rank(matrix, 2)
    values = torch.linalg.svdvals(matrix)
    assert (up.shape, down.shape) == ((6, 2), (2, 4))
    torch.testing.assert_close((matrix - up @ down).square().sum(), values[2:].square().sum())


def test_the_best_layer_of_a_group_is_the_one_that_the_others_are_like(tones: Path) -> None:
    model = random_model()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith("encoder.layers.3.") or name.startswith("encoder.layers.1."):
                layer_2 = name.replace("layers.3.", "layers.2.").replace("layers.1.", "layers.2.")
                parameter.copy_(model.get_parameter(layer_2))
    assert best_layer(model, [0, 1, 2, 3], data_for(model, tones)) in (1, 2, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group": -1}, "group must be at least 0, not -1"),
        ({"order": "random"}, "order must be consecutive or cyclic"),
        ({"initialisation": "median"}, "initialisation must be mean, middle, best or scratch, not 'median'"),
        ({"teacher": "me"}, "teacher must be previous or first"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ShareConfig(**settings)


@pytest.mark.parametrize(
    ("variant", "settings", "message"),
    [
        ("wav2vec2-large", {"layer_blocks": (0, 0)}, "every layer must be in a group"),
        ("wav2vec2-large", {"layer_blocks": (0, 0, 1, 0)}, r"layer_blocks\[2\] is 1: name the layer itself"),
        ("wav2vec2-large", {"layer_maps": (0, 2, 2, 3), "group": 1}, r"layer_maps\[1\] is 2"),
        ("wav2vec2-large", {"group": 1}, "share nothing"),
    ],
)
def test_groups_that_do_not_fit_are_refused(variant: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shared_geometry(random_model(variant).config, ShareConfig(**settings))


def test_layers_that_share_are_as_wide_as_the_widest() -> None:
    pruned = random_model(**PRUNED).config
    blocks = shared_geometry(pruned, ShareConfig(group=2))
    assert blocks.layer_attention_heads == (4, 4, 3, 3)
    assert blocks.layer_intermediate_size == (48, 48, 30, 30)
    maps = shared_geometry(pruned, ShareConfig(group=1, map_group=3))
    assert maps.layer_attention_heads == (4, 4, 4, 3)
    assert maps.layer_intermediate_size == PRUNED["layer_intermediate_size"]
    both = shared_geometry(pruned, ShareConfig(layer_blocks=(0, 1, 1, 3), layer_maps=(0, 1, 2, 2)))
    assert both.layer_attention_heads == (2, 4, 4, 4)  # by way of layer 2
    assert shared_geometry(random_model().config, ShareConfig()).layer_attention_heads == ()


def test_heads_that_pruned_layers_get_for_a_map_change_nothing_but_can_learn(tones: Path) -> None:
    model = random_model(**PRUNED)
    config = ShareConfig(group=1, layer_maps=(0, 1, 2, 1))
    made = make_shared(model, shared_geometry(model.config, config), config, data_for(model, tones))
    output = made.get_parameter("encoder.layers.3.attention.out_proj.weight")
    new = slice(3 * model.config.head_dim, None)
    assert output.shape[1] == 4 * model.config.head_dim
    assert not output[:, new].any()
    made.encode(torch.from_numpy(WAVEFORM)[None]).logits.square().sum().backward()
    assert output.grad is not None
    assert output.grad[:, new].any()


def test_what_shares_already_is_refused() -> None:
    shared = random_model(**SHARING).config
    with pytest.raises(ConfigError, match="share already"):
        shared_geometry(shared, ShareConfig())
    with pytest.raises(ConfigError, match="need layer_blocks"):
        dataclasses.replace(shared, layer_blocks=(), layer_norms=True)


# The method


def test_a_shared_model_learns(deep_teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    train = TrainConfig(**{**QUIET, "steps": 250, "ema_decay": 0.9})
    step = StepContext(deep_teacher, manifest.index(tones), tmp_path / "work", False, print)
    made = share(deep_teacher, ShareConfig(map_group=2, train=train), step)
    assert made.config.layer_blocks == (0, 0, 0, 0)
    assert made.config.littlefoot.training.method == "distillation with shared layers"
    assert made.config.littlefoot.training.dev.cer["tones"] < 0.4
    assert made.parameters < 0.5 * deep_teacher.parameters


# Fewer layers at run time


@pytest.mark.parametrize("family", [*NORM_ORDERS, RELATIVE])
def test_a_model_that_stops_early_says_what_its_head_makes_of_that_layer(family: str) -> None:
    model = random_model(family, layer_blocks=(0, 0, 0, 0), layer_maps=(0, 0, 2, 2), layer_norms=True)
    with torch.no_grad():
        states = model.encode(torch.from_numpy(WAVEFORM)[None]).hidden_states
        expected = [model.head(states[count])[0].numpy() for count in (1, 2, 3)]
    for count, wanted in zip((1, 2, 3), expected, strict=True):
        shorter = artifacts.first_layers(model.to_artifact(), count)
        np.testing.assert_allclose(
            create(shorter, "openvino", precision="f32").run(WAVEFORM), wanted, atol=1e-4
        )
        assert shorter.config.num_hidden_layers == count


def test_a_quantized_model_stops_early_too() -> None:
    small = quantize_dynamic(
        random_model(**SHARING, layer_norms=True).to_artifact(), QuantizeConfig("dynamic")
    )
    shorter = artifacts.first_layers(small, 2)
    assert len(shorter.weights) < len(small.weights)
    assert create(shorter, "onnxruntime").run(WAVEFORM).shape[1] == small.config.vocab_size


def test_pruned_layers_are_left_out_with_their_sizes() -> None:
    pruned = oracle.tiny("pruned").artifact
    shorter = artifacts.first_layers(pruned, 1)
    assert len(shorter.config.layer_attention_heads) == 1
    for count in (0, pruned.config.num_hidden_layers + 1):
        with pytest.raises(ConfigError, match=f"layers {count}: the model has 1 to"):
            artifacts.first_layers(pruned, count)


def test_a_depth_that_was_not_trained_for_gives_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = random_model(layer_blocks=(0, 0, 0, 0)).to_artifact()
    trained = dataclasses.replace(model, config=model.config.replace(littlefoot={"exits": [2, 4]}))
    artifacts.save(trained, tmp_path / "model")
    for layers, warns in ((2, False), (4, False), (3, True)):
        caplog.clear()
        recognizer = littlefoot.load(str(tmp_path / "model"), layers=layers)
        assert recognizer.config.num_hidden_layers == layers
        assert bool(caplog.records) == warns
    assert "3 layers: the model was trained to stop after 2, 4" in caplog.text


def test_exits_are_drawn_and_learned(tones: Path, tmp_path: Path) -> None:
    teacher = random_model()
    config = ShareConfig(exits=(1, 3), train=TrainConfig(**{**QUIET, "steps": 3}))
    student = make_shared(teacher, shared_geometry(teacher.config, config), config, data_for(teacher, tones))
    objective = SharedDistillation(student, LiveTeacher(teacher), config).eval()  # without dropout
    data = data_for(teacher, tones)
    batch = data.load(0, data.epoch(0)[0][:2])
    seen = set()
    for step in range(8):
        objective.step = step
        terms = objective(batch)
        torch.testing.assert_close(
            terms["loss"], terms["kl"] + 0.1 * terms["hidden_mse"] + terms["exit_kl"], atol=1e-4, rtol=1e-4
        )
        seen.add(round(terms["exit_kl"].item(), 4))
    assert len(seen) == 2
    with pytest.raises(ConfigError, match="a model of 4 layers may stop after 1 to 3"):
        shared_geometry(teacher.config, ShareConfig(exits=(4,)))
    with pytest.raises(ConfigError, match=r"exits\[0\] must be greater than 0"):
        ShareConfig(exits=(0,))
