"""Without an engine, the Hub's package and jiwer: the small install recognises, and names what it lacks."""

from __future__ import annotations

import json
import subprocess
import sys
from difflib import SequenceMatcher
from pathlib import Path

import pytest
from artifacts import tiny
from families import RELATIVE_TYPE

from littlefoot import artifact
from littlefoot.artifact import checkpoint
from littlefoot.runtime.native import engine as native

ABSENT = ("openvino", "onnx", "onnxruntime", "huggingface_hub", "jiwer", "torch", "transformers")
BLOCK = f"""
import sys
for name in {ABSENT}:
    sys.modules[name] = None  # as good as not installed, for imports and for find_spec
"""
DIGITS = Path(artifact.__file__).parents[1] / "bundled" / "samples" / "digits.ogg"

kernels = pytest.mark.skipif(
    not native.available(), reason="the native kernels are not installed: pip install ./native"
)


def python(script: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{BLOCK}\n{script}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def littlefoot(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return python("from littlefoot.cli import main; main()", *arguments)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return artifact.save(tiny(), tmp_path_factory.mktemp("models") / "model")


@kernels
def test_every_bundled_model_recognises_on_the_kernels() -> None:
    done = python(
        """
import littlefoot
from littlefoot.artifact import checkpoint
from littlefoot.audio import reading
for name in checkpoint.bundled():
    recognizer = littlefoot.load(name, threads=1)
    texts = [recognizer.transcribe(sys.argv[1]).text]
    if recognizer.streams:
        stream = recognizer.stream()
        parts = [stream.feed(block) for block in reading.blocks(sys.argv[1], 0.5)] + [stream.finish()]
        texts += [segment.text for part in parts for segment in part.final]
    print(name, recognizer.engine.name, *texts, sep="|")
""",
        DIGITS,
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split("|", 1) for line in done.stdout.splitlines())
    assert set(found) == set(checkpoint.bundled())
    live, streamed = found["littlefoot-en-live"].split("|")[1:]
    assert live == streamed
    for line in found.values():
        engine, text, *_ = line.split("|")
        assert engine == "native"
        assert SequenceMatcher(None, text, "ONE TWO THREE FOUR FIVE SIX SEVEN").ratio() > 0.9


@kernels
def test_a_model_that_the_kernels_do_not_run_names_the_engine(tmp_path: Path) -> None:
    model = artifact.save(tiny(model_type=RELATIVE_TYPE), tmp_path / "model")
    done = littlefoot("transcribe", model, DIGITS)
    assert done.returncode == 1
    assert "no engine is installed, and the native kernels do not have" in done.stderr
    assert "pip install 'littlefoot[openvino]'" in done.stderr


MISSING = {
    ("transcribe", "MODEL", str(DIGITS), "--engine", "openvino"): "openvino",
    ("transcribe", "MODEL", str(DIGITS), "--engine", "onnxruntime"): "onnxruntime",
    ("transcribe", "owner/name", str(DIGITS)): "hub",
    ("transcribe", "littlefoot-en-live", str(DIGITS), "--lm", "owner/name"): "hub",
    ("push", "MODEL", "owner/name"): "hub",
    ("quantize", "MODEL", "-o", "OUT", "--calibrate", str(DIGITS)): "openvino",
    ("export", "MODEL", "-o", "OUT.onnx", "--to", "onnx"): "openvino",
    ("export", "MODEL", "-o", "OUT.xml", "--to", "openvino"): "openvino",
    ("demo",): "openvino",
}
"""Commands, and the extra that each needs."""


@pytest.fixture(scope="module")
def refusals(model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, ...], tuple[str, str]]:
    """The exit code and the errors of each of these commands, which one process runs to take less time."""
    out = tmp_path_factory.mktemp("out") / "out"
    commands = [
        [each.replace("MODEL", str(model)).replace("OUT", str(out)) for each in arguments]
        for arguments in MISSING
    ]
    done = python(
        """
import json
from littlefoot.cli import main
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["littlefoot", *arguments]
    try:
        main()
    except SystemExit as stopped:
        print(stopped.code, flush=True)
    print(end="\\f", file=sys.stderr, flush=True)
""",
        json.dumps(commands),
    )
    assert done.returncode == 0, done.stderr
    codes, errors = done.stdout.split(), done.stderr.split("\f")
    return dict(zip(MISSING, zip(codes, errors, strict=False), strict=True))


@pytest.mark.parametrize(("arguments", "extra"), MISSING.items())
def test_what_is_missing_is_named_by_its_extra(
    arguments: tuple[str, ...], extra: str, refusals: dict[tuple[str, ...], tuple[str, str]]
) -> None:
    code, errors = refusals[arguments]
    assert (code, "Traceback" in errors) == ("1", False)
    assert f"pip install 'littlefoot[{extra}]'" in errors


def test_doctor_is_content_and_names_the_extras() -> None:
    done = littlefoot("doctor")
    assert done.returncode == 0, done.stderr
    assert "none: pip install 'littlefoot[openvino]'" in done.stdout


@kernels
def test_word_errors_name_their_extra(tmp_path: Path) -> None:
    done = littlefoot("eval", "littlefoot-en-live", DIGITS.parent, "--split", "samples")
    assert done.returncode == 1
    assert "jiwer" in done.stderr
    assert "pip install 'littlefoot[eval]'" in done.stderr
