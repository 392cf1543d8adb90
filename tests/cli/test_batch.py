"""Many recordings: folders, patterns, several at a time, skipping, interruption, disks that are full."""

from __future__ import annotations

import errno
import io
import multiprocessing
import os
import re
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import artifacts
import oracle
import pytest
import soundfile
from conftest import Run, heed_interrupts
from families import speechlike
from test_processes import is_deaf

import littlefoot
from littlefoot import artifact
from littlefoot.cli import batch, inputs, progress
from littlefoot.errors import ConfigError
from littlefoot.runtime import recognizer
from littlefoot.runtime import windows as windowing
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.transcriber import RecordingOptions, Transcriber
from littlefoot.system import atomic
from littlefoot.transcript.results import Transcription


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model that talks."""
    made = artifacts.talkative(oracle.tiny("wav2vec2-base").artifact, speechlike(1.0))
    return artifact.save(made, tmp_path_factory.mktemp("batch") / "model")


def clip(path: Path, seed: int = 0, seconds: float = 0.6) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * speechlike(seconds, seed), 16_000)
    return path


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    """A folder with recordings and other things."""
    folder = tmp_path / "talks"
    for seed, name in enumerate(("b.wav", "a.flac", "day one/c.WAV")):
        clip(folder / name, seed)
    (folder / "notes.txt").write_text("nothing to hear")
    (folder / ".hidden.wav").write_text("nothing to hear")
    return folder


# Inputs


def test_a_folder_is_its_recordings_in_their_places(talks: Path) -> None:
    recordings, problems = inputs.expand([str(talks)])
    assert not problems
    assert [(each.name, str(each.output)) for each in recordings] == [
        (f"{talks}/a.flac", "a"),
        (f"{talks}/b.wav", "b"),
        (f"{talks}/day one/c.WAV", "day one/c"),
    ]


def test_a_pattern_is_what_it_matches_and_nothing_comes_twice(talks: Path) -> None:
    names = [f"{talks}/**/*.[wW]*", f"{talks}/b.wav", f"{talks}/a*"]
    recordings, problems = inputs.expand(names)
    assert not problems
    assert [Path(each.name).name for each in recordings] == ["b.wav", "c.WAV", "a.flac"]
    literal = clip(talks / "take [1].wav")
    assert [each.name for each in inputs.expand([str(literal)])[0]] == [str(literal)]


def test_an_empty_folder_and_a_pattern_without_a_match_are_named(
    run: Run, model: Path, talks: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    result = run("transcribe", model, tmp_path / "empty", f"{talks}/*.xyz", talks / "b.wav")
    assert result.code == 1
    assert result.out
    first, second, total = result.err.splitlines()
    assert re.search(r"empty: the folder holds no recordings: names that end in one of \.wav", first)
    assert "*.xyz: there is no file like this: check the pattern" in second
    assert total.endswith("2 failed")
    assert run("transcribe", model, tmp_path / "empty").code == 1


def test_recordings_of_one_name_in_one_place_are_refused(talks: Path) -> None:
    clip(talks / "a.wav")
    with pytest.raises(ConfigError, match=r"a\.flac and .*a\.wav would both be written to a\.srt"):
        inputs.refuse_collisions(inputs.expand([str(talks)])[0], ".srt")


# Output


def test_a_folder_keeps_its_shape_and_what_is_done_is_skipped(
    run: Run, model: Path, talks: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (talks / "broken.mp3").write_bytes(b"no sound")
    result = run("transcribe", model, talks, "-o", out)
    assert result.code == 1
    written = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert written == ["a.txt", "b.txt", "day one/c.txt"]
    assert re.search(r"^littlefoot: 3 recordings; .* x real time; 1 failed$", result.err, re.MULTILINE)

    (out / "b.txt").unlink()
    (out / "a.txt").write_text("mine")
    clip(talks / "day one" / "c.WAV", 7)  # newer than its text
    os.utime(talks / "day one" / "c.WAV", (time.time() + 5, time.time() + 5))
    result = run("transcribe", model, talks, "-o", out, "--skip-existing")
    assert "; 1 already done; 1 failed" in result.err
    assert (out / "a.txt").read_text() == "mine"
    loaded = littlefoot.load(str(model))
    for name in ("b.wav", "day one/c.WAV"):
        expected = loaded.transcribe(talks / name).text
        assert (out / name).with_suffix(".txt").read_text() == f"{expected}\n"


def test_nothing_is_left_to_do(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip(tmp_path / "a.wav")
    assert run("transcribe", model, path, "-o", tmp_path).code == 0
    monkeypatch.setattr(recognizer, "load_with", None)
    result = run("transcribe", model, path, "-o", tmp_path, "--skip-existing")
    assert result == (0, "", "littlefoot: 0 recordings; 1 already done\n")


def test_a_directory_that_cannot_be_written_to_is_refused_before_the_work(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recognizer, "load_with", None)  # so late it must not be called
    path = clip(tmp_path / "a.wav")
    for out in (path / "out", Path("/proc/out")):
        result = run("transcribe", model, path, "-o", out)
        assert (result.code, result.out) == (1, "")
        assert f"{out} cannot be written (" in result.err
        assert "choose another --output-dir" in result.err
        assert "x real time" not in result.err


def test_a_full_disk_ends_the_work_and_leaves_no_half_files(
    run: Run, model: Path, talks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    real, count = atomic.file, 0

    def full(target: Path) -> object:
        nonlocal count
        count += 1
        if count == 2:
            # What the system does when a file cannot grow any more: half of it is written.
            limits = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (3, limits[1]))
            request = [limits]
        else:
            request = []

        class Guard:
            def __enter__(self) -> Path:
                self.inner = real(target)
                return self.inner.__enter__()

            def __exit__(self, *error: object) -> bool | None:
                for limits in request:
                    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                return self.inner.__exit__(*error)  # type: ignore[arg-type]

        return Guard()

    monkeypatch.setattr(atomic, "file", full)
    result = run("transcribe", model, talks, "-o", out)
    assert result.code == 1
    assert f"b.txt cannot be written ({os.strerror(errno.EFBIG)})" in result.err
    assert "--skip-existing" in result.err
    assert result.err.startswith("littlefoot: 1 recording; ")
    assert [path.name for path in out.rglob("*") if path.is_file()] == ["a.txt"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--skip-existing",), "--skip-existing needs --output-dir"),
        (("--vad", "webrtc"), "voice activity detection 'webrtc' is unknown"),
        (("--format", "srt", "--lines", "0"), "all must be positive"),
        (("--stream", "--jobs", "2"), "--stream excludes"),
        (("-", "--jobs", "2"), "only one process can read standard input"),
    ],
)
def test_impossible_options_are_exit_code_2(
    run: Run, model: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    result = run("transcribe", model, clip(tmp_path / "a.wav"), *options)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_subtitles_have_the_lines_that_are_asked_for(run: Run, model: Path, tmp_path: Path) -> None:
    path = clip(tmp_path / "a.wav", seconds=8.0)
    result = run("transcribe", model, path, "--format", "srt", "--line-length", "12", "--lines", "1")
    cues = [cue.splitlines() for cue in result.out.strip().split("\n\n")]
    assert len(cues) > 2
    assert all(len(cue) == 3 for cue in cues)
    assert all(len(cue[2]) <= 12 or " " not in cue[2] for cue in cues)


def test_raw_pcm_comes_on_standard_input(
    run: Run, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples, _ = soundfile.read(clip(tmp_path / "a.wav"), dtype="int16")
    expected = run("transcribe", model, tmp_path / "a.wav").out
    for data, code in ((samples.tobytes(), 0), (samples.tobytes()[:-1], 1)):
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(data)))
        result = run("transcribe", model, "-")
        assert result.code == code
        assert result.out == (expected if code == 0 else "")
        assert ("ends in the middle of a sample" in result.err) == bool(code)


# Several at a time


def test_side_by_side_is_as_one_after_the_other(run: Run, model: Path, talks: Path) -> None:
    rubbish = talks / "a0.wav"
    rubbish.write_bytes(b"no sound")
    alone = run("transcribe", model, talks)
    together = run("transcribe", model, talks, "--jobs", "2")
    assert alone.code == together.code == 1
    assert alone.out == together.out
    assert len(alone.out.splitlines()) == 3
    assert str(rubbish) in together.err
    assert together.err.splitlines()[-1].endswith("; 1 failed")


def test_a_process_that_dies_fails_its_recordings_and_the_others_are_done(model: Path, talks: Path) -> None:
    names = [str(path) for path in sorted(talks.rglob("*.[wW]*"))] + [str(talks / "deadly.wav")]
    names = [names[-1], *[name for name in names[:-1] if ".hidden" not in name] * 2]
    os.mkfifo(talks / "deadly.wav")  # nobody writes: its reader waits until it is killed
    loading = LoadOptions(threads=1)
    transcriber = Transcriber(Specification(str(model), loading), recordings=RecordingOptions("off"))
    outcomes: dict[int, object] = {}
    for index, outcome in batch.run(transcriber, names, 2, None):
        outcomes[index] = outcome
        if len(outcomes) == 3:
            for process in multiprocessing.active_children():
                assert is_deaf(process.pid or 0)
                os.kill(process.pid or 0, signal.SIGKILL)
    assert sorted(outcomes) == list(range(len(names)))
    assert isinstance(outcomes[0], littlefoot.errors.LittlefootError)
    assert "ended, perhaps for lack of memory" in str(outcomes[0])
    assert sum(isinstance(outcome, Transcription) for outcome in outcomes.values()) >= 3


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_ends_at_once_and_leaves_whole_files_only(model: Path, tmp_path: Path, jobs: str) -> None:
    folder, out = tmp_path / "talks", tmp_path / "out"
    clip(folder / "a.wav")
    for name in ("b.wav", "c.wav"):
        os.mkfifo(folder / name)  # transcribing these never ends
    command = [sys.executable, "-m", "littlefoot", "transcribe", str(model), str(folder), "-o", str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [*command, "--jobs", jobs],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )
    deadline = time.monotonic() + 120
    while not (out / "a.txt").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.05)
    time.sleep(1)  # the file is there a moment before it is counted
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.startswith("littlefoot: 1 recording; ")
    assert "Traceback" not in err
    assert [path.name for path in out.rglob("*")] == ["a.txt"]
    while True:  # nobody is left of its group, soon
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            break
        assert time.monotonic() < deadline
        time.sleep(0.05)


# Progress


class Watched:
    """A display that remembers."""

    def __init__(self) -> None:
        self.total: float | None = None
        self.shown: list[tuple[float, str]] = []

    def show(self, done: float, total: float, text: str) -> None:
        self.total = total
        self.shown.append((done, text))


def test_progress_counts_bytes_of_all_recordings(tmp_path: Path) -> None:
    names = [str(clip(tmp_path / f"{i}.wav", seconds=seconds)) for i, seconds in enumerate((1.0, 3.0))]
    names += [str(tmp_path / "missing.wav"), "-"]
    bar = Watched()
    meter = progress.Meter(names, bar)
    sizes = [32_044, 96_044]
    assert bar.total == sum(sizes)
    meter.heard(1, 1.5)
    assert bar.shown[-1] == (pytest.approx(sizes[1] / 2), "0/4 recordings")
    meter.ended(1)
    meter.heard(2, 5.0)
    meter.heard(3, 5.0)
    meter.ended(2)
    assert bar.shown[-1] == (pytest.approx(sizes[1]), "2/4 recordings")
    meter.ended(0)
    meter.ended(3)
    assert bar.shown[-1] == (pytest.approx(sum(sizes)), "4/4 recordings")


def test_the_recognizer_tells_how_far_it_is(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windowing, "WINDOW_SECONDS", 1.0)
    monkeypatch.setattr(windowing, "CONTEXT_SECONDS", 0.1)
    loaded = littlefoot.load(str(model), threads=1)
    heard: list[float] = []
    loaded.transcribe(0.1 * speechlike(3.5), vad="off", heard=lambda seconds, _: heard.append(seconds))
    assert heard == sorted(heard)
    assert set(heard) == {1.0, 2.0, 3.0, 3.5}


def test_a_bar_is_shown_on_a_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    names = [str(clip(tmp_path / "a.wav"))]
    terminal = io.StringIO()
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.recordings(names) as meter:
        meter.heard(0, 0.3)
        meter.ended(0)
    assert "1/1 recordings" in terminal.getvalue()
