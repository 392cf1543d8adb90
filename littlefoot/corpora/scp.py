"""Resolve the entries of Kaldi's ``wav.scp``: files, positions in archives, and commands.

An archive has the recordings one after the other, each behind its key; an entry ``wav.ark:17`` gives the byte
at which one begins. Recordings there are WAV files (Kaldi's ``wav-copy``), or files of any format behind the
word ``AUDIO`` and their length (kaldiio, which ESPnet uses).
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import BinaryIO

from littlefoot.corpora.rows import MOST_BYTES, UnusableError, resolved

_POSITION = re.compile(r"(.+):(\d+)(\[.*\])?")
_PLAIN_DECODERS = {
    "cat": ("cat",),
    "flac": ("flac", "-c", "-d", "-s", "--decode", "--stdout", "--silent", "-dcs", "-cds", "-"),
}
"""Commands, with the options that leave the sound as it is: the file is read instead."""


def recording(entry: str, folder: Path, run_commands: bool) -> Path | bytes:
    """Return the recording of an entry: a file, or the bytes of one from an archive or a command.

    Args:
        folder: the directory of ``wav.scp``, where paths are looked for that the working directory lacks.
        run_commands: whether commands are run, by the shell as Kaldi does. Those that only decode a file
            never are.

    Raises:
        UnusableError: the entry is a command that is not run or failed, or gives no recording in an archive.
    """
    if entry.endswith("|"):
        command = entry.removesuffix("|").strip()
        file = _decoded_file(command)
        return _output(command, run_commands) if file is None else resolved(file, folder)
    path = resolved(entry, folder)
    position = _POSITION.fullmatch(entry)
    if path.is_file() or position is None:
        return path
    if position[3]:
        raise UnusableError("ranges of rows in archives, which are features, not recordings", entry)
    return _archived(resolved(position[1], folder), int(position[2]))


def _decoded_file(command: str) -> str | None:
    """Return the file that a command writes, decoded but otherwise as it is; None for other commands."""
    try:
        program, *arguments = shlex.split(command)
    except ValueError:
        return None
    options = _PLAIN_DECODERS.get(Path(program).name, ())
    files = [word for word in arguments if word not in options]
    return files[0] if options and len(files) == 1 and files[0][0] != "-" else None


def _output(command: str, run_commands: bool) -> bytes:
    if not run_commands:
        raise UnusableError(
            "commands in wav.scp, which are not run because they could do anything: convert the recordings"
            " to files, or add --run-commands if you trust this corpus",
            command,
        )
    done = subprocess.run(command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["it wrote nothing"]
        raise UnusableError("commands that failed", f"{command} (exit code {done.returncode}: {reason[0]})")
    return done.stdout


def _archived(archive: Path, begin: int) -> bytes:
    """Return the file that begins at a byte of an archive."""
    where = f"{archive}:{begin}"
    try:
        with archive.open("rb") as file:
            file.seek(begin)
            size = _size(file, where)
            if size > MOST_BYTES:
                raise UnusableError("recordings in archives with no length, or of more than 1 GB", where)
            content = file.read(size)
    except OSError as error:
        raise UnusableError("archives that cannot be read", f"{where} ({error.strerror})") from error
    if len(content) < size:
        raise UnusableError("recordings in archives that are cut off", where)
    return content


def _size(file: BinaryIO, where: str) -> int:
    """Return the bytes of the recording at the position of a file, and move to its beginning."""
    begin = file.tell()
    head = file.read(12)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        file.seek(begin)
        return 8 + int.from_bytes(head[4:8], "little")
    if head[:5] == b"AUDIO" and len(head) > 5:
        digits = head[5]
        file.seek(begin + 6)
        return int.from_bytes(file.read(digits), "little")
    raise UnusableError("positions in archives with no recording, such as features or a wrong offset", where)
