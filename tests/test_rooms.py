"""The package's imports: no circle, and no lower room imports a higher one."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "littlefoot"

ROOMS = (
    "errors",
    "system",
    "audio",
    "network",
    "artifact",
    "transcript",
    "decode",
    "runtime",
    "",  # littlefoot itself, which gives users load
    "evaluate",
    "training",
    "compress",
    "plan",
    "label",
    "bench",
    "server",
    "web",
    "cli",
    "__main__",
)
"""From the lowest to the highest: each may import itself and those before it."""


def modules(package: Path) -> dict[str, Path]:
    """Every module by its dotted name; a package by that of its ``__init__``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str, known: Mapping[str, object]) -> Iterator[str]:
    """The modules that a module's text imports: at its top, inside of functions, and for types only.

    Imports for types count: a module that needs another's types cannot be understood without it.
    ``from package import name`` imports the module ``package.name`` where there is one, else ``package``.
    That Python runs the ``__init__`` of every package on the way is no import of the module that asks.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            names = [
                inner if (inner := f"{node.module}.{alias.name}") in known else f"{node.module}"
                for alias in node.names
            ]
        else:
            continue
        yield from (name for name in names if name in known)


def graph(package: Path) -> dict[str, set[str]]:
    """Module -> the modules that it imports."""
    found = modules(package)
    return {name: set(imports(path.read_text(encoding="utf-8"), found)) for name, path in found.items()}


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle in their order, or none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


@pytest.fixture(scope="module")
def edges() -> dict[str, set[str]]:
    return graph(PACKAGE)


def test_every_module_is_in_a_room(edges: dict[str, set[str]]) -> None:
    assert {room(module) for module in edges} == set(ROOMS)


def test_the_imports_have_no_circle(edges: dict[str, set[str]]) -> None:
    assert circle(edges) == []


def test_no_room_imports_a_higher_one(edges: dict[str, set[str]]) -> None:
    rank = {name: number for number, name in enumerate(ROOMS)}
    upward = [
        f"{module} imports {imported}"
        for module, found in edges.items()
        for imported in sorted(found)
        if rank[room(imported)] > rank[room(module)]
    ]
    assert upward == []


def test_training_and_inference_do_not_import_each_other(edges: dict[str, set[str]]) -> None:
    crossing = [
        f"{module} imports {imported}"
        for module, found in edges.items()
        for imported in sorted(found)
        if {room(module), room(imported)} == {"training", "runtime"}
    ]
    assert crossing == []


@pytest.mark.parametrize(
    "statement",
    [
        "import pack.b",
        "from pack import b",
        "from pack.b import something",
        "def f():\n    from pack.b import something",
        "if TYPE_CHECKING:\n    from pack.b import Something",
    ],
)
def test_a_circle_is_found_wherever_the_import_stands(statement: str, tmp_path: Path) -> None:
    package = tmp_path / "pack"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "a.py").write_text(statement)
    (package / "b.py").write_text("from pack.a import other")
    assert set(circle(graph(package))) == {"pack.a", "pack.b"}


def test_the_sample_rate_is_written_once() -> None:
    places = [
        path.relative_to(PACKAGE).as_posix()
        for path in modules(PACKAGE).values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value == 16_000
    ]
    assert places == ["audio/__init__.py"]
