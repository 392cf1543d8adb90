"""Small, fast wav2vec 2.0-family speech recognisers that run without PyTorch.

>>> import littlefoot
>>> from pathlib import Path
>>> clip = Path(littlefoot.__file__).parent / "bundled" / "samples" / "digits.ogg"
>>> recognizer = littlefoot.load("littlefoot-en", threads=1)
>>> result = recognizer.transcribe(clip)
>>> result.text
'ONE TWO THREE FOUR FIVE SIX SEVEN'
>>> second = result.words[1]
>>> f"of {result.duration:.1f} s, {second.word} begins after {second.start:.1f}"
'of 3.1 s, TWO begins after 0.7'

A live recording is fed in pieces of any length:

>>> from littlefoot.audio import reading
>>> stream = recognizer.stream()
>>> partials = [stream.feed(block) for block in reading.blocks(clip, 0.5)] + [stream.finish()]
>>> [segment.text for partial in partials for segment in partial.final]
['ONE TWO THREE FOUR FIVE SIX SEVEN']

What goes wrong with a file or a setting is a ``LittlefootError``:

>>> recognizer.transcribe("nowhere.wav")
Traceback (most recent call last):
littlefoot.errors.AudioError: nowhere.wav: there is no such file: check the path

Users of the library may rely on the names in ``__all__``. All but the errors are imported when they are first
used, so that ``import littlefoot`` is quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from littlefoot.errors import (
    ArtifactError,
    AudioError,
    CheckpointError,
    ConfigError,
    EngineError,
    LittlefootError,
    ManifestError,
    MissingExtraError,
    TextError,
    TrainingError,
)

if TYPE_CHECKING:
    from littlefoot.runtime.recognizer import Recognizer, load
    from littlefoot.runtime.stream import Partial, Stream
    from littlefoot.transcript.results import Alternative, Segment, Transcription, Word

__version__ = "0.1.0"

__all__ = [
    "Alternative",
    "ArtifactError",
    "AudioError",
    "CheckpointError",
    "ConfigError",
    "EngineError",
    "LittlefootError",
    "ManifestError",
    "MissingExtraError",
    "Partial",
    "Recognizer",
    "Segment",
    "Stream",
    "TextError",
    "TrainingError",
    "Transcription",
    "Word",
    "__version__",
    "load",
]


_HOMES = {
    **dict.fromkeys(("Recognizer", "load"), "runtime.recognizer"),
    **dict.fromkeys(("Partial", "Stream"), "runtime.stream"),
    **dict.fromkeys(("Alternative", "Segment", "Transcription", "Word"), "transcript.results"),
}
"""Modules of names that are imported when they are first used."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"littlefoot.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
