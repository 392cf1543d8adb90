"""``littlefoot shrink``: make a model smaller, by a recipe or for a target."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell
from littlefoot.cli.recipes import carry_out, save
from littlefoot.system.outputs import refuse_begun

if TYPE_CHECKING:
    from littlefoot.plan.planner import SearchSettings


@dataclass(frozen=True)
class Search:
    """Options of a search for a target."""

    steps: Annotated[
        int,
        typer.Option("--steps", min=40, help="For a target: training steps of a plan, all methods together."),
    ] = 4000
    threads: Annotated[
        int,
        typer.Option("--threads", min=1, help="For a target: processor threads to measure the speed with."),
    ] = 1
    processes: Annotated[
        int, typer.Option("--processes", min=1, help="For a target: processes that train together.")
    ] = 1
    ray: Annotated[
        str | None,
        typer.Option("--ray", help="For a target: address of a Ray cluster for the trials, or 'local'."),
    ] = None
    yes: Annotated[
        bool, typer.Option("--yes", help="For a target: carry out the best plan without asking.")
    ] = False
    as_json: Annotated[bool, typer.Option("--json", help="For a target: print the measurements as JSON.")] = (
        False
    )


@options.grouped
def shrink(
    model: options.Model,
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory of the smaller model.")],
    recipe: Annotated[
        str | None, typer.Option("--recipe", help="A recipe's name, such as bigfoot, or a YAML file.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", help="Or a target of size, errors, speed, latency: '25MB, wer+1, 50x, 480ms'."
        ),
    ] = None,
    data: Annotated[list[Path] | None, options.TrainingData] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="Change a setting of a recipe's step (distill.train.steps=500), or, for a target, "
            "of all training (train.batch_seconds=64).",
        ),
    ] = None,
    resume: options.Resume = False,
    overwrite: options.Overwrite = False,
    language: options.Language = None,
    *,
    search: Search,
) -> None:
    """Make MODEL smaller, by a recipe or until it meets a target.

    OUT-steps keeps the result of each step, OUT-plan the trials of a search.

    \b
    Examples:
      littlefoot shrink MODEL -o small --recipe bigfoot --data my-recordings
      littlefoot shrink MODEL -o small --target "25MB, wer+1.0" --data my-recordings
    """
    from littlefoot.errors import ConfigError

    if (recipe is None) == (target is None):
        raise ConfigError("give either --recipe or --target")
    if recipe is not None:
        from littlefoot import artifact
        from littlefoot.artifact import checkpoint
        from littlefoot.compress import load_recipe

        chain = load_recipe(recipe, overrides or [])
        manifests = [*chain.data, *(data or [])]
        artifact.check_output(out, overwrite)
        carry_out(chain, checkpoint.load(model, language), model, out, manifests, resume, overwrite)
        return
    assert target is not None
    if language is not None:
        raise ConfigError("--language is for recipes: export the language first, littlefoot export --to hf")
    from littlefoot.compress.recipe import train_settings
    from littlefoot.plan.planner import SearchSettings
    from littlefoot.system import machine

    train = train_settings(overrides or [])
    settings = SearchSettings(
        search.steps, train, search.threads, search.processes, machine.threads(), search.ray
    )
    _for_target(model, out, target, data or [], settings, resume, overwrite, search)


def _for_target(
    model: str,
    out: Path,
    target: str,
    data: list[Path],
    settings: SearchSettings,
    resume: bool,
    overwrite: bool,
    search: Search,
) -> None:
    from littlefoot import artifact
    from littlefoot.artifact import checkpoint
    from littlefoot.audio import manifest
    from littlefoot.errors import ConfigError
    from littlefoot.plan import report
    from littlefoot.plan.planner import Planner
    from littlefoot.plan.target import parse

    wanted = parse(target)
    if "RANK" in os.environ:
        raise ConfigError("a search starts its own processes: leave out torchrun, and give --processes")
    artifact.check_output(out, overwrite)
    folder = out.with_name(out.name + "-plan")
    refuse_begun(folder, resume)
    loaded = checkpoint.load(model)
    corpus = manifest.index(data) if data else None
    planner = Planner(loaded, model, wanted, corpus, data, folder, settings, tell)
    plans = planner.plans()
    typer.echo(report.proposal(plans), err=True)
    if not search.yes:
        if not sys.stdin.isatty():
            raise ConfigError(
                "there is no terminal to ask on: add --yes and --resume to carry out the first plan"
            )
        typer.confirm("Carry out the first plan?", abort=True, err=True)
    outcome = planner.best(plans)
    record = report.to_dict(wanted, outcome)
    made = outcome.model
    config = made.config.noting(plan=record)
    made = replace(
        made, config=config, card=made.card.rstrip() + "\n" + report.card(wanted, outcome, settings.threads)
    )
    save(made, loaded, out, overwrite)
    typer.echo(json.dumps(record, indent=2) if search.as_json else report.summary(outcome))
    if outcome.misses:
        raise typer.Exit(1)
