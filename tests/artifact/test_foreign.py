"""Checkpoints of fairseq and torchaudio become the models of transformers that they are."""

from __future__ import annotations

import re
from argparse import Namespace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from checkpoints import reference_weights, write, write_json
from families import make

from littlefoot.artifact import checkpoint
from littlefoot.errors import CheckpointError

LETTERS = ("|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ")
STANDARD = {
    "hidden_size": 768,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 12,
    "conv_dim": [16] * 7,
    "conv_kernel": [10, 3, 3, 3, 3, 2, 2],
    "conv_stride": [5, 2, 2, 2, 2, 2, 2],
    "num_feat_extract_layers": 7,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 16,
}
Tensors = dict[str, torch.Tensor]


def assert_same_weights(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, weight in found.items():  # the norms of wide convolutions are sums of many
        np.testing.assert_allclose(weight, expected[name], rtol=1e-4, atol=1e-6, err_msg=name)


def model(family: str, outputs: int) -> transformers.PreTrainedModel:
    return make(family, **{**STANDARD, "vocab_size": outputs})


def renamed(content: Tensors, rules: list[tuple[str, str]]) -> Tensors:
    found = {}
    for name, tensor in content.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        found[name] = tensor
    return found


def as_fairseq(made: transformers.PreTrainedModel) -> Tensors:
    layered = made.config.feat_extract_norm == "layer"
    prefix = "w2v_encoder.w2v_model."
    return renamed(
        made.state_dict(),
        [
            (r"^lm_head\.", "w2v_encoder.proj."),
            (rf"^{made.base_model_prefix}\.", prefix),
            (r"conv_layers\.(\d+)\.conv\.", r"conv_layers.\1.0."),
            (
                r"conv_layers\.(\d+)\.layer_norm\.",
                r"conv_layers.\1.2.1." if layered else r"conv_layers.\1.2.",
            ),
            (r"feature_projection\.layer_norm\.", "layer_norm."),
            (r"feature_projection\.projection\.", "post_extract_proj."),
            (r"pos_conv_embed\.conv\.parametrizations\.weight\.original0", "pos_conv.0.weight_g"),
            (r"pos_conv_embed\.conv\.parametrizations\.weight\.original1", "pos_conv.0.weight_v"),
            (r"pos_conv_embed\.conv\.", "pos_conv.0."),
            (r"(layers\.\d+)\.layer_norm\.", r"\1.self_attn_layer_norm."),
            (r"\.attention\.", ".self_attn."),
            (r"\.feed_forward\.intermediate_dense\.", ".fc1."),
            (r"\.feed_forward\.output_dense\.", ".fc2."),
            (r"masked_spec_embed", "mask_emb"),
        ],
    )


def as_torchaudio(made: transformers.PreTrainedModel) -> Tensors:
    content = renamed(
        made.state_dict(),
        [
            (r"^lm_head\.", "aux."),
            (rf"^{made.base_model_prefix}\.", ""),
            (r"^encoder\.", "encoder.transformer."),
            (r"^feature_projection\.", "encoder.feature_projection."),
        ],
    )
    return {name: tensor for name, tensor in content.items() if name != "masked_spec_embed"}


@pytest.mark.parametrize("family", ["wav2vec2-base", "wav2vec2-large", "hubert-base", "hubert-large"])
def test_a_checkpoint_of_fairseq_is_read(family: str, tmp_path: Path) -> None:
    made = model(family, 4 + len(LETTERS))
    args = Namespace(arch="wav2vec_ctc", w2v_path="base.pt")
    torch.save({"args": args, "cfg": None, "model": as_fairseq(made)}, tmp_path / "best.pt")
    (tmp_path / "dict.ltr.txt").write_text("".join(f"{letter} 100\n" for letter in LETTERS))
    found = checkpoint.load(tmp_path / "best.pt")
    assert_same_weights(found.weights, reference_weights(made))
    assert found.vocabulary.tokens == ("<pad>", "<s>", "</s>", "<unk>", *LETTERS)
    for key in ("do_stable_layer_norm", "feat_extract_norm", "conv_bias", "num_attention_heads"):
        assert getattr(found.config, key) == getattr(made.config, key)


@pytest.mark.parametrize("family", ["wav2vec2-base", "wav2vec2-large", "hubert-large"])
def test_a_state_dict_of_torchaudio_is_read(
    family: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = model(family, 29)
    torch.save(as_torchaudio(made), tmp_path / "bundle.pt")
    found = checkpoint.load(tmp_path / "bundle.pt")
    expected = reference_weights(made)
    expected.pop("masked_spec_embed", None)
    assert_same_weights(found.weights, expected)
    assert found.vocabulary.decode([2, 0, 2, 1, 4]) == "EE A"
    assert "the letters of torchaudio's English bundles" in caplog.text
    write_json(tmp_path / "vocab.json", {token: place for place, token in enumerate(("<pad>", *LETTERS))})
    assert checkpoint.load(tmp_path / "bundle.pt").vocabulary.tokens[0] == "<pad>"


def test_what_is_missing_or_unknown_is_said(tmp_path: Path) -> None:
    made = model("wav2vec2-base", 31)
    torch.save({"model": as_fairseq(made)}, tmp_path / "best.pt")
    with pytest.raises(CheckpointError, match=r"no alphabet beside best\.pt: put its dict\.ltr\.txt there"):
        checkpoint.load(tmp_path / "best.pt")
    (tmp_path / "dict.ltr.txt").write_text("| 1\nE 1\n")
    with pytest.raises(CheckpointError, match="2 letters, with four special tokens 6, but the model 31"):
        checkpoint.load(tmp_path / "best.pt")
    torch.save({"model": {"linear.weight": torch.zeros(2, 2)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt is not a CTC model of fairseq .* or torchaudio"):
        checkpoint.load(tmp_path / "other.pt")
    odd = make("wav2vec2-base", vocab_size=31)
    torch.save({"model": as_fairseq(odd)}, tmp_path / "odd.pt")
    with pytest.raises(CheckpointError, match=r"of no published model.*convert it with transformers"):
        checkpoint.load(tmp_path / "odd.pt")


# The Hub


@pytest.mark.parametrize(
    ("address", "repository", "revision"),
    [
        ("https://huggingface.co/someone/some-model", "someone/some-model", None),
        ("huggingface.co/someone/some-model/", "someone/some-model", None),
        ("https://hf.co/someone/some-model/tree/v2", "someone/some-model", "v2"),
        ("https://huggingface.co/someone/some-model/blob/main/config.json", "someone/some-model", "main"),
        ("https://huggingface.co/someone/some-model?library=transformers", "someone/some-model", None),
        ("hf://someone/some-model", "someone/some-model", None),
        ("someone/some-model@v2", "someone/some-model", "v2"),
    ],
)
def test_addresses_of_the_hub_are_ids(
    address: str, repository: str, revision: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = write(make("wav2vec2-base"), tmp_path / "model")
    asked = []

    def download(name: str, revision: str | None, allow_patterns: list[str]) -> str:
        asked.append((name, revision))
        return str(directory)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    checkpoint.load(address)
    assert asked == [(repository, revision)]


def test_a_directory_wins_over_an_id_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write(make("wav2vec2-base"), tmp_path / "someone" / "model")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *arguments: None)
    checkpoint.load("someone/model")
    assert not caplog.text
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *arguments: "config.json")
    checkpoint.load("someone/model")
    assert "someone/model: the directory of this name is used, not the model from the Hub" in caplog.text
