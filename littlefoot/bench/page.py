"""Write the report as one HTML file without dependencies."""

from __future__ import annotations

import json
from pathlib import Path

from littlefoot.bench import table
from littlefoot.bench.report import Report

TEMPLATE = Path(__file__).with_name("page.html")
MARK = "/* the report */"


def render(report: Report) -> str:
    """Make the page of a report, with players for recordings that are available."""
    notes = json.dumps(table.footnotes(report))
    content = f'{{"report": {report.model_dump_json()}, "notes": {notes}}}'
    before, _, after = TEMPLATE.read_text(encoding="utf-8").partition(MARK)
    # inside a script element "</" and "<!--" would not be data
    return before + content.replace("<", "\\u003c") + after


def save(report: Report, path: Path) -> None:
    """Write the page."""
    path.write_text(render(report.beside(path)), encoding="utf-8")
