"""Training: one loop for every objective, from a checkpoint or from random weights.

Runs on accelerate, so the same code trains on a CPU, a GPU or many of either. Nothing random depends on
what came before: order and augmentation are functions of (seed, epoch, utterance), dropout of
(seed, step). So a checkpoint is the weights, the optimizer's moments and three counters, and a resumed
run takes bit for bit the steps that an uninterrupted one would have taken.
"""

from __future__ import annotations

import atexit
import dataclasses
import functools
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from littlefoot import artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio.manifest import Corpus, Utterance
from littlefoot.errors import ConfigError, TrainingError
from littlefoot.network.config import ModelConfig
from littlefoot.training.average import MovingAverage
from littlefoot.training.data import Batch, TrainingSet, Turn
from littlefoot.training.local_sgd import average_processes
from littlefoot.training.module import CTCModel, from_pretrained
from littlefoot.training.objective import Objective
from littlefoot.training.optimizer import freeze, learning_rate, make_optimizer
from littlefoot.training.progress import Reporter, drop_rows_after
from littlefoot.training.selection import Selection
from littlefoot.training.sharding import place, place_optimizer_state, shard, whole, whole_state
from littlefoot.training.train_config import Recipe, TrainConfig
from littlefoot.training.training_state import CheckpointStore
from littlefoot.training.validation import DevSet


