"""Training data: which utterances, in which order, and how they become batches.

Everything random is drawn from generators seeded by (seed, epoch, utterance), so the batches of an
epoch are the same whenever and by however many processes they are made: resumed training sees exactly
what uninterrupted training would have seen.
"""

from __future__ import annotations

import copy
import hashlib
import signal
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from littlefoot.artifact.vocabulary import Vocabulary
from littlefoot.audio import SAMPLE_RATE, pcm, reading
from littlefoot.audio.manifest import Utterance
from littlefoot.decode.align import frames_needed
from littlefoot.errors import LittlefootError, TrainingError
from littlefoot.network.config import ModelConfig
from littlefoot.training.augment import Augmenter, mask_spans
from littlefoot.training.epochs import Draw, Epoch, Turn, fill, shuffled
from littlefoot.training.pronunciations import spelling
from littlefoot.training.train_config import TrainConfig

LENGTH_TOLERANCE = 1.1
"""Largest ratio of a recording's length to the length in its manifest."""


@dataclass(frozen=True)
class Batch:
    """The input of one forward and backward pass: B utterances padded to T samples, F frames."""

    waveforms: Tensor
    """(B, T) float32, zeros after each length."""
    lengths: Tensor
    """(B,) samples."""
    targets: Tensor
    """(sum of target_lengths,) token ids."""
    target_lengths: Tensor
    """(B,)"""
    texts: list[str]
    """B of them."""
    time_mask: Tensor
    """(B, F) bool"""
    feature_mask: Tensor
    """(B, D) bool"""
    keys: Tensor
    """(B,) keys of the utterances (``utterance_key``); -1 for the silence of a batch without any."""
    seconds: float
    """Seconds of speech, without the padding."""
    epoch: int
    unreadable: dict[str, str]
    """The paths of files that were left out of it, and what was wrong with them."""


@dataclass(frozen=True)
class SetSize:
    """Amount of a set's training speech."""

    utterances: int
    seconds: float


