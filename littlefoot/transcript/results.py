"""What a transcription consists of. All times in seconds from the beginning of the recording."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Word:
    """A recognised word."""

    word: str
    start: float
    """Beginning of the first frame of its first character."""
    end: float
    """Where the word delimiter begins, or shortly after its last character (``littlefoot.decode.spans``)."""
    confidence: float
    """Geometric mean of the frame posteriors of its characters, 0..1."""
    speaker: str | None = None
    """Whose channel it was spoken on, where each is transcribed for itself."""
    letters: tuple[tuple[str, float, float], ...] = field(default=(), repr=False, compare=False)
    """Of a long word: its characters with their beginnings and ends."""


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
    """Natural logarithm: of the probability given the speech, with what language model and hot words add."""


@dataclass(frozen=True)
class Transcription:
    """A recording as text."""

    text: str
    segments: list[Segment]
    words: list[Word]
    duration: float
    """Length of the recording, whether anything was said or not."""
    alternatives: list[Alternative] = field(default_factory=list)
    """The best texts, best first, where a beam search was asked for several."""
