"""Checkpoints come in whole, from wherever transformers left them, or are refused by name."""

from __future__ import annotations

import json
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from checkpoints import (
    POSITIONAL,
    TOKENS,
    change_config,
    reference_weights,
    tensors,
    write,
    write_json,
    write_tensors,
)
from conftest import Run
from families import FAMILIES, STACKED, make, reading_waveforms, speechlike
from safetensors.torch import save_file

from littlefoot import artifact
from littlefoot.artifact import checkpoint, checkpoint_keys
from littlefoot.errors import ArtifactError, CheckpointError, ConfigError, MissingExtraError
from littlefoot.network.config import ModelConfig
from littlefoot.network.weights import expected_weights


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A tiny wav2vec 2.0 checkpoint."""
    return write(make("wav2vec2-base"), tmp_path / "model")


def assert_same_weights(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, weight in found.items():
        np.testing.assert_allclose(weight, expected[name], rtol=1e-6, atol=1e-7, err_msg=name)


# What is read


@pytest.mark.parametrize("family", FAMILIES)
def test_every_weight_of_every_family_is_read(family: str, tmp_path: Path) -> None:
    model = make(family)
    loaded = checkpoint.load(write(model, tmp_path / "model"))
    assert_same_weights(loaded.weights, reference_weights(model))
    assert loaded.vocabulary.tokens == TOKENS


@pytest.mark.parametrize("family", FAMILIES)
def test_expected_weights_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    model = make(family)
    loaded = checkpoint.load(write(model, tmp_path / "model"))
    shapes = {name: weight.shape for name, weight in reference_weights(model).items()}
    shapes.pop("masked_spec_embed", None)
    assert expected_weights(loaded.config) == shapes


@pytest.mark.parametrize("family", [name for name in FAMILIES if "whisper" not in name])
def test_transformers_loads_what_was_saved(family: str, tmp_path: Path) -> None:
    model = make(family)
    saved = artifact.save(checkpoint.load(write(model, tmp_path / "model")), tmp_path / "artifact")
    again, report = type(model).from_pretrained(saved, output_loading_info=True)
    family_data = ModelConfig.from_dict(model.config.to_dict()).family
    never_used = tuple(f"{family_data.prefix}{name}" for name in family_data.unused)
    report["missing_keys"] = {key for key in report["missing_keys"] if not key.startswith(never_used or "-")}
    assert not any(report[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")), report
    waveform = torch.from_numpy(speechlike(0.7))[None]
    with torch.no_grad():
        difference = (reading_waveforms(again.eval())(waveform).logits - model(waveform).logits).abs().max()
    assert difference < 1e-5


def test_a_pruned_parakeet_is_not_exported_to_transformers(tmp_path: Path) -> None:
    loaded = checkpoint.load(write(make("parakeet"), tmp_path / "model"))
    artifact.check_transformers(loaded)
    first, *others = loaded.config.conv_dim
    changed = loaded.config.replace(conv_dim=(first, 4, *others[1:]))
    assert ModelConfig.from_dict(changed.to_dict()).conv_dim == changed.conv_dim
    weights = {name: np.zeros(shape, np.float32) for name, shape in expected_weights(changed).items()}
    with pytest.raises(ConfigError, match="transformers has no models with conv_dim"):
        artifact.check_transformers(replace(loaded, config=changed, weights=weights))


def test_a_family_that_transformers_has_no_head_for_is_not_exported_to_it(tmp_path: Path) -> None:
    loaded = checkpoint.load(write(make("whisper"), tmp_path / "model"))
    with pytest.raises(ConfigError, match="no whisper models with a CTC head: use --to onnx"):
        artifact.check_transformers(loaded)


def test_the_processor_of_transformers_loads_what_was_saved(directory: Path, tmp_path: Path) -> None:
    write_json(directory / "preprocessor_config.json", {"do_normalize": False, "sampling_rate": 16_000})
    saved = artifact.save(checkpoint.load(directory), tmp_path / "artifact")
    processor = transformers.Wav2Vec2Processor.from_pretrained(saved)
    assert processor.feature_extractor.do_normalize is False
    assert processor.tokenizer.get_vocab() == {token: index for index, token in enumerate(TOKENS)}
    assert processor.tokenizer.decode([6, 0, 5, 5, 0, 5, 4, 7]) == "TEE A"


def test_shards_are_joined(tmp_path: Path) -> None:
    model = make("wav2vec2-large")
    directory = write(model, tmp_path / "model", max_shard_size="20KB")
    assert not (directory / "model.safetensors").exists()
    assert_same_weights(checkpoint.load(directory).weights, reference_weights(model))


def as_pickle(directory: Path, shards: int = 1) -> None:
    """Replace model.safetensors by pytorch_model.bin, or by that many shards of it."""
    content = tensors(directory)
    (directory / "model.safetensors").unlink()
    if shards == 1:
        torch.save(content, directory / "pytorch_model.bin")
        return
    places = {name: f"pytorch_model-{number % shards}.bin" for number, name in enumerate(content)}
    for place in set(places.values()):
        torch.save({name: content[name] for name in content if places[name] == place}, directory / place)
    write_json(directory / "pytorch_model.bin.index.json", {"weight_map": places})


@pytest.mark.parametrize("shards", [1, 3])
def test_pickles_are_read(directory: Path, shards: int) -> None:
    expected = checkpoint.load(directory).weights
    as_pickle(directory, shards)
    assert_same_weights(checkpoint.load(directory).weights, expected)


def test_both_styles_of_weight_norm_are_folded(directory: Path) -> None:
    expected = checkpoint.load(directory).weights
    content = tensors(directory)
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        name = f"wav2vec2.{POSITIONAL}parametrizations.weight.{new}"
        content[f"wav2vec2.{POSITIONAL}{old}"] = content.pop(name)
    write_tensors(directory, content)
    assert_same_weights(checkpoint.load(directory).weights, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_keeps_its_values(directory: Path, dtype: torch.dtype) -> None:
    content = {name: tensor.to(dtype) for name, tensor in tensors(directory).items()}
    write_tensors(directory, content)
    loaded = checkpoint.load(directory).weights
    head = content["lm_head.weight"].float().numpy()
    np.testing.assert_array_equal(loaded["lm_head.weight"].astype(np.float32), head)


def test_what_only_pretraining_needs_is_named_in_one_line(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = ("quantizer.codevectors", "project_q.weight", "project_hid.bias")
    write_tensors(directory, {**tensors(directory), **{name: torch.ones(3) for name in names}})
    with caplog.at_level(logging.INFO, "littlefoot"):
        loaded = checkpoint.load(directory)
    assert not set(names) & set(loaded.weights)
    (record,) = caplog.records
    assert record.levelno < logging.WARNING
    assert "pre-training" in record.message
    assert all(name in record.message for name in names)


def test_keys_that_nobody_knows_are_listed(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    values = json.loads((directory / "config.json").read_text())
    write_json(directory / "config.json", {**values, "do_stable_layer_nrom": True, "rope": 1})
    with caplog.at_level(logging.WARNING, "littlefoot"):
        checkpoint.load(directory)
    (record,) = caplog.records
    assert (
        record.getMessage() == f"{directory}: keys of config.json without effect: do_stable_layer_nrom, rope"
    )


@pytest.mark.parametrize("kind", sorted({kind for kind, _ in FAMILIES.values()}))
def test_the_keys_of_transformers_are_known(kind: str) -> None:
    name = {"Parakeet": "ParakeetCTC"}.get(kind, kind)
    values = getattr(transformers, f"{name}Config")().to_dict()
    config = ModelConfig.from_dict({**values, "vocab_size": 32, "pad_token_id": 0})
    assert not checkpoint_keys.unknown(config.extra)


def test_a_complete_checkpoint_loads_in_silence(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "littlefoot"):
        checkpoint.load(directory)
    assert not caplog.records


# Settings beside the weights


def test_the_processor_file_of_transformers_5_is_read(directory: Path) -> None:
    (directory / "preprocessor_config.json").unlink()
    tokenizer = transformers.Wav2Vec2CTCTokenizer(str(directory / "vocab.json"))
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=False)
    transformers.Wav2Vec2Processor(extractor, tokenizer).save_pretrained(directory)
    assert not (directory / "preprocessor_config.json").exists()
    loaded = checkpoint.load(directory)
    assert loaded.preprocessor["do_normalize"] is False
    assert loaded.vocabulary.tokens == TOKENS


def test_added_tokens_belong_to_the_vocabulary(directory: Path) -> None:
    write_json(directory / "vocab.json", {token: index for index, token in enumerate(TOKENS[:10])})
    write_json(directory / "added_tokens.json", {"<x>": 10, "<y>": 11})
    assert checkpoint.load(directory).vocabulary.tokens == (*TOKENS[:10], "<x>", "<y>")


def test_outputs_without_a_token_get_a_placeholder(directory: Path) -> None:
    write_json(directory / "vocab.json", {token: index for index, token in enumerate(TOKENS[:10])})
    loaded = checkpoint.load(directory).vocabulary.tokens
    assert loaded[:10] == TOKENS[:10]
    assert len(loaded) == 12


def test_other_sampling_rates_are_refused(directory: Path) -> None:
    write_json(directory / "preprocessor_config.json", {"sampling_rate": 8000})
    with pytest.raises(CheckpointError, match=r"sampling_rate is 8000.*16000"):
        checkpoint.load(directory)


def test_settings_that_a_family_does_not_read_change_nothing(tmp_path: Path) -> None:
    directory = write(make(STACKED), tmp_path / "model")
    change_config(directory, do_stable_layer_norm=True, feat_extract_norm="group")
    config = checkpoint.load(directory).config
    assert config.feat_extract_norm == "layer"
    assert not config.do_stable_layer_norm


# MMS


@pytest.fixture
def mms(tmp_path: Path) -> tuple[Path, dict[str, dict[str, torch.Tensor]]]:
    """A checkpoint with adapters and alphabets for two languages; German has fewer letters."""
    directory = write(make("mms"), tmp_path / "model")
    adapters = {}
    for seed, (language, outputs) in enumerate((("eng", 12), ("deu", 7))):
        torch.manual_seed(seed)
        content = {
            name: torch.randn_like(tensor)
            for name, tensor in tensors(directory).items()
            if "adapter_layer" in name
        }
        content["lm_head.weight"] = torch.randn(outputs, 32)
        content["lm_head.bias"] = torch.randn(outputs)
        save_file(content, directory / f"adapter.{language}.safetensors")
        adapters[language] = content
    alphabets = {"deu": TOKENS[:7], "eng": TOKENS}
    write_json(
        directory / "vocab.json",
        {language: {token: index for index, token in enumerate(a)} for language, a in alphabets.items()},
    )
    return directory, adapters


@pytest.mark.parametrize(
    ("language", "taken", "letters"), [("deu", "deu", 7), ("eng", "eng", 12), (None, "eng", 12)]
)
def test_the_adapter_and_alphabet_of_the_language_are_taken(
    mms: tuple[Path, dict[str, dict[str, torch.Tensor]]], language: str | None, taken: str, letters: int
) -> None:
    directory, adapters = mms
    loaded = checkpoint.load(directory, language)
    assert len(loaded.vocabulary.tokens) == letters == loaded.config.vocab_size
    for name, tensor in adapters[taken].items():
        np.testing.assert_array_equal(loaded.weights[name.removeprefix("wav2vec2.")], tensor.numpy())


def test_without_english_the_only_language_is_taken(mms: tuple[Path, Any]) -> None:
    directory, adapters = mms
    vocabulary = json.loads((directory / "vocab.json").read_text())
    write_json(directory / "vocab.json", {"deu": vocabulary["deu"]})
    (directory / "adapter.eng.safetensors").unlink()
    loaded = checkpoint.load(directory)
    np.testing.assert_array_equal(loaded.weights["lm_head.bias"], adapters["deu"]["lm_head.bias"].numpy())


def test_an_unknown_language_is_refused_with_examples(mms: tuple[Path, Any]) -> None:
    with pytest.raises(CheckpointError, match=r"'xyz'.*deu, eng"):
        checkpoint.load(mms[0], "xyz")


def test_a_missing_adapter_is_named(mms: tuple[Path, Any]) -> None:
    (mms[0] / "adapter.deu.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"adapter\.deu\.safetensors is missing"):
        checkpoint.load(mms[0], "deu")


def test_a_language_for_a_model_that_has_one_is_refused(directory: Path) -> None:
    with pytest.raises(CheckpointError, match=r"language 'deu'.*one language"):
        checkpoint.load(directory, "deu")


# What is refused


def without(directory: Path, name: str) -> None:
    content = tensors(directory)
    del content[name]
    write_tensors(directory, content)


def test_a_missing_weight_is_named(directory: Path) -> None:
    without(directory, "wav2vec2.encoder.layers.1.attention.k_proj.weight")
    with pytest.raises(CheckpointError, match=r"missing: encoder\.layers\.1\.attention\.k_proj\.weight"):
        checkpoint.load(directory)


def test_a_weight_of_another_shape_is_named(directory: Path) -> None:
    content = tensors(directory)
    content["wav2vec2.feature_projection.projection.weight"] = torch.zeros(32, 31)
    write_tensors(directory, content)
    with pytest.raises(CheckpointError, match=r"projection\.weight has shape \(32, 31\).* needs \(32, 32\)"):
        checkpoint.load(directory)


def test_weights_that_belong_to_nothing_are_named_in_one_line(
    directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    expected = checkpoint.load(directory).weights
    spare = {f"wav2vec2.encoder.gate.{number}": torch.zeros(3) for number in range(20)}
    write_tensors(directory, {**tensors(directory), **spare, "step": torch.tensor(7)})
    assert_same_weights(checkpoint.load(directory).weights, expected)
    (record,) = caplog.records
    assert "CTC model does not have: encoder.gate.0, encoder.gate.1," in record.message
    assert record.message.endswith("and 13 more")


def test_half_a_weight_norm_is_named(directory: Path) -> None:
    without(directory, f"wav2vec2.{POSITIONAL}parametrizations.weight.original0")
    with pytest.raises(CheckpointError, match=r"pos_conv_embed\.conv"):
        checkpoint.load(directory)


def test_a_pretrained_checkpoint_has_no_head(directory: Path) -> None:
    without(directory, "lm_head.weight")
    with pytest.raises(CheckpointError, match="no CTC head"):
        checkpoint.load(directory)


def test_a_whisper_without_a_head_is_sent_to_the_graft(tmp_path: Path) -> None:
    written = write(make("whisper"), tmp_path / "model")
    assert checkpoint.load(written).config.model_type == "whisper"
    without(written, "lm_head.weight")
    with pytest.raises(CheckpointError, match="littlefoot graft makes a recogniser"):
        checkpoint.load(written)


@pytest.mark.parametrize("model_type", ["parakeet_tdt", "parakeet_rnnt", "parakeet_encoder"])
def test_of_parakeets_only_those_with_a_ctc_head_are_read(model_type: str, tmp_path: Path) -> None:
    directory = write(make("parakeet"), tmp_path / "model")
    change_config(directory, model_type=model_type)
    with pytest.raises(CheckpointError, match=r"only those with a CTC head \(parakeet_ctc\) can be read"):
        checkpoint.load(directory)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("subsampling_factor", 4),
        ("subsampling_conv_kernel_size", 5),
        ("subsampling_conv_stride", 4),
        ("num_mel_bins", 84),
        ("conv_kernel_size", 4),
        ("hidden_act", "prelu"),
    ],
)
def test_parakeets_of_another_structure_are_refused(key: str, value: object, tmp_path: Path) -> None:
    directory = write(make("parakeet"), tmp_path / "model")
    section = json.loads((directory / "config.json").read_text())["encoder_config"]
    change_config(directory, encoder_config={**section, key: value})
    named = {"conv_kernel_size": "conv_depthwise_kernel_size"}.get(key, key)
    with pytest.raises(CheckpointError, match=f"{named}.*{value}"):
        checkpoint.load(directory)


def test_a_parakeet_without_its_section_is_refused(tmp_path: Path) -> None:
    directory = write(make("parakeet"), tmp_path / "model")
    change_config(directory, encoder_config=[3])
    with pytest.raises(CheckpointError, match="encoder_config must be an object, not"):
        checkpoint.load(directory)


@pytest.mark.parametrize("part", ["running_mean", "running_var", "weight", "bias"])
@pytest.mark.parametrize(
    ("family", "norm"), [("parakeet", "conv.norm"), ("conformer-rotary", "conv_module.batch_norm")]
)
def test_a_batch_norm_that_is_incomplete_is_refused(
    family: str, norm: str, part: str, tmp_path: Path
) -> None:
    directory = write(make(family), tmp_path / "model")
    without(directory, next(name for name in tensors(directory) if name.endswith(f".1.{norm}.{part}")))
    with pytest.raises(CheckpointError, match=rf"layers\.1\.conv_module\.batch_norm\.{part} is missing"):
        checkpoint.load(directory)


@pytest.mark.parametrize(
    ("family", "key", "value"),
    [("parakeet", "preemphasis", 0.0), ("parakeet", "n_fft", 400), ("whisper", "hop_length", 200)],
)
def test_a_spectrogram_of_other_settings_is_refused(
    family: str, key: str, value: float, tmp_path: Path
) -> None:
    directory = write(make(family), tmp_path / "model")
    write_json(directory / "preprocessor_config.json", {"sampling_rate": 16_000, key: value})
    with pytest.raises(CheckpointError, match=rf"preprocessor_config.json: {key} {value} of a .* only"):
        checkpoint.load(directory)


@pytest.mark.parametrize("model_type", ["speech_to_text", "wav2vec2-phoneme", "bert", None, ["wav2vec2"], 3])
def test_other_architectures_are_refused(directory: Path, model_type: object) -> None:
    change_config(directory, model_type=model_type)
    with pytest.raises(CheckpointError, match=r"model_type .* is not supported: .*wav2vec2, "):
        checkpoint.load(directory)


def test_adapters_that_transformers_does_not_compute_are_refused(tmp_path: Path) -> None:
    written = write(make("hubert-base"), tmp_path / "model")
    change_config(written, add_adapter=True)
    with pytest.raises(CheckpointError, match="add_adapter: transformers has no adapters for hubert models"):
        checkpoint.load(written)
    made = write(make("wav2vec2-adapters"), tmp_path / "other")
    change_config(made, adapter_kernel_size=5)
    with pytest.raises(CheckpointError, match="adapter_kernel_size 5 is not supported"):
        checkpoint.load(made)


@pytest.mark.parametrize(
    ("name", "match"),
    [("config.json", "no config.json"), ("model.safetensors", "no weights"), ("vocab.json", "vocab.json")],
)
def test_a_missing_file_is_named(directory: Path, name: str, match: str) -> None:
    (directory / name).unlink()
    with pytest.raises(CheckpointError, match=match):
        checkpoint.load(directory)


@pytest.mark.parametrize("index", [{"weight_map": {"lm_head.weight": 3}}, {"weight_map": 3}, {}])
def test_a_damaged_index_is_refused(directory: Path, index: object) -> None:
    (directory / "model.safetensors").unlink()
    write_json(directory / "model.safetensors.index.json", index)
    with pytest.raises(CheckpointError, match="weight_map"):
        checkpoint.load(directory)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    directory = write(make("wav2vec2-large"), tmp_path / "model", max_shard_size="20KB")
    shard = sorted(directory.glob("model-*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(CheckpointError, match=rf"{shard.name} is missing"):
        checkpoint.load(directory)


class Touch:
    """Unpickling it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_runs_no_code(directory: Path, tmp_path: Path) -> None:
    as_pickle(directory)
    torch.save({"lm_head.weight": Touch(tmp_path / "ran")}, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        checkpoint.load(directory)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x80\x02}q\x00."])
