"""Read webdataset shards: tar files in which the files of an utterance follow each other and share a key.

``train-000001.tar`` with ``a1.flac``, ``a1.txt`` and ``a1.json``, ... The text is a ``.txt`` file or a value
in the JSON, which may also have the speaker, the id and the split. The standard library reads tar files as a
stream; the package webdataset would add pickles, which may run code, and nothing that is needed.
"""

from __future__ import annotations

import json
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path, PurePosixPath

from littlefoot.audio.formats import SUFFIXES
from littlefoot.corpora.rows import CUT_OFF, MOST_BYTES, ROLES, Faults, Row, split_name, split_of

SHARDS = ("*.tar", "*.tar.gz", "*.tgz")
_TEXTS = ("txt", "text", "transcript", "trn", "lab")


def webdataset(path: Path, named: Mapping[str, str], faults: Faults) -> Iterator[Row]:
    """Yield the utterances of a shard, or of all shards in a folder; ``named`` has keys of the JSON by role.

    Shards that are cut off are counted, after the rows before the cut.
    """
    shards = {path} if path.is_file() else {found for each in SHARDS for found in path.rglob(each)}
    for shard in sorted(shards):
        split, number = split_of(shard, path), 0
        try:
            for key, parts in _samples(shard, faults):
                number += 1
                if row := _row(key, parts, f"{shard}, {key}", split, named, faults):
                    yield row
        except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
            faults.add(CUT_OFF, f"{shard} after {number} utterances ({error})")


def members(shard: Path, faults: Faults) -> Iterator[tuple[PurePosixPath, Callable[[], bytes]]]:
    """Yield the name of each file in a tar file, and a function that reads it before the next is asked for.

    Raises tarfile.TarError, EOFError, OSError or zlib.error, as the function does, if the tar file is damaged
    or cut off.
    """
    with shard.open("rb") as file, tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            if member.size > MOST_BYTES:
                faults.add("files of more than 1 GB in shards", f"{shard}, {member.name}")
            elif member.isfile():
                yield PurePosixPath(member.name), partial(_content, tar, member)
        if not _has_end(shard):
            raise tarfile.ReadError("the end is missing")


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    opened = tar.extractfile(member)
    content = opened.read() if opened else b""
    if len(content) < member.size:
        raise tarfile.ReadError("unexpected end of data")
    return content


def _samples(shard: Path, faults: Faults) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield each key with the contents of its files by their suffixes."""
    current, parts = "", dict[str, bytes]()
    for name, read in members(shard, faults):
        stem, _, suffix = name.name.partition(".")
        key, suffix = str(name.with_name(stem)) if stem else "", suffix.lower()
        if not key:
            continue
        if key != current and parts:
            yield current, parts
            parts = {}
        current = key
        if _is_used(suffix):
            parts[suffix] = read()
    if parts:
        yield current, parts


def _is_used(suffix: str) -> bool:
    return suffix == "json" or suffix in _TEXTS or _is_audio(suffix)


def _is_audio(suffix: str) -> bool:
    return f".{suffix}".endswith(SUFFIXES)


def _has_end(shard: Path) -> bool:
    """Return True unless an uncompressed shard lacks the two empty blocks that end it."""
    with shard.open("rb") as file:
        if file.read(2) == b"\x1f\x8b":
            return True  # gzip has a checksum at its end
        file.seek(-min(1024, file.seek(0, 2)), 2)
        return not any(file.read())


def _row(
    key: str, parts: dict[str, bytes], where: str, split: str, named: Mapping[str, str], faults: Faults
) -> Row | None:
    audio = next((content for suffix, content in parts.items() if _is_audio(suffix)), None)
    if audio is None:
        faults.add("utterances without a recording", where)
        return None
    try:
        values = json.loads(parts.get("json", b"{}"))
        text = next((parts[each].decode() for each in _TEXTS if each in parts), None)
        if not isinstance(values, dict):
            raise ValueError("its JSON is not an object")
    except ValueError as error:
        faults.add("utterances with unreadable texts", f"{where} ({error})")
        return None

    def value(role: str) -> str:
        names = [named[role]] if role in named else ROLES[role]
        return str(next((values[name] for name in names if values.get(name) is not None), ""))

    return Row(
        audio=audio,
        split=split_name(value("split")) or split,
        text=value("text") if text is None else text,
        speaker=value("speaker"),
        id=value("id") or key,
        where=where,
    )
