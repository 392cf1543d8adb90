"""Draw the rooms of the package and the imports between them as ``docs/rooms.svg``.

python scripts/rooms.py
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "littlefoot"
PICTURE = ROOT / "docs" / "rooms.svg"

ROOMS = (
    "errors",
    "system",
    "audio",
    "corpora",
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

ROW, BOX, LEFT = 34, 26, 24
NAMES = 130
"""Width of a box."""
STYLE = """
    text { font: 14px ui-monospace, monospace; fill: #24292f; }
    .page { fill: #ffffff; }
    .room { fill: #eaf2fb; stroke: #4a7ebb; }
    .import { fill: none; stroke: #57606a; stroke-width: 1.4; }
    .head { fill: #57606a; }
    @media (prefers-color-scheme: dark) {
      text { fill: #e6edf3; }
      .page { fill: #0d1117; }
      .room { fill: #16283c; stroke: #6ea8e5; }
      .import { stroke: #9aa5b1; }
      .head { fill: #9aa5b1; }
    }
"""


def modules(package: Path) -> dict[str, Path]:
    """Find every module by its dotted name; a package by that of its ``__init__``."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(source: str, known: Mapping[str, object]) -> Iterator[str]:
    """List the modules that a module's text imports: at its top, inside of functions, and for types only.

    Imports for types count: a module that needs another's types cannot be understood without it.
    ``from package import name`` imports the module ``package.name`` where there is one, else ``package``.
    That Python runs the ``__init__`` of every package on the way is not an import of the module that asks.
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
    """Map each module to the modules that it imports."""
    found = modules(package)
    return {name: set(imports(path.read_text(encoding="utf-8"), found)) for name, path in found.items()}


def room(module: str) -> str:
    """Return the room of a module; that of the package itself is empty."""
    return module.split(".")[1] if "." in module else ""


def between_rooms(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Map each room to the others that it imports."""
    found: dict[str, set[str]] = {name: set() for name in ROOMS}
    for module, imported in edges.items():
        found[room(module)] |= {room(other) for other in imported} - {room(module)}
    return found


def direct(edges: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """Leave out the imports that follow from others: of a room that another imported room imports too."""

    def reached(start: str) -> set[str]:
        return edges[start].union(*(reached(other) for other in edges[start]))

    return {
        name: {other for other in imported if not any(other in reached(each) for each in imported)}
        for name, imported in edges.items()
    }


def draw(edges: Mapping[str, set[str]]) -> str:
    """Draw rooms as boxes, the lowest first, and imports as arcs from a room to one above it, as SVG."""
    height = ROW * len(ROOMS) + 2 * LEFT
    middle = {name: LEFT + ROW * number + ROW // 2 for number, name in enumerate(ROOMS)}
    right = LEFT + NAMES
    longest = max(middle[name] - middle[other] for name, imported in edges.items() for other in imported)
    width = round(right + 0.75 * _reach(longest)) + LEFT  # a curve comes to 3/4 of its control points
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'role="img" aria-label="The rooms of the package and the imports between them">',
        f"  <style>{STYLE}  </style>",
        '  <marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" '
        'orient="auto"><path class="head" d="M0 0 L8 4 L0 8 z"/></marker>',
        f'  <rect class="page" width="{width}" height="{height}" rx="8"/>',
    ]
    for name, imported in edges.items():
        for other in sorted(imported, key=ROOMS.index):
            start, end = middle[name] - 5, middle[other] + 5
            reach = right + _reach(start - end)
            lines.append(
                f'  <path class="import" marker-end="url(#head)" '
                f'd="M{right} {start} C{reach:.0f} {start} {reach:.0f} {end} {right + 2} {end}"/>'
            )
    for name in ROOMS:
        top = middle[name] - BOX // 2
        lines.append(f'  <rect class="room" x="{LEFT}" y="{top}" width="{NAMES}" height="{BOX}" rx="5"/>')
        lines.append(f'  <text x="{LEFT + 10}" y="{middle[name] + 5}">{name or "littlefoot"}</text>')
    return "\n".join([*lines, "</svg>", ""])


def _reach(height: float) -> float:
    """Return how many pixels an arc's control points are from its ends, of its height in pixels."""
    return 20 + height / 2


def picture() -> str:
    """Draw the rooms of the package as it is now."""
    return draw(direct(between_rooms(graph(PACKAGE))))


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
