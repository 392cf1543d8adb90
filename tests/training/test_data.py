"""Training data: what is used, what is left out and counted, and that batches can be made again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tones import MODEL, VOCABULARY, write_set

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import manifest
from littlefoot.audio.manifest import Utterance
from littlefoot.compress import load_recipe
from littlefoot.errors import TrainingError
from littlefoot.network.config import ModelConfig
from littlefoot.training.data import Batch, TrainingSet, bucket_length
from littlefoot.training.epochs import Draw
from littlefoot.training.train_config import TrainConfig

RECIPE = Path(__file__).parents[2] / "recipes" / "littlefoot-en-first.yaml"
SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def utterances(tmp_path_factory: pytest.TempPathFactory) -> list[Utterance]:
    return manifest.read(write_set(tmp_path_factory.mktemp("data"), 30), "train")


def training_set(utterances: list[Utterance], **train: Any) -> TrainingSet:
    config = TrainConfig(**{"batch_seconds": 3.0, "loaders": 0, **train})
    return TrainingSet(
        utterances, Vocabulary(tuple(VOCABULARY)), ModelConfig.from_dict(MODEL), config, do_normalize=True
    )


def all_batches(data: TrainingSet, epoch: int) -> list[Batch]:
    return list(data.batches((epoch, draws) for draws in data.epoch(epoch)))


def same(a: Batch, b: Batch) -> bool:
    return all(
        torch.equal(value, getattr(b, name)) if isinstance(value, torch.Tensor) else value == getattr(b, name)
        for name, value in vars(a).items()
    )


def test_batches_are_the_same_again_whatever_the_number_of_loaders(utterances: list[Utterance]) -> None:
    settings: dict[str, Any] = {"noise_probability": 0.5, "time_mask_fraction": 0.3}
    first = all_batches(training_set(utterances, **settings), 3)
    for loaders in (1, 2):
        again = all_batches(training_set(utterances, **settings, loaders=loaders), 3)
        assert len(first) == len(again) > 1
        assert all(same(a, b) for a, b in zip(first, again, strict=True))


def test_another_seed_or_epoch_gives_other_batches(utterances: list[Utterance]) -> None:
    data = training_set(utterances)
    assert list(data.epoch(1)) != list(data.epoch(2))
    assert list(data.epoch(1)) != list(training_set(utterances, seed=1).epoch(1))


def test_cached_audio_gives_the_same_batches_in_every_epoch(utterances: list[Utterance]) -> None:
    data = training_set(utterances, cache_audio=True)
    assert all(same(a, b) for a, b in zip(all_batches(data, 1), all_batches(data, 1), strict=True))


def test_the_first_epoch_goes_from_short_to_long(utterances: list[Utterance]) -> None:
    lengths = [batch.lengths.max() for batch in all_batches(training_set(utterances), 0)]
    assert lengths == sorted(lengths)
    later = [batch.lengths.max() for batch in all_batches(training_set(utterances), 1)]
    assert later != sorted(later)
    unordered = [batch.lengths.max() for batch in all_batches(training_set(utterances, short_first=False), 0)]
    assert unordered != sorted(unordered)


@pytest.mark.parametrize("loaders", [0, 2])
def test_batches_of_several_epochs_come_in_order(utterances: list[Utterance], loaders: int) -> None:
    data = training_set(utterances, loaders=loaders)
    turns = [(epoch, draws) for epoch in (1, 2) for draws in data.epoch(epoch)]
    batches = list(data.batches(turns))
    assert [batch.epoch for batch in batches] == [epoch for epoch, _ in turns]
    assert all(same(batch, data.load(*turn)) for batch, turn in zip(batches, turns, strict=True))


@pytest.mark.parametrize("parts", [1, 2])
def test_batches_keep_to_their_padded_length(utterances: list[Utterance], parts: int) -> None:
    data = training_set(utterances)
    data.parts = parts
    for epoch in (0, 1):
        for batch in all_batches(data, epoch):
            assert batch.waveforms.numel() <= 1.01 * 3.0 / parts * 16_000


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_the_parts_of_a_step_are_about_equally_long(utterances: list[Utterance], parts: int) -> None:
    data = training_set(utterances, short_first=False)
    data.parts = parts
    epoch = list(data.epoch(0))
    heard = [(draw.index, draw.turn) for batch in epoch for draw in batch]
    assert len(heard) == len(set(heard)) == len(data)
    longest = [max(data.seconds[draw.index] / draw.speed for draw in batch) for batch in epoch]
    steps = np.array(longest[: len(longest) - len(longest) % parts]).reshape(-1, parts)
    assert len(steps) > 3
    alike = np.sort(steps.ravel()).reshape(-1, parts)  # the least that processes can wait for each other
    assert steps.max(1).sum() <= 1.05 * alike.max(1).sum()
    assert steps.max(1).tolist() != sorted(steps.max(1))


def test_there_are_few_lengths_of_batches_and_little_padding(utterances: list[Utterance]) -> None:
    samples = np.arange(4_000, 480_000, 37)
    padded = bucket_length(samples)
    assert len(set(padded.tolist())) <= 6 * np.log2(480 / 4) + 2
    assert (padded >= samples).all()
    assert (padded < 1.13 * samples).all()
    assert bucket_length([16_000, 32_000]).tolist() == [16_000, 32_000]
    for batch in all_batches(training_set(utterances), 1):
        assert batch.waveforms.shape[1] == bucket_length(int(batch.lengths.max()))
        assert not batch.waveforms[0, batch.lengths[0] :].any()


def test_every_utterance_is_drawn_as_often_as_its_set_weighs(utterances: list[Utterance]) -> None:
    def draws(weight: float, epoch: int) -> list[Draw]:
        data = training_set(utterances, set_weights={"tones": weight})
        return [draw for batch in data.epoch(epoch) for draw in batch]

    assert sorted(draw.index for draw in draws(1.0, 5)) == list(range(30))
    over_epochs = [len(draws(2.5, epoch)) for epoch in range(20)]
    assert np.mean(over_epochs) == pytest.approx(2.5 * 30, rel=0.05)
    assert {draw.turn for draw in draws(2.0, 1)} == {0, 1}


def test_masks_lie_within_the_frames_of_each_utterance(utterances: list[Utterance]) -> None:
    data = training_set(utterances, time_mask_fraction=0.5, time_mask_frames=2)
    for batch in all_batches(data, 1):
        assert batch.time_mask.shape[1] == data.model.frames(batch.waveforms.shape[1])
        for mask, length in zip(batch.time_mask, batch.lengths.tolist(), strict=True):
            assert not mask[data.model.frames(length) :].any()


def test_what_cannot_be_used_is_left_out_and_counted(utterances: list[Utterance]) -> None:
    good = utterances[0]
    bad = [
        dataclasses.replace(good, text="  "),
        dataclasses.replace(good, text="ABZ"),
        dataclasses.replace(good, disagreement=0.5),
        dataclasses.replace(good, seconds=31.0),
        dataclasses.replace(good, text="A" * 40),
        dataclasses.replace(good, path=Path("gone.wav"), seconds=None),
    ]
    data = training_set([good, dataclasses.replace(good, disagreement=0.1), *bad])
    assert len(data) == 2
    assert data.left_out == {
        "empty text": 1,
        "text outside the alphabet": 1,
        "disagreement above 0.15": 1,
        "audio longer than 30 s": 1,
        "text longer than its frames": 1,
        "unreadable audio": 1,
    }
    assert list(data.unreadable) == ["gone.wav"]


def test_characters_outside_the_alphabet_are_counted_by_utterance(utterances: list[Utterance]) -> None:
    texts = ["ABZZ", "Z\u00e9", "AB"]
    data = training_set([dataclasses.replace(utterances[0], text=text) for text in texts])
    assert data.unknown == {"Z": 2, "\u00e9": 1}


def test_nothing_usable_is_an_error_that_says_why(utterances: list[Utterance]) -> None:
    with pytest.raises(TrainingError, match="1 with empty text"):
        training_set([dataclasses.replace(utterances[0], text="")])


def test_speed_never_leaves_fewer_frames_than_the_text_needs() -> None:
    # As many frames as the text needs: any faster and CTC could not align it.
    tight = Utterance("a", Path("a.wav"), 0.355, "nobody", "train", "ABCDEFABCDEFABCDE")
    data = training_set([tight], speeds=[1.1])
    assert data.model.frames(int(0.355 * 16_000)) == data.needed[0] == 17
    assert [draw.speed for batch in data.epoch(0) for draw in batch] == [1.0]


def test_unreadable_files_are_skipped_and_listed(utterances: list[Utterance], tmp_path: Path) -> None:
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF no sound")
    data = training_set([*utterances[:3], dataclasses.replace(utterances[3], path=broken)])
    assert sum(len(batch.lengths) for batch in all_batches(data, 0)) == 3
    assert list(data.unreadable) == [str(broken)]


def test_too_many_unreadable_files_stop_training(utterances: list[Utterance], tmp_path: Path) -> None:
    gone = [dataclasses.replace(u, path=tmp_path / f"{u.id}.wav") for u in utterances[:4]]
    with pytest.raises(TrainingError, match="4 audio files cannot be used"):
        all_batches(training_set([*utterances[4:], *gone], max_unreadable=3), 0)


def test_a_batch_without_a_readable_file_is_silence(utterances: list[Utterance], tmp_path: Path) -> None:
    data = training_set([dataclasses.replace(utterances[0], path=tmp_path / "gone.wav")])
    (batch,) = all_batches(data, 0)
    assert not batch.waveforms.any()
    assert batch.target_lengths.tolist() == [0]


def test_a_file_shorter_than_its_manifest_says_is_left_out(utterances: list[Utterance]) -> None:
    lying = dataclasses.replace(utterances[0], seconds=10.0, text="ABC" * 60)
    data = training_set([utterances[1], lying], batch_seconds=24.0)
    (batch,) = all_batches(data, 0)
    assert batch.target_lengths.tolist() == [len(utterances[1].text)]
    assert "too short for its text" in data.unreadable[str(lying.path)]


def test_a_file_longer_than_its_manifest_says_is_left_out(utterances: list[Utterance]) -> None:
    lying = dataclasses.replace(utterances[0], seconds=0.1, text="A")
    data = training_set([utterances[1], lying])
    assert sum(len(batch.lengths) for batch in all_batches(data, 0)) == 1
    assert "but its manifest says 0.1 s" in data.unreadable[str(lying.path)]


@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the recordings of {SHARED} are not here")
def test_the_bundled_models_frames_are_short_enough_for_spoken_digits() -> None:
    recipe = load_recipe(RECIPE)
    assert isinstance(recipe.model, dict)
    rows = manifest.read(SHARED / "digits", "train")
    config = ModelConfig.from_dict(recipe.model)
    data = TrainingSet(rows, Vocabulary(recipe.vocabulary), config, recipe.train, do_normalize=True)
    assert data.left_out["text longer than its frames"] <= 0.01 * len(rows)


def test_without_texts_no_recording_is_too_short_for_its_text(tmp_path: Path) -> None:
    path = write_set(tmp_path, 3)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text(
        "\n".join([lines[0], *(line + "ABC" * 200 for line in lines[1:])]) + "\n", encoding="utf-8"
    )
    rows = manifest.index(path).of_split("train")
    config, vocabulary = ModelConfig.from_dict(MODEL), Vocabulary(tuple(VOCABULARY), 0)
    data = TrainingSet(rows, vocabulary, config, TrainConfig(), True, needs_text=False)
    assert len(data) == 3
    with pytest.raises(TrainingError, match="3 with text longer than its frames"):
        TrainingSet(rows, vocabulary, config, TrainConfig(), True)
