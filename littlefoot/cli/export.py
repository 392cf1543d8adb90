"""``littlefoot export``: write the model as a file for other tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell
from littlefoot.errors import ConfigError
from littlefoot.system.outputs import check_new, writing

if TYPE_CHECKING:
    from littlefoot.artifact import Artifact

FORMATS = ("onnx", "openvino", "hf", "file", "web")
WITHOUT_VNNI = {
    "onnx": "on x86 processors without VNNI, give ONNX Runtime's session the option "
    "session.x64quantprecision=1, or large sums of 8-bit products are cut off",
    "openvino": "on x86 processors without VNNI, OpenVINO cuts large sums of 8-bit products off; littlefoot "
    "itself keeps it from that",
}


def export(
    model: options.Model,
    out: Annotated[Path, typer.Option("-o", "--out", help="File, or directory (hf, web).")],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            help="Format: onnx, openvino (an .xml with its .bin), hf, file for the C library, or web for "
            "browsers.",
        ),
    ] = "onnx",
    half: Annotated[bool, typer.Option("--half", help="With --to hf: store the weights as float16.")] = False,
    language: options.Language = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", help="With --to file or web: the model's licence, such as apache-2.0."),
    ] = None,
) -> None:
    """Write exactly the network that littlefoot runs, or a checkpoint that transformers loads.

    The ONNX and OpenVINO networks take `waveform` (batch, samples), 16 kHz float32, with zero mean and unit
    variance if the model's preprocessor_config.json says do_normalize, and give `logits` (batch, frames,
    vocabulary). Both lengths are free. `--to file` writes one file for liblittlefoot and littlefoot-run, and
    `--to web` a folder for any web server, whose page recognises files and the microphone in the browser.

    \b
    Examples:
      littlefoot export MODEL -o mine.onnx --to onnx
      littlefoot export MODEL -o mine.lf --to file
      littlefoot export MODEL -o site/ --to web
    """
    if to not in FORMATS:
        raise ConfigError(f"--to {to} is unknown: use one of {', '.join(FORMATS)}")
    if half and to != "hf":
        raise ConfigError("--half is for --to hf: engines choose their own precision")
    if licence and to not in ("file", "web"):
        raise ConfigError("--license is for --to file and --to web: the other formats do not record it")
    out = out.with_suffix(".xml") if to == "openvino" else out
    check_new(out)
    from littlefoot import artifact
    from littlefoot.artifact import checkpoint, linear

    loaded = checkpoint.load(model, language)
    if to == "hf":
        artifact.check_transformers(loaded)
        artifact.save(_halved(loaded) if half else loaded, out)
    elif to == "file":
        from littlefoot.runtime.native import model_file

        model_file.save(loaded, Path(model).name, out, licence)
    elif to == "web":
        from littlefoot.web import site

        site.save(loaded, Path(model).name, out, licence)
    else:
        from littlefoot.runtime import graph

        network = graph.build(loaded)
        if to == "onnx":
            with _whole(out, out.with_name(f"{out.name}.data")):
                network.save(out)
        else:
            from littlefoot.runtime.openvino import openvino_model
            from littlefoot.system.extras import imported

            openvino = imported("openvino", "--to openvino", "openvino")
            with _whole(out, out.with_suffix(".bin")):
                try:
                    openvino.save_model(openvino_model(network), out, compress_to_fp16=False)
                except RuntimeError as error:  # OpenVINO's form of an OSError
                    raise OSError(f"OpenVINO: {error}") from error
        if linear.rounded_inputs(loaded.weights):
            tell(f"{WITHOUT_VNNI[to]}")
    tell(f"saved {out}")


@contextmanager
def _whole(*files: Path) -> Iterator[None]:
    """Remove the files if writing them fails. Raises LittlefootError for a full disk."""
    try:
        with writing(files[0]):
            yield
    except BaseException:
        for file in files:
            file.unlink(missing_ok=True)
        raise


def _halved(loaded: Artifact) -> Artifact:
    import numpy as np

    weights = {name: weight.astype(np.float16) for name, weight in loaded.weights.items()}
    return replace(loaded, weights=weights)
