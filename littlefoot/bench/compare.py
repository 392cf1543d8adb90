"""Find the figures that became worse since an older report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from littlefoot.bench.report import Model, Report


@dataclass(frozen=True)
class Change:
    """A figure that both reports have."""

    model: str
    measure: str
    before: float
    after: float
    worse: float
    """Relative change: 0.1 is a tenth worse, negative is better."""
    regression: bool
    """Whether the change exceeds the threshold and chance."""

    def __str__(self) -> str:
        direction = "worse" if self.worse > 0 else "better"
        return (
            f"{self.model}: {self.measure} {self.before:.4g} -> {self.after:.4g}, "
            f"{100 * abs(self.worse):.1f} % {direction}"
        )


@dataclass(frozen=True)
class Measure:
    """A figure, with the way to compare it."""

    name: str
    value: Callable[[Model], float | None]
    interval: Callable[[Model], tuple[float, float] | None] = lambda model: None
    """Function that returns the interval of the value; None: it is exact."""
    more_is_better: bool = False


def compare(new: Report, old: Report, threshold: float = 0.05) -> tuple[list[Change], list[str]]:
    """Return the changes of all models in both reports, and notes on figures that are not comparable.

    Speeds are compared as ratios to the same baseline, because times of different days or machines are not
    comparable. Error rates are compared on the same utterances.

    Args:
        threshold: relative change beyond which a figure is a regression, unless its interval is that wide.
    """
    measures = [
        Measure("MB", lambda m: m.bytes and m.bytes / 1e6),
        Measure("peak MB", lambda m: m.peak_rss_bytes and m.peak_rss_bytes / 1e6),
    ]
    notes = []
    if new.data.fingerprint == old.data.fingerprint:
        measures.append(Measure("WER %", lambda m: m.wer and 100 * m.wer))
    else:
        notes.append("error rates are not compared: the utterances are not the same")
    same = (
        new.baseline is not None
        and new.baseline == old.baseline
        and (new.headline_s, new.threads[0]) == (old.headline_s, old.threads[0])
    )
    if same:
        measures.append(
            Measure(
                f"times as fast as {new.baseline}",
                lambda m: None if m.name == new.baseline else m.times_as_fast,
                lambda m: m.times_as_fast_interval,
                more_is_better=True,
            )
        )
    else:
        notes.append("speeds are not compared: the baseline, the length or the threads are not the same")
    before = {model.name: model for model in old.models}
    changes = []
    for model in new.models:
        known = before.get(model.name)
        if known is None:
            notes.append(f"{model.name} is new")
        elif model.error and not known.error:
            changes.append(Change(model.name, "models that work", 1, 0, 1.0, True))
        else:
            changes += [
                change for m in measures if (change := _change(m, known, model, threshold)) is not None
            ]
    notes += [f"{name} is gone" for name in before if name not in {model.name for model in new.models}]
    return changes, notes


def _change(measure: Measure, old: Model, new: Model, threshold: float) -> Change | None:
    before, after = measure.value(old), measure.value(new)
    if not before or after is None:
        return None
    low, high = measure.interval(new) or (after, after)
    worse = _worse(before, after, measure.more_is_better)
    least = min(_worse(before, end, measure.more_is_better) for end in (low, high))
    regression = worse > threshold and least > 0
    return Change(new.name, measure.name, before, after, worse, regression)


def _worse(before: float, after: float, more_is_better: bool) -> float:
    if more_is_better:
        return before / after - 1 if after else float("inf")
    return after / before - 1
