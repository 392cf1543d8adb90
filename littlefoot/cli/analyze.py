"""``littlefoot analyze``: measure what the layers of models do on real speech."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell
from littlefoot.errors import ConfigError
from littlefoot.system.outputs import check_file, writing


def analyze(
    models: Annotated[list[str], typer.Argument(help="Models; all are compared with the first.")],
    data: Annotated[
        list[Path] | None,
        typer.Option("--data", help="A manifest or recording; may be repeated. Default: the bundled clips."),
    ] = None,
    plot: Annotated[Path | None, typer.Option("--plot", help="Draw a picture, .png or .svg.")] = None,
    with_sensitivity: Annotated[
        bool,
        typer.Option(
            "--sensitivity",
            help="Also show each linear layer's sensitivity to 1, 2, 3, 4 and 8 bits; takes minutes.",
        ),
    ] = False,
    as_json: options.Json = False,
) -> None:
    """Show how much each layer changes its input, and how similar the layers are.

    \b
    Example:
      littlefoot analyze MODEL STUDENT --data my-recordings --plot layers.png
    """
    from littlefoot.artifact import checkpoint
    from littlefoot.compress.calibration import collect, load_clips, recordings
    from littlefoot.compress.mixed import WIDTHS, sensitivity
    from littlefoot.evaluate import analysis

    if len(set(models)) < len(models):
        raise ConfigError("a model is named twice: name each once")
    if plot is not None:  # Fail before the work, if at all.
        if plot.suffix not in (".png", ".svg"):
            raise ConfigError(f"--plot {plot}: name a file that ends in .png or .svg")
        check_file(plot)
    found, sensitivities = {}, {}
    paths = recordings(data or [checkpoint.SAMPLES])
    for name in models:
        loaded = checkpoint.load(name)
        clips = load_clips(paths, loaded)
        found[name] = analysis.analyze(loaded, clips)
        if with_sensitivity:
            sensitivities[name] = sensitivity(
                loaded,
                clips,
                collect(loaded, clips, moments=True),
                WIDTHS,
                progress=tell,
            )
    if plot is not None:
        with writing(plot):
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
    for row in rows:
        if options_of := sensitivities.get(row["name"]):
            row["sensitivity"] = {
                layer: {str(option.bits): option.sensitivity for option in options_of[layer]}
                for layer in options_of
            }
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
        if "sensitivity" in row:
            typer.echo(_sensitivities(row["sensitivity"]))


def _sensitivities(sensitivities: dict[str, dict[str, float]]) -> str:
    """Format a table of layers and widths. Layers whose columns do not fill whole bytes have no value."""
    from littlefoot.compress.mixed import WIDTHS

    longest = max(len(layer) for layer in sensitivities)
    lines = ["KL divergence of the posteriors with one layer in this number of bits, 10^-3 nats per frame"]
    lines.append("layer".ljust(longest) + "".join(f"{bits:>11}" for bits in WIDTHS))
    for layer, by_width in sensitivities.items():
        cells = (by_width.get(str(bits)) for bits in WIDTHS)
        shown = (f"{'-':>11}" if value is None else f"{1000 * value:11.3f}" for value in cells)
        lines.append(layer.ljust(longest) + "".join(shown))
    return "\n".join(lines)
