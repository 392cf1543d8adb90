"""Students begin as parts of their teachers, and impossible ones are refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import oracle
import pytest
import torch
from families import NEAREST, NORM_ORDERS, RELATIVE_LARGE, STACKED, speechlike

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.compress import load_recipe
from littlefoot.compress.distill import DistillConfig, infer_shape
from littlefoot.compress.student import (
    StudentConfig,
    chosen_layers,
    dimensions,
    geometry,
    importance,
    make_student,
)
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.layers import in_block
from littlefoot.network.weights import expected_weights
from littlefoot.training.module import CTCModel

LARGE: dict[str, Any] = {
    "model_type": "wav2vec2",
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
}
WAVEFORM = torch.from_numpy(speechlike(0.5))[None]
LENGTH = torch.tensor([WAVEFORM.shape[1]])


def teacher(family: str = "wav2vec2-large", **changes: Any) -> CTCModel:
    """A random model with the layers of a tiny one twice."""
    small = oracle.tiny(family).artifact.config
    config = small.replace(
        num_hidden_layers=6,
        layer_attention_heads=2 * small.layer_attention_heads,
        layer_intermediate_size=2 * small.layer_intermediate_size,
        **changes,
    )
    vocabulary = Vocabulary(tuple(f"t{i}" for i in range(config.vocab_size)), config.pad_token_id)
    return CTCModel.from_config(config, vocabulary, seed=3).eval()


@pytest.mark.parametrize(
    ("depth", "layers", "how", "expected"),
    [
        (24, 12, "every_k", range(0, 24, 2)),
        (12, 4, "every_k", (0, 3, 6, 9)),
        (12, 5, "every_k", (0, 2, 4, 6, 8)),
        (12, 4, "first_k", (0, 1, 2, 3)),
        (12, 4, "last_k", (8, 9, 10, 11)),
        (12, (11, 0, 5), "every_k", (11, 0, 5)),
        (12, None, "every_k", range(12)),
        (12, 0.5, "every_k", range(0, 12, 2)),
        (8, 1 / 3, "every_k", (0, 2, 4)),
        (24, 0.1667, "every_k", range(0, 20, 4)),
        (12, 9, "every_k", range(9)),
        (12, 9, "spread", (0, 1, 3, 4, 6, 7, 8, 10, 11)),
        (12, 4, "spread", (0, 4, 7, 11)),
        (4, 3, "spread", (0, 2, 3)),
        (4, 4, "spread", range(4)),
        (4, 1, "spread", (0,)),
    ],
)
def test_layers_are_chosen_as_in_the_paper(depth: int, layers: Any, how: str, expected: Any) -> None:
    assert chosen_layers(depth, StudentConfig(layers, how)) == tuple(expected)


def test_four_layers_of_large_have_the_papers_parameters() -> None:
    config = ModelConfig.from_dict({**LARGE, "num_hidden_layers": 4})
    count = sum(int(np.prod(shape)) for shape in expected_weights(config).values())
    assert count == 63_545_888  # the paper's 63.54 million


@pytest.mark.parametrize("family", oracle.VARIANTS)
def test_every_dimension_of_every_weight_has_its_axis(family: str) -> None:
    config = oracle.tiny(family).artifact.config
    for name, shape in {**expected_weights(config), "masked_spec_embed": (config.hidden_size,)}.items():
        for axis, size in zip(dimensions(name, config), shape, strict=True):
            if not isinstance(axis, int):
                assert size == axis.size * axis.width, name
            elif name.startswith("adapter.") or "linear_pos" in name or not config.projects:
                continue  # whose sizes no student changes
            elif not (config.family.relative_positions and in_block(name)):  # whose heads are for all layers
                assert size not in (config.hidden_size, config.intermediate_size), name


@pytest.mark.parametrize("family", oracle.VARIANTS)
def test_a_student_with_all_layers_is_its_teacher(family: str) -> None:
    original = teacher(family)
    student = make_student(original, StudentConfig()).eval()
    torch.testing.assert_close(student(WAVEFORM, LENGTH), original(WAVEFORM, LENGTH))


@pytest.mark.parametrize("family", oracle.VARIANTS)
def test_a_student_computes_with_the_chosen_layers(family: str) -> None:
    original = teacher(family)
    student = make_student(original, StudentConfig(2)).eval()
    assert student.config.num_hidden_layers == 2
    mine, theirs = dict(student.named_parameters()), dict(original.named_parameters())
    same = "feed_forward.output_dense.weight"
    assert torch.equal(mine[f"encoder.layers.1.{same}"], theirs[f"encoder.layers.3.{same}"])
    hidden = student.encode(WAVEFORM).hidden_states
    torch.testing.assert_close(hidden[1], original.encode(WAVEFORM).hidden_states[1])


@pytest.mark.parametrize("family", [*NORM_ORDERS, "mms", STACKED, NEAREST, "log-mel"])
def test_a_student_may_be_narrower_everywhere(family: str) -> None:
    original = teacher(family)
    config = original.config
    student = make_student(
        original,
        StudentConfig(
            layers=3,
            hidden_size=config.hidden_size // 2,
            num_attention_heads=config.num_attention_heads // 2,
            intermediate_size=config.intermediate_size // 3,
            conv_dim=(*config.conv_dim[:-1], config.conv_dim[-1] // 2),
        ),
    )
    shapes = {name: tuple(weight.shape) for name, weight in student.named_parameters()}
    assert expected_weights(student.config).items() <= shapes.items()
    logits, _ = student.eval()(WAVEFORM, LENGTH)
    assert logits.std(1).min() > 0


def test_the_layers_of_a_pruned_teacher_bring_their_sizes_along() -> None:
    original = teacher("pruned")
    assert original.config.layer_attention_heads == (2, 4, 1, 2, 4, 1)
    student = make_student(original, StudentConfig(layers=(1, 5), intermediate_size=10))
    assert student.config.layer_attention_heads == (4, 1)
    assert student.config.layer_intermediate_size == (10, 5)  # none gets more than it had
    shapes = {name: tuple(weight.shape) for name, weight in student.named_parameters()}
    assert expected_weights(student.config).items() <= shapes.items()
    mine, theirs = dict(student.named_parameters()), dict(original.named_parameters())
    for part in ("attention.q_proj.weight", "feed_forward.output_dense.weight"):
        assert torch.equal(mine[f"encoder.layers.1.{part}"], theirs[f"encoder.layers.5.{part}"])
    narrow = make_student(original, StudentConfig(hidden_size=16, num_attention_heads=2))
    assert narrow.config.layer_attention_heads == (2, 2, 1, 2, 2, 1)
    assert narrow.eval()(WAVEFORM, LENGTH)[0].std(1).min() > 0


def test_units_and_heads_that_do_nothing_are_left_out() -> None:
    original = teacher()
    config = original.config
    random = torch.Generator().manual_seed(0)
    units = torch.randperm(config.intermediate_size, generator=random)[: config.intermediate_size // 2]
    heads = torch.randperm(config.num_attention_heads, generator=random)[: config.num_attention_heads // 2]
    channels = (heads[:, None] * config.head_dim + torch.arange(config.head_dim)).flatten()
    silent = {"ffn2": units, "heads1": channels}
    weights = dict(original.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            for dimension, axis in enumerate(dimensions(name, config)):
                if not isinstance(axis, int) and axis.name in silent:
                    weight.index_fill_(dimension, silent[axis.name], 0.0)
    for axis, indices in silent.items():
        least = importance(weights, config, axis).argsort()[: len(indices)]
        assert set(least.tolist()) == set(indices.tolist())
    student = make_student(original, StudentConfig(intermediate_size=config.intermediate_size // 2))
    x = torch.randn(1, 4, config.hidden_size)
    torch.testing.assert_close(feed_forward(student, x), feed_forward(original, x))


def feed_forward(model: CTCModel, x: torch.Tensor) -> torch.Tensor:
    """The third layer's."""
    weights = {n.removeprefix("encoder.layers.2.feed_forward."): p for n, p in model.named_parameters()}
    units = torch.nn.functional.gelu(
        x @ weights["intermediate_dense.weight"].T + weights["intermediate_dense.bias"]
    )
    return units @ weights["output_dense.weight"].T + weights["output_dense.bias"]


