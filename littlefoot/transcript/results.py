"""The parts of a transcription. All times are in seconds from the beginning of the recording."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """A recognised word."""

    word: str
    start: float
    """Beginning of the first frame of the first character."""
    end: float
    """Beginning of the word delimiter, or a moment after the last character (``littlefoot.decode.spans``)."""
    confidence: float
    """Geometric mean of the frame posteriors of the word's characters, from 0 to 1."""
    speaker: str | None = None
    """Channel on which the word was spoken, if each channel is transcribed separately."""
    letters: tuple[tuple[str, float, float], ...] = field(default=(), repr=False, compare=False)
    """Characters of a long or an aligned word, with their beginnings and ends in seconds."""
    ends: bool = field(default=False, compare=False)
    """Whether a sentence ends with this word: the next one begins a new cue of subtitles."""


@dataclass(frozen=True)
class Segment:
    """Consecutive words that belong on one line of subtitles."""

    start: float
    end: float
    text: str
    speaker: str | None = None


@dataclass(frozen=True)
class Alternative:
    """One of the best texts that a beam search found."""

    text: str
    score: float
    """Natural logarithm of the probability given the speech, plus language model and hot word scores."""


@dataclass(frozen=True)
class Transcription:
    """The text of a recording, with its segments and words."""

    text: str
    segments: list[Segment]
    words: list[Word]
    duration: float
    """Length of the whole recording in seconds, including silence."""
    alternatives: list[Alternative] = field(default_factory=list)
    """The best texts, best first, if several were requested from a beam search."""
    aligned: bool = False
    """Whether the text was given and aligned: its characters then appear in JSON and TextGrid."""