@dataclass
class Position:
    """Where a run stands."""

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
    objective: Objective, corpus: Corpus, config: TrainConfig, out: Path, resume: bool = False
) -> float | None:
    """Train a model on the rows of split ``train``, choose by those of ``dev``, save an artifact to ``out``.

    Checkpoints, the best models so far (artifacts too, in ``best``) and ``metrics.jsonl`` go to the directory
    ``<out>-training``. SIGTERM and Ctrl-C save a checkpoint before training stops.

    Returns:
        The saved model's WER on the dev sets (their mean, a fraction); None without dev utterances, and in
        all processes but the main one.

    Raises:
        TrainingError: nothing to train on, a run already there (without ``resume``), interruption, gradients
            that stay non-finite, or too many unreadable files.
    """
    if config.threads:
        torch.set_num_threads(config.threads)
    AcceleratorState._reset_state()  # or a second run in this process could not have another precision
    accelerator = Accelerator(cpu=on_cpu(), mixed_precision=precision(config))
    end_process_group_at_exit()
    work = out.with_name(out.name + "-training")
    store = CheckpointStore(work, config.keep_checkpoints)
    if not resume and (store.steps() or out.exists()):
        there = work if store.steps() else out
        raise TrainingError(f"{there} is there already: continue with --resume, or choose another output")

    model = objective.model
    do_normalize = bool(model.preprocessor.get("do_normalize", True))
    parts = accelerator.num_processes * config.accumulate
    trained = corpus.of_split("train")
    data = TrainingSet(
        trained, model.vocabulary, model.config, config, do_normalize, parts, objective.needs_text
    )
    data.needs_audio = objective.needs_audio
    dev_rows = [u for u in corpus.of_split("dev") if u.set_name in (config.dev_sets or [u.set_name])]
    main = accelerator.is_main_process
    dev = DevSet(
        dev_rows if main else [], model.vocabulary, do_normalize, 2 * config.batch_seconds, config.lexicon
    )

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
    work.mkdir(parents=True, exist_ok=True)  # what is refused before leaves no folder
    average = MovingAverage(model)
    alone = config.average_every > 0 and accelerator.num_processes > 1
    parallel = objective if sharded or alone else accelerator.prepare(objective)
    optimizer = make_optimizer(objective, config)
    at = Position()

    notes: list[str] = []
    if resume and (state := store.load(notes.append)):
        for name, parameter in objective.named_parameters():
            place(state["parameters"][name], parameter)
        average.load(state["average"])
        place_optimizer_state(optimizer, state["optimizer"])
        at = Position(**state["position"])
        notes.append(f"resumed after step {at.step}")
        if main:
            drop_rows_after(work / "metrics.jsonl", at.step)

    def checkpoint() -> None:
        state = whole_state(
            {
                "parameters": dict(objective.named_parameters()),
                "average": average.weights(),
                "optimizer": optimizer.state_dict(),
                "position": dataclasses.asdict(at),
            }
        )
        if main:
            store.save(at.step, state)

    window = Window()
    bad_in_a_row = 0
    saved = time.monotonic()
    with Reporter(work / "metrics.jsonl", config.steps, at.step, not main) as reporter, interrupts() as stop:
        for note in [*describe(data, dev, model), *overlap(corpus), *notes]:
            reporter.message(note)
        for batches in steps(data, config, at, accelerator.process_index):
            seed_dropout(config.seed, at.step, accelerator.process_index)
            objective.step = at.step
            lr = learning_rate(config, at.step)
            for group in optimizer.param_groups:
                group["lr"] = lr * group["lr_scale"]

            for batch in batches:
                batch = to_device(batch, accelerator.device)
                with accelerator.autocast():
                    losses = parallel(batch)
                accelerator.backward(losses["loss"] / len(batches))
                window.add(losses, batch.seconds)
            norm = float(whole(nn.utils.clip_grad_norm_(objective.parameters(), config.clip_norm)))
            if math.isfinite(norm):
                optimizer.step()
                average.update(model, config.ema_decay, at.step)
                bad_in_a_row = 0
            else:
                at.bad_steps += 1
                bad_in_a_row += 1
            optimizer.zero_grad()
            at.step += 1
            at.batch += len(batches)

            if bad_in_a_row > config.max_bad_steps:
                raise TrainingError(
                    f"the gradient was not finite for {bad_in_a_row} steps in a row at step {at.step}: lower "
                    "train.lr, set train.mixed_precision=no, or look for damaged audio in the manifests"
                )
            last = at.step == config.steps
            if alone:
                if not last and at.step % config.average_every:
                    continue
                average_processes(objective, average.tensors(), optimizer)
            if at.step % config.log_every == 0:
                row = {"step": at.step, "epoch": at.epoch, **window.take(accelerator), "lr": lr}
                reporter.row({**row, "grad_norm": norm, "bad_steps": at.bad_steps})
                objective.inspect(row)
            stopping = agreed(stop.requested, accelerator)
            if at.step % config.eval_every == 0 or last:
                weights = average.weights()
                if main:
                    reporter.row(evaluate(selection, model.with_weights(weights), at))
                if config.patience and agreed(at.evaluations_since_best >= config.patience, accelerator):
                    reporter.message(f"no lower dev WER in {config.patience} evaluations: training ends")
                    last = True
            if time.monotonic() - saved > 60 * config.checkpoint_minutes or last or stopping:
                checkpoint()
                saved = time.monotonic()
            if stopping and not last:
                raise TrainingError(f"stopped after step {at.step}: continue with --resume")
            if last:
                break
        for path, problem in data.unreadable.items():
            reporter.message(f"not used: {path}: {problem}")
    accelerator.wait_for_everyone()
    wer = None
    if main:
        made, wer = selection.choose()
        artifact.save(made, out, overwrite=True)
    accelerator.wait_for_everyone()
    return wer


def make_model(recipe: Recipe) -> CTCModel:
    """The model a recipe starts from."""
    if isinstance(recipe.model, str):
        model = from_pretrained(recipe.model)
    else:
        config = ModelConfig.from_dict(recipe.model)
        vocabulary = Vocabulary(recipe.vocabulary, config.pad_token_id)
        model = CTCModel.from_config(config, vocabulary, seed=recipe.train.seed)
    model.card = recipe.card
    return model


