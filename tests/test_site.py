"""The documentation as a site: all commands are in it, all pages in its navigation, and no link is broken."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
import yaml

from littlefoot import cli

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "scripts" / "docs_hooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def pages(entry: Any) -> list[str]:
    """The pages of an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    below = entry.values() if isinstance(entry, dict) else entry
    return [page for part in below for page in pages(part)]


def test_every_page_is_in_the_navigation_once() -> None:
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    found = pages(yaml.safe_load(text.partition("nav:")[2].partition("\ntheme:")[0]))
    assert sorted(found) == sorted(path.name for path in (ROOT / "docs").glob("*.md"))


def test_every_command_and_option_is_in_the_reference(hooks: ModuleType) -> None:
    reference = hooks.commands_reference()
    app: Any = typer.main.get_command(cli.application())
    for name, command in hooks.commands(app, "littlefoot"):
        _, _, after = reference.partition(f"## {name}\n")
        section = after.partition("\n## ")[0]
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert f"`{parameter.opts[-1]}`" in section, f"{name} {parameter.opts}"
        assert re.search(f"^{name}( |$)", section.rpartition("```sh")[2], re.MULTILINE), f"{name}: no example"


@pytest.mark.parametrize(
    ("page", "markdown", "rewritten"),
    [
        ("a.md", "[x](../RESULTS.md#few-bits)", "[x](repository/RESULTS.md#few-bits)"),
        ("a.md", "[x](train.md) [y](#here) [z](https://example.org)", None),
        ("a.md", "```\n[x](../RESULTS.md)\n```\n", None),
        ("repository/RESULTS.md", "[x](docs/train.md#data)", "[x](../train.md#data)"),
        ("repository/littlefoot/bundled/littlefoot-en/readme-page.md", "[x](../../../RESULTS.md)", None),
    ],
)
def test_links_between_files_become_links_of_the_site(
    hooks: ModuleType, page: str, markdown: str, rewritten: str | None
) -> None:
    assert hooks.rewrite(markdown, page) == (markdown if rewritten is None else rewritten)


def test_files_that_pages_link_to_are_part_of_the_site(hooks: ModuleType) -> None:
    found = hooks.outside([ROOT / "docs" / "index.md"])
    assert "RESULTS.md" in found
    assert not any(path.startswith("docs/") for path in found)


def test_a_link_to_nothing_is_an_error(hooks: ModuleType, tmp_path: Path) -> None:
    page = ROOT / "docs" / "index.md"
    hooks.ROOT, kept = tmp_path, hooks.ROOT
    try:
        (tmp_path / "docs").mkdir()
        (tmp_path / "docs" / "index.md").write_text(page.read_text(encoding="utf-8"), encoding="utf-8")
        with pytest.raises(FileNotFoundError, match="which does not exist"):
            hooks.outside([tmp_path / "docs" / "index.md"])
    finally:
        hooks.ROOT = kept


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert built.returncode == 0, built.stderr
    assert not re.search("^(WARNING|ERROR)", built.stderr, re.MULTILINE), built.stderr
    commands = (tmp_path / "site" / "commands.html").read_text(encoding="utf-8")
    assert "littlefoot transcribe" in commands
    assert "--hotwords" in commands