def test_channels_over_frames_and_bands_that_do_nothing_are_left_out() -> None:
    given = teacher("parakeet")
    bands = given.config.feature_bands
    with torch.no_grad():
        for layer, silent in ((1, [0, 3]), (3, [1, 2, 4, 5])):
            convolution = given.get_submodule(f"feature_extractor.conv_layers.{layer}.conv")
            for parameter in convolution.parameters():
                parameter[silent] = 0
            if layer == 3:
                weight = given.get_parameter("feature_projection.projection.weight")
                weight.reshape(len(weight), -1, bands)[:, silent] = 0
            else:  # what follows has a bias, and would not be silent
                for parameter in given.get_submodule(
                    "feature_extractor.conv_layers.2.depthwise"
                ).parameters():
                    parameter[silent] = 0
    made = make_student(given, StudentConfig(conv_dim=(80, 4, 6, 2))).eval()
    assert made.config.feature_channels == 2 * bands
    with torch.no_grad():
        found, expected = (model(WAVEFORM, LENGTH)[0] for model in (made, given))
    assert expected.std() > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_positional_convolution_keeps_its_groups() -> None:
    original = teacher()
    config = original.config
    half = {"hidden_size": config.hidden_size // 2, "num_attention_heads": config.num_attention_heads // 2}
    student = make_student(original, StudentConfig(**half))
    name = "encoder.pos_conv_embed.conv"
    bias, small_bias = original.get_parameter(f"{name}.bias"), student.get_parameter(f"{name}.bias")
    with torch.no_grad():
        bias.copy_(torch.arange(len(bias)))
    small_bias = make_student(original, StudentConfig(**half)).get_parameter(f"{name}.bias")
    kept = small_bias.long()
    weight, small = original.get_parameter(f"{name}.weight"), student.get_parameter(f"{name}.weight")
    size = weight.shape[1]
    for row, channel in enumerate(kept.tolist()):
        group = channel // size
        inputs = [c - group * size for c in kept.tolist() if c // size == group]
        assert torch.equal(small[row], weight[channel][inputs])


def test_a_faithful_student_has_a_random_positional_convolution() -> None:
    original = teacher()
    for faithful in (False, True):
        student = make_student(original, StudentConfig(2, faithful=faithful))
        name = "encoder.pos_conv_embed.conv.weight"
        assert torch.equal(student.get_parameter(name), original.get_parameter(name)) is not faithful
        assert torch.equal(student.get_parameter("lm_head.weight"), original.get_parameter("lm_head.weight"))


def test_another_front_end_begins_random_where_it_differs() -> None:
    original = teacher()
    kernel = list(original.config.conv_kernel)
    kernel[1] += 1
    stride = list(original.config.conv_stride)
    stride[-1] += 1
    student = make_student(original, StudentConfig(conv_kernel=tuple(kernel), conv_stride=tuple(stride)))
    for layer, same in ((0, True), (1, False), (2, True)):
        mine, theirs = (
            model.get_parameter(f"feature_extractor.conv_layers.{layer}.conv.weight")
            for model in (student, original)
        )
        assert (mine.shape == theirs.shape and torch.equal(mine, theirs)) is same
    assert student(WAVEFORM, LENGTH)[0].isfinite().all()


SPECTROGRAM: dict[str, Any] = {  # wider than any teacher's front end
    "feat_extract_first": "log_mel",
    "conv_dim": (40, 64),
    "conv_kernel": (200, 3),
    "conv_stride": (80, 2),
}


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("wav2vec2-base", SPECTROGRAM),
        ("wav2vec2-large", SPECTROGRAM),
        (RELATIVE_LARGE, SPECTROGRAM),
        ("log-mel", {"conv_dim": (10, 24, 32)}),
        ("log-mel", {"feat_extract_first": "conv", "conv_kernel": (10, 3, 2), "conv_stride": (5, 4, 2)}),
    ],
)
def test_what_follows_another_first_layer_begins_random(family: str, settings: dict[str, Any]) -> None:
    original = teacher(family)
    student = make_student(original, StudentConfig(layers=2, **settings))
    random = CTCModel.from_config(student.config, original.vocabulary)
    assert student.config.feat_extract_norm == "layer"
    theirs = dict(original.named_parameters())
    for name, mine in student.named_parameters():
        begins = random.get_parameter(name) if name.startswith("feature_") else None
        if begins is None and "layers.1." not in name:
            begins = theirs[name]
        assert begins is None or torch.equal(mine, begins), name
    assert student.eval()(WAVEFORM, LENGTH)[0].std(1).min() > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 7}, "layers 7: the teacher has 6"),
        ({"layers": 0}, "layers 0"),
        ({"layers": (0, 6)}, r"layers \[0, 6\]: choose from the teacher's, 0 to 5"),
        (
            {"layers": 2, "initialisation": "middle_k"},
            "must be every_k, spread, first_k or last_k, not 'middle_k'",
        ),
        ({"size": "S6"}, "size must be S1, S2, S3, S4 or S5, not 'S6'"),
        ({"hidden_size": 10_000}, "cannot be divided|larger than the teacher's"),
        ({"intermediate_size": 10_000}, "intermediate_size 10000 is larger than the teacher's"),
        ({"conv_dim": (10_000,) * 3}, "must have one entry per layer|larger than the teacher's"),
        ({"num_attention_heads": 3}, "cannot be divided into 3 heads"),
    ],
)
def test_impossible_students_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_student(teacher(), StudentConfig(**settings))


