"""``littlefoot shrink``: a smaller model, by a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from littlefoot.cli import options


def shrink(
    model: options.Model,
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory of the smaller model.")],
    recipe: Annotated[
        str, typer.Option("--recipe", help="A recipe's name, such as bigfoot, or a YAML file.")
    ],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="Manifest with splits 'train' and 'dev'; may be repeated."),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting of a step, for example distill.train.steps=500."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an artifact.")] = False,
    language: options.Language = None,
) -> None:
    """Make MODEL smaller as a recipe says. What each step made is kept beside OUT, in OUT-steps."""
    from littlefoot import artifact, checkpoint, manifest
    from littlefoot.compress import load_recipe, run
    from littlefoot.compress.methods import is_main_process

    main = is_main_process()

    def progress(message: str) -> None:
        if main:
            typer.echo(f"littlefoot: {message}", err=True)

    steps = load_recipe(recipe, overrides or [])
    artifact.check_output(out, overwrite)
    loaded = checkpoint.load(model, language)
    corpus = manifest.index(data) if data else None
    directory = out.with_name(out.name + "-steps")
    made = run(loaded, steps, corpus, directory, model, resume, progress)
    if main:
        artifact.save(made, out, overwrite)
        before, after = (sum(w.nbytes for w in a.weights.values()) / 1e6 for a in (loaded, made))
        typer.echo(
            f"littlefoot: saved {out}: {made.parameters / 1e6:.2f} of {loaded.parameters / 1e6:.2f} million "
            f"parameters, {after:.2f} of {before:.2f} MB",
            err=True,
        )
