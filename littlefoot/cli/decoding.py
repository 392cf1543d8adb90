"""Make the decoder that the options of ``transcribe`` and ``eval`` ask for."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from littlefoot.errors import ConfigError

log = logging.getLogger("littlefoot")

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
    """Make a beam search if an option needs one, or return None for greedy decoding."""
    from littlefoot.decode.beam import BeamConfig

    if lm is None and (alpha is not None or beta is not None):
        raise ConfigError("--alpha and --beta weigh a language model: give one with --lm")
    if lm is None and recognizer.companion is not None:
        log.warning(
            "%s has a language model, which is not used: --lm %s decodes with it",
            *(recognizer.companion, recognizer.companion),
        )
    if beam is None and lm is None and hotwords is None and lexicon is None:
        return None
    config = BeamConfig(BeamConfig.beam if beam is None else beam, alpha, beta)
    return recognizer.decoder(config, lm, hotwords, lexicon)
