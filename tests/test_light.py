"""The core runs where neither PyTorch nor transformers is installed, and the command line starts light."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from artifacts import tiny

from littlefoot import artifact

TESTS = Path(__file__).parent / "support"

WITH_TORCH = (
    "littlefoot.training",
    "littlefoot.compress.distill",
    "littlefoot.compress.fake_quant",
    "littlefoot.compress.factorize",
    "littlefoot.compress.finetune",
    "littlefoot.compress.frames",
    "littlefoot.compress.graft",
    "littlefoot.compress.head",
    "littlefoot.compress.lattices",
    "littlefoot.compress.distillation_settings",
    "littlefoot.compress.losses",
    "littlefoot.compress.lowbit",
    "littlefoot.compress.positions",
    "littlefoot.compress.prune",
    "littlefoot.compress.share",
    "littlefoot.compress.streaming",
    "littlefoot.compress.student",
    "littlefoot.compress.teacher",
    "littlefoot.compress.whisper",
)
"""Packages and modules of training, which may import PyTorch."""

BLOCK = """
import sys
for name in ("torch", "transformers", "accelerate", "onnxruntime", "tokenizers"):
    sys.modules[name] = None  # as good as not installed, for imports and for find_spec
"""


def python(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=TESTS, check=False)


def littlefoot_without_torch(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return python(f"{BLOCK}\nfrom littlefoot.cli import main; main()", *arguments)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifact.save(tiny(), tmp_path_factory.mktemp("models") / "model")


def test_every_module_outside_of_training_imports_without_torch() -> None:
    done = python(
        f"""{BLOCK}
import importlib, pkgutil, littlefoot
for module in pkgutil.walk_packages(littlefoot.__path__, "littlefoot.", onerror=lambda name: None):
    if not module.name.startswith({WITH_TORCH}):
        importlib.import_module(module.name)
        print(module.name)
"""
    )
    assert done.returncode == 0, done.stderr
    assert {"littlefoot.runtime.recognizer", "littlefoot.compress.quantize"} <= set(done.stdout.split())


def test_a_model_is_quantized_and_transcribes_without_torch(model: Path, tmp_path: Path) -> None:
    clip = noise(tmp_path)
    done = littlefoot_without_torch("quantize", model, "-o", tmp_path / "int8", "--calibrate", clip)
    assert done.returncode == 0, done.stderr
    done = littlefoot_without_torch("transcribe", tmp_path / "int8", clip, "--format", "json")
    assert done.returncode == 0, done.stderr
    assert '"duration": 2.0' in done.stdout


def test_training_without_torch_names_the_extra(tmp_path: Path) -> None:
    done = littlefoot_without_torch("train", "model", "-o", tmp_path / "out", "--data", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("littlefoot: littlefoot train needs the package 'accelerate'")
    assert "pip install 'littlefoot[train]'" in done.stderr


def test_recognition_leaves_torch_alone_where_it_is_installed(model: Path, tmp_path: Path) -> None:
    done = python(
        """
import sys, littlefoot
littlefoot.load(sys.argv[1]).transcribe(sys.argv[2])
print(*sorted({"torch", "transformers", "accelerate"} & set(sys.modules)))
""",
        model,
        noise(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_the_command_line_imports_nothing_heavy() -> None:
    done = python(
        """
import sys, littlefoot.cli
littlefoot.cli.application()
heavy = {"numpy", "openvino", "onnx", "onnxruntime", "torch", "transformers", "soundfile", "soxr", "jiwer"}
heavy |= {"rich", "pydantic", "yaml", "safetensors", "huggingface_hub", "asyncio", "multiprocessing"}
print(*sorted(heavy & set(sys.modules)))
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


@pytest.mark.parametrize(
    ("script", "modules"),
    [
        ("import littlefoot", ["", ".errors"]),
        (
            "from littlefoot import cli; cli.main()",
            ["", ".cli", ".cli.progress", ".errors", ".system", ".system.amounts", ".system.progress"],
        ),
    ],
)
def test_the_package_and_its_help_import_little_of_it(script: str, modules: list[str]) -> None:
    """Each further module makes every start slower."""
    done = python(
        f"""
import sys
sys.argv = ["littlefoot", "--help"]
try:
    {script}
except SystemExit as end:
    assert not end.code
print(*sorted(name for name in sys.modules if name.partition(".")[0] == "littlefoot"))
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].split() == [f"littlefoot{module}" for module in modules]


def test_a_command_imports_no_other_command() -> None:
    done = python(
        """
import sys
from littlefoot import cli
sys.argv = ["littlefoot", "transcribe", "--help"]
try:
    cli.main()
except SystemExit as end:
    assert not end.code
print(*sorted(name for name in cli.COMMANDS if f"littlefoot.cli.{name}" in sys.modules))
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "transcribe"


def noise(directory: Path) -> Path:
    """Two seconds of noise."""
    path = directory / "clip.wav"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 32_000), 16_000)
    return path
