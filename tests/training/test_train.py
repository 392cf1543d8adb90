"""Training learns, survives being killed, and says clearly what is wrong with its input."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tones import write_recipe

from littlefoot import artifact, cli
from littlefoot.audio import manifest
from littlefoot.compress import load_recipe
from littlefoot.compress.finetune import begin
from littlefoot.errors import ConfigError, TrainingError
from littlefoot.training import objective
from littlefoot.training import train as trainer
from littlefoot.training.local_sgd import average_processes
from littlefoot.training.notes import overlap
from littlefoot.training.objective import CTC
from littlefoot.training.optimizer import learning_rate, make_optimizer
from littlefoot.training.train_config import TrainConfig
from littlefoot.training.training_state import CheckpointStore
from littlefoot.training.validation import DevScore, DevSet

QUIET: dict[str, Any] = {"speeds": [1.0], "time_mask_fraction": 0.0, "feature_mask_fraction": 0.0}


def run(recipe_path: Path, out: Path, resume: bool = False, overrides: tuple[str, ...] = ()) -> float | None:
    recipe = load_recipe(recipe_path, overrides)
    model = begin(recipe)
    return trainer.train(CTC(model), manifest.index(recipe.data), recipe.train, out, resume)


def rows(out: Path) -> list[dict[str, Any]]:
    lines = (out.with_name(out.name + "-training") / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_a_tiny_model_learns_a_handful_of_utterances(tones: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tones, steps=250, ema_decay=0.9, **QUIET)
    wer = run(recipe, tmp_path / "out")
    assert wer is not None
    assert wer <= 0.25
    losses = [row["loss"] for row in rows(tmp_path / "out") if "loss" in row]
    assert losses[-1] < 0.3 < 2 < losses[0]
    trained = artifact.load(tmp_path / "out")
    record = trained.config.littlefoot.training
    assert record.data["tones"].utterances == 12
    assert record.dev.wer["tones"] == wer
    assert "| tones | 12 |" in trained.card


def test_killed_training_resumes_bit_for_bit(tones: Path, tmp_path: Path) -> None:
    # Dropout, masks and speed changes are all on; a checkpoint is written after every step; audio is loaded
    # ahead by a process of its own.
    recipe = write_recipe(tmp_path, tones, steps=60, checkpoint_minutes=0.0, log_every=1, loaders=1)
    run(recipe, tmp_path / "whole")

    out = tmp_path / "killed"
    command = [sys.executable, "-c", "from littlefoot.cli import main; main()"]
    command += ["train", str(recipe), "-o", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    store = CheckpointStore(tmp_path / "killed-training", keep=2)
    wait_until(lambda: max(store.steps(), default=0) >= 15)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert 15 <= max(store.steps()) < 60
    assert not out.exists()

    run(recipe, out, resume=True)
    whole, resumed = artifact.load(tmp_path / "whole"), artifact.load(out)
    for name, weight in whole.weights.items():
        np.testing.assert_array_equal(weight, resumed.weights[name], err_msg=name)
    assert [row["loss"] for row in rows(tmp_path / "whole") if "loss" in row] == [
        row["loss"] for row in rows(out) if "loss" in row
    ]


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    for step in (1, 2, 3):
        store.save(step, {"weight": torch.full((100,), float(step))})
    assert store.steps() == [2, 3]
    newest = tmp_path / "step-00000003.pt"
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)

    warnings: list[str] = []
    state = store.load(warnings.append)
    assert state is not None
    assert state["weight"][0] == 2
    assert re.search("step-00000003.pt is damaged: falling back", warnings[0])
    assert store.steps() == [2]


def test_only_damaged_checkpoints_are_an_error_and_none_is_a_fresh_start(tmp_path: Path) -> None:
    store = CheckpointStore(tmp_path, keep=2)
    assert store.load(print) is None
    store.save(1, {})
    (tmp_path / "step-00000001.sha256").unlink()
    with pytest.raises(TrainingError, match="all checkpoints in"):
        store.load(lambda warning: None)


def test_an_unfinished_checkpoint_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "step-00000009.partial").write_bytes(b"half")
    assert CheckpointStore(tmp_path, keep=2).steps() == []


def test_sigterm_saves_a_checkpoint(tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    update = trainer.MovingAverage.update

    def interrupted(average: Any, model: Any, decay: float, step: int) -> None:
        update(average, model, decay, step)
        if step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(trainer.MovingAverage, "update", interrupted)
    with pytest.raises(TrainingError, match="stopped after step 5: continue with --resume"):
        run(write_recipe(tmp_path, tones, steps=50), tmp_path / "out")
    assert CheckpointStore(tmp_path / "out-training", keep=2).steps() == [5]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_ctrl_c_reaches_the_loaders_too_and_still_saves_a_checkpoint(tones: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tones, steps=100_000, loaders=1, log_every=1, checkpoint_minutes=100.0)
    command = [sys.executable, "-c", "from littlefoot.cli import main; main()"]
    command += ["train", str(recipe), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    metrics = tmp_path / "out-training" / "metrics.jsonl"
    deadline = time.monotonic() + 60
    while not metrics.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert re.search(r"stopped after step \d+: continue with --resume", errors)
    assert len(CheckpointStore(tmp_path / "out-training", keep=2).steps()) == 1


def test_a_run_already_there_is_not_overwritten(tones: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tones, steps=2)
    run(recipe, tmp_path / "out")
    with pytest.raises(TrainingError, match="--resume"):
        run(recipe, tmp_path / "out")
    run(recipe, tmp_path / "out", resume=True)  # has nothing left to do
    assert [row["step"] for row in rows(tmp_path / "out")] == [2]


def test_non_finite_gradients_are_skipped_then_stop_training(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loss = objective.ctc_loss
    calls = 0

    def sometimes_nan(*arguments: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        return loss(*arguments) * (float("nan") if calls == 2 or calls > 5 else 1.0)

    monkeypatch.setattr(objective, "ctc_loss", sometimes_nan)
    recipe = write_recipe(tmp_path, tones, steps=50, log_every=1, max_bad_steps=3)
    with pytest.raises(TrainingError, match="not finite for 4 steps in a row"):
        run(recipe, tmp_path / "out")
    assert [row["bad_steps"] for row in rows(tmp_path / "out")] == [0, 1, 1, 1, 1, 2, 3, 4][: calls - 1]


def test_accumulated_parts_of_a_step_train_like_a_whole_one(tones: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tones, steps=100, **QUIET)
    run(recipe, tmp_path / "whole")
    run(recipe, tmp_path / "parts", overrides=("train.accumulate=2",))
    last = [rows(tmp_path / name)[-2]["loss"] for name in ("whole", "parts")]
    assert last[1] == pytest.approx(last[0], abs=0.4)


NO_DROPOUT = ["train.dropout=false"]


def train_command(recipe: Path, out: Path, *arguments: str) -> list[str]:
    settings = [argument for setting in NO_DROPOUT for argument in ("--set", setting)]
    return ["littlefoot", "train", str(recipe), "-o", str(out), *arguments, *settings]


def start_two_processes(recipe: Path, out: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--standalone"]
    command += ["-m", *train_command(recipe, out, *arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


PROCESSES = multiprocessing.get_context("forkserver")  # imports PyTorch once, not in each process
PROCESSES.set_forkserver_preload(["torch._dynamo", "littlefoot.training.train"])


def together(target: Callable[..., None], *arguments: Any) -> None:
    """Call a function in two processes as torchrun does, without the seconds that it takes to start."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    started = [PROCESSES.Process(target=one_of_two, args=(r, port, target, arguments)) for r in (0, 1)]
    for process in started:
        process.start()
    for process in started:
        process.join(300)
    assert [process.exitcode for process in started] == [0, 0]


