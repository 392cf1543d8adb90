"""Search for a model that meets a target, and keep the evidence.

All intermediate results are stored in a folder, so that a search can be interrupted and resumed:

``question.json``      the target, model, data and settings; a search with others is refused
``survey.json``        the candidates that meet the limits of size, speed and latency
``trials/``            short trainings, each with its recipe, log and model
``judged.json``        the scores of their models on the dev split
``plans/``             the trainings of the plans that were carried out, each with its recipe, log and model
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import yaml

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact, fingerprint, weights_file_bytes
from littlefoot.audio import reading
from littlefoot.audio.manifest import Corpus
from littlefoot.errors import ConfigError, TrainingError
from littlefoot.plan.build import Builder, speeds
from littlefoot.plan.candidates import Candidate, candidates, written
from littlefoot.plan.judge import Judge, Score, some
from littlefoot.plan.outcome import Made, Outcome, Plan, verified
from littlefoot.plan.search import RUNGS, extrapolate, halve, wer_of
from littlefoot.plan.survey import Option, survey
from littlefoot.plan.target import Figures, Target
from littlefoot.plan.trainings import MODEL, RECIPE, Training, run_all
from littlefoot.system import atomic
from littlefoot.system import settings as settings_file

DEV_UTTERANCES = 240
ENOUGH_SECONDS = 600.0
"""Seconds of training speech below which only candidates without training are considered."""
TRIALS, CARRIED_OUT = "trials", "plans"
"""Folders of the trainings."""
PLANS = 3
"""Number of plans that are proposed, and carried out until one meets the target."""
CHECKPOINTS = 3
"""Checkpoints of a training on disk at once, including the one that is being written."""
BYTES_PER_PARAMETER = 16
"""Bytes of a checkpoint per parameter: the weight, its average and two moments in 32 bits."""


@dataclass(frozen=True)
class SearchSettings:
    """Settings of a search."""

    steps: int = 4000
    """Training steps of a plan, all methods together."""
    train: dict[str, Any] = field(default_factory=dict)
    """Settings of every training (``littlefoot.training.train_config``)."""
    threads: int = 1
    """Processor threads for measuring speed."""
    processes: int = 1
    """Processes that train at once: each runs a trial, or all train one plan together."""
    cores: int = 1
    """Processor threads that all processes together may use."""
    ray: str | None = None
    """Address of a Ray cluster for the trials."""


Tell = Callable[[str], None]


class Planner:
    """A search for one model and target."""

    def __init__(
        self,
        model: Artifact,
        name: str,
        target: Target,
        corpus: Corpus | None,
        data: Sequence[Path],
        folder: Path,
        settings: SearchSettings,
        tell: Tell,
    ) -> None:
        """
        Args:
            name: name by which ``littlefoot shrink`` finds the model.
            corpus: speech of ``data`` for training (train), choices (dev) and the final measurement (test).
            folder: folder of all intermediate results.

        Raises:
            ConfigError: there is no speech to count errors on, the disk is too full, or the folder contains
                another search.
        """
        self.model, self.name, self.target, self.corpus, self.data = model, name, target, corpus, tuple(data)
        self.folder, self.settings, self.tell = folder, settings, tell
        if model.config.littlefoot.quantization is not None:
            raise ConfigError(f"{name} is quantized already: start with the full-precision model")
        if corpus is None and target.limits_errors:
            raise ConfigError(
                f"target '{target.text}' limits word errors, which are counted on speech with transcripts: "
                "name it with --data"
            )
        self.training = corpus is not None and self._enough(corpus)
        self._dev = (
            None if corpus is None else Judge(model, some(corpus, "dev", DEV_UTTERANCES), settings.cores)
        )
        self._judged: dict[str, Score] = {}
        self._question = {
            "target": asdict(replace(target, text="")),
            "model": fingerprint(model),
            "data": [str(path.resolve()) for path in data],
            "steps": settings.steps,
            "train": settings.train,
            "threads": settings.threads,
        }
        self._remember()

    def _enough(self, corpus: Corpus) -> bool:
        """Return True if PyTorch is installed and there is enough training speech; otherwise report why."""
        if find_spec("torch") is None:
            self.tell(
                "PyTorch is not installed (pip install 'littlefoot[train]'): only candidates without "
                "training are considered"
            )
            return False
        seconds = 0.0
        for utterance in corpus.of_split("train"):
            seconds += utterance.seconds or reading.duration(utterance.path, exact=False)
            if seconds >= ENOUGH_SECONDS:
                return True
        self.tell(
            f"{seconds / 60:.1f} minutes of training speech are too little to train on "
            f"({ENOUGH_SECONDS / 60:.0f} are enough): only candidates without training are considered"
        )
        return False

    def _remember(self) -> None:
        """Read the results of an interrupted search. Raises ConfigError if the folder contains another."""
        path = self.folder / "question.json"
        if path.exists():
            asked = json.loads(path.read_text(encoding="utf-8"))
            different = [name for name, value in self._question.items() if asked.get(name) != value]
            if different:
                raise ConfigError(
                    f"{self.folder} contains a search with another {', '.join(different)}: remove it, or "
                    "choose another output"
                )
        judged = self.folder / "judged.json"
        if judged.exists():
            rows = json.loads(judged.read_text(encoding="utf-8"))
            self._judged = {name: settings_file.read(Score, row, "") for name, row in rows.items()}

    def _write(self, name: str, content: object) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with atomic.file(self.folder / name) as temporary:
            temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")

    def plans(self) -> list[Plan]:
        """Return the best plans, the best one first.

        Raises:
            ConfigError: no candidate meets the target's other limits, whatever its errors.
            TrainingError: all candidates failed.
        """
        options = self._survey()
        if self._dev is None:  # without errors to compare, prefer the largest
            return [self._planned(option, None, 0.0) for option in options[:PLANS]]
        floor = self._dev.first.wer
        self.tell(
            f"the original model has {100 * floor:.1f} % of words wrong on {len(self._dev)} dev utterances"
        )
        found = self._made(options, floor)
        found += self._tried(self._to_try(options, found, floor), floor)
        if not found:
            raise TrainingError(f"all candidates failed: see the logs in {self.folder}")
        return ranked(found, self.target)[:PLANS]

    def _made(self, options: Sequence[Option], floor: float) -> list[Plan]:
        """Make and score the candidates that need no training."""
        ready = [option for option in options if not option.candidate.trained]
        trainings = [self._training(CARRIED_OUT, option.candidate, 1, True) for option in ready]
        plans = []
        for option, training, error in zip(ready, trainings, run_all(trainings, 1), strict=True):
            if error is not None:
                self.tell(f"{option.candidate.name} failed: {error}")
                continue
            score = self._heard(option, training)
            plans.append(self._planned(option, score.wer, training.seconds / 3600, floor))
        return plans

    def _to_try(self, options: Sequence[Option], made: Sequence[Plan], floor: float) -> list[Option]:
        """Select the candidates for short trainings, the largest first."""
        trained = [option for option in options if option.candidate.trained]
        met = [plan for plan in made if not plan.misses]
        if not met:
            return trained
        if not self.target.limits_errors:  # no candidate is expected to make fewer errors than the original
            as_good = [plan for plan in met if plan.predicted.wer is not None and plan.predicted.wer <= floor]
            return [] if as_good else trained
        smallest = min(plan.predicted.bytes for plan in met)
        return [option for option in trained if option.figures.bytes < smallest]

    def _tried(self, to_try: Sequence[Option], floor: float) -> list[Plan]:
        """Train candidates for a short time, and extrapolate their errors to the full training."""
        if not to_try:
            return []
        self._room()
        kinds = [option.candidate.steps[0][0] for option in to_try]
        tried = halve(to_try, kinds, self.settings.steps, self._try)
        # without the plans that were carried out, so that a resumed search finds the same plans
        known = [(s.divergence, s.wer) for key, s in self._judged.items() if key.startswith(TRIALS)]
        plans = []
        for place, results in tried.items():
            option, steps = to_try[place], max(results)
            divergence = extrapolate(results, self.settings.steps)
            if not math.isfinite(divergence):
                continue
            training = self._training(TRIALS, option.candidate, steps, False)
            # training decides which parts pruning removes, and with them the number of bytes
            size = weights_file_bytes(artifacts.load(training.folder / MODEL))
            option = replace(option, figures=replace(option.figures, bytes=size))
            hours = training.seconds / 3600 * self.settings.steps / steps
            plans.append(self._planned(option, wer_of(divergence, known, floor), hours, floor))
        return plans

    def _survey(self) -> list[Option]:
        path = self.folder / "survey.json"
        if path.exists():
            rows = json.loads(path.read_text(encoding="utf-8"))
            known = {c.name: c for c in self._candidates()}
            return [Option(known[row["name"]], Figures(**row["figures"])) for row in rows]
        options = survey(
            Builder(self.model, self.corpus if self.training else None),
            self._candidates(),
            self.target,
            self.settings.threads,
            self.tell,
        )
        rows = [{"name": option.candidate.name, "figures": asdict(option.figures)} for option in options]
        self._write("question.json", self._question)  # not before: an unreachable target leaves no folder
        self._write("survey.json", rows)
        return options

    def _candidates(self) -> list[Candidate]:
        by_bytes = self.target.bytes is not None and self.target.speed is None
        target = self.target
        return candidates(self.model.config, target.latency_ms, self.training, by_bytes, target.bytes)

    def _try(self, options: Sequence[Option], steps: int) -> list[float]:
        self.tell(
            f"{len(options)} trials of {steps} steps: "
            + "; ".join(option.candidate.name for option in options)
        )
        trainings = [self._training(TRIALS, option.candidate, steps, False) for option in options]
        failed = run_all(trainings, self.settings.processes, self.settings.ray)
        divergences = []
        for option, training, error in zip(options, trainings, failed, strict=True):
            if error is not None:
                self.tell(f"{option.candidate.name} failed: {error}")
                divergences.append(math.inf)
                continue
            divergences.append(self._heard(option, training).divergence)
            shutil.rmtree(training.folder / f"{MODEL}-steps", ignore_errors=True)
        return divergences

    def _training(self, kind: str, candidate: Candidate, steps: int, final: bool) -> Training:
        """Describe a training, and write its recipe if it is absent."""
        slug = re.sub(r"[^a-z0-9]+", "-", candidate.name.lower()).strip("-")
        folder = self.folder / kind / slug / ("" if final else str(steps))
        folder.mkdir(parents=True, exist_ok=True)
        together = self.settings.processes if final and candidate.trained else 1
        threads = self.settings.cores if final else max(1, self.settings.cores // self.settings.processes)
        train = {"threads": max(1, threads // together), **self.settings.train}
        recipe = written(candidate, self.model.config, steps, train, final)
        if not (folder / RECIPE).exists():
            with atomic.file(folder / RECIPE) as temporary:
                temporary.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
        return Training(folder, self.name, self.data, together, threads)

    def _heard(self, option: Option, training: Training) -> Score:
        """Score the model of a training on the dev split, or return its stored score."""
        assert self._dev is not None
        key = str(training.folder.relative_to(self.folder))
        if key not in self._judged:
            self._judged[key] = self._dev.score(artifacts.load(training.folder / MODEL))
            self._write("judged.json", {name: asdict(score) for name, score in self._judged.items()})
        score = self._judged[key]
        self.tell(
            f"{option.candidate.name}: {100 * score.wer:.1f} % of words wrong, a KL divergence of "
            f"{score.divergence:.3f} nats per frame from the original model"
        )
        return score

    def _room(self) -> None:
        """Raise ConfigError if the disk has too little room for the trials."""
        parameters = self.model.parameters
        needed = parameters * (
            BYTES_PER_PARAMETER * CHECKPOINTS * self.settings.processes + 4 * sum(c for _, c in RUNGS)
        )
        free = shutil.disk_usage(self.folder).free
        if free < needed:
            raise ConfigError(
                f"{self.folder} has {free / 1e9:.1f} GB of room, and the search may need {needed / 1e9:.1f} "
                "GB: make room, or choose an output on another disk"
            )

    def _planned(self, option: Option, wer: float | None, hours: float, floor: float | None = None) -> Plan:
        predicted = replace(option.figures, wer=wer)
        shortfall = self.target.shortfall(predicted, floor)
        return Plan(option, predicted, tuple(self.target.misses(predicted, floor)), shortfall, hours)

    def best(self, plans: Sequence[Plan]) -> Outcome:
        """Carry out plans until one meets the target on the dev split, and measure it on the test split.

        If all of them miss it, the nearest is measured. No choice depends on the test split: whatever its
        errors are, no further plan is carried out.

        Raises TrainingError if all trainings fail.
        """
        made: list[Made] = []
        failed: TrainingError | None = None
        for plan in plans:
            try:
                made.append(self.carry_out(plan))
            except TrainingError as error:
                self.tell(f"{plan.option.candidate.name} failed: {error}")
                failed = error
                continue
            if not made[-1].misses:
                break
            self.tell(f"{plan.option.candidate.name} misses the target: {'; '.join(made[-1].misses)}")
        if not made:
            assert failed is not None  # there are plans
            raise failed
        chosen = min(made, key=lambda each: (each.shortfall, each.measured.wer or 0.0))
        return verified(chosen, self.model, self.corpus, self.target, self.settings.cores, self.tell)

    def carry_out(self, plan: Plan) -> Made:
        """Train a plan's model and measure it, with its errors on the dev split.

        Raises TrainingError if its training fails.
        """
        candidate = plan.option.candidate
        training = self._training(CARRIED_OUT, candidate, self.settings.steps, True)
        if not training.done:
            self.tell(f"carrying out: {candidate.name}; the log is {training.folder / 'log.txt'}")
        (error,) = run_all([training], 1)
        if error is not None:
            raise error
        model, wer, floor = artifacts.load(training.folder / MODEL), None, None
        if self._dev is not None:
            wer, floor = self._heard(plan.option, training).wer, self._dev.first.wer
        live = self.target.latency_ms is not None
        before, speed = speeds([self.model, model], self.settings.threads, live)
        first = Figures(
            weights_file_bytes(self.model), before, self.model.config.algorithmic_latency_ms, floor
        )
        measured = Figures(weights_file_bytes(model), speed, model.config.algorithmic_latency_ms, wer)
        misses = tuple(self.target.misses(measured, floor))
        return Made(plan, model, measured, first, misses, self.target.shortfall(measured, floor))


def ranked(plans: Sequence[Plan], target: Target) -> list[Plan]:
    """Sort plans: first those that meet the target, then those that miss it, the nearest first.

    Plans that meet the target are sorted by size if it limits errors, otherwise by errors.
    """

    def key(plan: Plan) -> tuple[float, float]:
        wer = plan.predicted.wer if plan.predicted.wer is not None else 1.0
        smallest = target.limits_errors and not plan.misses
        return plan.shortfall, plan.predicted.bytes if smallest else wer

    return sorted(plans, key=key)
