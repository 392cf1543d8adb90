"""The trainable model: the same tensors as an artifact, initial values, masks and dropout."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch
from checkpoints import TOKENS, write
from families import RELATIVE, TINY, speechlike

from littlefoot import artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.compress.student import StudentConfig, make_student
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.weights import expected_weights
from littlefoot.training import from_pretrained
from littlefoot.training.module import CTCModel

WAVEFORM = torch.from_numpy(speechlike(0.4))[None]
LENGTH = torch.tensor([WAVEFORM.shape[1]])


def random(seed: int = 0) -> CTCModel:
    return CTCModel.from_config(
        ModelConfig.from_dict({"model_type": "wav2vec2", **TINY}), Vocabulary(TOKENS), seed=seed
    )


@pytest.mark.parametrize("family", oracle.VARIANTS)
def test_a_model_goes_out_as_the_artifact_it_came_from(family: str) -> None:
    original = oracle.tiny(family).artifact
    model = CTCModel.from_artifact(original)
    assert set(model.state_dict()) == {*original.weights, "masked_spec_embed"}  # which Whisper lacks
    back = model.to_artifact()
    assert (back.config, back.vocabulary, back.preprocessor) == (
        original.config,
        original.vocabulary,
        original.preprocessor,
    )
    for name, weight in original.weights.items():
        np.testing.assert_array_equal(back.weights[name], weight)


def test_training_changes_neither_the_artifact_before_nor_after() -> None:
    original = oracle.tiny("wav2vec2-base").artifact
    name = "lm_head.weight"
    before = original.weights[name].copy()
    model = CTCModel.from_artifact(original)
    out = model.to_artifact()
    with torch.no_grad():
        model.get_parameter(name).add_(1.0)
    np.testing.assert_array_equal(original.weights[name], before)
    np.testing.assert_array_equal(out.weights[name], before)


def test_float16_checkpoints_are_trained_in_float32() -> None:
    original = oracle.tiny("wav2vec2-base").artifact
    weights = {name: weight.astype(np.float16) for name, weight in original.weights.items()}
    model = CTCModel.from_artifact(artifact.Artifact(original.config, weights, original.vocabulary))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_a_checkpoint_is_loaded_and_says_the_same(tmp_path: Path) -> None:
    expected = oracle.tiny(RELATIVE)
    model = from_pretrained(write(expected.model, tmp_path / "checkpoint")).eval()
    with torch.no_grad():
        logits, frames = model(WAVEFORM, LENGTH)
    np.testing.assert_allclose(logits[0], expected.logits(WAVEFORM[0].numpy()), atol=1e-4)
    assert frames.tolist() == [logits.shape[1]]


def test_a_vocabulary_of_another_size_is_refused() -> None:
    config = ModelConfig.from_dict({"model_type": "wav2vec2", **TINY})
    with pytest.raises(ConfigError, match="3 tokens, but vocab_size is 12"):
        CTCModel.from_config(config, Vocabulary(("<pad>", "|", "E")))


# Initial values


@pytest.mark.parametrize("family", oracle.VARIANTS)
def test_random_models_have_every_weight_and_finite_logits(family: str) -> None:
    config = oracle.tiny(family).artifact.config
    model = CTCModel.from_config(config, Vocabulary(TOKENS)).eval()
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    assert shapes == {**expected_weights(config), "masked_spec_embed": (config.hidden_size,)}
    with torch.no_grad():
        logits, _ = model(WAVEFORM, LENGTH)
    assert torch.isfinite(logits).all()
    assert logits.std() > 1e-5


def test_initial_values_follow_wav2vec2() -> None:
    config = ModelConfig.from_dict({"model_type": "wav2vec2", **TINY, "conv_bias": True})
    model = CTCModel.from_config(config, Vocabulary(TOKENS))
    values = {name: parameter.detach() for name, parameter in model.named_parameters()}
    for name, value in values.items():
        if name.endswith("norm.weight"):
            assert (value == 1).all(), name
        elif name.endswith("bias"):
            assert (value == 0).all(), name
    dense = values["encoder.layers.0.feed_forward.intermediate_dense.weight"]
    assert dense.std() == pytest.approx(0.02, rel=0.1)
    convolution = values["feature_extractor.conv_layers.1.conv.weight"]  # He et al. 2015
    assert convolution.std() == pytest.approx((2 / (24 * 3)) ** 0.5, rel=0.1)
    positions = values["encoder.pos_conv_embed.conv.weight"]
    assert positions.std() == pytest.approx(2 / (16 * 32) ** 0.5, rel=0.1)
    projection = values["feature_projection.projection.weight"]
    assert 0.9 / 32**0.5 < projection.abs().max() <= 1 / 32**0.5


def test_the_seed_decides_the_initial_values() -> None:
    first, same, other = (random(seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["lm_head.weight"], other["lm_head.weight"])


# Training


@torch.no_grad()
def test_dropout_is_on_in_training_only_and_only_where_it_is_wanted() -> None:
    model = random()

    def repeats() -> bool:
        first, second = (model(WAVEFORM, LENGTH)[0] for _ in range(2))
        return torch.equal(first, second)

    torch.manual_seed(0)
    model.train()
    assert not repeats()
    model.dropout = False
    assert repeats()
    model.dropout = True
    model.eval()
    assert repeats()


def test_masked_frames_become_the_mask_embedding() -> None:
    model = CTCModel.from_artifact(oracle.tiny("wav2vec2-base").artifact).eval()
    frames = model.config.frames(WAVEFORM.shape[1])
    everywhere = torch.ones(1, frames, dtype=torch.bool)
    with torch.no_grad():
        masked, _ = model(WAVEFORM, LENGTH, time_mask=everywhere)
        other, _ = model(torch.flip(WAVEFORM, [1]), LENGTH, time_mask=everywhere)
        plain, _ = model(WAVEFORM, LENGTH)
        none, _ = model(WAVEFORM, LENGTH, time_mask=~everywhere)
    assert torch.equal(masked, other)  # nothing of the audio is left
    assert not torch.allclose(masked, plain, atol=1e-3)
    assert torch.equal(none, plain)


def test_masks_are_those_of_transformers() -> None:
    expected = oracle.tiny("wav2vec2-base")
    model = CTCModel.from_artifact(expected.artifact).eval()
    frames = model.config.frames(WAVEFORM.shape[1])
    time_mask = torch.arange(frames)[None] % 7 < 3
    with torch.no_grad():
        found, _ = model(WAVEFORM, LENGTH, time_mask=time_mask)
        hidden = expected.model.wav2vec2(WAVEFORM, mask_time_indices=time_mask)[0]
        logits = expected.model.lm_head(hidden)
    assert (found - logits).abs().max() <= 1e-4


def test_masked_channels_are_zero_in_every_frame() -> None:
    model = CTCModel.from_artifact(oracle.tiny("wav2vec2-base").artifact).eval()
    feature_mask = torch.zeros(1, model.config.hidden_size, dtype=torch.bool)
    feature_mask[0, [3, 17]] = True
    silenced = CTCModel.from_artifact(oracle.tiny("wav2vec2-base").artifact).eval()
    with torch.no_grad():
        for part in ("weight", "bias"):
            silenced.get_parameter(f"feature_projection.projection.{part}")[[3, 17]] = 0
        found, _ = model(WAVEFORM, LENGTH, feature_mask=feature_mask)
        expected, _ = silenced(WAVEFORM, LENGTH)
    assert (found - expected).abs().max() <= 1e-5


def test_a_checkpoint_that_was_never_masked_can_be() -> None:
    original = oracle.tiny("wav2vec2-base").artifact
    weights = {name: value for name, value in original.weights.items() if name != "masked_spec_embed"}
    model = CTCModel.from_artifact(dataclasses.replace(original, weights=weights)).eval()
    mask = torch.arange(model.config.frames(WAVEFORM.shape[1]))[None] % 4 == 0
    masked, plain = model(WAVEFORM, LENGTH, mask)[0], model(WAVEFORM, LENGTH)[0]
    assert torch.isfinite(masked).all()
    assert not torch.allclose(masked, plain)
    assert make_student(model, StudentConfig(layers=1)).config.num_hidden_layers == 1
