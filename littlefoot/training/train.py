"""Training: one loop for every objective, from a checkpoint or from random weights.

Runs on accelerate, so the same code trains on a CPU, a GPU or many of either. Nothing random depends on
what came before: order and augmentation are functions of (seed, epoch, utterance), dropout of
(seed, step). So a checkpoint is the weights, the optimizer's moments and three counters, and a resumed
run takes bit for bit the steps that an uninterrupted one would have taken.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn

from littlefoot import artifact
from littlefoot.audio.manifest import Corpus, Utterance
from littlefoot.errors import ConfigError, TrainingError
from littlefoot.system.outputs import check_folder, writing
from littlefoot.training import early, trackers
from littlefoot.training.average import MovingAverage
from littlefoot.training.data import Batch, TrainingSet
from littlefoot.training.devices import (
    agreed,
    end_process_group_at_exit,
    keep_memory,
    on_cpu,
    precision,
    processes,
    seed_dropout,
    to_device,
)
from littlefoot.training.epochs import Turn
from littlefoot.training.interrupts import interrupts
from littlefoot.training.local_sgd import average_processes
from littlefoot.training.module import CTCModel
from littlefoot.training.notes import absent_sets, describe, overlap
from littlefoot.training.objective import Objective
from littlefoot.training.optimizer import freeze, learning_rate, make_optimizer
from littlefoot.training.progress import Reporter, drop_rows_after
from littlefoot.training.selection import Selection
from littlefoot.training.sharding import place, place_optimizer_state, shard, whole, whole_state
from littlefoot.training.train_config import TrainConfig
from littlefoot.training.training_state import CheckpointStore
from littlefoot.training.validation import DevSet


@dataclass
class Position:
    """Position of a run in its training."""

    step: int = 0
    """Optimizer steps taken."""
    epoch: int = 0
    batch: int = 0
    """Batches of this epoch taken by each process."""
    best_wer: float = math.inf
    """Lowest mean WER on the dev sets so far."""
    evaluations_since_best: int = 0
    bad_steps: int = 0
    """Steps skipped because the gradient was not finite."""


def train(
    objective: Objective,
    corpus: Corpus,
    config: TrainConfig,
    out: Path,
    resume: bool = False,
    data: TrainingSet | None = None,
) -> float | None:
    """Train a model on the rows of split ``train``, choose by those of ``dev``, save an artifact to ``out``.

    Checkpoints, the best models so far (artifacts too, in ``best``) and ``metrics.jsonl`` go to the directory
    ``<out>-training``. SIGTERM and Ctrl-C save a checkpoint before training stops.

    Args:
        data: the rows of split ``train``, if ``training_set`` has read them already.

    Returns:
        The saved model's WER on the dev sets (their mean, a fraction); None without dev utterances, and in
        all processes but the main one.

    Raises:
        TrainingError: nothing to train on, a run already there (without ``resume``), interruption, gradients
            that stay non-finite, or too many unreadable files.
        MissingExtraError: the package of a tracker is not installed.
    """
    run = prepare(objective, corpus, config, out, resume, data)
    loop(run)
    return finish(run, out)


def folder(out: Path) -> Path:
    """Return where a training keeps its checkpoints and metrics."""
    return out.with_name(out.name + "-training")


def check_output(out: Path, resume: bool) -> None:
    """Refuse an output that exists or was begun, unless it is resumed, and one that cannot be written.

    Raises LittlefootError.
    """
    begun = CheckpointStore(folder(out), keep=1).steps()
    if not resume and (begun or out.exists()):
        there = folder(out) if begun else out
        raise TrainingError(f"{there} exists already: continue with --resume, or choose another output")
    check_folder(out.parent)


def training_set(
    model: CTCModel, rows: Sequence[Utterance], config: TrainConfig, needs_text: bool = True
) -> TrainingSet:
    """Prepare the utterances to train a model on, in batches for the processes that train together.

    Raises TrainingError if none can be used.
    """
    do_normalize = bool(model.preprocessor.get("do_normalize", True))
    parts = processes().num_processes * config.accumulate
    return TrainingSet(rows, model.vocabulary, model.config, config, do_normalize, parts, needs_text)


@dataclass
class Run:
    """A training that is prepared or under way."""

    objective: Objective
    config: TrainConfig
    data: TrainingSet
    accelerator: Accelerator
    selection: Selection
    store: CheckpointStore
    optimizer: torch.optim.Optimizer
    average: MovingAverage
    parallel: nn.Module
    """The objective as it runs in several processes."""
    alone: bool
    """True if each process trains separately, until weights are averaged."""
    metrics: Path
    at: Position
    notes: list[str]
    """Lines for the beginning of the log."""
    bad_in_a_row: int = 0
    """The last steps, as far as they were skipped."""

    @property
    def main(self) -> bool:
        """Return True in the process that writes files."""
        return bool(self.accelerator.is_main_process)

    def checkpoint(self) -> None:
        """Save all that a resumed run needs."""
        state = whole_state(
            {
                "parameters": dict(self.objective.named_parameters()),
                "average": self.average.weights(),
                "optimizer": self.optimizer.state_dict(),
                "position": dataclasses.asdict(self.at),
            }
        )
        if self.main:
            self.store.save(self.at.step, state)

    def due(self, every: int) -> bool:
        """Return True at a multiple of ``every`` steps. Processes that train alone are asked only when they
        average their weights: then at the first such step from the multiple on.
        """
        stride = self.config.average_every if self.alone else 1
        return self.at.step // every > (self.at.step - stride) // every

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from what ``checkpoint`` saved."""
        for name, parameter in self.objective.named_parameters():
            place(state["parameters"][name], parameter)
        self.average.load(state["average"])
        place_optimizer_state(self.optimizer, state["optimizer"])
        self.at = Position(**state["position"])
        self.notes.append(f"resumed after step {self.at.step}")
        if self.main:
            drop_rows_after(self.metrics, self.at.step)


