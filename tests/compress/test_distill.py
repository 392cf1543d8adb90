"""Students learn what their teachers say, and what cannot work is refused before it starts."""

from __future__ import annotations

import dataclasses
import itertools
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import Run
from tones import MODEL, QUIET, VOCABULARY

from littlefoot import artifact
from littlefoot.artifact import Artifact
from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest
from littlefoot.audio.manifest import Utterance
from littlefoot.compress import load_recipe, losses
from littlefoot.compress import run as run_recipe
from littlefoot.compress.distill import (
    Distillation,
    DistillConfig,
    check_alive,
    denominator_of,
    distill,
    layer_pairs,
)
from littlefoot.compress.distillation_settings import LossConfig
from littlefoot.compress.finetune import begin
from littlefoot.compress.frames import frame_times, interpolate, peaks
from littlefoot.compress.methods import StepContext
from littlefoot.compress.recipe import named
from littlefoot.compress.student import StudentConfig, make_student
from littlefoot.compress.teacher import CachedTeacher, LiveTeacher, cached, features_are_constant
from littlefoot.errors import ConfigError, TrainingError
from littlefoot.network.config import ModelConfig
from littlefoot.training.data import TrainingSet
from littlefoot.training.devices import processes
from littlefoot.training.module import CTCModel
from littlefoot.training.train_config import TrainConfig

ALL = ("kl", "logit_mse", "logit_cosine", "sequence_kl", "lattice_mmi", "feature_penalty", "ctc")
HIDDEN = ("hidden_mse", "hidden_l1", "hidden_cosine", "temporal_relation")


@pytest.fixture(scope="module")
def teacher(deep_teacher: Artifact) -> Artifact:
    return deep_teacher


def untrained(**changes: Any) -> CTCModel:
    config = ModelConfig.from_dict({**MODEL, **changes})
    return CTCModel.from_config(config, Vocabulary(tuple(VOCABULARY), 0), seed=1)


def step(first: Artifact, tones: Path | None, directory: Path, resume: bool = False) -> StepContext:
    corpus = None if tones is None else manifest.index(tones)
    return StepContext(first, corpus, directory, resume, lambda message: None)


def a_batch(model: CTCModel, tones: Path, count: int = 4) -> Any:
    rows = manifest.index(tones).of_split("train")
    data = TrainingSet(rows, model.vocabulary, model.config, TrainConfig(**QUIET), True)
    return data.load(0, data.epoch(0)[0][:count])


# Losses


def frames(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


VALID = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], dtype=torch.float64)


def test_kl_is_what_its_formula_says() -> None:
    student, teacher = frames(2, 3, 5), frames(2, 3, 5).flip(0)
    expected = 0.0
    for b, f in [(0, 0), (0, 1), (0, 2), (1, 0)]:
        p, q = torch.softmax(teacher[b, f] / 2, 0), torch.softmax(student[b, f] / 2, 0)
        expected += float((p * (p / q).log()).sum())
    found = losses.kl_divergence(student, teacher, VALID, 2.0)
    assert float(found) == pytest.approx(4 * expected / 4, rel=1e-5)


def test_gram_matrices_are_compared_where_both_frames_are_speech() -> None:
    student, teacher = frames(2, 3, 4), frames(2, 3, 6)
    expected = []
    for b, count in [(0, 3), (1, 1)]:
        for i in range(count):
            for j in range(count):
                mine = torch.cosine_similarity(student[b, i], student[b, j], dim=0)
                theirs = torch.cosine_similarity(teacher[b, i], teacher[b, j], dim=0)
                expected.append(float((mine - theirs) ** 2))
    found = losses.temporal_relation(student, teacher, VALID)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize(
    "loss", [losses.kl_divergence, losses.logit_mse, losses.logit_cosine, losses.hidden_l1, losses.hidden_mse]
)
def test_losses_are_zero_for_equals_and_do_not_see_padding(loss: Any) -> None:
    values = frames(2, 3, 5)
    assert float(loss(values, values, VALID)) == pytest.approx(0, abs=1e-6)
    other = values + 1 + frames(2, 3, 5).flip(2)
    changed = other.clone()
    changed[1, 1:] = 1e6
    assert float(loss(values, changed, VALID)) == pytest.approx(float(loss(values, other, VALID)))


def test_difficult_utterances_count_more() -> None:
    weights = losses.utterance_weights(torch.tensor([1e-9, 1.0, 4.0, 1e12]))
    torch.testing.assert_close(weights, torch.tensor([0.0, np.exp(-1.0), np.exp(-0.5), 1.0]).float())


# Frames at different rates


FAST = ModelConfig.from_dict({**MODEL, "conv_stride": [10, 8, 2]})
SLOW = ModelConfig.from_dict({**MODEL, "conv_kernel": [20, 8, 8], "conv_stride": [10, 8, 4]})


