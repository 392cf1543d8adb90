"""What the package offers to users of the library: these names, with types, and examples that hold."""

from __future__ import annotations

import doctest
import subprocess
import sys
from pathlib import Path

import littlefoot
from littlefoot import errors
from littlefoot.runtime import recognizer, stream

NAMES = [
    *("Alternative", "ArtifactError", "AudioError", "CheckpointError", "ConfigError", "EngineError"),
    *("LittlefootError", "ManifestError", "MissingExtraError", "Partial", "Recognizer", "Segment", "Stream"),
    *("TextError", "TrainingError", "Transcription", "Word", "__version__", "load"),
]


def test_these_names_are_exported_and_no_others() -> None:
    assert littlefoot.__all__ == sorted(NAMES)
    assert dir(littlefoot) == sorted(NAMES)
    assert littlefoot.load is recognizer.load
    assert littlefoot.Recognizer is recognizer.Recognizer
    assert littlefoot.Stream is stream.Stream
    assert littlefoot.Partial is stream.Partial
    assert not hasattr(littlefoot, "Recogniser")


def test_every_error_is_exported() -> None:
    tree = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert tree <= set(littlefoot.__all__)


def test_the_examples_of_the_docstring_run() -> None:
    result = doctest.testmod(littlefoot)
    assert result.attempted > 8
    assert result.failed == 0


def test_importing_the_package_imports_no_engine() -> None:
    code = "import littlefoot, sys; print(*{'numpy', 'openvino', 'soundfile'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_type_checkers_find_the_types() -> None:
    """As PEP 561 asks of a package: the wheel has all files of the package, this one too."""
    assert (Path(littlefoot.__file__).parent / "py.typed").is_file()