def test_a_damaged_pickle_is_refused(directory: Path, content: bytes) -> None:
    as_pickle(directory)
    (directory / "pytorch_model.bin").write_bytes(content)
    with pytest.raises(CheckpointError):
        checkpoint.load(directory)


def test_a_pickle_without_torch_names_the_extra(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    as_pickle(directory)
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'littlefoot\[train\]'"):
        checkpoint.load(directory)


# Where it is looked for


def test_a_damaged_artifact_is_not_taken_for_a_checkpoint(directory: Path, tmp_path: Path) -> None:
    saved = artifact.save(checkpoint.load(directory), tmp_path / "artifact")
    (saved / "model.safetensors").unlink()
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        checkpoint.load(saved)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "nothing",
        "/no/where",
        "./no/where",
        "a/b/c",
        "x" * 5000,
        "a\0b",
        "~/models",
        "a/b@",
        "a@main",
        "@a/b",
    ],
)
def test_a_model_that_is_nowhere_is_named(source: str) -> None:
    with pytest.raises(CheckpointError, match="neither a directory nor a bundled model"):
        checkpoint.load(source)


def test_a_recording_in_the_place_of_the_model_is_named(tmp_path: Path) -> None:
    (tmp_path / "talk.WAV").write_bytes(b"RIFF")
    with pytest.raises(
        CheckpointError, match=r"talk\.WAV: is a recording, not a model: the model comes first"
    ):
        checkpoint.load(tmp_path / "talk.WAV")