def test_hidden_states_are_interpolated_at_the_middle_of_frames() -> None:
    count = 40
    values = torch.stack([frame_times(FAST, count)] * 2)[:, :, None]  # each frame says when it is
    found = interpolate(values, FAST, SLOW, 19, torch.tensor([40, 12]))[:, :, 0]
    wanted = frame_times(SLOW, 19)
    torch.testing.assert_close(found[0], wanted.clamp(max=float(values[0, -1, 0])))
    torch.testing.assert_close(found[1], wanted.clamp(max=float(values[0, 11, 0])))


def test_no_spike_is_lost_on_a_slower_student() -> None:
    spikes = [3, 9, 20, 31]
    logits = torch.zeros(1, 40, 8)
    logits[:, :, 0] = 5.0
    for token, frame in enumerate(spikes, 2):
        logits[0, frame, token] = 9.0
    found = peaks(logits, FAST, SLOW, 19, torch.tensor([40]), 0)
    best = found[0].argmax(-1)
    assert best[best != 0].tolist() == [2, 3, 4, 5]
    at = frame_times(SLOW, 19)[best != 0]
    assert (at - frame_times(FAST, 40)[spikes]).abs().max() <= SLOW.stride / 2 + 1


def test_a_faster_student_gets_the_nearest_frame() -> None:
    logits = frames(1, 10, 8).float()
    found = peaks(logits, SLOW, FAST, 20, torch.tensor([6]), 0)
    times = frame_times(SLOW, 10)
    for place, time in enumerate(frame_times(FAST, 20)):
        nearest = min(int((times - time).abs().argmin()), 5)
        ties = [
            i for i in (nearest, min(nearest + 1, 5)) if abs(times[i] - time) - abs(times[nearest] - time) < 1
        ]
        assert any(torch.equal(found[0, place], logits[0, i]) for i in ties)


# The objective


def objective(
    teacher: Artifact, student: StudentConfig, loss: LossConfig, tones: Path | None = None
) -> Distillation:
    model = CTCModel.from_artifact(teacher)
    made = make_student(model, student)
    train = TrainConfig(lfmmi_order=2)
    config = DistillConfig(student, loss=loss, train=train, collapse_steps=30)
    denominator = None if tones is None else denominator_of(step(teacher, tones, tones), made, config)
    return Distillation(made, LiveTeacher(model), config, denominator)


def test_a_student_that_is_its_teacher_has_nothing_to_learn(teacher: Artifact, tones: Path) -> None:
    weights = dict.fromkeys((*ALL[:4], *HIDDEN), 1.0)
    found = objective(teacher, StudentConfig(), LossConfig(**weights), tones).eval()(
        a_batch(CTCModel.from_artifact(teacher), tones)
    )
    found = {name: value.detach() for name, value in found.items()}
    for name in weights:
        nothing = float(np.log1p(np.exp(-1))) if name == "hidden_cosine" else 0.0
        assert float(found[name]) == pytest.approx(nothing, abs=1e-5), name


def test_the_loss_is_the_weighted_sum_of_its_terms(teacher: Artifact, tones: Path) -> None:
    weights = {name: 0.5 + index for index, name in enumerate((*ALL, *HIDDEN))}
    student = StudentConfig(layers=2, hidden_size=16, num_attention_heads=1, conv_stride=(10, 8, 5))
    made = objective(teacher, student, LossConfig(**weights, adaptive=True), tones)
    made.model.train()
    batch = a_batch(made.model, tones)
    found = made(batch)
    total = sum(weight * float(found[name].detach()) for name, weight in weights.items())
    assert float(found["loss"].detach()) == pytest.approx(total, rel=1e-5)
    found["loss"].backward()
    for name, parameter in made.named_parameters():
        assert name == "model.masked_spec_embed" or parameter.grad is not None, name
    assert not any("teacher" in name for name, _ in made.named_parameters())


def test_hidden_losses_are_averaged_over_layers_or_added_up(teacher: Artifact, tones: Path) -> None:
    batch = a_batch(CTCModel.from_artifact(teacher), tones)
    found = []
    for hidden_sum in (False, True):
        loss = LossConfig(hidden_mse=1.0, hidden_sum=hidden_sum)
        made = objective(teacher, StudentConfig(layers=2), loss).eval()
        found.append(float(made(batch)["hidden_mse"].detach()))
        assert len(made.pairs) == 2
    assert found[1] == pytest.approx(2 * found[0])
    assert found[0] > 0


def test_all_hidden_states_have_a_partner() -> None:
    assert layer_pairs(2, 12, LossConfig()) == ((1, 6), (2, 12))
    assert layer_pairs(12, 24, LossConfig()) == tuple((i, 2 * i) for i in range(1, 13))
    assert layer_pairs(2, 4, LossConfig(layers=((0, 0), (2, 3)))) == ((0, 0), (2, 3))
    with pytest.raises(ConfigError, match=r"loss.layers \[3, 4\]: the student has states 0 to 2"):
        layer_pairs(2, 4, LossConfig(layers=((3, 4),)))


