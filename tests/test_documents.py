"""Commands in documents and help have options that exist and values that fit, and links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml

from littlefoot import cli

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
APP: Any = typer.main.get_command(cli.application())


def commands(text: str) -> Iterator[str]:
    """The littlefoot commands of a text, one on each line, without comments and redirections.

    In a synopsis brackets are removed, the first of alternatives, ``a|b``, is taken, a single letter stands
    for a number, and prose may follow after three spaces.
    """
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        line = re.sub(r" {3,}[a-z].*", "", line)
        command = re.search(r"(?:^|\| )\s*(?:LITTLEFOOT\w+=\w+ )?(littlefoot [^|<>]*(?:\|\w[^|<>]*)*)", line)
        if command:
            words = shlex.split(command[1], comments=True)
            plain = [word.strip("[]").split("|")[0] for word in words if word != "..."]
            yield shlex.join(re.sub("^[A-Z]$", "1", word) for word in plain)


def blocks() -> Iterator[Any]:
    for path in DOCUMENTS:
        text = path.read_text(encoding="utf-8")
        fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for block in (body for language, body in fenced if not language):
            for command in commands(block):
                yield pytest.param(command, id=f"{path.name}: {command}")


def leaves() -> Iterator[Any]:
    for name, command in APP.commands.items():
        for below, leaf in getattr(command, "commands", {"": command}).items():
            yield pytest.param(f"{name} {below}".strip(), leaf, id=f"{name} {below}".strip())


def parse(command: str) -> None:
    """Parse a command without carrying it out. Raises click's errors where it is wrong."""
    context, arguments = APP, shlex.split(command)[1:]
    if arguments == ["--version"]:
        return
    while hasattr(context, "commands"):
        context, arguments = context.commands[arguments[0]], arguments[1:]
    context.make_context(command, arguments)


@pytest.mark.parametrize("command", blocks())
def test_documented_commands_are_right(command: str) -> None:
    parse(command)


@pytest.mark.parametrize(("name", "command"), leaves())
def test_every_help_has_an_example_that_is_right(name: str, command: Any) -> None:
    examples = list(commands(command.help.partition("Example")[2]))
    assert examples, f"littlefoot {name} --help has no example"
    for example in examples:
        assert example.startswith(f"littlefoot {name}")
        parse(example)


@pytest.mark.parametrize(
    "command",
    ["littlefoot eval MODEL MANIFEST --no-such-option", "littlefoot bench --rounds many", "littlefoot ear"],
)
def test_wrong_commands_are_found(command: str) -> None:
    with pytest.raises(Exception, match=r"No such option|valid integer|ear"):
        parse(command)


def test_containers_run_commands_that_are_right() -> None:
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    (start,) = re.findall(r"^CMD (\[.*\])$", image, re.MULTILINE)
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    commands = [json.loads(start), *(service["command"] for service in services.values())]
    assert len(commands) == 3
    for command in commands:
        parse(shlex.join(["littlefoot", *command]))


def test_containers_have_few_rights() -> None:
    image = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert re.findall(r"^USER (.*)$", image, re.MULTILINE) == ["10001"]
    assert "/healthz" in image.partition("HEALTHCHECK")[2]
    for service in yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"].values():
        assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
        assert service["volumes"] == ["models:/models"]


def test_links_lead_to_files_and_headings() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "results" / "README.md"]:
        text = re.sub(r"^```.*?^```", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            target, _, heading = link.partition("#")
            if target.startswith("http"):
                continue
            there = path.parent / target if target else path
            assert there.exists(), f"{path.name}: {link}"
            if heading and there.suffix == ".md":
                assert heading in headings(there), f"{path.name}: {link}"


def headings(path: Path) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150
