"""``littlefoot analyze``: what the layers of models do on real speech."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from littlefoot.cli import options
from littlefoot.errors import ConfigError


def analyze(
    models: Annotated[list[str], typer.Argument(help="Models; all are compared with the first.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="A manifest or recording; may be repeated. The bundled clips without."),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw a picture, .png or .svg.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show how far each layer moves its input, and how alike the layers are."""
    from littlefoot import analysis, checkpoint
    from littlefoot.compress.calibration import load_clips, recordings

    if len(set(models)) < len(models):
        raise ConfigError("a model is named twice: name each once")
    found = {}
    paths = recordings(data or [checkpoint.SAMPLES])
    for name in models:
        loaded = checkpoint.load(name)
        found[name] = analysis.analyze(loaded, load_clips(paths, loaded))
    if plot is not None:
        analysis.plot(found, plot)
    first = found[models[0]].states
    rows: list[dict[str, Any]] = [
        {
            "name": name,
            "layers": [asdict(layer) for layer in result.layers],
            "cka": analysis.cka(result.states, result.states).round(4).tolist(),
            "cka_with_first": analysis.cka(result.states, first).round(4).tolist(),
        }
        for name, result in found.items()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        typer.echo(row["name"])
        typer.echo("layer  distance  relative  cosine  CKA with the input's")
        for number, layer in enumerate(row["layers"], 1):
            typer.echo(
                f"{number:5}  {layer['distance']:8.2f}  {layer['relative_distance']:8.3f}  "
                f"{layer['cosine']:6.3f}  {row['cka'][number][0]:.3f}"
            )
