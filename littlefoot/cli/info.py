"""``littlefoot info``: describe a model without running it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from littlefoot.cli import options


def info(
    model: Annotated[str | None, typer.Argument(help="A model; without one, the bundled models.")] = None,
    as_json: options.Json = False,
) -> None:
    """Show a model's size, geometry and origin.

    \b
    Example:
      littlefoot info littlefoot-en --json
    """
    from littlefoot.artifact import checkpoint

    if model is None:
        rows = [describe(name) for name in checkpoint.bundled()]
        if as_json:
            typer.echo(json.dumps(rows, indent=2))
            return
        for row in rows:
            typer.echo(
                f"{row['name']:<24} {row['bytes'] / 1e6:7.1f} MB  {row['parameters'] / 1e6:7.2f} M parameters"
            )
        return
    row = describe(model)
    if as_json:
        typer.echo(json.dumps(row, indent=2))
        return
    for key, value in row.items():
        typer.echo(f"{key.replace('_', ' '):<22} {_shown(key, value)}")


def describe(name: str) -> dict[str, Any]:
    """Return the figures of ``info``: ``bytes`` of the files, ``bytes_by_part`` of the weights."""
    from littlefoot.artifact import checkpoint, sizes

    artifact, path = checkpoint.load_from(name)
    kinds: dict[int, int] = {}
    for tensor, array in artifact.weights.items():
        width = int(artifact.weights.get(f"{tensor}_bits", 8 * array.itemsize))
        kinds[width] = kinds.get(width, 0) + 8 * array.nbytes // width
    config, noted = artifact.config, artifact.config.littlefoot
    return {
        "name": name,
        "model_type": config.model_type,
        "parameters": artifact.parameters,
        "bytes": sizes.disk_bytes(path),
        "bytes_by_part": sizes.bytes_by_part(artifact),
        "bits": max(kinds, key=lambda bits: kinds[bits]),
        "layers": config.num_hidden_layers,
        "hidden_size": config.hidden_size,
        **config.own_settings,
        "vocabulary": config.vocab_size,
        "frame_ms": config.frame_ms,
        "receptive_field_ms": config.receptive_field / 16,
        "algorithmic_latency_ms": config.algorithmic_latency_ms,
        "origin": noted.origin and noted.origin.to_dict(),
        "recipe": noted.recipe or None,
        "teacher": noted.teacher and noted.teacher.to_dict(),
        "quantization": noted.quantization and noted.quantization.to_dict(),
    }


def _shown(key: str, value: Any) -> str:
    if key == "bytes":
        return f"{value / 1e6:.2f} MB"
    if key == "bytes_by_part":
        return ", ".join(f"{part.replace('_', ' ')} {size / 1e6:.2f} MB" for part, size in value.items())
    if key == "linear_ranks":
        return f"{len(value)} layers, {min(value.values())} to {max(value.values())}"
    if key == "parameters":
        return f"{value / 1e6:.2f} M"
    if key == "recipe" and value:
        return ", ".join(name for step in value for name in step)
    if isinstance(value, dict):
        return ", ".join(f"{k} {v}" for k, v in value.items())
    if isinstance(value, tuple):
        return ", ".join(str(item) for item in value)
    return "-" if value is None else str(value)
