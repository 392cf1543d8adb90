"""Hooks of mkdocs: insert the reference of all commands, and add files from outside of docs/.

``mkdocs.yml`` names this module. Links in the documents lead to files of the repository, so that they work
there too. The files outside of ``docs/`` become part of the site under ``repository/``.
"""

from __future__ import annotations

import inspect
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = "repository"
"""Folder of the site with the files from outside of ``docs/``."""

COMMANDS = "<!-- commands -->"
"""The line of a page that the reference of the commands replaces."""

_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_CODE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the files outside of ``docs/`` that pages link to, also indirectly."""
    from mkdocs.structure.files import File

    for path in outside(sorted((ROOT / "docs").rglob("*.md"))):
        files.append(File.generated(config, site_path(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Insert the commands, and turn links between files of the repository into links of the site."""
    markdown = markdown.replace(COMMANDS, commands_reference())
    return rewrite(markdown, page.file.src_uri)


def outside(pages: list[Path]) -> list[str]:
    """Return the files outside of ``docs/`` that pages link to, also indirectly, as paths from ROOT.

    Raises FileNotFoundError for a link to a file that does not exist.
    """
    found: set[str] = set()
    waiting = [page.relative_to(ROOT).as_posix() for page in pages]
    while waiting:
        source = waiting.pop()
        for link in _links((ROOT / source).read_text(encoding="utf-8")):
            path = posixpath.normpath(posixpath.join(posixpath.dirname(source), link))
            if not (ROOT / path).exists():
                raise FileNotFoundError(f"{source} links to {link}, which does not exist")
            if path.startswith("docs/") or path in found or (ROOT / path).is_dir():
                continue
            found.add(path)
            if path.endswith(".md"):
                waiting.append(path)
    return sorted(found)


def site_path(path: str) -> str:
    """Return the path in the site of a file of the repository. A README is a page like any other there."""
    if path.startswith("docs/"):
        return path.removeprefix("docs/")
    return f"{OUTSIDE}/{path}".replace("README.md", "readme-page.md")


def rewrite(markdown: str, page: str) -> str:
    """Rewrite the links of a page, which has the path ``page`` in the site. Links to folders become text."""
    if page.startswith(f"{OUTSIDE}/"):
        source = page.removeprefix(f"{OUTSIDE}/").replace("readme-page.md", "README.md")
    else:
        source = f"docs/{page}"

    def replace(match: re.Match[str]) -> str:
        target = match[2]
        if _foreign(target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if (ROOT / path).is_dir():
            return f"{match[1]}#)"
        return match[1] + posixpath.relpath(site_path(path), posixpath.dirname(page) or ".") + match[3]

    parts = re.split(f"({_CODE.pattern})", markdown, flags=_CODE.flags)
    return "".join(part if part.startswith("```") else _LINK.sub(replace, part) for part in parts)


def commands_reference() -> str:
    """Return the help of every command in Markdown: usage, description, arguments, options, examples."""
    from littlefoot import cli

    sections = []
    for name, command in commands(typer.main.get_command(cli.application()), "littlefoot"):
        description, examples = _help(command)
        usage = " ".join([name, *filter(None, map(_usage, command.params)), "[OPTIONS]"])
        sections.append(f"## {name}\n\n{description}\n\n```text\n{usage}\n```\n")
        for title, kind in (("Arguments", "argument"), ("Options", "option")):
            rows = [_row(parameter) for parameter in command.params if parameter.param_type_name == kind]
            if rows:
                sections.append(f"| {title} | Meaning | Default |\n|---|---|---|\n" + "\n".join(rows) + "\n")
        if examples:
            sections.append(f"```sh\n{examples}\n```\n")
    return "\n".join(sections)


def commands(group: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}", command


def _help(command: Any) -> tuple[str, str]:
    """Return the description of a command and its examples."""
    description, _, examples = inspect.cleandoc(command.help or "").partition("\b\n")
    _, _, examples = examples.partition("\n")
    return description.strip(), inspect.cleandoc(examples)


def _usage(parameter: Any) -> str:
    name = _name(parameter)
    if parameter.param_type_name == "argument":
        repeated = "..." if parameter.nargs == -1 else ""
        return f"{name}{repeated}" if parameter.required else f"[{name}{repeated}]"
    return f"{parameter.opts[-1]} {name}".strip() if parameter.required else ""


def _name(parameter: Any) -> str:
    if parameter.param_type_name == "option" and parameter.is_flag:
        return ""
    name = str(parameter.metavar or (parameter.name if parameter.param_type_name == "argument" else "VALUE"))
    return name.upper() if parameter.metavar is None else name


def _row(parameter: Any) -> str:
    default = parameter.default
    shown = "" if default in (None, False) or callable(default) else f"`{default}`"
    if parameter.required:
        shown = "required"
    names = parameter.opts if parameter.param_type_name == "option" else [_name(parameter)]
    text = (parameter.help or "").replace("|", "\\|").replace("<", "&lt;")
    return f"| {', '.join(f'`{name}`' for name in names)} | {text} | {shown} |"


def _links(markdown: str) -> Iterator[str]:
    for match in _LINK.finditer(_CODE.sub("", markdown)):
        if not _foreign(match[2]):
            yield match[2]


def _foreign(target: str) -> bool:
    return re.match(r"[a-z]+:", target) is not None
