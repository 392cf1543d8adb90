"""A made-up language in which every letter is a tone: a tiny model learns it in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from littlefoot import artifact
from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest
from littlefoot.network.config import ModelConfig

LETTERS = "ABCDEF"
LETTER_SECONDS = 0.12

MODEL: dict[str, Any] = {
    "model_type": "wav2vec2",
    "vocab_size": 8,
    "pad_token_id": 0,
    "conv_dim": [16, 32, 32],
    "conv_kernel": [20, 8, 4],
    "conv_stride": [10, 8, 4],
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
VOCABULARY = ["<pad>", "|", *LETTERS]
TRAIN: dict[str, Any] = {
    "lr": 3e-3,
    "warmup_steps": 20,
    "batch_seconds": 4,
    "log_every": 10,
    "eval_every": 1000,
    "mixed_precision": "no",
    "threads": 1,
    "loaders": 0,
    "cache_audio": True,
}
QUIET: dict[str, Any] = {**TRAIN, "speeds": [1.0], "time_mask_fraction": 0.0, "feature_mask_fraction": 0.0}
"""Without augmentation."""


def sing(text: str, rng: np.random.Generator) -> np.ndarray:
    """Samples (T,) of a text at 16 kHz: a tone for each letter, silence for a space."""
    time = np.arange(int(LETTER_SECONDS * 16_000)) / 16_000
    tones = [
        np.zeros_like(time)
        if letter == " "
        else np.sin(2 * np.pi * 300 * 1.5 ** LETTERS.index(letter) * time)
        for letter in text
    ]
    samples = 0.3 * np.concatenate(tones)
    return samples + 0.003 * rng.standard_normal(len(samples))


def write_set(directory: Path, count: int = 12, name: str = "tones") -> Path:
    """A set of ``count`` sung words; the dev split repeats the first four. Returns its manifest."""
    rng = np.random.default_rng(7)
    folder = directory / name
    folder.mkdir(parents=True)
    rows = ["id\tpath\tseconds\tspeaker\tsplit\ttext"]
    for index in range(count):
        text = "".join(rng.permutation(list(LETTERS))[: int(rng.integers(2, 6))])
        if index % 3 == 0:
            text = text[:1] + " " + text[1:]
        samples = sing(text, rng)
        soundfile.write(folder / f"{index}.wav", samples, 16_000)
        row = f"{index}.wav\t{len(samples) / 16_000:.3f}\tnobody"
        rows.append(f"{index}\t{row}\ttrain\t{text}")
        if index < 4:
            rows.append(f"dev{index}\t{row}\tdev\t{text}")
    manifest = folder / "manifest.tsv"
    manifest.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return manifest


def write_recipe(directory: Path, manifest: Path, **train: Any) -> Path:
    """A recipe for a tiny model on a set."""
    recipe = {"model": MODEL, "vocabulary": VOCABULARY, "data": [str(manifest)], "train": {**TRAIN, **train}}
    path = directory / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def learned(tones: Path, directory: Path, **changes: Any) -> Artifact:
    """A tiny model that was trained on a set."""
    from littlefoot.training import train as trainer
    from littlefoot.training.module import CTCModel
    from littlefoot.training.objective import CTC
    from littlefoot.training.train_config import TrainConfig

    config = ModelConfig.from_dict({**MODEL, **changes})
    model = CTCModel.from_config(config, Vocabulary(tuple(VOCABULARY), 0), seed=1)
    settings = TrainConfig(**{**QUIET, "steps": 250, "ema_decay": 0.9})
    wer = trainer.train(CTC(model), manifest.index(tones), settings, directory / "model")
    assert wer is not None
    assert wer < 0.3
    return artifact.load(directory / "model")
