"""Read Kaldi's data directories: ``wav.scp``, ``segments``, ``text`` and ``utt2spk``.

Each is a text file with a key and a value on each line, so no library is needed (Povey et al. 2011, "The
Kaldi speech recognition toolkit"; https://kaldi-asr.org/doc/data_prep.html). Commands in ``wav.scp`` are not
run, because a data set must not run programs; where a command only decodes a file, the file itself is read.
"""

from __future__ import annotations

import shlex
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from littlefoot.corpora.rows import Faults, Row, resolved, split_name
from littlefoot.errors import ManifestError

_PLAIN_DECODERS = {
    "cat": ("cat",),
    "flac": ("flac", "-c", "-d", "-s", "--decode", "--stdout", "--silent", "-dcs", "-cds", "-"),
}
"""Commands, with the options that leave the sound as it is."""


def kaldi(path: Path, faults: Faults) -> Iterator[Row]:
    """Yield the utterances of a data directory, or of all data directories in a folder.

    The split is the directory's name. ``text``, ``utt2spk`` and the positions of ``segments`` are in memory.
    """
    for folder in [path] if (path / "wav.scp").is_file() else directories(path):
        yield from _directory(folder, faults)


def directories(path: Path) -> list[Path]:
    """List the data directories directly in a folder, without the parts that Kaldi's scripts split off."""
    return sorted(each.parent for each in path.glob("*/wav.scp") if not each.parent.name.startswith("split"))


def _directory(folder: Path, faults: Faults) -> Iterator[Row]:
    split = split_name(folder.absolute().name)
    recordings = dict(_pairs(folder / "wav.scp"))
    texts = dict(_pairs(folder / "text"))
    speakers = dict(_pairs(folder / "utt2spk"))
    spans: dict[str, list[tuple[str, float, float | None]]] = defaultdict(list)
    if (folder / "segments").is_file():
        for utterance, span in _pairs(folder / "segments"):
            where = f"{folder / 'segments'}, {utterance}"
            try:
                recording, start, end = span.split()
                times = float(start), float(end)
            except ValueError:
                faults.add("segments that are no recording, start and end", where)
                continue
            if recording not in recordings:
                faults.add("segments of recordings that wav.scp lacks", f"{where}: {recording}")
            elif not 0 <= times[0] < (times[1] if times[1] != -1 else float("inf")):
                faults.add("segments that end before they start", where)
            else:
                spans[recording].append((utterance, times[0], None if times[1] == -1 else times[1]))
    else:
        spans.update({recording: [(recording, 0.0, None)] for recording in recordings})
    for recording, utterances in spans.items():
        audio = _file(recordings[recording], folder)
        if audio is None:
            faults.add(
                "recordings that are commands or archives, which are not run: convert them to files",
                f"{folder / 'wav.scp'}, {recording}",
            )
            continue
        for utterance, begin, until in utterances:
            yield Row(
                audio=audio,
                split=split,
                text=texts.get(utterance, ""),
                speaker=speakers.get(utterance, ""),
                id=utterance,
                start=begin,
                end=until,
                where=f"{folder}, {utterance}",
            )


def _pairs(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the key and the rest of each line; nothing if the file is missing."""
    if not path.is_file():
        return
    try:
        with path.open(encoding="utf-8", newline="\n") as lines:
            for line in lines:
                key, *rest = line.split(maxsplit=1)[:2] or [""]
                if key:
                    yield key, rest[0].strip() if rest else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path}: cannot be read ({error}): save it as UTF-8 text") from error


def _file(value: str, folder: Path) -> Path | None:
    """Return the file of an entry of ``wav.scp``; None for a command or a position in an archive."""
    if not value.endswith("|"):
        _, _, offset = value.rpartition(":")
        return None if offset.isdecimal() and ":" in value else resolved(value, folder)
    try:
        program, *arguments = shlex.split(value.removesuffix("|"))
    except ValueError:
        return None
    options = _PLAIN_DECODERS.get(Path(program).name, ())
    files = [word for word in arguments if word not in options]
    return resolved(files[0], folder) if options and len(files) == 1 and files[0][0] != "-" else None
