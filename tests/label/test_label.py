"""Pseudo-labels: what they are, and that nothing is lost or done twice whoever dies."""

from __future__ import annotations

import errno
import glob
import json
import math
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import artifacts
import pytest
import soundfile
from conftest import Result, Run, heed_interrupts
from dying import Dying
from families import speechlike

import littlefoot
from littlefoot import artifact
from littlefoot.audio import manifest
from littlefoot.decode import lm as language_models
from littlefoot.errors import LittlefootError, ManifestError, MissingExtraError
from littlefoot.label import local, output
from littlefoot.label import run as runs
from littlefoot.label.job import Job, Label, Task, describe, file_fingerprint, find_model, read_archive
from littlefoot.label.options import LabelOptions
from littlefoot.label.worker import confidence
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.transcriber import DecodingOptions, Transcriber
from littlefoot.system import rays
from littlefoot.transcript.results import Word

FIXED = ("--engine", "openvino")
"""The engine of all jobs, which would otherwise be measured for each."""

HEADER = "id\tpath\tseconds\tspeaker\tsplit\ttext\n"
PATIENCE = 120.0


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random model that talks."""
    made = artifacts.talkative(artifacts.tiny(), speechlike(1.0))
    return artifact.save(made, tmp_path_factory.mktemp("label") / "model")


def archive_of(folder: Path, count: int = 7, splits: Sequence[str] = ("train", "test")) -> Path:
    """A manifest of short recordings r0, r1, ..."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    for index in range(count):
        soundfile.write(folder / "audio" / f"{index}.wav", 0.1 * speechlike(0.3, index), 16_000)
        split = splits[index % len(splits)]
        rows.append(f"r{index}\taudio/{index}.wav\t\ts{index % 3}\t{split}\tWRONG\n")
    path = folder / "manifest.tsv"
    path.write_text(HEADER + "".join(rows), encoding="utf-8")
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return archive_of(tmp_path / "archive")


def label(run: Run, model: Path, archive: Path, out: Path, *options: str) -> Result:
    return run("label", model, archive, "-o", out, "--workers", "1", "--shard-rows", "3", *FIXED, *options)