@pytest.mark.parametrize(
    ("size", "millions", "heads"),
    [("S1", 94.4, 12), ("S2", 44.4, 8), ("S3", 26.9, 6), ("S4", 23.3, 6), ("S5", 21.9, 6)],
)
def test_the_students_of_distillw2v2_have_the_papers_parameters(
    size: str, millions: float, heads: int
) -> None:
    made = infer_shape(ModelConfig.from_dict(LARGE), DistillConfig(student=StudentConfig(size=size)))
    count = sum(int(np.prod(shape)) for shape in expected_weights(made).values())
    assert round(count / 1e6, 1) == millions
    assert (made.num_attention_heads, made.head_dim) == (heads, 64)


def test_the_recipe_distillw2v2_makes_the_papers_s3() -> None:
    made = infer_shape(ModelConfig.from_dict(LARGE), load_recipe("distillw2v2").steps[0].config)
    assert (made.hidden_size, made.intermediate_size, made.num_hidden_layers) == (384, 1536, 12)
    assert sum(int(np.prod(shape)) for shape in expected_weights(made).values()) == 26_894_880


def test_a_size_is_a_share_of_any_teacher_and_single_settings_override_it() -> None:
    original = teacher()
    made = make_student(original, StudentConfig(size="S2", layers=2, intermediate_size=10))
    assert (made.config.num_hidden_layers, made.config.intermediate_size) == (2, 10)
    assert made.config.hidden_size == original.config.hidden_size // 2
    assert made.config.head_dim == original.config.head_dim


