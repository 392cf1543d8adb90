"""Decoding in other processes: the same sound, and whatever happens there, a clear error here."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from test_audio import Pipe, speechlike
from test_media import WHOLE, av, encode

from littlefoot.audio import isolation, reading
from littlefoot.errors import AudioError

assert av  # without it, these tests are skipped

SAMPLES = speechlike(3.0)
FILE = WHOLE["m4a"]


@pytest.fixture(autouse=True)
def no_processes() -> Iterator[None]:
    """Each test begins and ends without."""
    isolation.end_idle()
    yield
    isolation.end_idle()


def processes() -> list[int]:
    """Those that wait for a recording."""
    return [process.pid for process in isolation.idle()]


@pytest.mark.parametrize("kind", WHOLE)
def test_the_sound_is_the_same_as_in_this_process(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    there = reading.read(WHOLE[kind])
    assert processes()
    monkeypatch.setattr(isolation, "AVAILABLE", False)
    assert np.array_equal(reading.read(WHOLE[kind]), there)


def test_every_kind_of_source_reaches_the_process(tmp_path: Path) -> None:
    expected = reading.read(FILE)
    path = tmp_path / "clip.m4a"
    path.write_bytes(FILE)
    packed = tmp_path / "clip.m4a.gz"
    packed.write_bytes(gzip.compress(FILE))
    with path.open("rb") as file, gzip.open(packed) as unpacked, path.open("rb") as removed:
        file.read(100)  # it is read from its beginning
        path.unlink()
        for source in (file, unpacked, removed, io.BytesIO(FILE), Pipe(FILE)):
            assert np.array_equal(reading.read(source), expected)


def test_a_file_that_is_read_there_keeps_its_position_here(tmp_path: Path) -> None:
    path = tmp_path / "clip.m4a"
    path.write_bytes(FILE)
    with path.open("rb") as file:
        reading.read(file)
        file.seek(0)
        assert file.read() == FILE


def test_plain_formats_need_no_process_unless_a_stranger_sent_them() -> None:
    import soundfile

    for form in ("WAV", "FLAC", "OGG", "MP3"):
        file = io.BytesIO()
        soundfile.write(file, SAMPLES, 16000, format=form)
        here = reading.read(file.getvalue())
        assert not processes(), form
        assert np.array_equal(reading.read(reading.Untrusted(file)), here)
        assert processes(), form
        isolation.end_idle()


@pytest.mark.parametrize(
    ("form", "subtype"), [("WAV", "IMA_ADPCM"), ("AIFF", "PCM_16"), ("CAF", "PCM_16"), ("AU", "PCM_16")]
)
def test_rare_formats_are_decoded_there(form: str, subtype: str) -> None:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, SAMPLES, 16000, format=form, subtype=subtype)
    assert len(reading.read(file.getvalue())) >= len(SAMPLES)
    assert processes()


def test_a_batch_uses_one_process() -> None:
    seen = set()
    for _ in range(5):
        reading.read(FILE)
        seen.update(processes())
    assert len(seen) == 1


def test_what_is_read_in_part_holds_nothing_up() -> None:
    long = encode(np.tile(SAMPLES, 30), "mkv")
    for _ in range(3):
        assert len(list(itertools.islice(reading.blocks(long, 1.0), 2))) == 2
        assert reading.duration(FILE, exact=False) == pytest.approx(2, abs=0.15)
    assert len(processes()) == 1


def test_recordings_at_once_have_a_process_each() -> None:
    expected = reading.read(FILE)
    got: list[bool] = []
    threads = [
        threading.Thread(target=lambda: got.append(np.array_equal(reading.read(FILE), expected)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 4
    assert 1 <= len(processes()) <= (os.cpu_count() or 1)


def test_a_process_that_dies_is_told_of_and_replaced() -> None:
    long = encode(np.tile(SAMPLES, 30), "mkv")
    blocks = reading.blocks(long, 1.0)
    next(blocks)
    (process,) = [each for each in isolation.started() if each.usable]
    os.kill(process.pid, signal.SIGSEGV)
    with pytest.raises(AudioError, match=r"audio data of \d+ bytes: .* ended \(SIGSEGV\); it is damaged"):
        list(blocks)
    assert not processes()
    assert len(reading.read(FILE)) > 0


def test_one_that_died_while_it_waited_is_replaced_without_a_word() -> None:
    reading.read(FILE)
    (pid,) = processes()
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.1)
    assert len(reading.read(FILE)) > 0
    assert processes() != [pid]


def test_one_that_takes_too_long_is_ended() -> None:
    process = isolation.Process()
    process.open(io.BytesIO(FILE), "a.m4a")
    process.step_seconds = 0.5
    os.kill(process.pid, signal.SIGSTOP)
    with pytest.raises(AudioError, match=r"a\.m4a: could not be decoded: a part of it took over 0\.5 s"):
        list(process.pieces("a.m4a"))
    assert not process.usable


def test_one_that_takes_too_much_memory_says_so() -> None:
    """libsndfile is given a buffer of a megabyte."""
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, SAMPLES, 16000, format="AIFF")
    process = isolation.Process(memory_bytes=500_000)
    process.open(file, "a.aiff")
    with pytest.raises(AudioError, match=r"a\.aiff: takes more than 0\.5 MB of memory to decode; it is dam"):
        list(process.pieces("a.aiff"))
    process.end()


def test_one_that_gives_more_than_a_week_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(isolation, "MOST_SAMPLES", 40_000)
    with pytest.raises(AudioError, match="holds more than 40000 samples: send it in parts"):
        reading.read(FILE)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_after_a_fork_each_has_its_own() -> None:
    expected = reading.read(FILE)
    before = processes()
    child = os.fork()
    if not child:  # pragma: no cover
        same = np.array_equal(reading.read(FILE), expected) and processes() != before
        isolation.end_idle()
        os._exit(0 if same else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert np.array_equal(reading.read(FILE), expected)
    assert processes() == before


def read_and_die(path: str) -> None:
    """What a process does that is killed while another one waits for its recordings."""
    reading.read(path)
    print(processes()[0], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    path = tmp_path / "clip.m4a"
    path.write_bytes(FILE)
    code = f"import test_isolation; test_isolation.read_and_die({str(path)!r})"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    end = time.monotonic() + 5
    while Path(f"/proc/{int(killed.stdout)}").exists():
        assert time.monotonic() < end
        time.sleep(0.02)
