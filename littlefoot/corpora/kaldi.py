"""Read Kaldi's data directories: ``wav.scp``, ``segments``, ``text`` and ``utt2spk``.

Each is a text file with a key and a value on each line, so no library is needed (Povey et al. 2011, "The
Kaldi speech recognition toolkit"; https://kaldi-asr.org/doc/data_prep.html).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from littlefoot.corpora import scp
from littlefoot.corpora.rows import NOT_UTF8, Faults, Row, UnusableError, split_name
from littlefoot.errors import ManifestError


class _Segment(NamedTuple):
    where: str
    utterance: str
    start: float
    end: float | None
    channel: int | None


def kaldi(path: Path, faults: Faults, run_commands: bool = False) -> Iterator[Row]:
    """Yield the utterances of a data directory, or of all data directories in a folder.

    The split is the directory's name. ``text``, ``utt2spk`` and the positions of ``segments`` are in memory.
    Commands in ``wav.scp`` are run only with ``run_commands``, because they could do anything.
    """
    for folder in [path] if (path / "wav.scp").is_file() else directories(path):
        yield from _directory(folder, faults, run_commands)


def directories(path: Path) -> list[Path]:
    """List the data directories directly in a folder, without the parts that Kaldi's scripts split off."""
    return sorted(each.parent for each in path.glob("*/wav.scp") if not each.parent.name.startswith("split"))


def _directory(folder: Path, faults: Faults, run_commands: bool) -> Iterator[Row]:
    split = split_name(folder.absolute().name)
    recordings = {key: (where, entry) for where, key, entry in _lines(folder / "wav.scp", faults)}
    texts = {key: text for _, key, text in _lines(folder / "text", faults)}
    speakers = {key: speaker for _, key, speaker in _lines(folder / "utt2spk", faults)}
    for recording, segments in _segments(folder, list(recordings), faults):
        where, entry = recordings[recording]
        try:
            audio = scp.recording(entry, folder, run_commands)
        except UnusableError as error:
            faults.add_error(error, where)
            continue
        for segment in segments:
            yield Row(
                audio=audio,
                split=split,
                text=texts.get(segment.utterance, ""),
                speaker=speakers.get(segment.utterance, ""),
                id=segment.utterance,
                start=segment.start,
                end=segment.end,
                channel=segment.channel,
                where=segment.where or where,
            )


def _segments(folder: Path, recordings: list[str], faults: Faults) -> Iterator[tuple[str, list[_Segment]]]:
    """Yield each recording with its segments: itself where there is no file of them."""
    path = folder / "segments"
    if not path.is_file():
        yield from ((recording, [_Segment("", recording, 0.0, None, None)]) for recording in recordings)
        return
    known = set(recordings)
    found: dict[str, list[_Segment]] = defaultdict(list)
    for where, utterance, span in _lines(path, faults):
        try:
            recording, start, end, *channel = span.split()
            first, last = float(start), float(end)
            (channel_number,) = map(int, channel or ["-1"])
        except ValueError:
            faults.add("segments that are no recording, start and end", where)
            continue
        if recording not in known:
            faults.add("segments of recordings that wav.scp lacks", f"{where}: {recording}")
        elif not 0 <= first < (last if last != -1 else math.inf):
            faults.add("segments that end before they start", where)
        else:
            found[recording].append(
                _Segment(
                    where,
                    utterance,
                    first,
                    None if last == -1 else last,
                    None if channel_number == -1 else channel_number + 1,
                )
            )
    yield from found.items()


def _lines(path: Path, faults: Faults) -> Iterator[tuple[str, str, str]]:
    """Yield the position, the key and the rest of each line; nothing if the file is missing."""
    if not path.is_file():
        return
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{path}, line {number}"
                try:
                    key, *rest = line.decode().split(maxsplit=1) or [""]
                except UnicodeDecodeError:
                    faults.add(NOT_UTF8, where)
                    continue
                if key:
                    yield where, key, rest[0].strip() if rest else ""
    except OSError as error:
        raise ManifestError(f"{path}: cannot be read ({error}): check the disk and the rights") from error