def start(model: Path, archive: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """The command in a process, and a process group, of its own."""
    command = [sys.executable, "-m", "littlefoot", "label", str(model), str(archive), "-o", str(out), *FIXED]
    return subprocess.Popen(
        [*command, "--shard-rows", "3", "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,
        preexec_fn=heed_interrupts,
    )


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def group_is_gone(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def block(archive: Path, index: int) -> Path:
    """A recording that whoever reads it waits for, without end."""
    path = archive.parent / "audio" / f"{index}.wav"
    path.rename(path.with_suffix(".kept"))
    os.mkfifo(path)
    return path


def unblock(path: Path) -> None:
    path.unlink()
    path.with_suffix(".kept").rename(path)


def shards(out: Path) -> list[str]:
    return sorted(path.name for path in (out / output.SHARDS).iterdir())


# What labels are


def test_labels_are_what_the_model_says_and_the_rest_is_kept(
    run: Run, model: Path, archive: Path, tmp_path: Path
) -> None:
    result = label(run, model, archive, tmp_path / "out", "--json")
    assert result.code == 0, result.err
    before, after = manifest.read(archive), manifest.read(tmp_path / "out")
    recognizer = littlefoot.load(str(model))
    assert [u.id for u in after] == [u.id for u in before]
    for old, new in zip(before, after, strict=True):
        said = recognizer.transcribe(old.path)
        assert new.text == said.text
        assert new.path.is_absolute()
        assert new.path.samefile(old.path)
        assert (new.speaker, new.split) == (old.speaker, old.split)
        assert new.seconds == 0.3
        assert new.confidence == confidence(said.words)
        assert new.pseudo_labelled
        assert not old.pseudo_labelled
    found = json.loads(result.out)
    assert found == json.loads((tmp_path / "out" / output.SUMMARY).read_text())
    assert (found["rows"], found["labelled"], found["failed"], found["run_rows"]) == (7, 7, 0, 7)
    assert found["hours"] == pytest.approx(7 * 0.3 / 3600, abs=1e-4)
    assert shards(tmp_path / "out") == ["000000.jsonl", "000001.jsonl", "000002.jsonl"]


def test_labels_can_be_evaluated_and_are_marked(run: Run, model: Path, archive: Path, tmp_path: Path) -> None:
    assert label(run, model, archive, tmp_path / "out").code == 0
    result = run("eval", model, tmp_path / "out", "--split", "test")
    assert "0.00" in result.out  # it agrees with itself
    assert "references by other recognisers" in result.out


def test_a_split_alone_or_one_that_is_not_there(run: Run, model: Path, archive: Path, tmp_path: Path) -> None:
    assert label(run, model, archive, tmp_path / "out", "--split", "test").code == 0
    assert [u.id for u in manifest.read(tmp_path / "out")] == ["r1", "r3", "r5"]
    result = label(run, model, archive, tmp_path / "other", "--split", "dev")
    assert (result.code, result.out) == (1, "")
    assert "no utterance is in split 'dev': choose one of: test, train" in result.err


def test_slots_stay_and_ids_of_several_sets_are_told_apart(run: Run, model: Path, tmp_path: Path) -> None:
    first, second = (archive_of(tmp_path / name, 2) for name in ("red", "blue"))
    lines = [json.dumps({**row, "slots": {"a": "b\tc"}}) for row in rows_of(first)]
    (tmp_path / "red" / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    out = tmp_path / "out"
    result = run("label", model, tmp_path / "red" / "rows.jsonl", second, "-o", out, "--workers", "1", *FIXED)
    assert result.code == 0, result.err
    labels = manifest.read(out)
    assert [u.id for u in labels] == ["red/r0", "red/r1", "blue/r0", "blue/r1"]
    assert [u.slots for u in labels] == ['{"a": "b\\tc"}'] * 2 + [None] * 2
    with pytest.raises(ManifestError, match="was a manifest given twice"):
        read_archive([second, second])


def nobody(*_: Any, **__: Any) -> None:
    """Workers that are not needed."""
    raise AssertionError("something was to be heard")


def rows_of(path: Path) -> list[dict[str, str]]:
    header, *lines = path.read_text(encoding="utf-8").splitlines()
    return [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]


def test_folders_of_recordings_need_no_manifest(run: Run, model: Path, archive: Path, tmp_path: Path) -> None:
    folder, out = archive.parent / "audio", tmp_path / "out"
    (folder / "deep").mkdir()
    (folder / "5.wav").rename(folder / "deep" / "5.wav")
    shutil.copy(folder / "6.wav", folder / "6.oga")
    (folder / "notes.txt").write_text("nothing to hear")
    for _ in range(2):  # the second time all is there
        result = label(run, model, folder, out, "--json")
        assert result.code == 0, result.err
    assert json.loads(result.out)["run_rows"] == 0
    labels = manifest.read(out, "train")
    assert [u.id for u in labels] == ["0", "1", "2", "3", "4", "6.oga", "6.wav", "deep/5"]
    assert labels[-1].path.samefile(folder / "deep" / "5.wav")
    dev = label(run, model, folder, tmp_path / "dev", "--split", "dev")
    assert f"{folder}: no utterance is in split 'dev': choose one of: train" in dev.err
    both = run("label", model, folder, folder / "deep", "-o", tmp_path / "both", "--workers", "1", *FIXED)
    assert both.code == 0, both.err
    assert [u.id for u in manifest.read(tmp_path / "both")][-2:] == ["audio/deep/5", "deep/5"]
    (folder / "7.wav").write_bytes((folder / "0.wav").read_bytes())
    assert "another number of recordings: 8, now 9" in label(run, model, folder, out).err


def test_what_a_table_cannot_hold_is_refused(tmp_path: Path) -> None:
    row = {"id": "a\tb", "path": "a.wav", "seconds": 1, "speaker": "", "split": "train", "text": ""}
    path = tmp_path / "rows.jsonl"
    for name in ("a\tb", "a\nb", "a\ud800b"):
        path.write_text(json.dumps({**row, "id": name}), encoding="utf-8")
        with pytest.raises(ManifestError, match="contains a tab, a line break or half of a character"):
            read_archive([path])


def test_confidence_is_the_geometric_mean_over_characters() -> None:
    words = [Word("HELLO", 0, 1, 0.9), Word("A", 1, 2, 0.2), Word("CAT", 2, 3, 0.5)]
    of_characters = [0.9] * 5 + [0.2] + [0.5] * 3
    expected = math.prod(of_characters) ** (1 / len(of_characters))
    assert confidence(words) == pytest.approx(expected, abs=1e-4)
    assert confidence([]) == 0
    assert confidence([*words, Word("NO", 3, 4, 0.0)]) == 0
    assert confidence([Word("YES", 0, 1, 1.0000001)]) == 1


def test_min_confidence_may_change_without_hearing_anything_again(
    run: Run, model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    assert label(run, model, archive, out).code == 0
    known = {u.id: u.confidence or 0 for u in manifest.read(out)}
    limit = sorted(known.values())[3]
    monkeypatch.setattr(local, "run", nobody)
    result = label(run, model, archive, out, "--min-confidence", str(limit), "--json")
    assert result.code == 0, result.err
    assert [u.id for u in manifest.read(out)] == [name for name, sure in known.items() if sure >= limit]
    found = json.loads(result.out)
    assert (found["labelled"], found["below_confidence"], found["run_rows"]) == (4, 3, 0)
    assert found["x_realtime"] is None
    assert "7 of 7 recordings were done before" in result.err
    assert label(run, model, archive, out, "--min-confidence", "1.5").code == 2


# Bad input


def test_what_cannot_be_read_is_reported_and_may_be_tried_again(
    run: Run, model: Path, archive: Path, tmp_path: Path
) -> None:
    out, bad = tmp_path / "out", archive.parent / "audio" / "4.wav"
    good = bad.read_bytes()
    bad.write_bytes(b"no sound")
    result = label(run, model, archive, out, "--json")
    assert result.code == 1
    assert "littlefoot: r4: " in result.err
    found = json.loads(result.out)
    assert (found["labelled"], found["failed"]) == (6, 1)
    assert found["failures"][0].startswith("r4: ")
    assert "4.wav" in found["failures"][0]
    assert [u.id for u in manifest.read(out)] == ["r0", "r1", "r2", "r3", "r5", "r6"]

    bad.write_bytes(good)
    again = label(run, model, archive, out, "--json")  # not heard again unless asked for
    assert (again.code, json.loads(again.out)["run_rows"]) == (1, 0)
    before = manifest.read(out)
    last = label(run, model, archive, out, "--json", "--retry-failed")
    assert (last.code, json.loads(last.out)["run_rows"]) == (0, 1)
    after = manifest.read(out)
    assert [u.id for u in after] == [f"r{index}" for index in range(7)]
    assert [u for u in after if u.id != "r4"] == before


def test_nothing_that_can_be_recognised_is_an_error(run: Run, model: Path, tmp_path: Path) -> None:
    archive = archive_of(tmp_path / "archive", 2)
    shutil.rmtree(archive.parent / "audio")
    result = label(run, model, archive, tmp_path / "out")
    assert (result.code, result.out) == (1, "")
    assert "none of 2 recordings could be recognised; the first error: r0: " in result.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--beam", "4"), "other decoding options: beam"),
        (("--split", "test"), "another number of recordings: 7, now 3"),
        (("--engine", "onnxruntime"), "other decoding options: engine"),
        (("--bits", "1"), "other decoding options: bits"),
        (("--hotwords", "words.txt"), "other decoding options: hotwords"),
        (("--shard-rows", "4"), "was begun with 3: leave the option out to resume it"),
    ],
)
def test_another_job_in_the_same_place_is_refused(
    run: Run,
    model: Path,
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("words.txt").write_text("TEA\n")
    begun(model, archive, tmp_path / "out")
    result = label(run, model, archive, tmp_path / "out", *options)
    assert (result.code, result.out) == (2 if "--shard-rows" in options else 1, "")
    assert message in result.err


def test_an_impossible_option_begins_no_job(run: Run, model: Path, archive: Path, tmp_path: Path) -> None:
    refused = label(run, model, archive, tmp_path / "out", "--vad", "loud")
    assert (refused.code, "use one of off, energy, silero" in refused.err) == (2, True)
    assert label(run, model, archive, tmp_path / "out", "--vad", "off").code == 0


def begun(model: Path, archive: Path, out: Path) -> None:
    """A job that was begun, and interrupted before anything was done."""

    def workers(*_: Any) -> Iterator[tuple[int, list[Label]]]:
        raise KeyboardInterrupt
        yield

    with pytest.raises(KeyboardInterrupt):
        job_with(workers, model, archive, out)


def transcriber_of(model: Path) -> Transcriber:
    """As the command's."""
    return Transcriber(Specification(str(model), LoadOptions("openvino", threads=1)))


def job_with(
    workers: runs.Workers,
    model: Path,
    archive: Path,
    out: Path,
    *,
    shard_rows: int | None = 3,
    **options: Any,
) -> runs.Summary:
    """A job with workers of the test's own."""
    chosen = LabelOptions(shard_rows=shard_rows)
    return runs.run([archive], transcriber_of(model), out, workers, chosen, **options)


def test_a_setting_that_is_left_out_is_another_job(
    run: Run, model: Path, archive: Path, tmp_path: Path
) -> None:
    begun(model, archive, tmp_path / "out")
    path = tmp_path / "out" / output.JOB
    job = json.loads(path.read_text(encoding="utf-8"))
    job["decoding"]["bits"] = 1
    path.write_text(json.dumps(job), encoding="utf-8")
    assert "other decoding options: bits)" in label(run, model, archive, tmp_path / "out").err


def test_another_model_or_list_is_refused_by_name(
    run: Run, model: Path, archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    begun(model, archive, out)
    other = artifact.save(artifacts.tiny(1), tmp_path / "other")
    result = label(run, other, archive, out)
    assert f"{out} contains another job (another model: {model}, now {other})" in result.err
    archive.write_text(archive.read_text().replace("r3\t", "new\t"))
    assert "(another list of recordings): choose another output" in label(run, model, archive, out).err
    copy = artifact.save(artifact.load(model), tmp_path / "copy")  # the same model in another place
    archive.write_text(archive.read_text().replace("new\t", "r3\t"))
    assert label(run, copy, archive, out).code == 0


def test_a_language_model_counts_by_what_it_holds(
    run: Run, model: Path, archive: Path, tmp_path: Path
) -> None:
    words, out = tmp_path / "words.txt", tmp_path / "out"
    words.write_text("TEA\n")
    assert label(run, model, archive, out, "--lexicon", str(words)).code == 0
    assert label(run, model, archive, out, "--lexicon", str(words.rename(tmp_path / "w.txt"))).code == 0
    (tmp_path / "w.txt").write_text("TOAD\n")
    assert (
        "other decoding options: lexicon"
        in label(run, model, archive, out, "--lexicon", str(tmp_path / "w.txt")).err
    )
    assert "cannot be read" in label(run, model, archive, out, "--lexicon", str(words)).err


def test_a_job_is_known_by_the_content_of_its_language_model(
    model: Path, archive: Path, tmp_path: Path
) -> None:
    """Whether it is named, as the bundled ones are, lies beside a checkpoint, or is a file."""
    folder = tmp_path / "checkpoint" / "language_model"
    folder.mkdir(parents=True)
    (folder / "words.arpa").write_text("one")
    known = find_model(transcriber_of(model).specification)

    def lm(given: Path) -> object:
        transcriber = replace(transcriber_of(model), decoding=DecodingOptions(lm=given))
        return describe(read_archive([archive]), transcriber, known, None)["decoding"]["lm"]

    assert lm(Path("en")) == file_fingerprint(language_models.locate("en"))
    assert lm(folder.parent) == lm(folder / "words.arpa") == file_fingerprint(folder / "words.arpa")


def test_an_output_that_is_something_else_is_refused(
    run: Run, model: Path, archive: Path, tmp_path: Path
) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years")
    for out, message in (
        (mine, "is not empty and contains no labelling job"),
        (mine / "thesis.txt", "is a file"),
        (archive.parent, "is not empty"),
        (Path("/proc/out"), "cannot be written ("),
        (mine / "thesis.txt" / "out", "cannot be written (Not a directory"),
    ):
        result = label(run, model, archive, out)
        assert (result.code, result.out) == (1, "")
        assert message in result.err
        assert "unexpected" not in result.err
    assert [path.name for path in mine.iterdir()] == ["thesis.txt"]
    assert (mine / "thesis.txt").read_text() == "years"
    begun(model, archive, tmp_path / "out")
    (tmp_path / "out" / output.JOB).write_text("{")
    assert "job.json is damaged" in label(run, model, archive, tmp_path / "out").err


def test_a_disk_without_room_is_told_before_the_start(
    run: Run, model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "run", nobody)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    result = label(run, model, archive, tmp_path / "out")
    assert (result.code, result.out) == (1, "")
    assert "the labels may take 5.6 kB, but 1.0 kB are free" in result.err


def test_a_disk_that_fills_up_ends_the_work_and_what_is_done_is_kept(
    model: Path, archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    heard: list[int] = []

    def workers(job: Job, tasks: Sequence[Task], lost: Any) -> Iterator[tuple[int, list[Label]]]:
        try:
            for task in tasks:
                heard.append(task.shard)
                if heard == [0, 1]:
                    # What the system does when a file cannot grow any more: half of it is written.
                    resource.setrlimit(resource.RLIMIT_FSIZE, (20, limits[1]))
                yield task.shard, [Label(row, job.corpus[row].id, "A", 0.3, 0.5) for row in task.rows]
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    try:
        with pytest.raises(LittlefootError, match="finished shards are kept; free some space") as refused:
            job_with(workers, model, archive, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert os.strerror(errno.EFBIG) in str(refused.value)
    assert shards(out) == ["000000.jsonl"]
    heard.append(-1)
    job_with(workers, model, archive, out)
    assert heard == [0, 1, -1, 1, 2]
    assert [u.id for u in manifest.read(out)] == [f"r{index}" for index in range(7)]


# Going on


def test_what_is_there_is_not_heard_again_and_what_is_damaged_is(
    model: Path, archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    tasks: list[Task] = []

    def workers(job: Job, todo: Sequence[Task], lost: Any) -> Iterator[tuple[int, list[Label]]]:
        tasks[:] = todo
        for task in todo:
            yield task.shard, [Label(row, job.corpus[row].id, f"T {row}", 0.3, 0.5) for row in task.rows]

    job_with(workers, model, archive, out)
    assert tasks == [Task(0, (0, 1, 2)), Task(1, (3, 4, 5)), Task(2, (6,))]
    whole = (out / output.MANIFEST).read_bytes()
    second = out / output.SHARDS / "000001.jsonl"
    lines = second.read_text().splitlines(keepends=True)
    damages = {
        "half": "".join(lines)[:-20],
        "a row less": "".join(lines[:2]),
        "a row twice": "".join([lines[0], lines[0], lines[2]]),
        "other rows": "".join(reversed(lines)),
        "not ours": "[]\n" * 3,
    }
    for damage in damages.values():
        second.write_text(damage)
        (out / output.MANIFEST).unlink()
        (out / output.SHARDS / ".000002.jsonl.abc").write_text("half of one")  # its writer was killed
        assert job_with(workers, model, archive, out).run_rows == 3
        assert tasks == [Task(1, (3, 4, 5))]
        assert (out / output.MANIFEST).read_bytes() == whole
        assert shards(out) == ["000000.jsonl", "000001.jsonl", "000002.jsonl"]
    tasks.clear()
    assert job_with(workers, model, archive, out, shard_rows=None).run_rows == 0
    assert not tasks


def test_one_driver_at_a_time(run: Run, model: Path, archive: Path, tmp_path: Path) -> None:
    out, entered, leave = tmp_path / "out", threading.Event(), threading.Event()

    def workers(job: Job, todo: Sequence[Task], lost: Any) -> Iterator[tuple[int, list[Label]]]:
        entered.set()
        leave.wait(PATIENCE)
        yield from local.run(job, todo, lost, workers=1, retries=0)

    first = threading.Thread(target=job_with, args=(workers, model, archive, out))
    first.start()
    assert entered.wait(PATIENCE)
    result = label(run, model, archive, out)
    leave.set()
    first.join()
    assert (result.code, result.out) == (1, "")
    assert f"{out}: another process writes labels to it" in result.err
    assert len(manifest.read(out)) == 7


# Deaths


def test_a_worker_that_dies_is_replaced_and_the_recording_that_kills_is_given_up(
    model: Path, tmp_path: Path
) -> None:
    archive = archive_of(tmp_path / "archive", 9)
    deadly, harmless = block(archive, 4), block(archive, 7)
    deaths: list[str] = []
    stop = threading.Event()

    def kill() -> None:
        with opened(deadly), opened(harmless):
            while not stop.is_set():
                if found := set(readers(harmless)):  # a worker, and perhaps a process that decodes for it
                    unblock(harmless)
                    for pid in found:
                        with suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)
                for pid in set(readers(deadly)):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        summary = job_with(
            lambda job, tasks, lost: local.run(job, tasks, lost, workers=2, retries=1),
            model,
            archive,
            tmp_path / "out",
            say=deaths.append,
        )
    finally:
        stop.set()
        killer.join()
    assert summary.workers_lost == 3
    assert summary.counts.failures == [
        f"r4: {deadly}: 2 worker processes ended while they transcribed it, the last by SIGKILL, as the"
        " system does when memory is short"
    ]
    assert sum("a worker process ended (SIGKILL" in death and "at r7" in death for death in deaths) == 1
    labels = manifest.read(tmp_path / "out")
    assert [u.id for u in labels] == [f"r{index}" for index in range(9) if index != 4]
    recognizer = littlefoot.load(str(model))
    assert all(u.text == recognizer.transcribe(u.path).text for u in labels)


@contextmanager
def opened(fifo: Path) -> Iterator[None]:
    """Its readers find somebody at its other end, and show among those who hold it open."""
    descriptor = os.open(fifo, os.O_RDWR)
    try:
        yield
    finally:
        os.close(descriptor)


def readers(path: Path) -> list[int]:
    """Processes, but for this one, that hold a file open."""
    found = []
    for link in map(Path, glob.glob("/proc/[0-9]*/fd/*")):  # not pathlib's, which fails if a process ends
        with suppress(OSError):
            if os.readlink(link) == str(path) and link.parts[2] != str(os.getpid()):
                found.append(int(link.parts[2]))
    return found


def test_workers_that_die_while_they_load_end_the_job(model: Path, archive: Path, tmp_path: Path) -> None:
    job = Job(read_archive([archive]).corpus, Dying(Specification(str(model))), "", 3)
    said: list[str] = []
    tasks = [Task(0, (0, 1, 2)), Task(1, (3, 4, 5))]
    with pytest.raises(LittlefootError, match="3 worker processes ended while they loaded the model, the la"):
        list(local.run(job, tasks, said.append, workers=2, retries=2))
    assert len(said) == 3
    assert not multiprocessing.active_children()


def test_a_model_that_changed_since_is_noticed_by_the_workers(model: Path, archive: Path) -> None:
    job = Job(read_archive([archive]).corpus, transcriber_of(model), "another", 3)
    with pytest.raises(LittlefootError, match="is not the model that the job was begun with"):
        list(local.run(job, [Task(0, (0, 1, 2))], print, workers=1, retries=2))


def test_a_killed_driver_takes_its_workers_along_and_the_job_goes_on(
    run: Run, model: Path, archive: Path, tmp_path: Path
) -> None:
    out, waiting = tmp_path / "out", block(archive, 4)
    driver = start(model, archive, out, "--workers", "2")
    until(lambda: (out / output.SHARDS).exists() and shards(out) == ["000000.jsonl", "000002.jsonl"])
    before = {name: (out / output.SHARDS / name).stat().st_mtime_ns for name in shards(out)}
    driver.kill()
    driver.communicate()
    until(lambda: group_is_gone(driver.pid))
    assert not (out / output.MANIFEST).exists()

    unblock(waiting)
    result = label(run, model, archive, out, "--json")
    assert result.code == 0, result.err
    assert "4 of 7 recordings were done before" in result.err
    assert json.loads(result.out)["run_rows"] == 3
    assert [u.id for u in manifest.read(out)] == [f"r{index}" for index in range(7)]
    for name, written in before.items():
        assert (out / output.SHARDS / name).stat().st_mtime_ns == written


def test_ctrl_c_ends_it_cleanly_and_it_goes_on(run: Run, model: Path, archive: Path, tmp_path: Path) -> None:
    out, waiting = tmp_path / "out", block(archive, 4)
    driver = start(model, archive, out, "--workers", "1")
    until(lambda: (out / output.SHARDS).exists() and shards(out) == ["000000.jsonl"])
    os.killpg(driver.pid, signal.SIGINT)  # as a terminal does
    said, errors = driver.communicate(timeout=PATIENCE)
    assert (driver.returncode, said) == (130, "")
    assert f"stopped; finished shards are in {out}, the same command resumes" in errors
    assert "Traceback" not in errors
    until(lambda: group_is_gone(driver.pid))
    unblock(waiting)
    assert json.loads(label(run, model, archive, out, "--json").out)["run_rows"] == 4


# Ray


def test_without_ray_it_says_what_to_install(
    run: Run, model: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rays, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'littlefoot\[scale\]'"):
        rays.require("littlefoot label --ray")
    result = label(run, model, archive, tmp_path / "out", "--ray", "local")
    assert (result.code, result.out) == (1, "")
    assert "needs the package 'ray'" in result.err
    assert not (tmp_path / "out").exists()


def test_on_this_machine_neither_ray_nor_torch_is_loaded(model: Path, archive: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from littlefoot import cli; sys.argv[0] = 'littlefoot'\n"
        "try:\n    cli.main()\nexcept SystemExit as end:\n    assert not end.code\n"
        "assert not {'ray', 'torch', 'transformers'} & set(sys.modules)"
    )
    command = [
        sys.executable,
        "-c",
        code,
        "label",
        str(model),
        str(archive),
        "-o",
        str(tmp_path / "out"),
        *FIXED,
    ]
    subprocess.run([*command, "--workers", "1"], check=True, capture_output=True)


def test_ray_labels_as_processes_do(run: Run, model: Path, archive: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray.data")
    (archive.parent / "audio" / "4.wav").write_bytes(b"no sound")
    assert label(run, model, archive, tmp_path / "here").code == 1
    driver = start(model, archive, tmp_path / "there", "--ray", "local", "--workers", "2")
    said, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 1, errors
    assert "littlefoot: r4: " in errors
    assert json.loads(said)["labelled"] == 6
    for name in (output.MANIFEST, f"{output.SHARDS}/000001.jsonl"):
        assert (tmp_path / "here" / name).read_bytes() == (tmp_path / "there" / name).read_bytes()
    until(lambda: group_is_gone(driver.pid))


@pytest.mark.slow
def test_a_ray_worker_that_dies_is_replaced_and_the_recording_that_kills_is_given_up(
    model: Path, archive: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray.data")
    deadly, out = block(archive, 4), tmp_path / "out"
    driver = start(model, archive, out, "--ray", "local", "--workers", "2", "--retries", "1")
    killed: set[int] = set()

    def kill_readers() -> bool:
        for pid in set(readers(deadly)) - killed:
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        return driver.poll() is not None

    with opened(deadly):
        until(kill_readers)
    said, errors = driver.communicate()
    assert driver.returncode == 1, errors
    found = json.loads(said)
    assert (found["labelled"], found["failed"], len(killed)) == (6, 1, 2)
    assert found["failures"] == [f"r4: {deadly}: 2 worker processes ended while they transcribed it"]
    assert found["workers_lost"] == 2
    assert [u.id for u in manifest.read(out)] == [f"r{index}" for index in range(7) if index != 4]


@pytest.mark.slow
def test_a_killed_driver_of_ray_leaves_nobody_and_the_job_goes_on(
    model: Path, archive: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ray.data")
    out, waiting = tmp_path / "out", block(archive, 4)
    driver = start(model, archive, out, "--ray", "local", "--workers", "2")
    until(lambda: (out / output.SHARDS).exists() and shards(out) == ["000000.jsonl", "000002.jsonl"])
    driver.kill()
    driver.communicate()
    unblock(waiting)
    again = start(model, archive, out, "--ray", "local", "--workers", "2")
    said, errors = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, errors
    assert json.loads(said)["run_rows"] == 3
    assert [u.id for u in manifest.read(out)] == [f"r{index}" for index in range(7)]
    until(lambda: group_is_gone(driver.pid))
