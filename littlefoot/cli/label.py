"""``littlefoot label``: pseudo-labels for archives of recordings."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell
from littlefoot.label.options import LabelOptions
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.transcriber import DecodingOptions, RecordingOptions, Transcriber

if TYPE_CHECKING:
    from littlefoot.label.run import Summary


@dataclass(frozen=True)
class Pool:
    """The workers of a job."""

    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Number of processes; as many as fit by default.")
    ] = None
    threads: Annotated[int, typer.Option("--threads", min=1, help="Processor threads of each worker.")] = 1
    retries: Annotated[
        int,
        typer.Option("--retries", min=0, help="Workers that may die at a recording before it is given up."),
    ] = 2
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="Use Ray: local, auto (a running one), or its address."),
    ] = None


@options.grouped
def label(
    model: options.Model,
    manifest: Annotated[
        list[Path],
        typer.Argument(help="Manifests, folders that contain one, LibriSpeech, folders of recordings."),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Directory for the labels; an unfinished job is resumed.")
    ],
    vad: options.Vad = None,
    as_json: options.Json = False,
    *,
    job: LabelOptions,
    pool: Pool,
    loading: LoadOptions,
    decoding: DecodingOptions,
) -> None:
    """Transcribe all recordings of manifests and write a manifest to train on, with confidences.

    If the command is killed or interrupted, run it again: it resumes. Recordings that cannot be read are
    reported, the others are transcribed, and the exit code is 1.

    \b
    Example:
      littlefoot label MODEL archive/ -o labels --min-confidence 0.8
    """
    import functools

    from littlefoot.cli.progress import bar
    from littlefoot.label.run import Workers, run
    from littlefoot.system import machine

    if Path(model).exists():
        model = str(Path(model).absolute())  # workers may be elsewhere
    files = {
        name: path.absolute()
        for name in ("lm", "hotwords", "lexicon")
        if (path := getattr(decoding, name)) is not None and path.exists()
    }
    transcriber = Transcriber(
        Specification(model, loading), replace(decoding, **files), RecordingOptions(vad=vad)
    )
    how: Workers
    if pool.ray is not None:
        from littlefoot.label import cluster
        from littlefoot.system import rays

        rays.require("littlefoot label --ray")
        how = functools.partial(
            cluster.run, workers=pool.workers, threads=pool.threads, retries=pool.retries, address=pool.ray
        )
    else:
        from littlefoot.label import local

        count = pool.workers or max(1, machine.threads() // pool.threads)
        how = functools.partial(local.run, workers=count, retries=pool.retries)
    try:
        summary = run(
            manifest,
            transcriber,
            out,
            how,
            job,
            progress=functools.partial(bar, "labelling"),
            say=tell,
        )
    except KeyboardInterrupt:
        tell(f"stopped; finished shards are in {out}, the same command resumes")
        raise
    typer.echo(json.dumps(summary.to_dict(), indent=2) if as_json else _table(summary), nl=as_json)
    if summary.counts.failed:
        raise typer.Exit(1)


def _table(summary: Summary) -> str:
    counts = summary.counts
    rows = [
        ("manifest", summary.manifest),
        ("rows", f"{counts.labelled} of {counts.rows}, {counts.seconds / 3600:.2f} h"),
        ("without words", str(counts.empty)),
        ("left out", f"{counts.below_confidence} below the confidence asked for"),
        ("failed", str(counts.failed)),
        ("mean confidence", "-" if counts.mean_confidence is None else f"{counts.mean_confidence:.3f}"),
    ]
    if summary.run_rows:
        took = f"{summary.run_rows} recordings in {summary.run_seconds:.0f} s"
        speed = f"{summary.x_realtime:g} x real time"
        rows.append(("this run", f"{took}, {speed}; {summary.workers_lost} workers lost"))
    return "".join(f"{name:<16} {value}\n" for name, value in rows)
