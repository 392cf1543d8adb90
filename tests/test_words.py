"""The lint of words: it finds worn phrases where prose stands, and leaves code alone."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import programs
import pytest


@pytest.fixture(scope="module")
def lint() -> ModuleType:
    return programs.load("scripts/lint_words.py")


@pytest.mark.parametrize(
    "sentence",
    [
        "The model hears speech.",
        "A student that only hears noise is refused.",
        "Students learn to say what it knows.",
        "The teacher says the same.",
        "Layers by their harm.",
        "With companions, steps take turns.",
        "All methods share a lesson.",
        "The stretches are joined.",
        "It goes on where it stopped.",
        "The run is resumed, and it sums up.",
        "Three peers were measured.",
        "The file is no artifact.",
        "Give a model of yours.",
        "It decides about the text.",
        "The log says why.",
        "The engine does not know the format.",
        "Nobody was trained on it.",
        "Use text of the kind that you will recognise.",
        "A student learns from its teacher.",
        "--chunk-ms goes with --stream",
        "It cannot be had from the Hub.",
        "The rest is decoded in vain.",
        "The header tells how long it is.",
    ],
)
def test_worn_phrases_are_found(lint: ModuleType, sentence: str) -> None:
    assert list(lint.check_markdown(sentence))


@pytest.mark.parametrize(
    "sentence",
    [
        "The model reads speech and predicts characters.",
        "Press the key when you hear a tone.",
        "A harmonic mean.",
        "The stretched signal.",
        "The run continues.",
        "There is no artifact.",
        "This is no longer supported.",
        "AND SOMEBODY WAS SINGING",
    ],
)
def test_plain_sentences_pass(lint: ModuleType, sentence: str) -> None:
    assert not list(lint.check_markdown(sentence))


def test_a_phrase_over_a_line_end_has_the_line_where_it_begins(lint: ModuleType) -> None:
    (finding,) = lint.check_markdown("One.\nThe command goes\non.\n")
    assert (finding.line, finding.phrase) == (2, "goes on")


def test_code_in_documents_is_left_alone_and_lines_are_counted_over_it(lint: ModuleType) -> None:
    text = "```\n--max-harm 1\n```\nUse `--max-harm` or [this](lesson.md).\nThe harm.\n"
    (finding,) = lint.check_markdown(text)
    assert (finding.line, finding.phrase) == (5, "harm")


def test_the_glossary_may_list_the_words_to_avoid(lint: ModuleType) -> None:
    text = "The model hears.\n\n## Glossary\n\n| encoder | what a model hears |\n"
    assert [finding.line for finding in lint.check_markdown(text)] == [1]


def test_names_in_code_pass_and_prose_in_code_does_not(lint: ModuleType) -> None:
    source = (
        "max_harm = 1\n"
        "KEY = 'harm'\n"
        '"""Bound of ``max_harm``."""\n'
        "print('the model hears nothing')  # no harm\n"
    )
    assert [(finding.line, finding.phrase) for finding in sorted(lint.check_python(source))] == [
        (4, "harm"),
        (4, "model hears"),
    ]


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ('def f():\n    """What a file holds."""', True),
        ('def f():\n    """Read a file."""', False),
        ('class A:\n    """Of two kinds."""', True),
        ('class A:\n    """A kind."""\n    x: int\n    """What it is."""', True),
        ('class A:\n    """A kind."""\n    x: bool\n    """Whether it is closed."""', False),
        ('def f():\n    """Whether it is closed."""', True),
        ('def f():\n    """How files are read."""', True),
        ('def f():\n    """The bytes of a file."""', True),
        ('class A:\n    """A kind."""', False),
        ('class A:\n    """A kind."""\n    x: int\n    """By name."""', True),
        ('x = "What a day"', False),
    ],
)
def test_docstrings_begin_with_what_they_are_about(lint: ModuleType, source: str, found: bool) -> None:
    assert bool(list(lint.check_python(source))) == found


def test_the_command_prints_file_and_line_and_fails(
    lint: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "page.md"
    page.write_text("Fine.\nThe model hears.\n", encoding="utf-8")
    assert lint.main([str(page)]) == 1
    assert capsys.readouterr().out.startswith(f"{page}:2: 'model hears': ")
    page.write_text("Fine.\n", encoding="utf-8")
    assert lint.main([str(page)]) == 0


def test_the_repository_is_free_of_worn_phrases(lint: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert lint.main([]) == 0, capsys.readouterr().out
