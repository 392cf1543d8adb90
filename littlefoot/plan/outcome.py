"""Describe plans and their outcomes: models chosen on the dev split, and measured once on the test split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from littlefoot.artifact import Artifact
from littlefoot.audio.manifest import Corpus
from littlefoot.plan.judge import Errors, count_errors, some
from littlefoot.plan.survey import Option
from littlefoot.plan.target import Figures, Target

TEST_UTTERANCES = 1500


@dataclass(frozen=True)
class Plan:
    """A candidate that was tried, and the figures that it should reach."""

    option: Option
    predicted: Figures
    misses: tuple[str, ...]
    """Limits that the model is expected to miss, in words."""
    shortfall: float
    """Expected distance from the target (``Target.shortfall``)."""
    hours: float


@dataclass(frozen=True)
class Made:
    """The model of a plan that was carried out."""

    plan: Plan
    model: Artifact
    measured: Figures
    """Figures of the model, with the word errors of the dev split."""
    first: Figures
    """Figures of the original model, with the same errors."""
    misses: tuple[str, ...]
    shortfall: float


@dataclass(frozen=True)
class Outcome:
    """The chosen model, with its errors on speech that no choice was based on."""

    plan: Plan
    model: Artifact
    measured: Figures
    dev_wer: float | None
    """Word error rate on the dev split, which the prediction and the choice are based on."""
    first: Figures
    """Figures of the original model, with its errors on the same speech."""
    loss: tuple[float, float, float]
    """Increase of the word error rate, and its 95 % interval."""
    excess: tuple[float, float, float] | None
    """Word error rate minus the target's limit, and its 95 % interval. Values below 0 meet the limit. None if
    the target has no such limit."""
    split: str
    """Split of the speech: ``test``, or ``dev`` if there is no test split."""
    utterances: int
    misses: tuple[str, ...]

    @property
    def verdict(self) -> str | None:
        """Return in words whether the limit of errors is met; None if there is no such limit."""
        if self.excess is None:
            return None
        more, low, high = (100 * value for value in self.excess)
        where = f"{self.utterances} {self.split} utterances"
        if low <= 0 < high:
            side = "met" if more <= 0 else "missed"
            return (
                f"the limit of word errors is {side} by the estimate only: on {where} the errors are "
                f"{more:+.2f} points from it, and the 95 % interval, {low:+.2f} to {high:+.2f}, allows both"
            )
        side = "met" if high <= 0 else "missed"
        return (
            f"the limit of word errors is {side}: on {where} the errors are {more:+.2f} points from it "
            f"({low:+.2f} to {high:+.2f}, 95 %)"
        )


def verified(
    made: Made,
    first: Artifact,
    corpus: Corpus | None,
    target: Target,
    cores: int,
    tell: Callable[[str], None],
) -> Outcome:
    """Measure the chosen and the original model on the test split, or on dev if there is no test split."""
    if corpus is None:
        none = (0.0, 0.0, 0.0)
        return Outcome(made.plan, made.model, made.measured, None, made.first, none, None, "", 0, made.misses)
    split, utterances = "test", some(corpus, "test", TEST_UTTERANCES)
    if not utterances:
        split, utterances = "dev", some(corpus, "dev", TEST_UTTERANCES)
        tell("there is no test split: errors are counted on dev, on which the plan was chosen")
    tell(f"counting errors on {len(utterances)} {split} utterances")
    theirs, mine = (count_errors(model, utterances, cores) for model in (first, made.model))
    measured, before = replace(made.measured, wer=mine.wer), replace(made.first, wer=theirs.wer)
    return Outcome(
        made.plan,
        made.model,
        measured,
        made.measured.wer,
        before,
        mine.more_than(theirs),
        excess_of(mine, theirs, target),
        split,
        len(utterances),
        tuple(target.misses(measured, theirs.wer)),
    )


def excess_of(mine: Errors, theirs: Errors, target: Target) -> tuple[float, float, float] | None:
    """Compute a model's word error rate minus the limit of a target, with its 95 % interval."""
    if not target.limits_errors:
        return None

    def excess(wer: float, reference: float) -> float:
        limit = target.wer_limit(reference)
        assert limit is not None  # it limits errors
        return wer - limit

    return mine.compared_with(theirs, excess)
