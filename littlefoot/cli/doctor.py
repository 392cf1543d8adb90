"""``littlefoot doctor``: what this machine offers, and what is missing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

CORE = (
    "numpy",
    "safetensors",
    "openvino",
    "onnx",
    "soundfile",
    "soxr",
    "jiwer",
    "pydantic",
    "pyyaml",
    "typer",
    "rich",
    "huggingface-hub",
)
EXTRAS = {
    "train": (("torch", "accelerate"), "littlefoot train, and pickled checkpoints"),
    "onnxruntime": (("onnxruntime",), "--engine onnxruntime"),
    "lm": (("kenlm",), "language models in KenLM's binary format"),
    "native": (("littlefoot-native",), "models of few bits that stay packed, and run faster"),
    "mic": (("sounddevice",), "live recognition from a microphone"),
    "bench": (("matplotlib",), "pictures"),
}
INSTRUCTIONS = {
    "avx2": "float32",
    "avx512f": "float32, wider",
    "avx512_vnni": "fast int8",
    "avx512_vbmi": "fast few bits, with the extra native",
    "avx_vnni": "fast int8",
    "avx512_bf16": "bfloat16",
    "amx_int8": "fastest int8",
    "amx_bf16": "fastest bfloat16",
    "asimddp": "fast int8 (ARM)",
}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Check the installation: packages, engines, processor, cache."""
    report = examine()
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        _print(report)
    if missing := [name for name, found in report["packages"].items() if found is None]:
        typer.echo(
            f"littlefoot: missing: {', '.join(missing)}; install with: pip install littlefoot", err=True
        )
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Everything that ``doctor`` shows."""
    import os
    import platform

    from littlefoot import __version__, checkpoint
    from littlefoot.runtime import cache, native

    folder = cache.directory()
    files = [path for path in folder.glob("*") if path.is_file()] if folder.is_dir() else []
    return {
        "littlefoot": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": {name: use for name, use in INSTRUCTIONS.items() if name in _flags()},
        "packages": {name: _version(name) for name in CORE},
        "extras": {
            extra: {"packages": {name: _version(name) for name in names}, "for": purpose}
            for extra, (names, purpose) in EXTRAS.items()
        },
        "engines": [name for name in ("openvino", "onnxruntime") if _version(name)],
        "kernels": native.available(),
        "models": checkpoint.bundled(),
        "cache": {"directory": str(folder), "bytes": sum(path.stat().st_size for path in files)},
    }


def _print(report: dict[str, Any]) -> None:
    for key in ("littlefoot", "python", "platform", "processor", "threads"):
        typer.echo(f"{key:<12} {report[key]}")
    instructions = ", ".join(f"{name} ({use})" for name, use in report["instructions"].items())
    typer.echo(f"{'instructions':<12} {instructions or 'none that engines make special use of'}")
    typer.echo(f"{'engines':<12} {', '.join(report['engines']) or 'none'}")
    kernels = report["kernels"]
    others = f" (also {', '.join(kernels[1:])})" if kernels[1:] else ""
    typer.echo(f"{'kernels':<12} {kernels[0] + others if kernels else 'none: few bits are expanded to 8'}")
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


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpuinfo() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text() if path.exists() else ""


def _flags() -> set[str]:
    lines = (line for line in _cpuinfo().splitlines() if line.startswith(("flags", "Features")))
    return set(next(lines, "").partition(":")[2].split())


def _processor() -> str:
    import platform

    lines = (line for line in _cpuinfo().splitlines() if line.startswith("model name"))
    return next(lines, "").partition(":")[2].strip() or platform.processor() or platform.machine()
