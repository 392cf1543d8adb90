"""Transcribe calls: each channel separately, with its speaker named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from littlefoot.audio import reading
from littlefoot.audio.channels import SIDES
from littlefoot.audio.pcm import Pcm
from littlefoot.errors import AudioError
from littlefoot.transcript.results import Transcription

EACH = "each"
"""Value of the channel option that asks for a conversation."""


def transcribe_each(
    transcribe: Callable[[reading.Source], Transcription], source: reading.Source, track: int | None = None
) -> Transcription:
    """Transcribe every channel of a recording and merge the texts in order of time.

    Args:
        transcribe: transcribes one channel, such as ``Recognizer.transcribe``.
        source: a file; arrays and bare samples have one channel.
        track: of files with several, from 1.

    Returns:
        Words and segments with their ``speaker``: ``left`` and ``right``, or ``channel 1`` and so on where
        there are more than two. The text is that of the segments.

    Raises:
        AudioError: the recording cannot be read, or has one channel only.
    """
    if isinstance(source, Pcm | np.ndarray) or (count := reading.channels(source)) < 2:
        raise AudioError(
            f"{reading.name_of(source)}: has one channel, so it does not separate speakers: leave the "
            "choice out"
        )
    names = SIDES if count == 2 else tuple(f"channel {place + 1}" for place in range(count))
    parts = []
    for place, name in enumerate(names):
        part = transcribe(reading.selected(source, str(place + 1), track))
        words = [replace(word, speaker=name) for word in part.words]
        segments = [replace(segment, speaker=name) for segment in part.segments]
        parts.append(replace(part, words=words, segments=segments))
    segments = sorted((segment for part in parts for segment in part.segments), key=lambda each: each.start)
    words = sorted((word for part in parts for word in part.words), key=lambda each: each.start)
    duration = max(part.duration for part in parts)
    return Transcription(" ".join(segment.text for segment in segments), segments, words, duration)
