"""Training data: which utterances, in which order, and how they become batches.

Everything random is drawn from generators seeded by (seed, epoch, utterance), so the batches of an
epoch are the same whenever and by however many threads they are made: resumed training sees exactly
what uninterrupted training would have seen.
"""

from __future__ import annotations

import itertools
import signal
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from littlefoot import audio
from littlefoot.config import SAMPLE_RATE, ModelConfig
from littlefoot.errors import LittlefootError, TrainingError
from littlefoot.manifest import Utterance
from littlefoot.model.augment import Augmenter, mask_spans
from littlefoot.model.train_config import TrainConfig
from littlefoot.vocabulary import Vocabulary


@dataclass(frozen=True)
class Draw:
    """One utterance's turn in an epoch."""

    index: int
    """Which utterance of the training set."""
    turn: int
    """Counts the turns of the same utterance in the same epoch."""
    speed: float


@dataclass(frozen=True)
class Batch:
    """What one forward and backward pass takes: B utterances padded to T samples, F frames."""

    waveforms: Tensor
    """(B, T) float32, zeros after each length."""
    lengths: Tensor
    """(B,) samples."""
    targets: Tensor
    """(sum of target_lengths,) token ids."""
    target_lengths: Tensor
    """(B,)"""
    time_mask: Tensor
    """(B, F) bool"""
    feature_mask: Tensor
    """(B, D) bool"""
    seconds: float
    """Of speech, without the padding."""
    epoch: int
    unreadable: dict[str, str]
    """The paths of files that were left out of it, and what was wrong with them."""


Turn = tuple[int, Sequence[Draw]]
"""An epoch's number, and one of its batches."""