def one_of_two(rank: int, port: int, target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    ranks = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    os.environ |= {name: str(value) for name, value in ranks.items()}
    target(*arguments)


def run_two_processes(recipe: Path, out: Path, *arguments: str) -> None:
    together(train_here, train_command(recipe, out, *arguments))


def train_here(command: list[str]) -> None:
    sys.argv = command
    cli.main()


def losses(out: Path) -> list[float]:
    return [row["loss"] for row in rows(out) if "loss" in row]


@pytest.fixture(scope="module")
def two_processes(
    tones: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[bool], tuple[Path, list[float]]]:
    """A recipe of 40 steps, with sharded weights or without, and the losses that two processes have by it."""

    @cache
    def trained(shard: bool) -> tuple[Path, list[float]]:
        folder = tmp_path_factory.mktemp("two")
        recipe = write_recipe(folder, tones, steps=40, log_every=1, shard=shard, **QUIET)
        run_two_processes(recipe, folder / "two")
        return recipe, losses(folder / "two")

    return trained


@pytest.mark.parametrize("shard", [False, True])
def test_two_processes_train_like_one(
    shard: bool, two_processes: Callable[[bool], tuple[Path, list[float]]], tmp_path: Path
) -> None:
    # With accumulate=2 one process takes the same two batches per step as two processes take one each.
    recipe, two = two_processes(shard)
    run(recipe, tmp_path / "one", overrides=(*NO_DROPOUT, "train.accumulate=2", "train.shard=false"))
    one = losses(tmp_path / "one")
    assert len(one) == len(two) == 40
    assert one[-1] < one[0]
    np.testing.assert_allclose(two[:20], one[:20], rtol=1e-3)


@pytest.mark.parametrize("rank", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_when_one_process_is_killed_all_end_and_resume_where_they_were(
    rank: int, two_processes: Callable[[bool], tuple[Path, list[float]]], tmp_path: Path
) -> None:
    recipe, whole = two_processes(False)
    out = tmp_path / "killed"
    process = start_two_processes(recipe, out, "--set", "train.checkpoint_minutes=0.0")
    store = CheckpointStore(tmp_path / "killed-training", keep=2)
    wait_until(lambda: max(store.steps(), default=0) >= 10)
    ranks = [pid for pid in children(process.pid) if environment_of(pid).get("RANK") == str(rank)]
    os.kill(ranks[0], signal.SIGKILL)
    process.communicate(timeout=120)
    assert process.returncode != 0
    assert 10 <= max(store.steps()) < 40
    assert not out.exists()
    run_two_processes(recipe, out, "--resume")
    np.testing.assert_allclose(losses(out), whole, rtol=1e-6)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)


def children(process: int) -> list[int]:
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def environment_of(process: int) -> dict[str, str]:
    pairs = Path(f"/proc/{process}/environ").read_text().rstrip("\0").split("\0")
    return dict(pair.split("=", 1) for pair in pairs)


def average_of_two() -> None:
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    model = torch.nn.Linear(2, 1)
    with torch.no_grad():
        model.weight.fill_(rank)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, weight_decay=0.0)
    (model.weight.sum() * (rank + 1)).backward()
    optimizer.step()
    kept = torch.full((2,), 4.0 * rank)
    average_processes(model, [kept], optimizer)
    assert model.weight.tolist() == [[0.5, 0.5]], model.weight
    assert kept.tolist() == [2.0, 2.0]
    moment = optimizer.state[model.weight]["exp_avg"]
    torch.testing.assert_close(moment, torch.full((1, 2), 0.15))
    assert optimizer.state[model.weight]["step"] == 1


