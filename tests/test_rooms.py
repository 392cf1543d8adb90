"""The package's imports: no circle, and no lower room imports a higher one."""

from __future__ import annotations

import ast
import sys
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "scripts"))
import rooms
from rooms import PACKAGE, ROOMS, graph, modules, room


def circle(edges: Mapping[str, set[str]]) -> list[str]:
    """The modules of one circle in their order, or none."""
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


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


def test_the_picture_is_that_of_the_imports() -> None:
    assert rooms.PICTURE.read_text(encoding="utf-8") == rooms.picture(), "run: python scripts/rooms.py"


def test_the_picture_leaves_out_what_follows() -> None:
    edges = {"errors": set(), "system": {"errors"}, "audio": {"errors", "system"}}
    assert rooms.direct(edges) == {"errors": set(), "system": {"errors"}, "audio": {"system"}}
    assert rooms.draw(rooms.direct(edges)).count('class="import"') == 2
