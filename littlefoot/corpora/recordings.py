"""Give each row of a corpus an audio file: its own, one from a shard, or a segment that is cut out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from littlefoot.audio import SAMPLE_RATE, formats, reading
from littlefoot.audio.opened import Waveform
from littlefoot.corpora.rows import Faults, Row
from littlefoot.errors import AudioError

_FILES_PER_FOLDER = 1000
_OVERSHOOT_SECONDS = 0.5
"""Seconds by which a segment may end after its recording, and is shortened; Kaldi allows the same."""
_SAMPLES_PER_BLOCK_SECONDS = 30.0
UNREADABLE = "recordings that cannot be read"


class Found(NamedTuple):
    """A row with its file and its length in seconds, None if the header has none."""

    row: Row
    path: Path
    seconds: float | None


class Recordings:
    """The audio files of a corpus, of which new ones are written to a folder."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        self._folder, self._faults = folder, faults
        self._numbers = itertools.count()

    def of(self, rows: Iterable[Row]) -> Iterator[Found]:
        """Yield the rows whose recordings exist and can be opened; count the others.

        The segments of a recording that follow each other are cut in one pass over it, in bounded memory.
        Raises OSError if a file cannot be written.
        """
        for (audio, channel, is_segment), group in itertools.groupby(self._timed(rows), _recording):
            if is_segment:
                yield from self._cut(audio, channel, list(group))
            else:
                yield from (found for row in group if (found := self._whole(row)))

    def _timed(self, rows: Iterable[Row]) -> Iterator[Row]:
        for row in rows:
            if row.start >= 0 and all(map(math.isfinite, (row.start, row.end or 0.0, row.seconds or 0.0))):
                yield row
            else:
                self._faults.add("segments with impossible times", row.where)

    def _whole(self, row: Row) -> Found | None:
        audio = row.audio
        if isinstance(audio, Path) and not audio.is_file():
            self._faults.add("recordings that are missing", f"{row.where}: {audio}")
            return None
        seconds = row.seconds
        try:
            if seconds is None:
                seconds = reading.duration(audio, exact=False)
        except AudioError as error:
            self._faults.add(UNREADABLE, f"{row.where}: {error}")
            return None
        if isinstance(audio, Path):
            return Found(row, audio.absolute(), seconds)
        form = formats.sniff(audio[: formats.MAGIC_BYTES])
        path = self._new(form.suffixes[0] if form and form.suffixes else ".audio")
        path.write_bytes(audio)
        return Found(row, path, seconds)

    def _cut(self, audio: Path | bytes, channel: int | None, rows: list[Row]) -> Iterator[Found]:
        """Write the segments of a recording as FLAC, 16 bits, mono, 16 kHz."""
        import soundfile

        ordered = sorted(rows, key=lambda row: row.start)
        remaining = iter(ordered)
        try:
            source = audio if channel is None else reading.selected(audio, str(channel))
            # in this order, so that a segment that cannot be read is still among those that remain
            for samples, row in zip(_segments(source, ordered), remaining, strict=False):
                if samples is None:
                    self._faults.add("segments beyond their recording", row.where)
                    continue
                path = self._new(".flac")
                soundfile.write(path, np.clip(samples, -1, 1), SAMPLE_RATE, subtype="PCM_16")
                yield Found(row, path, len(samples) / SAMPLE_RATE)
        except AudioError as error:
            for row in remaining:
                self._faults.add(UNREADABLE, f"{row.where}: {error}")

    def _new(self, suffix: str) -> Path:
        """Return a path by number: ids of a corpus may be no file names."""
        number = next(self._numbers)
        folder = self._folder / f"{number // _FILES_PER_FOLDER:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{number:08d}{suffix}"


def _recording(row: Row) -> tuple[Path | bytes, int | None, bool]:
    return row.audio, row.channel, row.is_segment


def _segments(source: reading.Source, rows: list[Row]) -> Iterator[Waveform | None]:
    """Yield the samples of each segment, by ascending start; None for one beyond the recording."""
    blocks = reading.blocks(source, _SAMPLES_PER_BLOCK_SECONDS)
    held, first = np.zeros(0, np.float32), 0  # samples, and the position of the first of them
    for row in rows:
        start = round(row.start * SAMPLE_RATE)
        end = None if row.end is None else round(row.end * SAMPLE_RATE)
        while end is None or first + len(held) < end:
            block = next(blocks, None)
            if block is None:
                break
            drop = min(max(start - first, 0), len(held))
            held, first = np.concatenate([held[drop:], block]), first + drop
        samples = held[max(start - first, 0) : None if end is None else end - first]
        missing = 0 if end is None else end - start - len(samples)
        is_inside = len(samples) > 0 and missing <= _OVERSHOOT_SECONDS * SAMPLE_RATE
        yield samples if is_inside else None