class TrainingSet(Dataset[Batch]):
    """The usable utterances among those given, and their batches.

    Of each utterance only its length, the frames it needs and its set are kept: texts and audio are read from
    the disk when its turn comes. ``sets`` has the size of each set, ``digest`` is a SHA-256 of its texts.
    ``left_out`` counts the utterances not used, by reason, and ``unknown`` those in which each character
    outside the alphabet, or word outside the lexicon, occurs; ``unreadable`` maps the paths of files that
    turned out unreadable to what was wrong with them. ``parts`` is the number of batches in a step.
    Without ``needs_text`` only recordings matter: texts that cannot be used count as empty. Without
    ``needs_audio`` no recording is read: batches have silence of their lengths.
    """

    def __init__(
        self,
        utterances: Sequence[Utterance],
        vocabulary: Vocabulary,
        model: ModelConfig,
        train: TrainConfig,
        do_normalize: bool,
        parts: int = 1,
        needs_text: bool = True,
    ) -> None:
        self.utterances, self.spelling = utterances, spelling(vocabulary, train.lexicon)
        self.model, self.train, self.do_normalize = model, train, do_normalize
        self.parts, self.needs_text = parts, needs_text
        self.needs_audio = True
        self.outside = "lexicon" if train.lexicon else "alphabet"
        self.left_out: Counter[str] = Counter()
        self.unknown: Counter[str] = Counter()
        self.augment = Augmenter(train)
        self.unreadable: dict[str, str] = {}
        self._cache: dict[int, npt.NDArray[np.int16]] = {}

        digest = hashlib.sha256()
        numbers: dict[str, int] = {}
        rows, lengths, needed, set_numbers = array("q"), array("d"), array("q"), array("q")
        keys = array("q")
        for row, utterance in enumerate(utterances):
            try:
                seconds = utterance.seconds or reading.duration(utterance.path)
            except LittlefootError as error:
                self.unreadable[str(utterance.path)] = str(error)
                self.left_out["unreadable audio"] += 1
                continue
            unknown = self.spelling.unknown(utterance.text) if needs_text else set()
            self.unknown.update(unknown)
            if reason := self._unusable(utterance, unknown, seconds):
                self.left_out[reason] += 1
                continue
            rows.append(row)
            keys.append(utterance_key(utterance))
            lengths.append(seconds)
            needed.append(frames_needed(self._targets(utterance)) if needs_text else 0)
            set_numbers.append(numbers.setdefault(utterance.set_name, len(numbers)))
            digest.update(f"{utterance.set_name}\t{utterance.id}\t{utterance.text}\n".encode())

        self.seconds, self.needed = np.array(lengths), np.array(needed, np.int64)
        fits = model.frames((self.seconds * SAMPLE_RATE).astype(np.int64)) >= self.needed
        if not fits.all():
            self.left_out["text longer than its frames"] += int((~fits).sum())
        if not fits.any():
            reasons = ", ".join(f"{count} with {reason}" for reason, count in self.left_out.items())
            if self.unknown:
                found = ", ".join(repr(character) for character, _ in self.unknown.most_common(10))
                reasons += f"; outside the {self.outside}: {found}"
            raise TrainingError(f"nothing to train on (left out: {reasons or 'none'}): check the manifests")
        self.rows = np.array(rows, np.int64)[fits]  # (N,) indices of the usable utterances
        self.keys = np.array(keys, np.int64)[fits]  # (N,)
        self.seconds, self.needed = self.seconds[fits], self.needed[fits]
        of_set = np.array(set_numbers, np.int64)[fits]
        self.digest = digest.hexdigest()
        self.sets = {
            name: SetSize(int((of_set == number).sum()), float(self.seconds[of_set == number].sum()))
            for name, number in numbers.items()
        }
        self._weights = np.array([train.set_weights.get(name, 1.0) for name in numbers])[of_set]

    def __len__(self) -> int:
        return len(self.rows)

    def under(self, train: TrainConfig) -> TrainingSet:
        """Return the same utterances for other settings, which must not affect the selection."""
        made = copy.copy(self)
        made.train, made.augment = train, Augmenter(train)
        return made

    def _unusable(self, utterance: Utterance, unknown: set[str], seconds: float) -> str | None:
        """Return the reason why an utterance cannot be used, for any number of frames; None if it can."""
        if self.needs_text and not utterance.text.strip():
            return "empty text"
        if unknown:
            return f"text outside the {self.outside}"
        limit = self.train.set_max_disagreement.get(utterance.set_name, self.train.max_disagreement)
        if self.needs_text and (utterance.disagreement or 0.0) > limit:
            return f"disagreement above {limit:g}"
        if seconds > self.train.max_seconds:
            return f"audio longer than {self.train.max_seconds:g} s"
        return None

    def epoch(self, number: int) -> Epoch:
        """Return the batches of an epoch, in order.

        Utterances with the same ``bucket_length`` share a batch, and batches of about the same length share a
        step, so that no process waits for another. With ``short_first`` the first epoch goes from short to
        long, which gets CTC off the ground sooner; all others take the steps in random order.
        """
        rng = np.random.default_rng((self.train.seed, number))
        # An offset per utterance that moves on by the golden ratio each epoch: weight 0.5 is every other one.
        offsets = np.random.default_rng(self.train.seed).random(len(self)) + number * 0.618034
        turns = np.floor(self._weights + offsets % 1.0).astype(np.int64)
        index = np.repeat(np.arange(len(turns)), turns)
        turn = np.arange(len(index)) - np.repeat(np.cumsum(turns) - turns, turns)
        speed = rng.choice(np.array(self.train.speeds), len(index))
        seconds = self.seconds[index] / speed
        frames = self.model.frames((seconds * SAMPLE_RATE).astype(np.int64) - 1)
        too_fast = frames < self.needed[index]
        speed = np.where(too_fast, 1.0, speed)
        seconds = np.where(too_fast, self.seconds[index], seconds)

        in_order = number == 0 and self.train.short_first
        padded = bucket_length(np.ceil(seconds * SAMPLE_RATE)) / SAMPLE_RATE
        draws = np.lexsort((seconds if in_order else rng.random(len(seconds)), padded))
        begins = fill(padded[draws].tolist(), self.train.batch_seconds / self.parts)
        order = np.arange(len(begins) - 1)
        if not in_order:
            order = shuffled(order, self.parts, rng)
        return Epoch(index[draws], turn[draws], speed[draws], begins, order)

    def load(self, epoch: int, draws: Sequence[Draw]) -> Batch:
        """Read, augment, mask and pad one batch.

        Files that cannot be read are left out of it; if none is left, the batch is a second of silence
        without text, so that all processes of a distributed run still take the same steps.
        """
        waveforms: list[npt.NDArray[np.float32]] = []
        targets: list[list[int]] = []
        texts: list[str] = []
        rngs: list[np.random.Generator] = []
        keys: list[int] = []
        unreadable: dict[str, str] = {}
        for draw in draws:
            utterance = self.utterances[int(self.rows[draw.index])]
            path = str(utterance.path)
            rng = np.random.default_rng((self.train.seed, epoch, draw.index, draw.turn))
            try:
                samples = self.audio(draw.index, utterance)
            except LittlefootError as error:
                unreadable[path] = str(error)
                continue
            seconds, stated = len(samples) / SAMPLE_RATE, float(self.seconds[draw.index])
            if seconds > LENGTH_TOLERANCE * stated + 0.5:  # it might be an hour, and not fit into memory
                unreadable[path] = f"lasts {seconds:.1f} s, but its manifest says {stated:.1f} s"
                continue
            waveform = self.augment(samples, draw.speed, rng)
            waveform = reading.normalize(waveform) if self.do_normalize else waveform
            if self.model.frames(len(waveform)) < self.needed[draw.index]:
                unreadable[path] = "is shorter than its manifest says: too short for its text"
                continue
            waveforms.append(waveform)
            targets.append(self._targets(utterance))
            texts.append(utterance.text)
            rngs.append(rng)
            keys.append(int(self.keys[draw.index]))
        if not waveforms:
            waveforms, targets, texts = [np.zeros(SAMPLE_RATE, np.float32)], [[]], [""]
            rngs, keys = [np.random.default_rng(0)], [-1]
        unreadable |= self.augment.unreadable
        return self._collate(waveforms, targets, texts, rngs, keys, epoch, unreadable)

    def recordings(self, places: Iterable[int]) -> Iterator[npt.NDArray[np.float32]]:
        """Whole recordings (T,) at these places, prepared for the model; unreadable ones are left out."""
        for place in places:
            try:
                waveform = reading.read(self.utterances[int(self.rows[place])].path)
            except LittlefootError:
                continue  # training counts them
            yield reading.normalize(waveform) if self.do_normalize else waveform

    def __getitem__(self, turn: Turn) -> Batch:
        return self.load(*turn)

    def batches(self, turns: Iterable[Turn]) -> Iterator[Batch]:
        """Load batches in their order, ahead of their use, in ``train.loaders`` processes.

        Raises TrainingError if more files than ``train.max_unreadable`` cannot be used.
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

    def _targets(self, utterance: Utterance) -> list[int]:
        if not self.needs_text and self.spelling.unknown(utterance.text):
            return []
        return self.spelling.encode(utterance.text)

    def audio(self, index: int, utterance: Utterance) -> npt.NDArray[np.float32]:
        """(T,) samples of an utterance; silence of its length if the audio is not needed."""
        if not self.needs_audio:
            return np.zeros(round(float(self.seconds[index]) * SAMPLE_RATE), np.float32)
        if index in self._cache:
            return pcm.to_float(self._cache[index])
        waveform = reading.read(utterance.path)
        if self.train.cache_audio:
            samples = pcm.to_int16(waveform)
            self._cache[index] = samples
            return pcm.to_float(samples)  # the same now as from the cache later
        return waveform

    def _collate(
        self,
        waveforms: list[npt.NDArray[np.float32]],
        targets: list[list[int]],
        texts: list[str],
        rngs: list[np.random.Generator],
        keys: list[int],
        epoch: int,
        unreadable: dict[str, str],
    ) -> Batch:
        train, lengths = self.train, [len(waveform) for waveform in waveforms]
        padded = pad(waveforms)
        time_mask = np.zeros((len(lengths), self.model.feature_frames(padded.shape[1])), dtype=np.bool_)
        feature_mask = np.zeros((len(lengths), self.model.hidden_size), dtype=np.bool_)
        for row, (length, rng) in enumerate(zip(lengths, rngs, strict=True)):
            frames = self.model.feature_frames(length)
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
            texts=texts,
            time_mask=torch.from_numpy(time_mask),
            feature_mask=torch.from_numpy(feature_mask),
            keys=torch.tensor(keys),
            seconds=sum(lengths) / SAMPLE_RATE,
            epoch=epoch,
            unreadable=unreadable,
        )


def utterance_key(utterance: Utterance) -> int:
    """Compute a 63-bit number that identifies an utterance by its set, its id and the name of its file."""
    name = f"{utterance.set_name}\t{utterance.id}\t{utterance.path.name}"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "big") >> 1


def _as_it_is(batch: Any) -> Any:
    return batch


def _leave_signals_to_the_trainer(worker: int) -> None:
    """Ctrl-C and a kill of the process group reach the loaders too, which the last step still needs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def bucket_length(samples: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the lengths to which waveforms are padded: six of them per octave.

    Kernels are compiled anew for every shape they meet (by oneDNN on the CPU, which took half of the time of
    training). With few lengths they are all there after the first batches; 6 % of the samples are padding.
    """
    seconds = np.maximum(samples, 1) / SAMPLE_RATE
    return np.ceil(SAMPLE_RATE * 2 ** (np.ceil(6 * np.log2(seconds) - 1e-9) / 6)).astype(np.int64)


def pad(waveforms: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
    """Waveforms of different lengths as one array (B, T) of a ``bucket_length``, zeros after each."""
    longest = max(len(waveform) for waveform in waveforms)
    padded = np.zeros((len(waveforms), int(bucket_length(longest))), dtype=np.float32)
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = waveform
    return padded