def overlap(corpus: Corpus) -> list[str]:
    """A warning for each split with rows whose speaker and text are trained on: its error rates flatter."""

    def key(utterance: Utterance) -> tuple[str, str, str]:
        return utterance.set_name, utterance.speaker, utterance.text

    held_out = {split: list(corpus.of_split(split)) for split in ("dev", "test")}
    asked = {key(utterance) for rows in held_out.values() for utterance in rows}
    shared = asked & {key(utterance) for utterance in corpus.of_split("train") if key(utterance) in asked}
    lines = []
    for split, rows in held_out.items():
        if found := [utterance for utterance in rows if key(utterance) in shared]:
            lines.append(
                f"warning: {len(found)} of {len(rows)} {split} utterances have a speaker and text that are "
                f"trained on too, such as {found[0].id} of {found[0].set_name}: expect fewer errors on them"
            )
    return lines


def steps(data: TrainingSet, config: TrainConfig, at: Position, process: int) -> Iterator[list[Batch]]:
    """The batches of each remaining step on this process, epoch after epoch; counts ``at.epoch`` on."""

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


def processes() -> PartialState:
    """The processes that train together, for what happens before training."""
    return PartialState(cpu=on_cpu())


@functools.cache
def end_process_group_at_exit() -> None:
    """End the process group while the interpreter is whole.

    Gloo's threads may still hold tensors. Freeing one takes the interpreter's lock; once the interpreter has
    gone, that aborts a process that has done all its work (PyTorch pull request 179291).
    """
    if torch.distributed.is_initialized():
        atexit.register(torch.distributed.destroy_process_group)


def on_cpu() -> bool:
    """Return True if training runs on processors: by ACCELERATE_USE_CPU, or because there is no other device.

    accelerate must be told, or processes that torchrun starts would each train separately.
    """
    return parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()


def agreed(request: bool, accelerator: Accelerator) -> bool:
    """Return True if any process requests it, so that all of them stop after the same step."""
    if accelerator.num_processes == 1:
        return request
    votes = accelerator.reduce(torch.tensor(float(request), device=accelerator.device), reduction="sum")
    return bool(votes > 0)


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


def precision(config: TrainConfig) -> str:
    """``bf16`` or ``no``."""
    if config.mixed_precision != "auto":
        return config.mixed_precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    capabilities = torch.cpu.get_capabilities()
    return "bf16" if capabilities.get("avx512_bf16") or capabilities.get("amx_bf16") else "no"


def seed_dropout(seed: int, step: int, process: int) -> None:
    torch.manual_seed((seed * 1_000_003 + step) * 1_009 + process)


def to_device(batch: Batch, device: torch.device) -> Batch:
    moved: dict[str, Any] = {
        name: value.to(device, non_blocking=True)
        for name, value in vars(batch).items()
        if isinstance(value, torch.Tensor)
    }
    return dataclasses.replace(batch, **moved)


def describe(data: TrainingSet, dev: DevSet, model: CTCModel) -> list[str]:
    """Describe the beginning of the run, for its log."""
    parameters = sum(p.numel() for p in model.parameters())
    hours = data.seconds.sum() / 3600
    lines = [f"{parameters / 1e6:.2f} million parameters, {model.config.frame_ms:g} ms frames"]
    lines += [f"{len(data)} utterances, {hours:.2f} h to train on; {dev.size} dev utterances"]
    lines += [f"left out: {count} with {reason}" for reason, count in data.left_out.items()]
    if data.unknown:
        found = ", ".join(f"{character!r} in {count}" for character, count in data.unknown.most_common(20))
        lines.append(f"outside the {data.outside}: {found}{', ...' if len(data.unknown) > 20 else ''}")
    if dev.skipped:
        lines.append(f"left out: {dev.skipped} dev utterances whose audio cannot be read")
    return lines


class StopRequest:
    """The user's request to end the run."""

    requested = False


@contextmanager
def interrupts() -> Iterator[StopRequest]:
    """Note SIGTERM and SIGINT instead of dying in the middle of a step; a second one does end it."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():  # which alone may handle signals
        yield stop
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def request(number: int, frame: object) -> None:
        stop.requested = True
        signal.signal(number, previous[signal.Signals(number)])

    try:
        for number in previous:
            signal.signal(number, request)
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
