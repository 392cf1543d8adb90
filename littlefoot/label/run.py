"""A job from beginning to end, or from where it was."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from littlefoot.audio import manifest
from littlefoot.errors import LittlefootError
from littlefoot.label.job import Job, Label, Task, describe, find_model, read_archive
from littlefoot.label.options import LabelOptions
from littlefoot.label.output import MANIFEST, Counts, Output
from littlefoot.runtime.transcriber import Transcriber

Workers = Callable[[Job, Sequence[Task], Callable[[str], None]], Iterator[tuple[int, list[Label]]]]
"""Labels tasks (``local.run``, ``cluster.run``); the last argument is told of workers that died."""

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Summary:
    """What came of a job, and how fast this run was."""

    manifest: str
    model: dict[str, Any]
    """Its name, checksum and origin, as ``describe`` has them."""
    counts: Counts
    run_rows: int
    """Recordings that this run heard, the others were done before."""
    run_audio_seconds: float
    run_seconds: float
    """Of the clock, with the time that workers took to load the model."""
    workers_lost: int
    """That died in this run."""

    @property
    def x_realtime(self) -> float | None:
        """Seconds of audio for each second of this run; None where there was nothing to hear."""
        return round(self.run_audio_seconds / self.run_seconds, 1) if self.run_rows else None

    def to_dict(self) -> dict[str, Any]:
        """The keys of ``littlefoot label --json``."""
        counts = asdict(self.counts)
        hours = round(counts.pop("seconds") / 3600, 4)
        rest = {name: value for name, value in asdict(self).items() if name.startswith(("run", "workers"))}
        return {
            "manifest": self.manifest,
            **self.model,
            **{"rows": counts.pop("rows"), "hours": hours, **counts},
            **{name: round(value, 3) for name, value in rest.items()},
            "x_realtime": self.x_realtime,
        }


def run(
    manifests: Sequence[str | Path],
    transcriber: Transcriber,
    directory: Path,
    workers: Workers,
    options: LabelOptions,
    *,
    progress: Progress = lambda total: nullcontext(lambda done: None),
    say: Callable[[str], None] = lambda message: None,
) -> Summary:
    """Label the recordings of manifests into a directory; what is there already is not heard again.

    Args:
        manifests: as ``manifest.read`` takes them, or folders of recordings, whose split is ``train``.
        transcriber: the model, and all options that decide about the text: the job is known by them.
        directory: of the labels.
        workers: who does the work.
        options: what is labelled, and which labels are used.
        progress: takes the number of rows; what it yields is told how many are done.
        say: told of workers that died and of recordings that failed.

    Raises:
        ManifestError: as ``read_archive``.
        LittlefootError: the directory holds something else, its disk is full, no worker can load the model,
            or none of the recordings could be recognised.
    """
    output = Output(directory)
    folders = [Path(path) for path in manifests if manifest.is_bare(path)]
    listed = [path for path in manifests if Path(path) not in folders]
    if not folders:
        archive = read_archive(listed, options.split)  # before anything is made
    model = find_model(transcriber.specification)
    with output.claimed():
        if folders:
            archive = read_archive([*listed, output.list_recordings(folders)], options.split)
        description = describe(archive, transcriber, model, options.split)
        rows = output.begin(description, options.shard_rows)
        job = Job(archive.corpus, transcriber, model.sha256, rows)
        tasks = list(_tasks(job, output, options.retry_failed))
        done = len(job.corpus) - sum(len(task.rows) for task in tasks)
        if done:
            say(f"{done} of {len(job.corpus)} recordings were done before")
        if tasks:
            transcriber.load()  # whatever is wrong with it shows here, and workers find the model compiled
        lost, heard, begin = 0, 0.0, time.monotonic()

        def died(message: str) -> None:
            nonlocal lost
            lost += 1
            say(message)

        before = done
        with progress(len(job.corpus)) as advance:
            advance(done)
            for shard, labels in workers(job, tasks, died) if tasks else ():
                output.write(job, shard, labels)
                for label in labels:
                    heard += label.seconds or 0.0
                    if label.error is not None:
                        say(f"{label.id}: {label.error}")
                done += len(labels)
                advance(done)
        took = time.monotonic() - begin
        counts = output.finish(job, archive, options.min_confidence)
        path = str(directory / MANIFEST)
        known = {key: value for key, value in description.items() if key.startswith("model")}
        summary = Summary(path, known, counts, done - before, round(heard, 3), took, lost)
        output.write_summary(summary.to_dict())
    if counts.failed == counts.rows:
        raise LittlefootError(
            f"none of {counts.rows} recordings could be recognised; the first: {counts.failures[0]}"
        )
    return summary


def _tasks(job: Job, output: Output, retry_failed: bool) -> Iterator[Task]:
    """What is to be heard: shards that are not there or damaged, and failed rows to try again."""
    for shard in range(job.shards):
        labels = output.read(job, shard)
        if labels is None:
            yield Task(shard, tuple(job.rows(shard)))
        elif retry_failed and (rows := tuple(label.row for label in labels if label.error is not None)):
            yield Task(shard, rows)
