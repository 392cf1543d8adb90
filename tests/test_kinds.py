"""The tables of docs/checkpoints.md and docs/transcribe.md: a test holds each row, whose words are real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\|(.+)\| `(test_\w+\.py)::(test_\w+)` \|$", re.MULTILINE)
TABLES = [
    (document, *row.groups())
    for document in ("checkpoints.md", "transcribe.md")
    for row in ROW.finditer((ROOT / "docs" / document).read_text(encoding="utf-8"))
]
SOURCES = re.sub(
    r'"\s*\n?\s*f?"',
    "",
    "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "littlefoot").rglob("*.py"))),
)


def test_there_are_rows() -> None:
    assert len(TABLES) > 40


@pytest.mark.parametrize(("document", "row", "file", "test"), TABLES, ids=lambda value: value[:40])
def test_a_row_is_held_by_a_test_and_says_what_littlefoot_says(
    document: str, row: str, file: str, test: str
) -> None:
    """``document`` tells rows apart."""
    (path,) = (ROOT / "tests").rglob(file)
    assert f"def {test}(" in path.read_text(encoding="utf-8")
    cells = [cell.strip() for cell in row.split("|")]
    if len(cells) == 3:
        assert cells[2] in SOURCES
