"""``littlefoot train``: train with CTC or LF-MMI from a checkpoint or from a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from littlefoot.cli import options
from littlefoot.errors import ConfigError, MissingExtraError


def train(
    model: Annotated[
        str, typer.Argument(help="A model to fine-tune, or a recipe (YAML).", metavar="MODEL|CONFIG.yaml")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory of the trained model.")],
    data: Annotated[list[Path] | None, options.TrainingData] = None,
    loss: Annotated[
        str | None, typer.Option("--loss", help="Loss: ctc or lfmmi; short for train.loss.")
    ] = None,
    overrides: options.Overrides = None,
    resume: options.Resume = False,
) -> None:
    """Train a CTC model: fine-tune MODEL, or follow CONFIG.yaml, which may start from random weights.

    \b
    Examples:
      littlefoot train MODEL -o mine --data my-recordings --set train.lr=1e-4
      littlefoot train RECIPE.yaml -o mine --resume
    """
    try:
        import accelerate
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("littlefoot train", str(error.name), "train") from error
    from littlefoot import artifact
    from littlefoot.audio import manifest
    from littlefoot.cli.recipes import carry_out
    from littlefoot.compress import recipe as recipes
    from littlefoot.compress.finetune import begin
    from littlefoot.training import train as trainer
    from littlefoot.training.lfmmi import LFMMI, objective_for

    changes = [*(overrides or []), *([f"train.loss={loss}"] if loss else [])]
    if model.endswith((".yaml", ".yml")):
        recipe = recipes.load(model, changes)
    else:
        recipe = recipes.training(model, changes)
    manifests = [*recipe.data, *(data or [])]
    if not manifests:
        raise ConfigError("there is nothing to train on: name a manifest with --data")
    if recipe.train is None:
        artifact.check_output(out)
    else:
        trainer.check_output(out, resume)
    started = begin(recipe)
    if recipe.train is None:
        carry_out(recipe, started.to_artifact(), model, out, manifests, resume, overwrite=False)
        return

    corpus = manifest.index(manifests)
    objective = objective_for(started, corpus, recipe.train)
    if isinstance(objective, LFMMI):
        typer.echo(f"denominator: {objective.denominator}", err=True)
    wer = trainer.train(objective, corpus, recipe.train, out, resume)
    if accelerate.PartialState().is_main_process:
        score = "" if wer is None else f", mean WER on the dev sets {100 * wer:.1f} %"
        typer.echo(f"saved {out}{score}", err=True)
