"""The same random model in transformers, which says what is right, and as an artifact."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
import transformers
from checkpoints import TOKENS, reference_weights
from families import make

from littlefoot.artifact import Artifact
from littlefoot.config import ModelConfig
from littlefoot.vocabulary import Vocabulary

torch.set_num_threads(1)  # more would only wait for each other over such small models


@dataclass(frozen=True)
class Oracle:
    model: transformers.PreTrainedModel
    artifact: Artifact

    def logits(self, waveform: np.ndarray) -> np.ndarray:
        """(T,) -> (F, V), as transformers computes them."""
        with torch.no_grad():
            return self.model(torch.from_numpy(waveform)[None]).logits[0].numpy()


def build(family: str, **changes: Any) -> Oracle:
    """A random model of a family; changes go to the configuration of transformers."""
    model = make(family, **changes)
    config = ModelConfig.from_dict(model.config.to_dict())
    preprocessor = {"do_normalize": True, "sampling_rate": 16_000}
    artifact = Artifact(config, reference_weights(model), Vocabulary(TOKENS), preprocessor)
    return Oracle(model, artifact)


tiny = cache(build)
"""``build``, made once for all tests: change nothing in it."""


def padded(waveforms: list[np.ndarray], fill: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Several (T,) as one batch (B, T) and their lengths (B,)."""
    lengths = np.array([len(waveform) for waveform in waveforms])
    batch = np.full((len(waveforms), lengths.max()), fill, np.float32)
    for row, waveform in zip(batch, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return batch, lengths
