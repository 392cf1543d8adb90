"""Rules of the whole code: short parameter lists, and tests that mirror the package and use public names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "littlefoot"

MOST_PARAMETERS = 10


def parameters(source: str) -> dict[str, int]:
    """The number of parameters of every function, without ``self`` and ``cls``; ``**`` counts as one."""
    functions = (
        n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    return {
        function.name: len([name for name in names(function.args) if name not in ("self", "cls")])
        for function in functions
    }


def names(arguments: ast.arguments) -> Iterator[str]:
    for argument in ast.walk(arguments):
        if isinstance(argument, ast.arg):
            yield argument.arg


def private(source: str) -> list[str]:
    """The private names that a test imports, or reads from what it imported from the package."""
    tree = ast.parse(source)
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").partition(".")[0] == "littlefoot"]
    imported = {alias.asname or alias.name for node in ours for alias in node.names}
    read = {
        f"{node.value.id}.{node.attr}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in imported
    }
    return sorted(name for name in imported | read if is_private(name.rpartition(".")[2]))


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_parameter_lists_are_short() -> None:
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {name}": count
        for path in PACKAGE.rglob("*.py")
        for name, count in parameters(path.read_text(encoding="utf-8")).items()
        if count > MOST_PARAMETERS
    }
    assert found == {}, "pass an object of settings"


def test_tests_use_public_names() -> None:
    found = {
        path.relative_to(TESTS).as_posix(): names
        for path in TESTS.rglob("*.py")
        if (names := private(path.read_text(encoding="utf-8")))
    }
    assert found == {}


def test_every_room_has_a_folder_of_tests() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    folders = {path.parent.name for path in TESTS.glob("*/test_*.py")}
    assert folders - {"attack"} == rooms


def test_long_lists_and_private_names_are_found() -> None:
    assert parameters("def f(a, /, b, *c, d=1, **e): ...") == {"f": 5}
    assert parameters("class A:\n    async def f(self, a: dict[str, int]): ...") == {"f": 1}
    source = "from littlefoot.a import b, _c\nimport os\nb._d, b.e, b.__doc__, os._exit"
    assert private(source) == ["_c", "b._d"]