def test_a_file_is_no_model(directory: Path) -> None:
    with pytest.raises(CheckpointError, match="is a file; give the directory"):
        checkpoint.load(directory / "model.safetensors")


def test_a_hub_id_is_downloaded(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = []

    def download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        assert (repository, revision) == ("someone/some-model", None)
        wanted.append(allow_patterns)
        return str(directory)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    loaded = checkpoint.load("someone/some-model")
    assert loaded.vocabulary.tokens == TOKENS
    assert len(wanted) == 1
    assert not any(pattern.endswith(".bin") for pattern in wanted[0])


def test_the_size_of_a_model_of_the_hub_needs_no_second_look_there(
    directory: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[str] = []

    def download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        looks.append(repository)
        return str(directory)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    found = json.loads(run("info", "someone/some-model", "--json").out)
    assert found["bytes"] == (directory / "model.safetensors").stat().st_size
    assert looks == ["someone/some-model"]


def test_pickles_are_downloaded_only_where_nothing_else_is(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[list[str]] = []

    def download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        if not wanted:
            as_pickle(directory)
        wanted.append(allow_patterns)
        return str(directory)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    checkpoint.load("someone/some-model")
    assert [any(pattern.endswith(".bin") for pattern in patterns) for patterns in wanted] == [False, True]


@pytest.mark.parametrize("message", ["", "no\nnetwork"])
def test_a_failed_download_names_the_id_and_a_remedy(message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(repository: str, revision: str | None, allow_patterns: list[str]) -> str:
        raise OSError(message)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(CheckpointError, match=r"^someone/some-model: .*give its directory$"):
        checkpoint.load("someone/some-model")


def test_offline_a_hub_id_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(CheckpointError, match=r"^someone/some-model: .*give its directory$"):
        checkpoint.load("someone/some-model")
