"""Make RESULTS.md, docs/measurements.md and README.md's table of the files in results/ (``make results``).

    python scripts/results.py                      # write them
    python scripts/results.py --check              # exit with 1 where they are not what the files give
    python scripts/results.py add NAME eval.json --made-by HOW --command "littlefoot eval NAME ... --json"

``add`` writes ``results/models/NAME.json`` of the output of ``littlefoot eval NAME ... --json``, with today's
date and the commit that is checked out, and then makes the two documents again. results/README.md describes
the files; ``Table`` and ``Model`` below are their schema.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from littlefoot.artifact import checkpoint, sizes

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "results"
README = ROOT / "README.md"
TEMPLATES = {
    "RESULTS.template.md": ROOT / "RESULTS.md",
    "measurements.template.md": ROOT / "docs" / "measurements.md",
}
MARKS = "<!-- results -->\n", "<!-- /results -->\n"
"""The lines around the table in README.md."""

Interval = tuple[float, float, float]
"""A figure, and the ends of its 95 % interval."""
Cell = Interval | float | str | None


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Source(Strict):
    """Origin of figures."""

    command: str
    """The command that measures them again."""
    commit: str
    """The version that was measured."""
    date: date
    machine: str
    """A key of results/machines.json."""
    seeds: list[int] = []
    """The seeds of the trainings; none where nothing was trained, or where the command's recipe names it."""


class Column(Strict):
    """A column of a table."""

    title: str
    digits: int = 0
    """Decimals of its numbers."""


class Table(Source):
    """One table of RESULTS.md: a file ``results/NAME.json``."""

    columns: list[Column]
    rows: list[list[Cell]]
    """A cell is a text, a number, a number with its interval, or null where nothing was measured."""


class SetScore(BaseModel):
    """A set's scores, as ``littlefoot eval --json`` prints them; further keys are ignored."""

    wer: float
    wer_interval: tuple[float, float]
    words: int
    interval_over: str = "utterances"
    pseudo_labelled: bool = False


class Scores(BaseModel):
    """The output of ``littlefoot eval --json``; further keys are ignored."""

    per_set: dict[str, SetScore]


class Model(Source):
    """A bundled model: a file ``results/models/NAME.json``. Its bytes are those of its files on the disk."""

    made_by: str
    """Description of the methods, for README.md."""
    eval: Scores


class Sets(Strict):
    """Presentation of test sets: the file ``results/sets.json``."""

    unseen: list[str]
    """Sets whose speakers no model was trained on: the headline."""
    known: list[str]
    """Sets whose speakers are those of the training speech."""
    overview: list[str]
    """The sets of README.md's table."""


def main() -> None:
    """Write or check the documents."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--check", action="store_true")
    commands = parser.add_subparsers(dest="action")
    adding = commands.add_parser("add", help="a model's scores")
    adding.add_argument("name")
    adding.add_argument("eval", type=Path, help="what littlefoot eval --json printed")
    adding.add_argument("--made-by", required=True)
    adding.add_argument("--command", required=True)
    adding.add_argument("--machine", default="any")
    adding.add_argument("--seeds", type=int, nargs="*", default=[])
    options = parser.parse_args()
    if options.action == "add":
        add(options)
    for path, text in documents().items():
        if not options.check:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.name} is not what results/ gives: run make results")


def add(options: argparse.Namespace) -> None:
    """Write a model's file."""
    made = Model(
        command=options.command,
        commit=checked_out(),
        date=datetime.now(UTC).date(),
        machine=options.machine,
        seeds=options.seeds,
        made_by=options.made_by,
        eval=Scores.model_validate_json(options.eval.read_text(encoding="utf-8")),
    )
    path = FOLDER / "models" / f"{options.name}.json"
    path.write_text(made.model_dump_json(indent=1) + "\n", encoding="utf-8")


def checked_out() -> str:
    """Return the commit that is checked out."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def documents(folder: Path = FOLDER) -> dict[Path, str]:
    """Return the text of each document that is made.

    Raises SystemExit for a table that no template has, or a template's table that has no file.
    """
    models = read_models(folder)
    sets = Sets.model_validate_json((folder / "sets.json").read_text(encoding="utf-8"))
    machines = json.loads((folder / "machines.json").read_text(encoding="utf-8"))
    tables = {
        path.stem: Table.model_validate_json(path.read_text(encoding="utf-8"))
        for path in sorted(folder.glob("*.json"))
        if path.stem not in ("sets", "machines")
    }
    made = {README: readme(models, sets)}
    left = set(tables)
    for name, path in TEMPLATES.items():
        page = Page(models, sets, tables, machines, "results" if path.parent == ROOT else "../results")
        made[path] = page.fill((folder / name).read_text(encoding="utf-8"))
        left -= page.used.keys()
    if left:
        raise SystemExit(
            f"results/{min(left)}.json is in no template: add {{{{ {min(left)} }}}} to one, or remove it"
        )
    return made


def read_models(folder: Path) -> dict[str, Model]:
    """Return the models by name, the largest first."""
    found = {
        path.stem: Model.model_validate_json(path.read_text(encoding="utf-8"))
        for path in (folder / "models").glob("*.json")
    }
    return dict(sorted(found.items(), key=lambda item: -megabytes(item[0])))


def megabytes(model: str) -> float:
    """Bytes of a bundled model's files on the disk / 10^6."""
    return sizes.megabytes(checkpoint.BUNDLED / model)


