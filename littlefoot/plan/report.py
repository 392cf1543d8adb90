"""Report the result of a search on the terminal, as JSON, and in the model card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from littlefoot.plan.outcome import Outcome, Plan
from littlefoot.plan.target import Figures, Target
from littlefoot.system import machine


def proposal(plans: Sequence[Plan]) -> str:
    """Format plans as a table."""
    lines = [f"{'plan':<34} {'MB':>7} {'x real time':>12} {'latency ms':>11} {'WER %':>6}  {'time':>8}"]
    for number, plan in enumerate(plans, 1):
        figures = plan.predicted
        name = f"{number}. {plan.option.candidate.name}"
        lines.append(f"{name:<34} {_row(figures)}  {_duration(plan.hours):>8}")
        lines += [f"   expected to miss: {missed}" for missed in plan.misses]
    return "\n".join(lines)


def summary(outcome: Outcome) -> str:
    """Compare a model with its target and with the original model, as a table."""
    lines = [f"{'':<34} {'MB':>7} {'x real time':>12} {'latency ms':>11} {'WER %':>6}"]
    for name, figures in (
        ("the first model", outcome.first),
        ("expected", outcome.plan.predicted),
        ("measured", outcome.measured),
    ):
        lines.append(f"{name:<34} {_row(figures)}")
    if outcome.utterances:
        more, low, high = (100 * value for value in outcome.loss)
        lines.append(
            f"{more:+.2f} points of WER ({low:+.2f} to {high:+.2f}, 95 %) on {outcome.utterances} "
            f"{outcome.split} utterances; on the dev split the expected WER was "
            f"{_percent(outcome.plan.predicted.wer)} %, and the measured one is {_percent(outcome.dev_wer)} %"
        )
    lines += [f"missed: {missed}" for missed in outcome.misses]
    if outcome.verdict is not None:
        lines.append(outcome.verdict)
    return "\n".join(lines)


def to_dict(target: Target, outcome: Outcome) -> dict[str, Any]:
    """Build the object for --json and for the section ``plan`` of a model's config.json."""
    return {
        "target": target.text,
        "plan": outcome.plan.option.candidate.name,
        "met": not outcome.misses,
        "misses": list(outcome.misses),
        "predicted": asdict(outcome.plan.predicted),
        "measured": asdict(outcome.measured),
        "dev_wer": outcome.dev_wer,
        "first": asdict(outcome.first),
        "wer_loss": outcome.loss[0],
        "wer_loss_interval": list(outcome.loss[1:]),
        "wer_excess": outcome.excess and outcome.excess[0],
        "wer_excess_interval": outcome.excess and list(outcome.excess[1:]),
        "verdict": outcome.verdict,
        "split": outcome.split,
        "utterances": outcome.utterances,
    }


def card(target: Target, outcome: Outcome, threads: int) -> str:
    """Write a section of the model card."""
    measured, first = outcome.measured, outcome.first
    rows = [
        ("MB", f"{first.bytes / 1e6:.2f}", f"{measured.bytes / 1e6:.2f}"),
        (
            f"times real time, {threads} thread{'s' * (threads > 1)}",
            _number(first.speed),
            _number(measured.speed),
        ),
    ]
    if measured.latency_ms is not None:
        rows.append(("algorithmic latency, ms", _number(first.latency_ms), _number(measured.latency_ms)))
    lines = ["", f"## Made for {target.text}", ""]
    if outcome.utterances:
        rows.append(
            (
                f"WER %, {outcome.utterances} {outcome.split} utterances",
                _percent(first.wer),
                _percent(measured.wer),
            )
        )
    lines += ["| | the first model | this one |", "|---|---|---|"]
    lines += [f"| {name} | {before} | {after} |" for name, before, after in rows]
    lines.append("")
    if outcome.utterances:
        more, low, high = (100 * value for value in outcome.loss)
        lines.append(f"{more:+.2f} points of WER ({low:+.2f} to {high:+.2f}, 95 % by a paired bootstrap).")
    if outcome.verdict is not None:
        lines.append(f"{outcome.verdict[0].upper()}{outcome.verdict[1:]}.")
    met = "The target is met." if not outcome.misses else f"Missed: {'; '.join(outcome.misses)}."
    lines.append(
        f"{met} `littlefoot shrink --target` chose this model and measured it on {machine.processor()}."
    )
    lines.append(
        "Its errors on other speech are not known. The licence and the limits are those of the first model."
    )
    return "\n".join(lines) + "\n"


def _row(figures: Figures) -> str:
    return (
        f"{figures.bytes / 1e6:>7.2f} {_number(figures.speed):>12} {_number(figures.latency_ms):>11} "
        f"{_percent(figures.wer):>6}"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _duration(hours: float) -> str:
    minutes = round(60 * hours)
    return f"{minutes // 60} h {minutes % 60:02d}" if minutes >= 60 else f"{max(minutes, 1)} min"