def test_a_head_behind_a_projection_begins_as_the_narrow_one_and_is_saved_as_one() -> None:
    original = teacher()
    narrow = StudentConfig(2, hidden_size=original.config.hidden_size // 2, num_attention_heads=2)
    plain = make_student(original, narrow).eval()
    student = make_student(original, replace(narrow, head_projection=True)).eval()
    head = student.get_parameter("lm_head.weight")
    assert torch.equal(head, original.get_parameter("lm_head.weight"))
    torch.testing.assert_close(student(WAVEFORM, LENGTH), plain(WAVEFORM, LENGTH))
    with torch.no_grad():
        student.get_parameter("head_projection").normal_(generator=torch.Generator().manual_seed(0))
    logits, _ = student(WAVEFORM, LENGTH)
    logits.square().sum().backward()
    for name in ("head_projection", "lm_head.weight"):
        gradient = student.get_parameter(name).grad
        assert gradient is not None
        assert gradient.abs().max() > 0
    saved = CTCModel.from_artifact(student.to_artifact()).eval()
    assert saved.get_parameter("lm_head.weight").shape == plain.get_parameter("lm_head.weight").shape
    torch.testing.assert_close(saved(WAVEFORM, LENGTH)[0], logits)


def test_a_share_that_is_no_whole_number_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"num_attention_heads 0.3: .* of the teacher's 16"):
        geometry(ModelConfig.from_dict(LARGE), StudentConfig(num_attention_heads=0.3), (0,))