# The method


def settings(**train: Any) -> TrainConfig:
    return TrainConfig(**{**QUIET, "steps": 120, "ema_decay": 0.9, **train})


@pytest.mark.parametrize(("cache_top_k", "freeze"), [(None, False), (3, False), (3, True)])
def test_a_student_learns_without_texts(
    teacher: Artifact, tones: Path, tmp_path: Path, cache_top_k: int | None, freeze: bool
) -> None:
    silent = tmp_path / "silent.tsv"
    lines = tones.read_text(encoding="utf-8").splitlines()
    rows = [line.split("\t") for line in lines]
    told = [
        [*row[:1], str(tones.parent / row[1]), *row[2:5], "" if row[4] == "train" else row[5]]
        for row in rows[1:]
    ]
    silent.write_text("\n".join("\t".join(row) for row in [rows[0], *told]) + "\n", encoding="utf-8")
    train = settings(freeze_front_end=freeze)
    config = DistillConfig(StudentConfig(layers=2), train=train, cache_top_k=cache_top_k)
    made = distill(teacher, config, step(teacher, silent, tmp_path))
    assert (tmp_path / "teacher" / "index.json").exists() == (cache_top_k is not None)
    record = made.config.littlefoot.training
    assert made.config.num_hidden_layers == 2
    assert record.method == "distillation"
    assert record.dev.wer[tmp_path.name] < 0.5
    metrics = (tmp_path / "model-training" / "metrics.jsonl").read_text().splitlines()
    kl = [row["kl"] for row in map(json.loads, metrics) if "kl" in row]
    assert kl[-1] < 0.3 * kl[0]


