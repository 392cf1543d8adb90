"""Define the options of recognition, decoding and reading. They can be sent to a process."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from littlefoot.errors import ConfigError
from littlefoot.runtime.specification import Specification

if TYPE_CHECKING:
    from littlefoot.audio import reading
    from littlefoot.decode.beam import BeamDecoder
    from littlefoot.runtime.recognizer import Recognizer
    from littlefoot.runtime.windows import Heard
    from littlefoot.transcript.results import Transcription

log = logging.getLogger("littlefoot")

Recognise = Callable[[str, "Heard | None"], "Transcription"]
"""Function of the name of a recording and a progress callback."""

STANDARD_INPUT = "-"
"""The name of the recording that standard input holds."""


@dataclass(frozen=True)
class DecodingOptions:
    """Options of the search. Without any, decoding is greedy."""

    beam: int | None = None
    """Number of hypotheses; the default of ``BeamConfig`` if None and another option needs a search."""
    lm: Path | None = None
    """A language model: a name, a file, or a checkpoint that has one (``Recognizer.decoder``)."""
    alpha: float | None = None
    """Weight of the language model; its default if None."""
    beta: float | None = None
    """Score of each word, with a language model; its default if None."""
    hotwords: Path | None = None
    """A file of likely phrases."""
    lexicon: Path | None = None
    """A file of the only words that texts may contain."""

    def __post_init__(self) -> None:
        if self.lm is None and (self.alpha is not None or self.beta is not None):
            raise ConfigError("alpha and beta weigh a language model: give one with --lm, or leave them out")

    @property
    def searches(self) -> bool:
        """Return True if an option needs a beam search."""
        return any(option is not None for option in (self.beam, self.lm, self.hotwords, self.lexicon))

    def decoder(self, recognizer: Recognizer) -> BeamDecoder | None:
        """Make a beam search if an option needs one, or return None for greedy decoding.

        Raises LittlefootError as ``Recognizer.decoder`` does.
        """
        from littlefoot.decode.beam import BeamConfig

        if self.lm is None and (companion := recognizer.companion) is not None:
            log.warning(
                "%s has a language model, which is not used: --lm %s decodes with it", companion, companion
            )
        if not self.searches:
            return None
        config = BeamConfig(self.beam, self.alpha, self.beta)
        return recognizer.decoder(config, self.lm, self.hotwords, self.lexicon)


@dataclass(frozen=True)
class RecordingOptions:
    """Options of reading a recording, and the form of its text."""

    vad: str | None = None
    """Detector of speech in long recordings (``Recognizer.transcribe``); its default if None."""
    channel: str = "auto"
    """Channel, as in ``reading.selected``, or ``each`` for one speaker per channel."""
    track: int | None = None
    """Audio track, from 1."""
    alternatives: int = 0
    """Number of further texts of a beam search."""
    case: str | None = None
    """Case of the text, as in ``style.restyle``."""
    punctuate: str | None = None
    """A punctuation model, as in ``style.find_punctuate``."""


@dataclass(frozen=True)
class Transcriber:
    """All options that determine the text of a recording. A worker process unpickles them and loads the
    model.
    """

    specification: Specification
    decoding: DecodingOptions = DecodingOptions()
    recordings: RecordingOptions = RecordingOptions()

    @property
    def vad(self) -> str:
        """Name of the detector of speech."""
        from littlefoot.runtime.recognizer import VAD

        return VAD if self.recordings.vad is None else self.recordings.vad

    def measuring(self) -> Transcriber:
        """Return one that measures the engines when it is loaded (``LoadOptions.measure``)."""
        options = replace(self.specification.options, measure=True)
        return replace(self, specification=replace(self.specification, options=options))

    def load(self) -> Recognise:
        """Load the model and the decoder. Raises LittlefootError."""
        from littlefoot.audio import reading, vad
        from littlefoot.runtime import recognizer
        from littlefoot.transcript.conversation import EACH, transcribe_each
        from littlefoot.transcript.style import find_punctuate, restyle

        chosen = self.recordings
        vad.create(self.vad)
        punctuate = find_punctuate(chosen.punctuate) if chosen.punctuate else None
        loaded = recognizer.load_with(self.specification)
        search = self.decoding.decoder(loaded)

        def recognise(name: str, heard: Heard | None) -> Transcription:
            return restyle(as_recognised(name, heard), chosen.case, punctuate)

        def as_recognised(name: str, heard: Heard | None) -> Transcription:
            with ExitStack() as stack:
                source: reading.Source = name
                if name == STANDARD_INPUT:
                    source = stack.enter_context(reading.standard_input(sys.stdin.buffer))

                def transcribe(source: reading.Source) -> Transcription:
                    return loaded.transcribe(source, search, chosen.alternatives, self.vad, heard)

                if chosen.channel == EACH:
                    return transcribe_each(transcribe, source, chosen.track)
                if (chosen.channel, chosen.track) != ("auto", None):
                    source = reading.selected(source, chosen.channel, chosen.track)
                return transcribe(source)

        return recognise
