"""Run a labelling job, or resume it."""

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
"""Function that labels tasks (``local.run``, ``cluster.run``); it calls its last argument for each worker
that dies."""

Progress = Callable[[int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True)
class Summary:
    """Counts of a job, and the speed of this run."""

    manifest: str
    model: dict[str, Any]
    """Name, checksum and origin of the model, with the keys of ``describe``."""
    counts: Counts
    run_rows: int
    """Recordings that this run transcribed; earlier runs did the others."""
    run_audio_seconds: float
    run_seconds: float
    """Elapsed time, including the time in which workers load the model."""
    workers_lost: int
    """Workers that died in this run."""

    @property
    def x_realtime(self) -> float | None:
        """Return the seconds of audio per second of this run; None if there was nothing to transcribe."""
        return round(self.run_audio_seconds / self.run_seconds, 1) if self.run_rows else None

    def to_dict(self) -> dict[str, Any]:
        """Return the object that ``littlefoot label --json`` prints."""
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
    """Label the recordings of manifests. Recordings that have a label in the directory are skipped.

    Args:
        manifests: manifests as in ``manifest.read``, or folders of recordings, whose split is ``train``.
        transcriber: the model, and all options that influence the text; they identify the job.
        directory: the directory of the labels.
        workers: the function that does the work.
        options: which rows are labelled, and which labels are used.
        progress: called with the number of rows; its context yields a function that is called with the number
            of finished rows.
        say: called with a message for each worker that dies and each recording that fails.

    Raises:
        ManifestError: as ``read_archive``.
        LittlefootError: the directory contains something else, its disk is full, no worker can load the
            model, or none of the recordings could be recognised.
    """
    output = Output(directory)
    output.check()
    folders = [Path(path) for path in manifests if manifest.is_bare(path)]
    listed = [path for path in manifests if Path(path) not in folders]
    if not folders:
        archive = read_archive(listed, options.split)  # refuse bad manifests before creating the directory
    model = find_model(transcriber.specification)
    with output.claimed():
        if folders:
            archive = read_archive([*listed, output.list_recordings(folders)], options.split, manifests)
        description = describe(archive, transcriber, model, options.split)
        rows = output.shard_rows(description, options.shard_rows)
        job = Job(archive.corpus, transcriber, model.sha256, rows)
        tasks = list(_tasks(job, output, options.retry_failed))
        done = len(job.corpus) - sum(len(task.rows) for task in tasks)
        if done:
            say(f"{done} of {len(job.corpus)} recordings were done before")
        if tasks:
            # An impossible option does not begin a job, so the corrected command can. The workers find a
            # compiled model, and a measured engine, in the cache.
            transcriber.measuring().load()
        output.begin(description, rows)
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
            f"none of {counts.rows} recordings could be recognised; the first error: {counts.failures[0]}"
        )
    return summary


def _tasks(job: Job, output: Output, retry_failed: bool) -> Iterator[Task]:
    """Yield the work that is left: absent or damaged shards, and failed rows that are tried again."""
    for shard in range(job.shards):
        labels = output.read(job, shard)
        if labels is None:
            yield Task(shard, tuple(job.rows(shard)))
        elif retry_failed and (rows := tuple(label.row for label in labels if label.error is not None)):
            yield Task(shard, rows)
