"""What a plan is, and what came of it: chosen on the dev split, measured once on the test split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from littlefoot.artifact import Artifact
from littlefoot.audio.manifest import Corpus
from littlefoot.plan.judge import Errors, listen, some
from littlefoot.plan.survey import Option
from littlefoot.plan.target import Figures, Target

TEST_UTTERANCES = 1500


@dataclass(frozen=True)
class Plan:
    """A candidate that was tried, and what it should reach."""

    option: Option
    predicted: Figures
    misses: tuple[str, ...]
    """What it is expected to miss."""
    shortfall: float
    """How far it is expected to miss the target (``Target.shortfall``)."""
    hours: float


@dataclass(frozen=True)
class Made:
    """The model of a plan that was carried out."""

    plan: Plan
    model: Artifact
    measured: Figures
    """With the word errors of the dev split."""
    first: Figures
    """The model that it was made of, on the same."""
    misses: tuple[str, ...]
    shortfall: float


@dataclass(frozen=True)
class Outcome:
    """The model that was chosen, with its errors on speech that nothing was chosen with."""

    plan: Plan
    model: Artifact
    measured: Figures
    dev_wer: float | None
    """On the speech that the prediction is for, and that the model was chosen on."""
    first: Figures
    """The model that it was made of, on the same."""
    loss: tuple[float, float, float]
    """How much more of the words are wrong, and the 95 % interval of that."""
    excess: tuple[float, float, float] | None
    """How far the word errors are above the target's limit, and the 95 % interval of that; below 0 they meet
    it. None without such a limit."""
    split: str
    """Which that speech is: ``test``, or ``dev`` where there is no other."""
    utterances: int
    misses: tuple[str, ...]

    @property
    def verdict(self) -> str | None:
        """What the interval says of the limit of errors, in words; None where there is no such limit."""
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
    """Measure the chosen model and the first one on the test split, or on dev where there is no other."""
    if corpus is None:
        none = (0.0, 0.0, 0.0)
        return Outcome(made.plan, made.model, made.measured, None, made.first, none, None, "", 0, made.misses)
    split, utterances = "test", some(corpus, "test", TEST_UTTERANCES)
    if not utterances:
        split, utterances = "dev", some(corpus, "dev", TEST_UTTERANCES)
        tell("there is no test split: the errors are those of the speech that the plan was chosen on")
    tell(f"listening to {len(utterances)} {split} utterances")
    theirs, mine = (listen(model, utterances, cores) for model in (first, made.model))
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
    """How far a model's word error rate is above what a target allows, with the 95 % interval of that."""
    if not target.limits_errors:
        return None

    def excess(wer: float, reference: float) -> float:
        limit = target.wer_limit(reference)
        assert limit is not None  # it limits errors
        return wer - limit

    return mine.compared_with(theirs, excess)