def prepare(
    objective: Objective,
    corpus: Corpus,
    config: TrainConfig,
    out: Path,
    resume: bool,
    data: TrainingSet | None,
) -> Run:
    """Read the speech, place the model on its device, and take over the newest checkpoint if there is one."""
    if config.threads:
        torch.set_num_threads(config.threads)
    AcceleratorState._reset_state()  # or a second run in this process could not have another precision
    early.check(config, corpus)
    check_output(out, resume)
    work = folder(out)
    accelerator = Accelerator(
        cpu=on_cpu(), mixed_precision=precision(config), log_with=config.trackers or None, project_dir=work
    )
    end_process_group_at_exit()
    if accelerator.device.type == "cpu":
        keep_memory()
    store = CheckpointStore(work, config.keep_checkpoints)

    model = objective.model
    if data is None:
        data = training_set(model, corpus.of_split("train"), config, objective.needs_text)
    data.needs_audio = objective.needs_audio
    dev_rows = [u for u in corpus.of_split("dev") if u.set_name in (config.dev_sets or [u.set_name])]
    main = accelerator.is_main_process
    longest = 2 * config.batch_seconds
    dev = DevSet(dev_rows if main else [], model.vocabulary, data.do_normalize, longest, config.lexicon)
    selection = Selection(work / "best", config.average_best, objective, data, dev, accelerator)

    objective.to(accelerator.device).train()
    model.recompute, model.dropout = config.recompute, config.dropout
    frozen = [*config.freeze, *(["feature_extractor.*"] if config.freeze_front_end else [])]
    freeze(model, frozen)
    sharded = config.shard and accelerator.num_processes > 1
    if sharded and model.config.layer_blocks:
        raise ConfigError("train.shard: layers that share weights cannot be sharded, and need it least")
    if sharded:
        shard(objective)
    with writing(work, kind=TrainingError):
        work.mkdir(parents=True, exist_ok=True)  # what is refused before leaves no folder
    average = MovingAverage(model)
    alone = config.average_every > 0 and accelerator.num_processes > 1
    run = Run(
        objective=objective,
        config=config,
        data=data,
        accelerator=accelerator,
        selection=selection,
        store=store,
        parallel=objective if sharded or alone else accelerator.prepare(objective),
        optimizer=make_optimizer(objective, config),
        average=average,
        alone=alone,
        metrics=work / "metrics.jsonl",
        at=Position(),
        notes=[*describe(data, dev, model), *absent_sets(config, corpus), *overlap(corpus)],
    )
    if resume and (state := store.load(run.notes.append)):
        run.resume(state)
    return run


def loop(run: Run) -> None:
    """Take the remaining steps. Raises TrainingError as ``train`` does."""
    config, accelerator, at = run.config, run.accelerator, run.at
    window = Window()
    saved = time.monotonic()
    with (
        trackers.tracked(accelerator, config, run.metrics.parent, at.step),
        Reporter(run.metrics, config.steps, at.step, accelerator.log, not run.main) as reporter,
        interrupts() as stop,
    ):
        for note in run.notes:
            reporter.message(note)
        for batches in steps(run.data, config, at, accelerator.process_index):
            lr, norm = take_step(run, batches, window)
            last = at.step == config.steps
            if run.alone:
                if not last and at.step % config.average_every:
                    continue
                average_processes(run.objective, run.average.tensors(), run.optimizer)
            if run.due(config.log_every):
                row = {"step": at.step, "epoch": at.epoch, **window.take(accelerator), "lr": lr}
                reporter.row({**row, "grad_norm": norm, "bad_steps": at.bad_steps})
                run.objective.inspect(row)
            stopping = agreed(stop.requested, accelerator)
            if run.due(config.eval_every) or last:
                weights = run.average.weights()
                if run.main:
                    model = run.objective.model.with_weights(weights)
                    reporter.row(evaluate(run.selection, model, at))
                if config.patience and agreed(at.evaluations_since_best >= config.patience, accelerator):
                    reporter.message(f"no lower dev WER in {config.patience} evaluations: training ends")
                    last = True
            if time.monotonic() - saved > 60 * config.checkpoint_minutes or last or stopping:
                run.checkpoint()
                saved = time.monotonic()
            if stopping and not last:
                raise TrainingError(f"stopped after step {at.step}: continue with --resume")
            if last:
                break
        for path, problem in run.data.unreadable.items():
            reporter.message(f"not used: {path}: {problem}")


