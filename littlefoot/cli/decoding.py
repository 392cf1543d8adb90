"""The decoder that the options of ``transcribe`` and ``eval`` ask for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from littlefoot.errors import ConfigError

if TYPE_CHECKING:
    from littlefoot.decode.beam import BeamDecoder
    from littlefoot.runtime.recognizer import Recognizer


def decoder(
    recognizer: Recognizer,
    beam: int | None,
    lm: Path | None,
    alpha: float | None,
    beta: float | None,
    hotwords: Path | None,
    lexicon: Path | None,
) -> BeamDecoder | None:
    """A beam search where an option needs one, None for greedy decoding; the options as in ``options``."""
    from littlefoot.decode.beam import BeamConfig

    if lm is None and (alpha is not None or beta is not None):
        raise ConfigError("--alpha and --beta weigh a language model: give one with --lm")
    if beam is None and lm is None and hotwords is None and lexicon is None:
        return None
    config = BeamConfig(BeamConfig.beam if beam is None else beam, alpha, beta)
    return recognizer.decoder(config, lm, hotwords, lexicon)
