"""``littlefoot label``: pseudo-labels for archives of recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.errors import ConfigError

if TYPE_CHECKING:
    from littlefoot.label.run import Summary


def label(
    model: options.Model,
    manifest: Annotated[
        list[Path],
        typer.Argument(help="Manifests, folders that hold one, LibriSpeech, folders of recordings."),
    ],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Directory for the labels; an unfinished job is resumed.")
    ],
    split: Annotated[str | None, typer.Option("--split", help="Rows of this split only.")] = None,
    min_confidence: Annotated[
        float,
        typer.Option("--min-confidence", help="Leave rows below it out of the manifest; 0 to 1."),
    ] = 0.0,
    workers: Annotated[
        int | None, typer.Option("--workers", min=1, help="Processes; as many as fit by default.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Processor threads of each worker.")] = 1,
    shard_rows: Annotated[
        int | None, typer.Option("--shard-rows", min=1, help="Recordings written at once; 100 by default.")
    ] = None,
    retries: Annotated[
        int,
        typer.Option("--retries", min=0, help="Workers that may die at a recording until it is given up."),
    ] = 2,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try recordings again that failed before.")
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="Work on Ray: local, auto (one that runs), or its address."),
    ] = None,
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    language: options.Language = None,
    layers: options.Layers = None,
    bits: options.Bits = None,
    vad: options.Vad = None,
    beam: options.Beam = None,
    lm: options.LanguageModel = None,
    alpha: options.Alpha = None,
    beta: options.Beta = None,
    hotwords: options.HotWords = None,
    lexicon: options.Lexicon = None,
    as_json: options.Json = False,
) -> None:
    """Transcribe all recordings of manifests and write a manifest to train on, with confidences.

    If the command is killed or interrupted, run it again: it resumes. Recordings that cannot be read are
    reported, the others are transcribed, and the exit code is 1.

    \b
    Example:
      littlefoot label MODEL archive/ -o labels --min-confidence 0.8
    """
    import functools

    from littlefoot.cli.batch import RecognizerSettings
    from littlefoot.cli.progress import bar
    from littlefoot.label.run import Workers, run
    from littlefoot.runtime import recognizer
    from littlefoot.system import machine

    if not 0 <= min_confidence <= 1:
        raise ConfigError(f"--min-confidence is {min_confidence:g}: it must be from 0 to 1")
    vad = recognizer.VAD if vad is None else vad
    if Path(model).exists():
        model = str(Path(model).absolute())  # workers may be elsewhere
    lm, hotwords, lexicon = (
        path.absolute() if path is not None and path.exists() else path for path in (lm, hotwords, lexicon)
    )
    decoding: dict[str, object] = {
        **{"engine": engine, "precision": precision, "language": language, "layers": layers, "vad": vad},
        **{"beam": beam, "lm": lm, "alpha": alpha, "beta": beta, "hotwords": hotwords, "lexicon": lexicon},
    }
    if bits is not None:  # left out otherwise, so that jobs begun without this setting can be resumed
        decoding["bits"] = bits
    settings = RecognizerSettings(model, threads=threads, alternatives=0, **decoding)  # type: ignore[arg-type]
    how: Workers
    if ray is not None:
        from littlefoot.label import cluster
        from littlefoot.system import rays

        rays.require("littlefoot label --ray")
        how = functools.partial(cluster.run, workers=workers, threads=threads, retries=retries, address=ray)
    else:
        from littlefoot.label import local

        count = workers or max(1, machine.threads() // threads)
        how = functools.partial(local.run, workers=count, retries=retries)
    try:
        summary = run(
            manifest,
            settings,
            decoding,
            out,
            how,
            split=split,
            shard_rows=shard_rows,
            min_confidence=min_confidence,
            retry_failed=retry_failed,
            progress=functools.partial(bar, "labelling"),
            say=lambda message: typer.echo(f"littlefoot: {message}", err=True),
        )
    except KeyboardInterrupt:
        typer.echo(f"littlefoot: stopped; finished shards are in {out}, the same command resumes", err=True)
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