class TrainingSet(Dataset[Batch]):
    """The usable utterances among those given, and their batches.

    ``left_out`` counts the utterances not used, by reason, and ``unknown`` those in which each character
    outside the alphabet occurs; ``unreadable`` maps the paths of files that
    turned out unreadable to what was wrong with them. ``parts`` is the number of batches in a step.
    """

    def __init__(
        self,
        utterances: Iterable[Utterance],
        vocabulary: Vocabulary,
        model: ModelConfig,
        train: TrainConfig,
        do_normalize: bool,
        parts: int = 1,
    ) -> None:
        self.model, self.train, self.do_normalize = model, train, do_normalize
        self.parts = parts
        self.left_out: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.augment = Augmenter(train)
        self.unreadable: dict[str, str] = {}
        self._cache: dict[int, npt.NDArray[np.int16]] = {}

        kept: list[tuple[Utterance, list[int], float]] = []
        for utterance in utterances:
            try:
                seconds = utterance.seconds or audio.duration(utterance.path)
            except LittlefootError as error:
                self.unreadable[str(utterance.path)] = str(error)
                self.left_out["unreadable audio"] += 1
                continue
            unknown = vocabulary.unknown(utterance.text)
            self.unknown.update(unknown)
            targets = None if unknown else vocabulary.encode(utterance.text)
            reason = self._unusable(utterance, targets, seconds)
            if reason:
                self.left_out[reason] += 1
            elif targets is not None:
                kept.append((utterance, targets, seconds))
        if not kept:
            reasons = ", ".join(f"{count} with {reason}" for reason, count in self.left_out.items())
            raise TrainingError(f"nothing to train on (left out: {reasons or 'none'}): check the manifests")
        self.utterances = [utterance for utterance, _, _ in kept]
        self.targets = [targets for _, targets, _ in kept]
        self.seconds = np.array([seconds for _, _, seconds in kept])
        self.needed = np.array([frames_needed(targets) for targets in self.targets])

    def _unusable(self, utterance: Utterance, targets: list[int] | None, seconds: float) -> str | None:
        """Why an utterance cannot be trained on, or None; ``targets`` is None for an unknown character."""
        if not utterance.text.strip():
            return "empty text"
        if targets is None:
            return "text outside the alphabet"
        if (utterance.disagreement or 0.0) > self.train.max_disagreement:
            return f"disagreement above {self.train.max_disagreement:g}"
        if seconds > self.train.max_seconds:
            return f"audio longer than {self.train.max_seconds:g} s"
        if self.model.frames(int(seconds * SAMPLE_RATE)) < frames_needed(targets):
            return "text longer than its frames"
        return None

    def epoch(self, number: int) -> list[list[Draw]]:
        """The batches of an epoch, in order.

        Utterances with the same ``padded_length`` share a batch. With ``short_first`` the first epoch goes
        from short to long, which gets CTC off the ground sooner; all others take the batches in random order.
        """
        rng = np.random.default_rng((self.train.seed, number))
        weights = [self.train.set_weights.get(u.set_name, 1.0) for u in self.utterances]
        # An offset per utterance that moves on by the golden ratio each epoch: weight 0.5 is every other one.
        offsets = np.random.default_rng(self.train.seed).random(len(weights)) + number * 0.618034
        turns = np.floor(np.array(weights) + offsets % 1.0).astype(int)
        index = np.repeat(np.arange(len(turns)), turns)
        turn = np.concatenate([np.arange(count) for count in turns])
        speed = rng.choice(np.array(self.train.speeds), len(index))
        seconds = self.seconds[index] / speed
        frames = np.array([self.model.frames(int(s * SAMPLE_RATE) - 1) for s in seconds])
        too_fast = frames < self.needed[index]
        speed = np.where(too_fast, 1.0, speed)
        seconds = np.where(too_fast, self.seconds[index], seconds)

        in_order = number == 0 and self.train.short_first
        padded = padded_length(np.ceil(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        limit = self.train.batch_seconds / self.parts
        batches: list[list[Draw]] = [[]]
        for i in np.lexsort((seconds if in_order else rng.random(len(seconds)), padded)):
            if batches[-1] and padded[i] * (len(batches[-1]) + 1) > limit:
                batches.append([])
            batches[-1].append(Draw(int(index[i]), int(turn[i]), float(speed[i])))
        if not in_order:
            rng.shuffle(batches)
        return batches

    def load(self, epoch: int, draws: Sequence[Draw]) -> Batch:
        """Read, augment, mask and pad one batch.

        Files that cannot be read are left out of it; if none is left, the batch is a second of silence
        without text, so that all processes of a distributed run still take the same steps.
        """
        waveforms: list[npt.NDArray[np.float32]] = []
        targets: list[list[int]] = []
        rngs: list[np.random.Generator] = []
        unreadable: dict[str, str] = {}
        for draw in draws:
            path = str(self.utterances[draw.index].path)
            rng = np.random.default_rng((self.train.seed, epoch, draw.index, draw.turn))
            try:
                waveform = self.augment(self._audio(draw.index), draw.speed, rng)
            except LittlefootError as error:
                unreadable[path] = str(error)
                continue
            waveform = audio.normalize(waveform) if self.do_normalize else waveform
            if self.model.frames(len(waveform)) < self.needed[draw.index]:
                unreadable[path] = "is shorter than its manifest says: too short for its text"
                continue
            waveforms.append(waveform)
            targets.append(self.targets[draw.index])
            rngs.append(rng)
        if not waveforms:
            waveforms, targets = [np.zeros(SAMPLE_RATE, np.float32)], [[]]
            rngs = [np.random.default_rng(0)]
        unreadable |= self.augment.unreadable
        return self._collate(waveforms, targets, rngs, epoch, unreadable)

    def __getitem__(self, turn: Turn) -> Batch:
        return self.load(*turn)

    def batches(self, turns: Iterable[Turn]) -> Iterator[Batch]:
        """Load batches in their order, ahead of their use, in ``train.loaders`` processes.

        Raises TrainingError where more files than ``train.max_unreadable`` cannot be used.
        """
        loaders = self.train.loaders
        loader: DataLoader[Batch] = DataLoader(
            self,
            batch_size=None,
            sampler=turns,
            num_workers=loaders,
            prefetch_factor=2 if loaders else None,
            collate_fn=_as_it_is,
            worker_init_fn=_leave_signals_to_the_trainer,
        )
        for batch in loader:
            self.unreadable.update(batch.unreadable)
            if len(self.unreadable) > self.train.max_unreadable:
                path, problem = list(self.unreadable.items())[-1]
                raise TrainingError(
                    f"{len(self.unreadable)} audio files cannot be used, the last one {path}: {problem}; "
                    "check the manifests, or raise train.max_unreadable"
                )
            yield batch

    def _audio(self, index: int) -> npt.NDArray[np.float32]:
        """(T,) samples of an utterance."""
        if index in self._cache:
            return _floats(self._cache[index])
        waveform = audio.read(self.utterances[index].path)
        if self.train.cache_audio:
            samples = np.clip(np.rint(waveform * 32768.0), -32768, 32767).astype(np.int16)
            self._cache[index] = samples
            return _floats(samples)  # the same now as from the cache later
        return waveform

    def _collate(
        self,
        waveforms: list[npt.NDArray[np.float32]],
        targets: list[list[int]],
        rngs: list[np.random.Generator],
        epoch: int,
        unreadable: dict[str, str],
    ) -> Batch:
        train, lengths = self.train, [len(waveform) for waveform in waveforms]
        padded = pad(waveforms)
        time_mask = np.zeros((len(lengths), self.model.frames(padded.shape[1])), dtype=np.bool_)
        feature_mask = np.zeros((len(lengths), self.model.hidden_size), dtype=np.bool_)
        for row, (length, rng) in enumerate(zip(lengths, rngs, strict=True)):
            frames = self.model.frames(length)
            time_mask[row, :frames] = mask_spans(
                frames, train.time_mask_fraction, train.time_mask_frames, rng
            )
            feature_mask[row] = mask_spans(
                self.model.hidden_size, train.feature_mask_fraction, train.feature_mask_channels, rng
            )
        return Batch(
            waveforms=torch.from_numpy(padded),
            lengths=torch.tensor(lengths),
            targets=torch.tensor([token for tokens in targets for token in tokens], dtype=torch.int64),
            target_lengths=torch.tensor([len(tokens) for tokens in targets]),
            time_mask=torch.from_numpy(time_mask),
            feature_mask=torch.from_numpy(feature_mask),
            seconds=sum(lengths) / SAMPLE_RATE,
            epoch=epoch,
            unreadable=unreadable,
        )


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C and a kill of the process group reach the loaders too, which the last step still needs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _floats(samples: npt.NDArray[np.int16]) -> npt.NDArray[np.float32]:
    """16-bit samples (T,) as samples in -1..1."""
    return samples.astype(np.float32) / np.float32(32768)


def padded_length(samples: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """The lengths to which waveforms are padded: six of them per octave.

    Kernels are compiled anew for every shape they meet (by oneDNN on the CPU, which took half of the time of
    training). With few lengths they are all there after the first batches; 6 % of the samples are padding.
    """
    seconds = np.maximum(samples, 1) / SAMPLE_RATE
    return np.ceil(SAMPLE_RATE * 2 ** (np.ceil(6 * np.log2(seconds) - 1e-9) / 6)).astype(np.int64)


def pad(waveforms: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Waveforms of different lengths as one array (B, T) of a ``padded_length``, zeros after each."""
    longest = max(len(waveform) for waveform in waveforms)
    padded = np.zeros((len(waveforms), int(padded_length(longest))), dtype=np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return padded


def frames_needed(targets: Sequence[int]) -> int:
    """Frames that CTC needs at least: one per token, and a blank between two equal ones."""
    return len(targets) + sum(a == b for a, b in itertools.pairwise(targets))
