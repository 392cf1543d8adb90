"""``littlefoot bench``: measure models side by side, in one table and one picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from littlefoot.cli import options
from littlefoot.cli.progress import tell
from littlefoot.errors import ConfigError

if TYPE_CHECKING:
    from littlefoot.audio.manifest import Utterance
    from littlefoot.bench.entries import Entry
    from littlefoot.bench.report import Report
    from littlefoot.bench.runner import BenchSettings

ALL = "all"
UNFOLDED = 10_000
"""Width of a line in characters where stdout is not a terminal: enough for any table."""


@dataclass(frozen=True)
class Speech:
    """The recordings that errors are measured on."""

    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data", help="Manifest or its folder; may be repeated. Default: the sample clips, without WER."
        ),
    ] = None
    split: Annotated[str, typer.Option("--split", help="Split of the manifests.")] = "test"
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Largest number of utterances, drawn at random.")
    ] = None

    exact: options.ExactSets = None

    def utterances(self) -> list[Utterance]:
        """Return the utterances to recognise, in the order of the manifests."""
        import random

        from littlefoot.artifact import checkpoint
        from littlefoot.audio import manifest

        data, split = (self.data, self.split) if self.data else (checkpoint.SAMPLES, None)
        found = manifest.read(data, split, self.exact or ())
        if self.limit is not None and self.limit < len(found):
            chosen = sorted(random.Random(0).sample(range(len(found)), self.limit))
            found = [found[index] for index in chosen]
        return found


@dataclass(frozen=True)
class Effort:
    """Options that determine the amount of measuring."""

    lengths: Annotated[str, typer.Option("--lengths", help="Lengths of the timed clips, in seconds.")] = (
        "2,10,30"
    )
    threads: Annotated[
        str | None,
        typer.Option(
            "--threads", help="Numbers of processor threads; all figures but speeds use the first [1,all]"
        ),
    ] = None
    launches: Annotated[int, typer.Option("--launches", min=1, help="Fresh starts of every model.")] = 4
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns of every model per launch.")] = 4
    tdp: Annotated[
        float | None,
        typer.Option(
            "--tdp", min=0, help="Power of this machine's processor threads in watts, for energy estimates."
        ),
    ] = None
    country: Annotated[
        str | None,
        typer.Option(
            "--country", help="Country of the electricity, such as FRA. Default: the world's average."
        ),
    ] = None

    busy: Annotated[
        bool, typer.Option("--busy", help="Measure even while other programs use the processor.")
    ] = False

    def settings(self) -> BenchSettings:
        """Read the lists of numbers. Raises ConfigError."""
        from littlefoot.bench import energy
        from littlefoot.bench.runner import BenchSettings
        from littlefoot.system import machine

        counts = _numbers(self.threads, "--threads") if self.threads else sorted({1, machine.threads()})
        if any(count != int(count) for count in counts):
            raise ConfigError(f"--threads {self.threads!r}: give whole numbers")
        if self.country:
            energy.carbon(self.country)  # is it known?
        lengths = tuple(_numbers(self.lengths, "--lengths"))
        threads = tuple(map(int, counts))
        return BenchSettings(lengths, threads, self.launches, self.rounds, self.tdp, self.country, self.busy)


@dataclass(frozen=True)
class Files:
    """Files that are written, and the one that is compared with."""

    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with plots to this file.")] = None
    markdown: Annotated[
        Path | None,
        typer.Option(
            "--markdown", help="Write the table to this file, between <!-- bench --> and <!-- /bench -->."
        ),
    ] = None
    compare: Annotated[
        Path | None,
        typer.Option("--compare", help="An older --json file; exit with 1 if something became worse since."),
    ] = None
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, help="Relative change that counts as worse; 0.05 is 5 %.")
    ] = 0.05


@options.grouped
def bench(
    models: Annotated[
        list[str] | None,
        typer.Argument(help="Models, the baseline first. Default: all bundled models."),
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            "--baseline",
            metavar="NAME[=MODEL]",
            help="Also run the first model, or MODEL, in transformers, transformers-bf16, onnxruntime-int8, "
            "openvino-nncf, ctranslate2 or faster-whisper; 'all' for those that are installed.",
        ),
    ] = None,
    engine: options.Engine = "auto",
    precision: options.Precision = "auto",
    language: options.Language = None,
    *,
    speech: Speech,
    effort: Effort,
    files: Files,
) -> None:
    """Measure errors, speed, latency, size, memory and energy of models, side by side.

    \b
    Example:
      littlefoot bench littlefoot-en mine --data my-recordings --html report.html
    """
    from littlefoot.artifact import checkpoint
    from littlefoot.bench import page, table
    from littlefoot.bench import report as reports
    from littlefoot.bench.entries import Entry
    from littlefoot.runtime import registry
    from littlefoot.system.outputs import check_file

    # Fail before the work, if at all.
    old = reports.load(files.compare) if files.compare else None
    if files.markdown:
        table.around(files.markdown)
    for path in (files.json_file, files.html, files.markdown):
        if path is not None:
            check_file(path)
    registry.checked(engine, None, precision)
    names = models or checkpoint.bundled()
    if not names:
        raise ConfigError("no model is bundled with this installation: name one")
    entries = [
        Entry(name, "littlefoot", source, engine, precision, language)
        for name, source in zip(_names(names), names, strict=True)
    ]
    found, notes = _baselines(baseline or [], names[0], language)
    report = _measure([*entries, *found], speech, effort.settings(), notes)
    _show(report)
    if files.json_file:
        report.save(files.json_file)
    if files.html:
        page.save(report, files.html)
    if files.markdown:
        table.write_markdown(files.markdown, report)
    failed = bool(report.data.failed or any(model.error for model in report.models))
    if old is not None and _regressed(report, old, files.threshold):
        failed = True
    if failed:
        raise typer.Exit(1)


def _names(sources: list[str]) -> list[str]:
    """Name each row by the last part of its source, or by the whole source where two would have the same
    name.
    """
    short = [Path(source).name or source for source in sources]
    names = [name if short.count(name) == 1 else source for name, source in zip(short, sources, strict=True)]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"{repeated} is given twice: name every model once")
    return names


def _baselines(asked: list[str], first: str, language: str | None) -> tuple[list[Entry], list[str]]:
    """Return the rows of baselines, and a note about each that is not installed."""
    if not asked:
        return [], []
    from importlib.util import find_spec

    from littlefoot.bench.baselines import BASELINES, OF_THE_SAME_MODEL
    from littlefoot.bench.entries import Entry

    wanted = [name for entry in asked for name in (OF_THE_SAME_MODEL if entry == ALL else (entry,))]
    rows, notes = [], []
    for entry in dict.fromkeys(wanted):
        name, _, model = entry.partition("=")
        if name not in BASELINES:
            raise ConfigError(f"--baseline {name} is unknown: use {ALL}, {', '.join(BASELINES)}")
        if not model and name not in OF_THE_SAME_MODEL:
            raise ConfigError(f"--baseline {name} needs a model of its own: --baseline {name}=DIRECTORY")
        missing = [package for package in BASELINES[name].packages if find_spec(package) is None]
        if missing:
            notes.append(f"{name} is left out: not installed: {', '.join(missing)}")
            continue
        title = f"{name}: {Path(model or first).name}"
        rows.append(Entry(title, name, model or first, language=language))
    return rows, notes


def _numbers(text: str, option: str) -> list[float]:
    """Parse positive numbers that are separated by commas."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(0 < n < math.inf for n in numbers) or len(set(numbers)) < len(numbers):
        raise ConfigError(f"{option} {text!r}: give positive numbers with commas between them, each once")
    return numbers