def test_a_slower_student_learns(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    student = StudentConfig(layers=2, conv_kernel=(20, 8, 6), conv_stride=(10, 8, 6))
    config = DistillConfig(student, train=settings(steps=200))
    made = distill(teacher, config, step(teacher, tones, tmp_path))
    assert made.config.frame_ms == 1.5 * teacher.config.frame_ms
    assert made.config.littlefoot.training.dev.cer["tones"] < 0.5


def test_a_frozen_front_end_is_computed_once(teacher: Artifact, tones: Path) -> None:
    batch = a_batch(CTCModel.from_artifact(teacher), tones)
    found = []
    for freeze in (True, False):
        one = objective(teacher, StudentConfig(layers=2), LossConfig(kl=1.0, hidden_mse=1.0)).eval()
        one.settings = DistillConfig(train=TrainConfig(freeze_front_end=freeze))
        heard = count_calls(one.model.get_submodule("feature_extractor.conv_layers.0"))
        result = one(batch)
        result["loss"].backward()
        gradients = {
            name: parameter.grad
            for name, parameter in one.named_parameters()
            if not name.startswith("model.feature_extractor") and parameter.grad is not None
        }
        found.append((heard[0], float(result["loss"].detach()), gradients))
    assert (found[0][0], found[1][0]) == (0, 1)
    assert found[0][1] == pytest.approx(found[1][1], rel=1e-5)
    assert found[0][2].keys() == found[1][2].keys()
    for name, gradient in found[0][2].items():
        torch.testing.assert_close(gradient, found[1][2][name], atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize("change", ["weights", "geometry", "normalization"])
def test_a_front_end_of_its_own_hears_for_itself(change: str, teacher: Artifact) -> None:
    model = CTCModel.from_artifact(teacher)
    channels = (*teacher.config.conv_dim[:-1], teacher.config.conv_dim[-1] // 2)
    student = make_student(model, StudentConfig(conv_dim=channels if change == "geometry" else None))
    says = LiveTeacher(model)
    if change == "weights":
        assert says.has_features_of(student)
        with torch.no_grad():
            student.get_parameter("feature_extractor.conv_layers.1.conv.weight")[0, 0, 0] += 0.1
    elif change == "normalization":
        student.preprocessor["do_normalize"] = not model.preprocessor.get("do_normalize", True)
    assert not says.has_features_of(student)


def count_calls(module: torch.nn.Module) -> list[int]:
    """How often a part of a network runs from now on."""
    count = [0]

    def called(*_: object) -> None:
        count[0] += 1

    module.register_forward_hook(called)
    return count


def bytes_in(message: str) -> float:
    """The amount with which a message ends."""
    amount, unit = message.split()[-2:]
    return float(amount) * {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]


@pytest.mark.parametrize("student_normalizes", [True, False])
def test_what_a_cache_keeps_is_what_the_teacher_says(
    student_normalizes: bool, teacher: Artifact, tones: Path, tmp_path: Path
) -> None:
    model = CTCModel.from_artifact(teacher)
    rows = manifest.index(tones).of_split("train")
    quiet = TrainConfig(**{**QUIET, "gain_db": 0.0})
    data = TrainingSet(rows, model.vocabulary, model.config, quiet, student_normalizes)
    batch = data.load(0, data.epoch(0)[0])
    live = LiveTeacher(model)(batch)
    exact = torch.log_softmax(live.logits, -1)
    told: list[str] = []
    for top_k, tolerance in ((0, 0.01), (4, 0.01)):
        directory = tmp_path / str(top_k)
        kept = cached(directory, teacher, data, top_k, processes(), told.append)(batch)
        assert kept.frames.tolist() == live.frames.tolist()
        for row, count in enumerate(kept.frames.tolist()):
            mine, theirs = kept.logits[row, :count].exp(), exact[row, :count].exp()
            torch.testing.assert_close(mine, theirs, atol=tolerance, rtol=0)
            torch.testing.assert_close(mine.sum(-1), torch.ones(count), atol=0.01, rtol=0)
        cached(directory, teacher, data, top_k, processes(), told.append)
    assert len(told) == 2  # the size, before each was made
    stated = bytes_in(told[1])
    actual = (tmp_path / "4" / "outputs.bin").stat().st_size
    assert stated == pytest.approx(actual, rel=0.1)


def test_a_cache_knows_utterances_whatever_their_order(
    teacher: Artifact, tones: Path, tmp_path: Path
) -> None:
    model = CTCModel.from_artifact(teacher)
    rows = list(manifest.index(tones).of_split("train"))

    def set_of(some: list[Utterance]) -> TrainingSet:
        return TrainingSet(some, model.vocabulary, model.config, TrainConfig(**QUIET), True)

    data, other = set_of(rows), set_of(rows[:2:-1])  # backwards, and without the first three
    says = cached(tmp_path / "kept", teacher, data, 4, processes(), print)

    def outputs(says: CachedTeacher, some: TrainingSet, row: int) -> torch.Tensor:
        (draw,) = (d for d in itertools.chain.from_iterable(some.epoch(0)) if int(some.rows[d.index]) == row)
        targets = says(some.load(0, [draw]))
        return targets.logits[0, : int(targets.frames[0])]

    last = len(rows) - 1
    expected = outputs(says, data, last)
    torch.testing.assert_close(outputs(says, other, 0), expected, rtol=0, atol=0)
    assert not torch.equal(outputs(says, other, 1)[:5], expected[:5])

    few = cached(tmp_path / "few", teacher, other, 4, processes(), print)
    with pytest.raises(TrainingError, match="few has no outputs for 1 utterances of a batch: remove it"):
        outputs(few, data, 0)
    (tmp_path / "moved").mkdir()
    twin = dataclasses.replace(rows[0], path=Path(shutil.copy(rows[0].path, tmp_path / "moved")))
    with pytest.raises(TrainingError, match=r"have the same set .*: rename a folder or an id"):
        cached(tmp_path / "twins", teacher, set_of([rows[0], twin]), 4, processes(), print)


def test_speech_is_read_once(
    teacher: Artifact, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[TrainingSet] = []
    make = TrainingSet.__init__

    def noted(self: TrainingSet, *arguments: Any, **options: Any) -> None:
        made.append(self)
        make(self, *arguments, **options)

    monkeypatch.setattr(TrainingSet, "__init__", noted)
    config = DistillConfig(StudentConfig(layers=2), train=settings(steps=1), cache_top_k=4)
    distill(teacher, config, step(teacher, tones, tmp_path))
    assert len(made) == 1


def test_features_that_a_cache_keeps_are_those_of_the_front_end(
    teacher: Artifact, tones: Path, tmp_path: Path
) -> None:
    model = CTCModel.from_artifact(teacher)
    rows = manifest.index(tones).of_split("train")
    data = TrainingSet(rows, model.vocabulary, model.config, TrainConfig(**QUIET), True)
    batch = data.load(0, data.epoch(0)[0])
    live = LiveTeacher(model)(batch)
    told: list[str] = []
    directory = tmp_path / "kept"
    says = cached(directory, teacher, data, 4, processes(), told.append, features=True)
    assert says.has_features_of(model)
    kept = says(batch)
    assert kept.features is not None
    assert live.features is not None
    assert kept.features.shape == live.features.shape
    for mine, theirs, count in zip(kept.features, live.features, live.frames.tolist(), strict=True):
        torch.testing.assert_close(mine[:count], theirs[:count], atol=1e-3, rtol=2e-3)
        assert not mine[count:].any()
    files = [(directory / name).stat().st_size for name in ("outputs.bin", "features.bin")]
    assert bytes_in(told[0]) == pytest.approx(sum(files), rel=0.1)
    nothing = says(dataclasses.replace(batch, keys=torch.full_like(batch.keys, -1)))
    assert nothing.features is not None
    assert not nothing.features.any()
    assert nothing.frames.tolist()[0] == 1
    with pytest.raises(TrainingError, match="another freeze_front_end or augmentation"):
        cached(directory, teacher, data, 4, processes(), told.append)


def test_with_features_in_a_cache_no_recording_is_read(
    teacher: Artifact, tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Path] = []
    monkeypatch.setattr(TrainingSet, "audio", listening(read, TrainingSet.audio))
    train = settings(steps=3, freeze_front_end=True, loaders=0)
    for cache_top_k in (None, 4):
        read.clear()
        config = DistillConfig(StudentConfig(layers=2), train=train, cache_top_k=cache_top_k)
        distill(teacher, config, step(teacher, tones, tmp_path / str(cache_top_k)))
        assert bool(read) == (cache_top_k is None)


def listening(read: list[Path], audio: Any) -> Any:
    """Reading of recordings, and a list of those that were not silent."""

    def hear(data: TrainingSet, index: int, utterance: Any) -> Any:
        samples = audio(data, index, utterance)
        if samples.any():
            read.append(utterance.path)
        return samples

    return hear


def test_manifests_may_be_a_little_short(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    model = CTCModel.from_artifact(teacher)
    rows = manifest.index(tones).of_split("train")
    data = TrainingSet(rows, model.vocabulary, model.config, TrainConfig(**QUIET), True)
    says = cached(tmp_path / "kept", teacher, data, 4, processes(), print, features=True)
    batch = data.load(0, data.epoch(0)[0])
    short = says(dataclasses.replace(batch, time_mask=batch.time_mask[:, :-5]))
    assert short.features is not None
    assert short.features.shape[1] == short.logits.shape[1] == batch.time_mask.shape[1] - 5
    assert int(short.frames.max()) <= short.logits.shape[1]


def test_processes_fill_a_cache_together(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    model = CTCModel.from_artifact(teacher)
    data = TrainingSet(
        manifest.index(tones).of_split("train"), model.vocabulary, model.config, TrainConfig(**QUIET), True
    )
    cached(tmp_path / "alone", teacher, data, 4, processes(), print, features=True)
    barrier = threading.Barrier(3)

    def fill(process: int) -> None:
        state: Any = SimpleNamespace(
            num_processes=3,
            process_index=process,
            is_main_process=process == 0,
            device=torch.device("cpu"),
            wait_for_everyone=barrier.wait,
        )
        cached(tmp_path / "together", teacher, data, 4, state, print, features=True)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(fill, range(3)))
    for path in (tmp_path / "alone").iterdir():
        assert (tmp_path / "together" / path.name).read_bytes() == path.read_bytes(), path.name
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("together-")]


@pytest.mark.parametrize(
    ("train", "normalizes", "same"),
    [
        ({}, True, False),
        ({"freeze_front_end": True}, True, True),
        ({"freeze_front_end": True}, False, False),  # the level is changed, and heard
        ({"freeze_front_end": True, "gain_db": 0.0}, False, True),
        ({"freeze_front_end": True, "noise_probability": 0.5}, True, False),
        ({"freeze_front_end": True, "codec_probability": 0.5}, True, False),
    ],
)
def test_features_are_kept_only_where_they_are_always_the_same(
    train: dict[str, Any], normalizes: bool, same: bool, teacher: Artifact
) -> None:
    student = CTCModel.from_artifact(teacher)
    student.preprocessor["do_normalize"] = normalizes
    assert features_are_constant(student, TrainConfig(**train)) == same


def test_a_cache_of_another_teacher_or_other_audio_is_refused(
    teacher: Artifact, tones: Path, tmp_path: Path
) -> None:
    model = CTCModel.from_artifact(teacher)
    rows = manifest.index(tones).of_split("train")
    data, fewer = (
        TrainingSet(some, model.vocabulary, model.config, TrainConfig(**QUIET), True)
        for some in (rows, rows[:5])
    )
    alone = processes()
    cached(tmp_path / "cache", teacher, data, 4, alone, print)
    other = dataclasses.replace(teacher, weights={k: v + np.float32(0.5) for k, v in teacher.weights.items()})
    with pytest.raises(TrainingError, match="was made with another teacher"):
        cached(tmp_path / "cache", other, data, 4, alone, print)
    with pytest.raises(TrainingError, match="was made with other audio"):
        cached(tmp_path / "cache", teacher, fewer, 4, alone, print)
    with pytest.raises(TrainingError, match="was made with another top_k"):
        cached(tmp_path / "cache", teacher, data, 3, alone, print)


def test_a_student_that_says_the_same_to_everything_is_refused(
    teacher: Artifact, tones: Path, tmp_path: Path
) -> None:
    student = make_student(CTCModel.from_artifact(teacher), StudentConfig(layers=2))
    with torch.no_grad():
        student.get_parameter("lm_head.weight").zero_()
    rows = manifest.index(tones).of_split("train")
    data = TrainingSet(rows, student.vocabulary, student.config, TrainConfig(**QUIET), True)
    with pytest.raises(TrainingError, match="predicts the same for every frame of 3 recordings"):
        check_alive(student, data)


def test_a_collapse_to_blanks_ends_the_run(teacher: Artifact) -> None:
    made = objective(teacher, StudentConfig(layers=2), LossConfig())
    made.inspect({"step": 10, "blank": 1.0})
    made.inspect({"step": 30, "blank": 0.9})
    made.inspect({"step": 40, "blank": 1.0})
    made.inspect({"step": 60, "blank": 1.0})
    with pytest.raises(TrainingError, match="only blanks from step 40 to 70"):
        made.inspect({"step": 70, "blank": 1.0})


@pytest.mark.parametrize("foreigners", ["ABCD", "AB"])
def test_texts_in_another_alphabet_are_refused_before_training(
    teacher: Artifact, tones: Path, tmp_path: Path, foreigners: str
) -> None:
    foreign = tmp_path / "foreign.tsv"
    text = tones.read_text(encoding="utf-8")
    for letter in foreigners:
        text = text.replace(letter, "Ж")
    rows = [line.split("\t") for line in text.splitlines()]
    moved = [[row[0], str(tones.parent / row[1]), *row[2:]] for row in rows[1:]]
    foreign.write_text("\n".join("\t".join(row) for row in [rows[0], *moved]) + "\n", encoding="utf-8")
    config = DistillConfig(StudentConfig(layers=2), loss=LossConfig(ctc=1.0), train=settings())
    with pytest.raises(TrainingError, match=r"alphabet.*Ж"):
        distill(teacher, config, step(teacher, foreign, tmp_path))
    assert not (tmp_path / "model-training").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LossConfig(kl=-1), "loss.kl must be at least 0, not -1"),
        (lambda: LossConfig(kl=0), "no term to minimise"),
        (lambda: LossConfig(temperature=0), "temperature must be greater than 0"),
        (lambda: LossConfig(frames="mean"), "loss.frames must be peaks or interpolate, not 'mean'"),
        (
            lambda: DistillConfig(loss=LossConfig(hidden_l1=1), cache_top_k=4),
            "a cache contains no hidden states",
        ),
        (lambda: DistillConfig(loss=LossConfig(logit_mse=1), cache_top_k=4), "need all logits"),
        (lambda: DistillConfig(cache_top_k=4), "at speed 1"),
        (lambda: DistillConfig(cache_top_k=-1), "cache_top_k must be at least 0, not -1"),
    ],
)
def test_settings_that_cannot_work_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


# Recipes


def test_one_grammar_serves_trainings_and_chains(tmp_path: Path) -> None:
    geometry = {"model": dict(MODEL), "vocabulary": list(VOCABULARY), "data": ["tones.tsv"]}
    train = {"steps": 7, "lr": 0.5}
    short = load_recipe(write_values(tmp_path / "short.yaml", {"train": train, **geometry}))
    assert short.train == TrainConfig(**train)
    assert short.data == (tmp_path / "tones.tsv",)
    long = load_recipe(write_values(tmp_path / "long.yaml", {"steps": [{"train": train}], **geometry}))
    assert long == short
    section = load_recipe(write_values(tmp_path / "old.yaml", {"steps": [{"train": {"train": train}}]}))
    assert section.train == short.train
    assert section.steps[0].written() == {"train": {"train": train}}  # as records of today have it
    several = {"steps": [{"train": train}, {"quantize": {}}], **geometry}
    chain = load_recipe(write_values(tmp_path / "several.yaml", several), ["model.num_hidden_layers=1"])
    assert chain.train is None
    model = begin(chain)
    assert model.config.num_hidden_layers == 1
    expected = CTCModel.from_config(model.config, model.vocabulary, seed=0)
    torch.testing.assert_close(model.state_dict(), expected.state_dict())


@pytest.mark.parametrize("override", ["train.lr=0.25", "train.train.lr=0.25", "1.lr=0.25"])
@pytest.mark.parametrize("settings", [{"steps": 7}, {"train": {"steps": 7}}], ids=["flat", "section"])
def test_a_training_is_changed_by_either_name(
    settings: dict[str, Any], override: str, tmp_path: Path
) -> None:
    path = write_values(tmp_path / "recipe.yaml", {"steps": [{"train": settings}]})
    assert load_recipe(path, [override]).train == TrainConfig(steps=7, lr=0.25)


@pytest.mark.parametrize(
    ("values", "override", "message"),
    [
        ({"train": {"steps": 1}, "model": 3}, None, "'model' must be a model's name or a section"),
        (
            {"train": {"steps": 1}, "model": {"hidden_size": 8}},
            None,
            "needs 'vocabulary', a list of its tokens",
        ),
        ({"train": {"steps": 1}, "data": "a.tsv"}, None, "'vocabulary' and 'data' must be lists"),
        (
            {"train": {}, "model": "base"},
            "model.hidden_size=3",
            "geometry of an existing model cannot be changed",
        ),
        ({"train": {"steps": 0}}, None, "train.steps must be greater than 0"),
        ({"model": "base"}, None, "it needs 'steps', a list of methods, or 'train'"),
    ],
)
def test_trainings_that_cannot_work_are_refused(
    values: dict[str, Any], override: str | None, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(write_values(tmp_path / "recipe.yaml", values), [override] if override else [])


def test_a_recipe_without_a_model_cannot_begin(tmp_path: Path) -> None:
    path = write_values(tmp_path / "recipe.yaml", {"train": {"steps": 1}})
    with pytest.raises(ConfigError, match="does not name the model that it begins with: add 'model'"):
        begin(load_recipe(path))


def write_values(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def write(path: Path, *steps: Any, **others: Any) -> Path:
    path.write_text(yaml.safe_dump({"steps": list(steps), **others}), encoding="utf-8")
    return path


def chain(tmp_path: Path) -> Path:
    train = {**QUIET, "steps": 40, "ema_decay": 0.9}
    return write(
        tmp_path / "chain.yaml",
        {"distill": {"student": {"layers": 2}, "train": train}},
        {"distill": {"student": {"layers": 1}, "train": train}},
        "quantize",
    )


@pytest.mark.parametrize(
    ("method", "settings", "features"),
    [
        ("share", {"map_group": 2, "loss": {"kl": 1.0}}, True),
        ("stream", {"chunk_frames": 4}, False),  # a front end that is not told how loud the rest is
        ("prune", {"sparsity": 0.2}, False),
        ("lowbit", {"bits": 2}, True),
        ("lowbit", {"bits": 2, "front_end": 4}, False),  # which is not what its teacher's is
    ],
)
def test_every_method_may_keep_what_its_teacher_says(
    method: str, settings: dict[str, Any], features: bool, teacher: Artifact, tones: Path, tmp_path: Path
) -> None:
    train = {**QUIET, "steps": 2, "freeze_front_end": True}
    recipe = write(tmp_path / "kept.yaml", {method: {**settings, "cache_top_k": 4, "train": train}})
    run_recipe(teacher, load_recipe(recipe), manifest.index(tones), tmp_path / "work", "tones")
    kept = tmp_path / "work" / f"1-{method}" / "teacher"
    assert json.loads((kept / "index.json").read_text())["features"] == features


def test_a_chain_keeps_every_student_and_resumes(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    recipe = load_recipe(chain(tmp_path))
    told: list[str] = []
    made = run_recipe(
        teacher, recipe, manifest.index(tones), tmp_path / "work", "tones", progress=told.append
    )
    assert [list(entry) for entry in made.config.littlefoot.recipe] == [
        ["distill"],
        ["distill"],
        ["quantize"],
    ]
    assert made.config.littlefoot.teacher.name == "tones"
    assert made.config.num_hidden_layers == 1
    assert made.weights["encoder.layers.0.attention.q_proj.weight"].dtype == np.int8
    assert made.card.startswith("# Made of tones\n")
    assert made.card.count("steps (") == 3  # of two students, and of their teacher, whose card comes last
    assert made.card.index("## 8 bits") < made.card.index("# The model that it was made from")
    between = artifact.load(tmp_path / "work" / "1-distill" / "model")
    assert between.config.num_hidden_layers == 2
    assert len(between.config.littlefoot.recipe) == 1

    with pytest.raises(ConfigError, match="continue with --resume"):
        run_recipe(teacher, recipe, manifest.index(tones), tmp_path / "work", "tones")
    again = run_recipe(teacher, recipe, None, tmp_path / "work", "tones", resume=True, progress=told.append)
    assert told[-3:] == [
        "step 1, distill: done before",
        "step 2, distill: done before",
        "step 3, quantize: done before",
    ]
    for name, weight in made.weights.items():
        np.testing.assert_array_equal(weight, again.weights[name])
    other = load_recipe(tmp_path / "chain.yaml", ["2.train.lr=1e-9"])
    with pytest.raises(ConfigError, match="2-distill/model was made with other settings"):
        run_recipe(teacher, other, None, tmp_path / "work", "tones", resume=True)


def test_what_a_later_step_cannot_find_is_refused_before_the_first(
    teacher: Artifact, tones: Path, tmp_path: Path
) -> None:
    for setting, message in (
        ("2.train.dev_sets=[tunes]", "step 2, distill: train.dev_sets: .* is called 'tunes': they are tones"),
        (f"2.train.noise_folder={tmp_path}", "step 2, distill: train.noise_folder: .* holds no recordings"),
    ):
        recipe = load_recipe(chain(tmp_path), [setting])
        with pytest.raises(ConfigError, match=message):
            run_recipe(teacher, recipe, manifest.index(tones), tmp_path / "work", "tones")
        assert not (tmp_path / "work").exists()


def test_steps_that_train_on_texts_are_checked_too(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    steps = {"distill": {"train": QUIET}}, {"train": {**QUIET, "dev_sets": ["tunes"]}}
    recipe = load_recipe(write(tmp_path / "texts.yaml", *steps))
    with pytest.raises(ConfigError, match=r"step 2, train: train\.dev_sets: .* is called 'tunes'"):
        run_recipe(teacher, recipe, manifest.index(tones), tmp_path / "work", "tones")
    assert not (tmp_path / "work").exists()


def test_a_step_that_was_interrupted_goes_on(teacher: Artifact, tones: Path, tmp_path: Path) -> None:
    whole = distill(
        teacher,
        DistillConfig(StudentConfig(layers=1), train=settings()),
        step(teacher, tones, tmp_path / "a"),
    )
    killed = settings(checkpoint_minutes=0.0)
    config = DistillConfig(StudentConfig(layers=1), train=killed)
    interrupted = Distillation.inspect

    def stop(self: Distillation, row: dict[str, Any]) -> None:
        if row["step"] == 70:
            raise TrainingError("power cut")

    try:
        Distillation.inspect = stop  # type: ignore[method-assign]
        with pytest.raises(TrainingError, match="power cut"):
            distill(teacher, config, step(teacher, tones, tmp_path / "b"))
    finally:
        Distillation.inspect = interrupted  # type: ignore[method-assign]
    resumed = distill(teacher, config, step(teacher, tones, tmp_path / "b", resume=True))
    for name, weight in whole.weights.items():
        np.testing.assert_array_equal(weight, resumed.weights[name], err_msg=name)


def test_settings_of_steps_are_changed_by_name_and_number(tmp_path: Path) -> None:
    path = chain(tmp_path)
    recipe = load_recipe(path, ["distill.train.lr=0.5", "2.student.layers=[3, 1]", "quantize.mode=dynamic"])
    first, second, third = (entry.config for entry in recipe.steps)
    assert first.train.lr == second.train.lr == 0.5
    assert second.student.layers == (3, 1)
    assert third.mode == "dynamic"


@pytest.mark.parametrize("text", ["7e-4", "0.0007", "7.0e-4", "+7E-04"])
def test_a_number_is_recorded_as_a_number_however_it_is_written(tmp_path: Path, text: str) -> None:
    written = load_recipe(chain(tmp_path), [f"1.train.lr={text}"]).steps[0].written()
    assert written["distill"]["train"]["lr"] == 0.0007


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"steps": []}, "needs 'steps'"),
        ({"step": ["quantize"]}, "needs 'steps'"),
        ({"steps": ["squeeze"]}, "there is no method 'squeeze': use one of distill"),
        ({"steps": [{"distill": {"students": {}}}]}, "'distill.students': did you mean 'distill.student'"),
        (
            {"steps": [{"distill": {"loss": {"kll": 1}}}]},
            "'distill.loss.kll': did you mean 'distill.loss.kl'",
        ),
        ({"steps": [{"distill": {"student": 3}}]}, "distill.student must be a section of settings, not 3"),
        (
            {"steps": [{"distill": {"loss": {"kl": "much"}}}]},
            "distill.loss.kl must be .* not 'much'",
        ),
        ({"steps": [{"distill": {}, "quantize": {}}]}, "a step is one method"),
        ({"steps": ["quantize"], "title": "x"}, "unknown setting 'title'"),
    ],
)
def test_recipes_that_cannot_work_are_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        load_recipe(path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("distill.train.lr", "write step.key=value"),
        ("lowbit.bits=2", r"no step 'lowbit', but 1 \(distill\), 2 \(distill\), 3 \(quantize\)"),
        ("distill.train.lr=[", "is not a YAML value"),
        ("4.train.lr=1", "no step '4'"),
    ],
)
def test_overrides_that_cannot_work_are_refused(tmp_path: Path, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(chain(tmp_path), [override])


@pytest.mark.parametrize("name", named())
def test_named_recipes_are_sound(name: str) -> None:
    assert load_recipe(name).steps


def test_training_without_speech_is_refused(teacher: Artifact, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="name speech to train on with --data"):
        run_recipe(teacher, load_recipe(chain(tmp_path)), None, tmp_path / "work", "tones")


# The command


def test_the_command_makes_a_student(teacher: Artifact, tones: Path, tmp_path: Path, run: Run) -> None:
    given = artifact.save(teacher, tmp_path / "teacher")
    recipe = chain(tmp_path)
    arguments = ["shrink", str(given), "-o", str(tmp_path / "small"), "--recipe", str(recipe)]
    done = run(*arguments, "--data", str(tones), "--set", "1.train.steps=30")
    assert done.code == 0, done.err
    assert "million parameters" in done.err
    shown = run("info", str(tmp_path / "small"))
    assert "distill, distill, quantize" in shown.out
    refused = run(*arguments, "--data", str(tones))
    assert refused.code == 1
    assert "is a littlefoot artifact already" in refused.err
    assert (tmp_path / "small-steps" / "1-distill" / "model" / "config.json").exists()
    unknown = run(*arguments[:-1], "giant")
    assert unknown.code == 2
    assert "there is no recipe 'giant': name a YAML file or one of bigfoot, bigfoot-plus" in unknown.err
