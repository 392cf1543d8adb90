"""Weights as training programs and other people leave them: the same model, or an error with the remedy."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from checkpoints import change_config, tensors, write, write_json, write_tensors
from families import make
from test_checkpoint import assert_same_weights

from littlefoot.artifact import checkpoint
from littlefoot.errors import CheckpointError

Tensors = dict[str, torch.Tensor]
LAYER = "wav2vec2.encoder.layers.0.attention.q_proj"


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return write(make("wav2vec2-base"), tmp_path / "model")


def under(prefix: str) -> Callable[[Tensors], Tensors]:
    return lambda content: {prefix + name: tensor for name, tensor in content.items()}


def compiled_blocks(content: Tensors) -> Tensors:
    return {name.replace("layers.0.", "layers.0._orig_mod."): tensor for name, tensor in content.items()}


def peft_head(content: Tensors) -> Tensors:
    """A head that was trained beside adapters: PEFT keeps the original too."""
    wrapped = {f"base_model.model.{name}": tensor for name, tensor in content.items()}
    for part in ("weight", "bias"):
        trained = wrapped.pop(f"base_model.model.lm_head.{part}")
        wrapped[f"base_model.model.lm_head.original_module.{part}"] = torch.zeros_like(trained)
        wrapped[f"base_model.model.lm_head.modules_to_save.default.{part}"] = trained
    return wrapped


@pytest.mark.parametrize(
    "change",
    [
        *map(under, ("module.", "model.", "base_model.model.", "_orig_mod.", "module._orig_mod.")),
        *map(under, ("_fsdp_wrapped_module.", "asr.network.model.")),
        compiled_blocks,
        peft_head,
    ],
)
def test_wrappers_change_nothing(
    change: Callable[[Tensors], Tensors], directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = checkpoint.load(directory).weights
    write_tensors(directory, change(tensors(directory)))
    assert_same_weights(checkpoint.load(directory).weights, expected)
    assert not caplog.text


def test_two_models_in_one_file_are_both_named(directory: Path) -> None:
    content = tensors(directory)
    student = {name: tensor.clone() for name, tensor in content.items()}
    write_tensors(directory, {**under("teacher.")(content), **under("student.")(student)})
    with pytest.raises(CheckpointError, match=r"several models: .*teacher\.lm_head\.weight.*save one"):
        checkpoint.load(directory)


@pytest.mark.parametrize("key", ["state_dict", "model", "model_state_dict", "module"])
def test_a_training_checkpoint_holds_the_weights_in_a_dictionary(key: str, directory: Path) -> None:
    expected = checkpoint.load(directory).weights
    content = {"epoch": 3, "optimizer": {"state": {0: torch.zeros(2)}}, key: tensors(directory)}
    (directory / "model.safetensors").unlink()
    torch.save(content, directory / "pytorch_model.bin")
    assert_same_weights(checkpoint.load(directory).weights, expected)


def test_a_pickle_without_tensors_says_what_it_holds(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    torch.save({"epoch": 3, "loss": 0.5}, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"no tensors by name \(epoch, loss\): save the model's state"):
        checkpoint.load(directory)


def test_the_old_name_of_the_mask_is_known(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    expected = checkpoint.load(directory).weights
    renamed = {
        name.replace("masked_spec_embed", "mask_time_emb_vector"): tensor
        for name, tensor in tensors(directory).items()
    }
    write_tensors(directory, renamed)
    with caplog.at_level(logging.INFO, "littlefoot"):
        assert_same_weights(checkpoint.load(directory).weights, expected)
    assert not caplog.text


# LoRA


def adapted(directory: Path, rank: int = 2, **settings: object) -> np.ndarray:
    """Give a layer a LoRA adapter as peft saves it; its weight with the adapter added."""
    torch.manual_seed(1)
    down, up = torch.randn(rank, 32), torch.randn(32, rank)
    content = {f"base_model.model.{name}": tensor for name, tensor in tensors(directory).items()}
    weight = content.pop(f"base_model.model.{LAYER}.weight")
    content |= {
        f"base_model.model.{LAYER}.base_layer.weight": weight,
        f"base_model.model.{LAYER}.lora_A.default.weight": down,
        f"base_model.model.{LAYER}.lora_B.default.weight": up,
    }
    write_tensors(directory, content)
    write_json(directory / "adapter_config.json", {"r": rank, "lora_alpha": 8, **settings})
    scale = 8 / np.sqrt(rank) if settings.get("use_rslora") else 8 / rank
    merged: np.ndarray = (weight + scale * (up @ down)).numpy()
    return merged


@pytest.mark.parametrize("settings", [{}, {"use_rslora": True}])
def test_lora_adapters_are_merged(
    settings: dict[str, object], directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = adapted(directory, **settings)
    found = checkpoint.load(directory).weights[f"{LAYER.removeprefix('wav2vec2.')}.weight"]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert "merged the LoRA adapters of 1 layers" in caplog.text


def test_an_adapter_whose_scale_is_unknown_is_named(directory: Path) -> None:
    adapted(directory)
    (directory / "adapter_config.json").unlink()
    with pytest.raises(CheckpointError, match=r"q_proj cannot be merged .*adapter_config.*merge_and_unload"):
        checkpoint.load(directory)


def test_an_adapter_alone_names_its_base(directory: Path) -> None:
    (directory / "model.safetensors").rename(directory / "adapter_model.safetensors")
    write_json(directory / "adapter_config.json", {"base_model_name_or_path": "someone/base"})
    with pytest.raises(CheckpointError, match=r"PEFT adapter only, of someone/base: .*merge_and_unload"):
        checkpoint.load(directory)


# What is refused


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8])
def test_weights_of_another_quantizer_are_named(dtype: torch.dtype, directory: Path) -> None:
    content = tensors(directory)
    write_tensors(directory, {**content, f"{LAYER}.weight": (content[f"{LAYER}.weight"] * 50).to(dtype)})
    with pytest.raises(CheckpointError, match=r"q_proj\.weight is u?int8 without scales.*full precision"):
        checkpoint.load(directory)


def test_double_precision_becomes_single(directory: Path) -> None:
    expected = checkpoint.load(directory).weights
    write_tensors(directory, {name: tensor.double() for name, tensor in tensors(directory).items()})
    found = checkpoint.load(directory).weights
    assert {weight.dtype for weight in found.values()} == {np.dtype(np.float32)}
    assert_same_weights(found, expected)


def test_a_classifier_is_called_one(directory: Path) -> None:
    renamed = {name.replace("lm_head", "classifier"): tensor for name, tensor in tensors(directory).items()}
    write_tensors(directory, renamed)
    change_config(directory, architectures=["Wav2Vec2ForSequenceClassification"])
    with pytest.raises(CheckpointError, match=r"is Wav2Vec2ForSequenceClassification with classifier"):
        checkpoint.load(directory)


# MMS, saved for another language


def test_a_checkpoint_saved_for_a_language_keeps_its_weights(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = write(make("mms"), tmp_path / "model")
    alphabet = json.loads((directory / "vocab.json").read_text())
    write_json(directory / "vocab.json", {"eng": dict(list(alphabet.items())[:9]), "deu": alphabet})
    write_json(directory / "tokenizer_config.json", {"target_lang": "deu", "pad_token": "<pad>"})
    own = checkpoint.load(directory)
    assert len(own.vocabulary.tokens) == 12
    assert_same_weights(checkpoint.load(directory, "deu").weights, own.weights)
    with pytest.raises(CheckpointError, match=r"adapter\.eng\.safetensors is missing"):
        checkpoint.load(directory, "eng")
    adapter = {name: tensor + 1 for name, tensor in tensors(directory).items() if "adapter_layer" in name}
    write_tensors(tmp_path, adapter)
    (tmp_path / "model.safetensors").rename(directory / "adapter.deu.safetensors")
    assert_same_weights(checkpoint.load(directory).weights, own.weights)
    assert "adapter.deu.safetensors and the checkpoint's own weights differ" in caplog.text
    name = next(iter(adapter))
    np.testing.assert_array_equal(
        checkpoint.load(directory, "deu").weights[name.removeprefix("wav2vec2.")], adapter[name].numpy()
    )


def test_without_an_adapter_nothing_says_which_language_it_is(tmp_path: Path) -> None:
    directory = write(make("mms"), tmp_path / "model")
    alphabet = json.loads((directory / "vocab.json").read_text())
    write_json(directory / "vocab.json", {"eng": alphabet, "deu": alphabet})
    with pytest.raises(CheckpointError, match=r"no file states for which of its 2 languages.*--language"):
        checkpoint.load(directory)
