"""``littlefoot quantize``: quantize a full-precision model to 8 bits or fewer, without PyTorch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell

if TYPE_CHECKING:
    from littlefoot.compress.quantize import Report


@dataclass(frozen=True)
class Widths:
    """The bits of the linear layers."""

    bits: Annotated[int, typer.Option("--bits", help="Bits of the linear layers: 8, 4, 3 or 2.")] = 8
    budget_mb: Annotated[
        float | None,
        typer.Option(
            "--budget-mb",
            help="Choose the bits of each layer so that the weights take no more than this (10^6 bytes).",
        ),
    ] = None
    max_sensitivity: Annotated[
        float | None,
        typer.Option(
            "--max-sensitivity",
            help="Choose the bits of each layer so that the sum of the layers' sensitivities is at most this "
            "(nats per frame).",
        ),
    ] = None


@options.grouped
def quantize(
    model: options.Model,
    out: Annotated[Path, typer.Option("-o", "--out", help="Directory of the quantized artifact.")],
    calibrate: Annotated[
        list[Path] | None,
        typer.Option("--calibrate", help="A manifest or recording to calibrate with; may be repeated."),
    ] = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode", help="static: everything in 8 bits; dynamic: linear layers only (Shrinking Bigfoot)."
        ),
    ] = "static",
    keep: Annotated[
        list[str] | None, typer.Option("--keep", help="Pattern of layers that stay in higher precision.")
    ] = None,
    max_disagreement: Annotated[
        float,
        typer.Option(
            help="Share of the calibration text that may change; if more changes, sensitive layers are kept."
        ),
    ] = 0.02,
    overwrite: options.Overwrite = False,
    language: options.Language = None,
    as_json: options.Json = False,
    *,
    widths: Widths,
) -> None:
    """Quantize MODEL to 8 bits, check that its text stays the same, and time it on this processor.

    \b
    Examples:
      littlefoot quantize MODEL -o int8 --calibrate my-recordings/manifest.tsv
      littlefoot quantize MODEL -o small --budget-mb 20 --calibrate talk.wav
    """
    from littlefoot import artifact
    from littlefoot.artifact import checkpoint, sizes
    from littlefoot.compress.calibration import load_clips, recordings
    from littlefoot.compress.quantize import QuantizeConfig
    from littlefoot.compress.quantize import quantize as run
    from littlefoot.system import settings

    artifact.check_output(out, overwrite)  # before minutes of work
    chosen = {name: value for name, value in asdict(widths).items() if value is not None}
    values = {"mode": mode, "keep": keep or (), "max_disagreement": max_disagreement, **chosen}
    config = settings.read(QuantizeConfig, values, "")
    original, path = checkpoint.load_from(model, language)
    before = sizes.disk_bytes(path)  # which --overwrite may replace
    clips = load_clips(recordings(calibrate or [checkpoint.SAMPLES]), original)
    made, report = run(original, clips, config, tell)
    artifact.save(made, out, overwrite)
    after = sizes.disk_bytes(out)
    if as_json:
        typer.echo(json.dumps({"bytes_before": before, "bytes": after, **asdict(report)}, indent=2))
    else:
        typer.echo(_summary(report, before, after), nl=False)
        tell(f"saved {out}")


def _summary(report: Report, before: int, after: int) -> str:
    comparison = report.comparison
    lines = [
        f"size          {before / 1e6:.2f} MB -> {after / 1e6:.2f} MB, {before / after:.2f}x smaller\n",
        f"text changed  {100 * comparison.disagreement:.2f} % of {comparison.characters} characters\n",
        f"logit error   {100 * comparison.logit_error:.2f} % of their spread\n",
    ]
    if report.speedup > 1:
        lines.append(f"speed         {report.speedup:.2f}x the original's on this processor\n")
    else:
        lines.append(
            f"speed         NOT FASTER on this processor: {report.speedup:.2f}x the original's; "
            "use it for its size only\n"
        )
    lines.extend(f"kept          {name} in higher precision\n" for name in report.kept)
    return "".join(lines)