def take_step(run: Run, batches: list[Batch], window: Window) -> tuple[float, float]:
    """Take one step of the optimizer. Returns the learning rate and the norm of the gradient.

    Raises TrainingError if the gradient was not finite for too many steps in a row.
    """
    config, accelerator, at = run.config, run.accelerator, run.at
    seed_dropout(config.seed, at.step, accelerator.process_index)
    run.objective.step = at.step
    lr = learning_rate(config, at.step)
    for group in run.optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]
    for batch in batches:
        batch = to_device(batch, accelerator.device)
        with accelerator.autocast():
            losses = run.parallel(batch)
        accelerator.backward(losses["loss"] / len(batches))
        window.add(losses, batch.seconds)
    norm = float(whole(nn.utils.clip_grad_norm_(run.objective.parameters(), config.clip_norm)))
    if math.isfinite(norm):
        run.optimizer.step()
        run.average.update(run.objective.model, config.ema_decay, at.step)
        run.bad_in_a_row = 0
    else:
        at.bad_steps += 1
        run.bad_in_a_row += 1
    run.optimizer.zero_grad()
    at.step += 1
    at.batch += len(batches)
    if run.bad_in_a_row > config.max_bad_steps:
        raise TrainingError(
            f"the gradient was not finite for {run.bad_in_a_row} steps in a row at step {at.step}: lower "
            "train.lr, set train.mixed_precision=no, or look for damaged audio in the manifests"
        )
    return lr, norm


def finish(run: Run, out: Path) -> float | None:
    """Save the model that is kept. Returns its WER on the dev sets, as ``train`` does."""
    run.accelerator.wait_for_everyone()
    wer = None
    if run.main:
        made, wer = run.selection.choose()
        artifact.save(made, out, overwrite=True)
    run.accelerator.wait_for_everyone()
    return wer


def steps(data: TrainingSet, config: TrainConfig, at: Position, process: int) -> Iterator[list[Batch]]:
    """Yield the batches of each remaining step on this process, epoch after epoch, and count ``at.epoch``."""

    def turns() -> Iterator[Turn]:
        epoch, done = at.epoch, at.batch
        while True:
            plan = data.epoch(epoch)
            whole = len(plan) - len(plan) % data.parts  # every step takes the same number of batches
            if not whole:
                raise TrainingError(
                    f"an epoch has {len(plan)} batches, but one step takes {data.parts}: "
                    "lower train.batch_seconds or train.accumulate, or give more speech"
                )
            share = plan[process : whole : data.parts // config.accumulate]
            yield from ((epoch, draws) for draws in share[done:])
            epoch, done = epoch + 1, 0

    batches = data.batches(turns())
    while at.step < config.steps:
        taken = [next(batches) for _ in range(config.accumulate)]
        if taken[0].epoch != at.epoch:
            at.epoch, at.batch = taken[0].epoch, 0
        yield taken


def evaluate(selection: Selection, model: CTCModel, at: Position) -> dict[str, Any]:
    """Offer a model to the selection; a row of metrics."""
    score = selection.offer(model, at.step, at.epoch)
    if score is None:
        return {"step": at.step}
    at.evaluations_since_best = 0 if score.mean_wer < at.best_wer else at.evaluations_since_best + 1
    at.best_wer = min(at.best_wer, score.mean_wer)
    return (
        {"step": at.step, "dev_loss": score.loss, "dev_wer": score.mean_wer}
        | {f"wer_{name}": value for name, value in score.wer.items()}
        | {f"cer_{name}": value for name, value in score.cer.items()}
    )


class Window:
    """Means since the last row of metrics."""

    def __init__(self) -> None:
        self.losses: list[dict[str, Tensor]] = []
        self.seconds = 0.0
        self.began = time.monotonic()

    def add(self, losses: dict[str, Tensor], seconds: float) -> None:
        self.losses.append({name: value.detach() for name, value in losses.items()})
        self.seconds += seconds

    def take(self, accelerator: Accelerator) -> dict[str, float]:
        """Losses, and seconds of speech per second of wall time, over all processes; begins a new window."""
        now = time.monotonic()
        names = list(self.losses[0])
        means = [float(torch.stack([row[name] for row in self.losses]).mean()) for name in names]
        values = torch.tensor([*means, self.seconds / (now - self.began)])
        if accelerator.num_processes > 1:
            values = accelerator.reduce(values.to(accelerator.device), reduction="mean")
        *means, speed = values.tolist()
        self.losses, self.seconds, self.began = [], 0.0, now
        return {
            **dict(zip(names, means, strict=True)),
            "audio_seconds_per_second": speed * accelerator.num_processes,
        }
