"""Make a beam search from files: a language model, hot words, and a lexicon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from littlefoot.artifact import companions
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.decode import lm as language_models
from littlefoot.decode.beam import BeamConfig, BeamDecoder
from littlefoot.decode.hotwords import read_hotwords
from littlefoot.decode.lexicon import read_lexicon


def decoder(
    vocabulary: Vocabulary,
    frame_seconds: float,
    config: BeamConfig | None = None,
    lm: str | Path | None = None,
    hotwords: str | Path | Mapping[str, float] | None = None,
    lexicon: str | Path | None = None,
) -> BeamDecoder:
    """Make a beam search. ``Recognizer.decoder`` describes the arguments and errors.

    Args:
        frame_seconds: seconds from one frame of the logits to the next.
    """
    model = None
    if lm:
        found = companions.locate(lm)
        config = weighed(config or BeamConfig(), found)
        model = language_models.load(found.path, vocabulary, found.words)
    phrases = read_hotwords(hotwords, vocabulary) if isinstance(hotwords, str | Path) else hotwords
    words = read_lexicon(lexicon, vocabulary) if lexicon else None
    return BeamDecoder(vocabulary, frame_seconds, config, model, phrases, words)


def weighed(config: BeamConfig, companion: companions.Companion) -> BeamConfig:
    """Return the settings of a search, with missing weights taken from the language model."""
    return replace(
        config,
        alpha=companion.alpha if config.alpha is None else config.alpha,
        beta=companion.beta if config.beta is None else config.beta,
        unknown=config.unknown if companion.unknown is None else companion.unknown,
        unknown_letter=config.unknown_letter if companion.unknown is None else 0.0,
    )
