"""The families of models that the encoder computes: a row of data each.

What differs from wav2vec 2.0 stands here and is read by what it does, never by a family's name. A
new family that does nothing new is a row more, and one in ``tests/support/families.py``; one that does
something new has layers more in ``littlefoot.network.inventory`` and their use in
``littlefoot.network.encoder``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Family:
    """One ``model_type`` of ``config.json``."""

    transformers: str
    """The class of transformers that loads a checkpoint."""
    prefix: str
    """Before the names of all weights but the head's in a checkpoint's file."""
    positional: Literal["convolution", "stack"] = "convolution"
    """``convolution``: one over many frames. ``stack``: several short ones, one on the other, each with a
    norm."""
    relative_positions: bool = False
    """Whether attention has a gated bias by bucketed distance, which all blocks take from the first one's
    table: so all have the same heads."""
    cannot_stream: str = ""
    """Reason why models of the family cannot stream; empty if they can."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Settings whose default in ``config.json`` is not wav2vec 2.0's."""
    always: Mapping[str, Any] = field(default_factory=dict)
    """Settings that its checkpoints may give, but which transformers does not read: it computes so."""


FAMILIES: Mapping[str, Family] = {
    # Also XLS-R and MMS.
    "wav2vec2": Family("Wav2Vec2ForCTC", "wav2vec2."),
    "hubert": Family("HubertForCTC", "hubert."),
    "wavlm": Family(
        "WavLMForCTC",
        "wavlm.",
        relative_positions=True,
        cannot_stream="its relative positions reach over the whole recording",
    ),
    "unispeech": Family("UniSpeechForCTC", "unispeech."),
    "unispeech-sat": Family("UniSpeechSatForCTC", "unispeech_sat."),
    "data2vec-audio": Family(
        "Data2VecAudioForCTC",
        "data2vec_audio.",
        positional="stack",
        cannot_stream="its positional convolutions, one on the other, look far ahead",
        defaults={"num_conv_pos_embeddings": 5},
        always={"feat_extract_norm": "layer", "do_stable_layer_norm": False},
    ),
}
"""Families by ``model_type``."""
