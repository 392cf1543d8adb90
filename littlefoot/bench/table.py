"""Show a report as a table, on a terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from littlefoot.bench.quiet import THRESHOLD
from littlefoot.bench.report import UNAVAILABLE, Model, Report
from littlefoot.errors import LittlefootError

if TYPE_CHECKING:
    from rich.table import Table

MARKS = "<!-- bench -->\n", "<!-- /bench -->\n"
MISSING = "-"
ALL_COLUMNS = 200
"""Width of a terminal at which all columns are shown."""


@dataclass(frozen=True)
class Column:
    """A figure of a model, as text."""

    title: str
    text: Callable[[Model], str | None]
    rank: str | None = None
    """Measure whose best models are marked."""
    minor: bool = False
    """Whether a narrow terminal omits it."""


def columns(report: Report) -> list[Column]:
    """List the columns for which at least one model has a figure."""
    threads = "1 thread" if report.threads[0] == 1 else f"{report.threads[0]} threads"
    every = [
        Column("MB", lambda m: _scaled(m.bytes, 1e-6, ".2f"), "bytes"),
        Column("M parameters", lambda m: _scaled(m.parameters, 1e-6, ".2f"), minor=True),
        Column("precision", lambda m: m.precision, minor=True),
        Column("WER %", _wer, "wer"),
        Column("points more", _points),
        Column("CER %", lambda m: _scaled(m.cer, 100, ".1f"), minor=True),
        Column(f"x real time, {threads}", lambda m: _scaled(m.x_realtime, 1, ".0f"), "x_realtime"),
        Column("times as fast", _times_as_fast),
        Column("latency ms, p50 / p95 / p99", _latency),
        Column("load s, warm (cold)", _load, minor=True),
        Column("peak MB", lambda m: _scaled(m.peak_rss_bytes, 1e-6, ".0f"), "peak_rss_bytes"),
        Column("million MAC per s", lambda m: _scaled(m.macs_per_audio_s, 1e-6, ".0f"), minor=True),
        Column("% of peak", lambda m: _scaled(m.roofline_share, 100, ".0f"), minor=True),
        Column("CPU s per audio min", lambda m: _scaled(m.cpu_s_per_audio_s, 60, ".2f"), minor=True),
        Column("J per audio s", lambda m: _scaled(m.energy_j_per_audio_s, 1, ".3g")),
        Column("g CO2 per audio h", lambda m: _scaled(m.co2_g_per_audio_h, 1, ".3g"), minor=True),
    ]
    every.append(Column("error", lambda m: m.error))
    return [column for column in every if any(column.text(model) for model in report.models)]


def _scaled(value: float | None, factor: float, form: str) -> str | None:
    return None if value is None else format(value * factor, form)


def _latency(model: Model) -> str | None:
    latency = model.latency_ms
    return None if latency is None else f"{latency.p50:.0f} / {latency.p95:.0f} / {latency.p99:.0f}"


def _wer(model: Model) -> str | None:
    if model.wer is None or model.wer_interval is None:
        return None
    low, high = model.wer_interval
    return f"{100 * model.wer:.1f} ({100 * low:.1f} - {100 * high:.1f})"


def _points(model: Model) -> str | None:
    """Write the difference in errors from the baseline, in points, with a mark if it may be chance."""
    difference = model.wer_difference
    if difference is None:
        return None
    chance = difference.interval[0] <= 0 <= difference.interval[1]
    return f"{100 * difference.wer:+.1f}{' ~' if chance else ''}"


def _times_as_fast(model: Model) -> str | None:
    """Write the ratio, with its interval if that is wide."""
    if model.times_as_fast is None or model.times_as_fast_interval is None:
        return None
    low, high = model.times_as_fast_interval
    return f"{model.times_as_fast:.2f}" + ("" if model.settled else f" ({low:.2f} - {high:.2f})")


def _load(model: Model) -> str | None:
    if model.load_s is None or model.load_cold_s is None:
        return None
    return f"{model.load_s:.2f} ({model.load_cold_s:.2f})"


def streaming_rows(report: Report) -> list[tuple[str, ...]]:
    """Return the rows of streaming models: name, algorithmic latency, chunk p50 / p95 / p99, first and final
    text.
    """
    return [
        (
            model.name,
            f"{s.algorithmic_latency_ms:.0f}",
            f"{s.chunk_ms.p50:.1f} / {s.chunk_ms.p95:.1f} / {s.chunk_ms.p99:.1f}",
            f"{s.first_partial_ms:.0f}",
            f"{s.finalisation_ms:.1f}",
        )
        for model in report.models
        if (s := model.streaming) is not None
    ]


STREAMING = (
    "streaming model",
    "algorithmic latency ms",
    "chunk ms, p50 / p95 / p99",
    "first text ms",
    "final text ms",
)


def footnotes(report: Report) -> list[str]:
    """Write the notes that explain the table."""
    machine, data = report.machine, report.data
    busy = ""
    if machine.other_programs is not None and machine.other_programs > THRESHOLD:
        used = machine.other_programs * machine.threads
        busy = f" The machine was busy: other programs used {used:.1f} threads of it."
    notes = [
        f"{machine.processor}, {machine.threads} threads{', virtual' if machine.virtual else ''}"
        f" ({', '.join(machine.instructions) or 'no special instructions'});"
        f" {', '.join(f'{name} {version}' for name, version in machine.versions.items())}.{busy}",
        f"{sum(data.sets.values())} utterances, {data.seconds / 60:.1f} minutes"
        f" ({', '.join(f'{name} {count}' for name, count in data.sets.items())})."
        f" Speed: {report.headline_s:g} s of audio, {report.launches} launches of {report.rounds} rounds."
        f" Baseline: {report.baseline or 'none'}.",
        "* best, or not to be told from the best; ~ may be chance (the paired 95 % interval holds 0)."
        " A ratio with an interval may be off by more than 5 % in another run.",
    ]
    if data.pseudo_labelled:
        names = ", ".join(data.pseudo_labelled)
        notes.append(f"References of {names} are by other recognisers: agreement with them, not truth.")
    notes.append(f"Energy: {report.energy.source} ({report.energy.detail}).")
    if report.energy.source != UNAVAILABLE and report.energy.g_co2_per_kwh is not None:
        notes.append(f"CO2: {report.energy.g_co2_per_kwh:g} g per kWh, {report.energy.co2_source}.")
    return notes


def _marked(column: Column, model: Model) -> str:
    text = column.text(model)
    if not text:
        return MISSING
    return f"{text} *" if column.rank and model.ranks.get(column.rank) == 1 else text


def rich_tables(report: Report, width: int) -> list[Table]:
    """Make tables for a terminal of this width; a narrow one gets the most important columns."""
    from rich.table import Table

    chosen = [column for column in columns(report) if width >= ALL_COLUMNS or not column.minor]
    table = Table()
    table.add_column("model", no_wrap=True)
    for column in chosen:
        table.add_column(column.title)
    for model in report.models:
        table.add_row(model.name, *(_marked(column, model) for column in chosen))
    tables = [table]
    if rows := streaming_rows(report):
        live = Table(*STREAMING)
        for row in rows:
            live.add_row(*row)
        tables.append(live)
    return tables


def markdown(report: Report) -> str:
    """Write the tables and their footnotes in Markdown."""
    chosen = columns(report)
    lines = _markdown_table(
        ["model", *(column.title for column in chosen)],
        [[model.name, *(_marked(column, model) for column in chosen)] for model in report.models],
    )
    if rows := streaming_rows(report):
        lines += ["", *_markdown_table(STREAMING, rows)]
    lines += ["", *(f"- {escape(note)}" for note in footnotes(report))]
    return "\n".join(lines) + "\n"


def _markdown_table(
    head: list[str] | tuple[str, ...], rows: list[list[str]] | list[tuple[str, ...]]
) -> list[str]:
    made = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(escape, cells))} |" for cells in made]


def escape(text: str) -> str:
    """Escape characters that Markdown would take for formatting."""
    for character in ("\\", "|", "*", "~", "<"):
        text = text.replace(character, f"\\{character}")
    return text


def around(path: Path) -> tuple[str, str]:
    """Return the text before and after the marks of a file; empty if the file does not exist.

    Raises LittlefootError if the file has no marks, so that nothing is overwritten.
    """
    if not path.exists():
        return "", ""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LittlefootError(
            f"{path}: cannot be read ({error}): name a file in UTF-8, or a new one"
        ) from error
    before, begin, rest = text.partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not begin or not end:
        raise LittlefootError(
            f"{path}: has no lines {MARKS[0].strip()} and {MARKS[1].strip()}: "
            "add them where the table should be, or name a new file"
        )
    return before, after


def write_markdown(path: Path, report: Report) -> None:
    """Write the tables between the marks of a file, or into a new one. Raises as ``around``."""
    before, after = around(path)
    path.write_text(f"{before}{MARKS[0]}{markdown(report)}{MARKS[1]}{after}", encoding="utf-8")
