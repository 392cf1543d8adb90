"""Small, fast wav2vec 2.0-family speech recognisers that run without PyTorch.

>>> import littlefoot
>>> recognizer = littlefoot.load("littlefoot-en")
>>> recognizer.transcribe("talk.wav").text
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from littlefoot.runtime.recognizer import Recognizer

__version__ = "0.1.0"

__all__ = ["__version__", "load"]


def load(model: str, **options: Any) -> Recognizer:
    """Load a model for recognition: ``littlefoot.runtime.recognizer.load``, imported when needed."""
    from littlefoot.runtime import recognizer

    return recognizer.load(model, **options)