class Page:
    """Fills a template.

    ``{{ NAME }}`` is a table, ``{{ models }}`` that of all models, ``{{ sources }}`` where the page's figures
    come from, and ``{{ machines }}`` the machines that these name.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        sets: Sets,
        tables: Mapping[str, Table],
        machines: Mapping[str, str],
        folder: str,
    ) -> None:
        self._models, self._sets, self._tables, self._machines = models, sets, tables, machines
        self._folder = folder
        self.used: dict[str, Source] = {}
        """The sources so far, by their files' names."""

    def fill(self, template: str) -> str:
        return re.sub(r"\{\{ ([\w-]+) \}\}", lambda match: self._part(match[1]), template)

    def _part(self, name: str) -> str:
        if name == "machines":
            named = {found.machine for found in self.used.values()}
            if unknown := named - self._machines.keys():
                raise SystemExit(
                    f"machine '{min(unknown)}' is not in results/machines.json: describe it there"
                )
            return "\n".join(f"- *{key}*: {text}" for key, text in self._machines.items() if key in named)
        if name == "sources":
            return "\n".join(f"- {', '.join(links)}: {text}" for text, links in self._sources().items())
        if name == "models":
            self.used |= {f"models/{model}": found for model, found in self._models.items()}
            return scores(self._models, self._sets)
        if name not in self._tables:
            raise SystemExit(f"a template has {{{{ {name} }}}}, but there is no results/{name}.json")
        found = self.used[name] = self._tables[name]
        rows = [
            [shown(cell, c.digits) for cell, c in zip(row, found.columns, strict=True)] for row in found.rows
        ]
        return markdown([column.title for column in found.columns], rows)

    def _sources(self) -> dict[str, list[str]]:
        """Links to the files that have a source, by its text."""
        found: dict[str, list[str]] = {}
        for key, each in self.used.items():
            found.setdefault(source(each), []).append(f"[{key.split('/')[-1]}]({self._folder}/{key}.json)")
        return found


def scores(models: Mapping[str, Model], sets: Sets) -> str:
    """Word errors of all models on each set, and no mean of sets."""
    others = sorted({name for model in models.values() for name in model.eval.per_set} - set(sets.unseen))
    others = sorted(others, key=lambda name: (name not in sets.known, name))
    titles = ["WER %", "MB", *(f"**{name}**" for name in sets.unseen)]
    pseudo = {
        name for m in models.values() for name, score in m.eval.per_set.items() if score.pseudo_labelled
    }
    titles += [f"{name} \\*" if name in pseudo else name for name in others]
    rows = [
        [name, f"{megabytes(name):.2f}", *(wer(model, each) for each in (*sets.unseen, *others))]
        for name, model in models.items()
    ]
    return markdown(titles, rows)


def readme(models: Mapping[str, Model], sets: Sets) -> str:
    """README.md with its table of models."""
    before, _, rest = README.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    return f"{before}{MARKS[0]}{overview(models, sets)}\n{MARKS[1]}{after}"


def overview(models: Mapping[str, Model], sets: Sets) -> str:
    """Return the table of README.md, without columns of sets that no model was measured on."""
    measured = {name for model in models.values() for name in model.eval.per_set}
    shown_sets = [name for name in sets.overview if name in measured]
    titles = ["model", "MB", *(f"WER %, {name}" for name in shown_sets), "made by"]
    rows = [
        [f"`{name}`", f"{megabytes(name):.2f}", *(wer(model, each) for each in shown_sets), model.made_by]
        for name, model in models.items()
    ]
    return markdown(titles, rows)


def wer(model: Model, name: str) -> str:
    """Return a model's word error rate on a set, with its interval."""
    score = model.eval.per_set.get(name)
    if score is None:
        return "-"
    low, high = score.wer_interval
    return shown((100 * score.wer, 100 * low, 100 * high), 1)


def shown(cell: Cell, digits: int) -> str:
    """Return a cell's text."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if isinstance(cell, tuple):
        value, low, high = (f"{number:.{digits}f}" for number in cell)
        return f"{value} ({low} - {high})"
    return f"{cell:.{digits}f}"


def source(found: Source) -> str:
    """Format the command, commit, date and machine of figures."""
    seeds = f", seed{'s' * (len(found.seeds) > 1)} {', '.join(map(str, found.seeds))}" if found.seeds else ""
    return f"`{found.command}`; commit {found.commit}, {found.date}, machine *{found.machine}*{seeds}."


def markdown(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