def test_the_average_of_two_processes_is_their_mean() -> None:
    together(average_of_two)


def test_sharded_training_resumes_where_it_was(
    two_processes: Callable[[bool], tuple[Path, list[float]]], tmp_path: Path
) -> None:
    recipe, whole = two_processes(True)
    out = tmp_path / "parts"
    run_two_processes(recipe, out, "--set", "train.schedule=constant", "--set", "train.steps=8")
    shutil.rmtree(out)
    run_two_processes(recipe, out, "--resume")
    np.testing.assert_allclose(losses(out)[8:16], whole[8:16], rtol=1e-3)


def test_recomputed_activations_give_the_same_gradient_from_less_memory(tones: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, tones), ["model.num_hidden_layers=6"])
    model = begin(recipe)
    waveforms, lengths = torch.randn(2, 16_000), torch.tensor([16_000, 12_000])
    gradients, kept = [], []
    for model.recompute in (False, True):
        model.zero_grad()
        saved: dict[int, int] = {}
        with torch.autograd.graph.saved_tensors_hooks(
            lambda t, saved=saved: (saved.update({t.data_ptr(): t.nbytes}), t)[1], lambda t: t
        ):
            torch.manual_seed(0)
            logits, _ = model.train()(waveforms, lengths)
        logits.square().mean().backward()
        gradients.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        kept.append(sum(saved.values()))
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other libraries have no mallopt")
def test_memory_that_was_freed_is_used_again_without_new_pages() -> None:
    count = """
import resource, torch
from littlefoot.training.devices import keep_memory
keep_memory()
for _ in range(8):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10 * 2**20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    run = subprocess.run([sys.executable, "-c", count], capture_output=True, text=True, check=True)
    faults = list(map(int, run.stdout.split()))
    assert faults[-1] < faults[0] / 4  # at first a second place is needed, because places are aligned


def test_a_frozen_front_end_stays_as_it_is(tones: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, tones, steps=3, ema_decay=0.0, freeze_front_end=True))
    model = begin(recipe)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    trainer.train(CTC(model), manifest.index(recipe.data), recipe.train, tmp_path / "out")
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert not any(name.startswith("feature_extractor.") for name in changed)
    assert "lm_head.weight" in changed


def test_a_trained_model_is_fine_tuned_from_its_directory(tones: Path, tmp_path: Path) -> None:
    run(write_recipe(tmp_path, tones, steps=2), tmp_path / "first")
    recipe = tmp_path / "second.yaml"
    recipe.write_text(f"model: {tmp_path / 'first'}\ndata: [{tones}]\ntrain: {{steps: 2, threads: 1}}\n")
    run(recipe, tmp_path / "second")
    assert artifact.load(tmp_path / "second").vocabulary == artifact.load(tmp_path / "first").vocabulary


def test_training_ends_early_when_the_dev_errors_stay(tones: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, tones, steps=40, eval_every=2, patience=3, lr=1e-9)
    wer = run(recipe, tmp_path / "out")
    steps = [row["step"] for row in rows(tmp_path / "out") if "dev_wer" in row]
    assert steps == [2, 4, 6, 8]  # the first is the best
    assert wer == artifact.load(tmp_path / "out").config.littlefoot.training.dev.wer["tones"]


def test_the_mean_of_the_best_models_is_taken_where_it_is_better(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write_recipe(tmp_path, tones, steps=5, eval_every=1, average_best=3)
    scores = iter([0.9, 0.5, 0.8, 0.6, 0.7, 0.4])
    monkeypatch.setattr(DevSet, "score", lambda *_: score(next(scores)))

    def score(wer: float) -> DevScore:
        return DevScore(1.0, {"tones": wer}, {"tones": wer})

    assert run(recipe, tmp_path / "out") == 0.4
    kept = sorted((tmp_path / "out-training" / "best").iterdir())
    assert [path.name for path in kept] == ["step-00000002", "step-00000004", "step-00000005"]
    parts = [artifact.load(path) for path in kept]
    out = artifact.load(tmp_path / "out")
    for name, weight in out.weights.items():
        np.testing.assert_allclose(weight, np.mean([p.weights[name] for p in parts], axis=0), atol=1e-6)
    assert out.config.littlefoot.training.dev.wer == {"tones": 0.4}

    scores = iter([0.9, 0.5, 0.8, 0.6, 0.7, 0.55])  # now the mean is worse than the best
    assert run(recipe, tmp_path / "again") == 0.5
    best = artifact.load(tmp_path / "again-training" / "best" / "step-00000002")
    again = artifact.load(tmp_path / "again")
    assert all(np.array_equal(weight, best.weights[name]) for name, weight in again.weights.items())


def test_dev_rows_that_are_trained_on_are_warned_about(tones: Path) -> None:
    rows = manifest.index(tones)  # whose dev split repeats four of the training split
    (warning,) = overlap(rows)
    assert "4 of 4 dev utterances" in warning
    assert not overlap(rows.of_split("train"))


@pytest.mark.parametrize(("schedule", "half"), [("cosine", 0.5), ("linear", 0.5), ("constant", 1.0)])
def test_learning_rate_rises_then_decays(schedule: str, half: float) -> None:
    config = TrainConfig(lr=1.0, steps=300, warmup_steps=100, schedule=schedule)
    rates = [learning_rate(config, step) for step in range(300)]
    assert rates[0] == pytest.approx(0.01)
    assert rates[49] == pytest.approx(0.5)
    assert max(rates) == rates[99] == 1.0
    assert rates[200] == pytest.approx(half)
    assert rates[299] < 0.01 or schedule == "constant"


def test_weight_decay_is_for_matrices_only(tones: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, tones))
    decayed, plain = make_optimizer(begin(recipe), recipe.train).param_groups
    assert decayed["weight_decay"] > 0 == plain["weight_decay"]
    assert {p.ndim for p in plain["params"]} == {1}
    assert 1 not in {p.ndim for p in decayed["params"]}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.warmup_step=3", "unknown setting 'train.warmup_step': did you mean 'train.warmup_steps'"),
        ("train.lr=fast", "train.lr must be a valid number, .*not 'fast'"),
        ("train.steps=0", "train.steps must be greater than 0"),
        ("train.schedule=stairs", "train.schedule must be cosine, linear or constant, not 'stairs'"),
        ("data.x=1", r"the recipe has no step 'data', but 1 \(train\)"),
        ("train.lr", "write step.key=value"),
        ("model.hidden_size=33", "hidden_size 33 cannot be divided"),
    ],
)
def test_impossible_settings_are_refused_by_name(
    tones: Path, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        begin(load_recipe(write_recipe(tmp_path, tones), [override]))


def test_a_training_that_is_refused_leaves_no_folder(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no weight's name fits"):
        run(write_recipe(tmp_path, tones), tmp_path / "out", overrides=("train.freeze=[no.such.weight]",))
    assert not list(tmp_path.glob("out*"))


def test_a_dev_set_that_is_not_there_is_refused(tones: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dev_sets: no set .* is called 'tunes': they are tones"):
        run(write_recipe(tmp_path, tones), tmp_path / "out", overrides=("train.dev_sets=[tunes]",))


def test_the_log_names_settings_of_sets_that_are_not_there(
    tones: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = "train.set_weights={tones: 2, tunes: 3}"
    run(write_recipe(tmp_path, tones), tmp_path / "out", overrides=(weights, "train.steps=1"))
    assert "train.set_weights has no effect on sets that are not there: tunes\n" in capsys.readouterr().err


def test_settings_can_be_changed_on_the_command_line(tones: Path, tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, tones), ["train.lr=1e-3", "train.set_weights={tones: 2}"])
    assert recipe.train.lr == 1e-3
    assert recipe.train.set_weights == {"tones": 2.0}


@pytest.mark.parametrize(("word", "value"), [("no", False), ("yes", True), ("off", False), ("true", True)])
def test_no_is_a_precision_and_an_answer(tones: Path, tmp_path: Path, word: str, value: bool) -> None:
    overrides = ["train.mixed_precision=no", f"train.freeze_front_end={word}"]
    train = load_recipe(write_recipe(tmp_path, tones), overrides).train
    assert (train.mixed_precision, train.freeze_front_end) == ("no", value)


def test_the_bundled_models_recipe_is_valid() -> None:
    recipe = load_recipe(Path(__file__).parents[2] / "recipes" / "littlefoot-en-first.yaml")
    model = begin(recipe)
    assert model.config.frame_ms == 30
    assert model.vocabulary.unknown("IT'S A QUIZ") == set()
