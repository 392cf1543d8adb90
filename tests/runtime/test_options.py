"""Options are declared once: a dataclass makes the options of a command line, and travels to processes."""

from __future__ import annotations

import ast
import pickle
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from littlefoot.cli import options
from littlefoot.errors import ConfigError
from littlefoot.runtime.specification import LoadOptions, Specification
from littlefoot.runtime.transcriber import DecodingOptions, RecordingOptions, Transcriber

PACKAGE = Path(__file__).parents[2] / "littlefoot"
MOST_PARAMETERS = 10
OF_RECORDS = ("runtime/native/model_file.py",)
"""Modules whose functions write the fields of a record, one after the other."""


@dataclass(frozen=True)
class Colours:
    sky: Annotated[str, typer.Option("--sky", help="Colour above.")] = "blue"
    threads: Annotated[int, typer.Option("--threads")] = 3
    hidden: int = 7


seen: list[object] = []


@options.grouped
def paint(
    model: options.Model,
    bits: Annotated[int, typer.Option("--bits")] = 1,
    *,
    colours: Colours,
    loading: LoadOptions,
) -> None:
    """Paint a model."""
    seen[:] = [model, bits, colours, loading]


def run(*arguments: str) -> list[object]:
    app = typer.Typer()
    app.command()(paint)
    result = CliRunner().invoke(app, list(arguments))
    assert result.exit_code == 0, result.output
    return seen


def test_a_command_has_an_option_for_each_field() -> None:
    assert run("m") == ["m", 1, Colours(), LoadOptions(threads=3, bits=1)]
    found = run("m", "--sky", "red", "--engine", "onnxruntime", "--precision", "f32", "--layers", "2")
    loading = LoadOptions("onnxruntime", 3, "f32", layers=2, bits=1)
    assert found == ["m", 1, Colours("red"), loading]


def test_a_field_of_two_groups_or_of_the_command_itself_is_one_option() -> None:
    assert run("m", "--threads", "5", "--bits", "2") == [
        *("m", 2, Colours(threads=5)),
        LoadOptions(threads=5, bits=2),
    ]


def test_flags_are_those_of_fields() -> None:
    for group, flags in options.FLAGS.items():
        assert set(flags) <= {field.name for field in fields(group)}, group


def test_a_transcriber_can_be_sent_to_a_process() -> None:
    decoding = DecodingOptions(beam=4, lm=Path("en"), alpha=0.5)
    made = Transcriber(Specification("m", LoadOptions(bits=2)), decoding, RecordingOptions("off"))
    assert pickle.loads(pickle.dumps(made)) == made
    assert hash(made) == hash(pickle.loads(pickle.dumps(made)))


def test_weights_without_a_language_model_are_refused() -> None:
    with pytest.raises(ConfigError, match="alpha and beta weigh a language model: give one with --lm"):
        DecodingOptions(beta=1.0)


def test_no_function_has_more_than_ten_parameters() -> None:
    long = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).as_posix() in OF_RECORDS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                given = node.args
                count = len(given.posonlyargs + given.args + given.kwonlyargs)
                if count > MOST_PARAMETERS:
                    long.append(f"{path.relative_to(PACKAGE)}: {node.name} has {count} parameters")
    assert not long