def _measure(entries: list[Entry], speech: Speech, settings: BenchSettings, notes: list[str]) -> Report:
    import sys
    import time

    from littlefoot.bench import runner
    from littlefoot.bench.summary import load_average, summarise
    from littlefoot.cli.progress import bar

    utterances = speech.utterances()
    before, start = load_average(), time.perf_counter()
    with bar("measuring", runner.steps(entries, utterances, settings)) as advance:
        measured = runner.measure(entries, utterances, settings, advance)
    return summarise(
        measured,
        settings,
        [str(path) for path in speech.data] if speech.data else ["bundled samples"],
        speech.split if speech.data else "samples",
        scored=speech.data is not None,
        notes=notes,
        command=" ".join(["littlefoot", *sys.argv[1:]]),
        seconds_taken=time.perf_counter() - start,
        load_before=before,
    )


def _show(report: Report) -> None:
    """Print the table to stdout and everything else to stderr."""
    import sys

    from rich.console import Console

    from littlefoot.bench.table import footnotes, rich_tables

    # Without a terminal, lines are not folded.
    console = Console(width=None if sys.stdout.isatty() else UNFOLDED)
    for made in rich_tables(report, console.width):
        console.print(made)
    for note in [*footnotes(report), *report.notes]:
        typer.echo(note, err=True)
    for failure in report.data.failed:
        tell(failure)
    for model in report.models:
        if model.error:
            tell(f"{model.name}: {model.error}")


def _regressed(report: Report, old: Report, threshold: float) -> bool:
    """Print the changes. Returns True if something became worse."""
    from littlefoot.bench.compare import compare

    changes, notes = compare(report, old, threshold)
    for change in changes:
        typer.echo(f"{'REGRESSION ' if change.regression else ''}{change}")
    for note in notes:
        typer.echo(note, err=True)
    return any(change.regression for change in changes)
