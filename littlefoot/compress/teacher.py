"""Provide the teacher's outputs for a batch: computed on the fly, or read from a cache on the disk."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from accelerate import PartialState
from torch import Tensor

from littlefoot.artifact import Artifact, fingerprint
from littlefoot.audio import SAMPLE_RATE, reading
from littlefoot.compress.distillation_settings import DistillationSettings
from littlefoot.compress.methods import StepContext
from littlefoot.compress.teacher_records import pack, record_width, unpack
from littlefoot.errors import LittlefootError, TrainingError
from littlefoot.network.config import ModelConfig
from littlefoot.system import atomic
from littlefoot.system.amounts import in_bytes
from littlefoot.system.progress import tracked
from littlefoot.training.data import Batch, TrainingSet, pad
from littlefoot.training.devices import processes
from littlefoot.training.module import CTCModel
from littlefoot.training.train_config import TrainConfig

INDEX, OUTPUTS, FEATURES, BEGINS = "index.json", "outputs.bin", "features.bin", "begins.npy"
KEYS = "keys.npy"

_OF_FRONT_END = (
    "conv_dim",
    "conv_kernel",
    "conv_stride",
    "conv_bias",
    "waveform_gain",
    "feat_extract_first",
    "feat_extract_norm",
    "feat_extract_activation",
)


@dataclass(frozen=True)
class Targets:
    """A teacher's outputs for B utterances, on its own frames."""

    logits: Tensor
    """(B, F, V), or log posteriors."""
    frames: Tensor
    """(B,)"""
    hidden_states: list[Tensor] | None
    """(B, F, D) before the first layer and after each, on the blocks' frames; None from a cache."""
    features: Tensor | None
    """(B, F, C), what the front end made of the batch; None from a cache without them."""


class Teacher(Protocol):
    """Interface of a source of the teacher's outputs."""

    config: ModelConfig
    """The teacher's configuration."""
    needs_audio: bool
    """Whether the teacher needs the batch's waveforms."""

    def __call__(self, batch: Batch) -> Targets: ...

    def has_features_of(self, student: CTCModel) -> bool:
        """Return True if ``Targets.features`` equal those of the student's own front end for the batch."""


class LiveTeacher:
    """A teacher that encodes every batch, after augmentation but without masks or dropout.

    If it needs normalized waveforms it normalizes them itself, because its student may not use normalization.

    The teacher is not a module of the student's objective: its weights are neither trained, averaged nor
    saved, and every process has all of them.
    """

    needs_audio = True

    def __init__(self, model: CTCModel) -> None:
        self.model, self.config = model.eval().requires_grad_(False), model.config

    @torch.no_grad()
    def __call__(self, batch: Batch) -> Targets:
        self.model.to(batch.waveforms.device)
        waveforms = batch.waveforms
        if self.model.preprocessor.get("do_normalize", True):
            waveforms = normalized(waveforms, batch.lengths)
        output = self.model.encode(waveforms, batch.lengths)
        assert output.frame_lengths is not None  # lengths were given
        return Targets(output.logits, output.frame_lengths, output.hidden_states, output.features)

    def has_features_of(self, student: CTCModel) -> bool:
        """Return True if a student's front end is this one, unrounded, with waveforms prepared in the same
        way.
        """
        models = self.model, student
        ways = [model.preprocessor.get("do_normalize", True) for model in models]
        settings = [[getattr(model.config, name) for name in _OF_FRONT_END] for model in models]
        mine, theirs = (dict(model.named_parameters()) for model in models)
        return (
            student.config.one_frame_rate
            and self.config.one_frame_rate
            and ways[0] == ways[1]
            and settings[0] == settings[1]
            and all(
                torch.equal(value, theirs[name].to(value.device))
                for name, value in mine.items()
                if name.startswith("feature_extractor.")
            )
        )


def make_teacher(
    model: Artifact,
    settings: DistillationSettings,
    step: StepContext,
    data: TrainingSet,
    student: CTCModel | None = None,
) -> Teacher:
    """Make the teacher of a method.

    Args:
        model: the model that the step begins with.
        student: the model to train; None if rounding or gates change the features of its front end.

    Raises TrainingError as ``cached`` does.
    """
    teacher = step.teacher(settings.teacher, model)
    live = LiveTeacher(CTCModel.from_artifact(teacher))
    if settings.cache_top_k is None or step.untrained:
        return live
    same = (
        student is not None
        and features_are_constant(student, settings.train)
        and live.has_features_of(student)
    )
    there = step.directory / "teacher"
    return cached(there, teacher, data, settings.cache_top_k, processes(), step.progress, same)


def features_are_constant(student: CTCModel, train: TrainConfig) -> bool:
    """Return True if a student's frozen front end gives the same features in every epoch, at speed 1."""
    changed = train.noise_probability, train.room_probability, train.telephone_probability
    louder = 0.0 if student.preprocessor.get("do_normalize", True) else train.gain_db
    return train.freeze_front_end and not any((*changed, train.codec_probability, louder))


def normalized(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """``littlefoot.audio.reading.normalize`` of a padded batch (B, T): zero mean, unit variance."""
    valid = (torch.arange(waveforms.shape[1], device=lengths.device) < lengths[:, None]).to(waveforms.dtype)
    count = lengths[:, None].clamp(min=1)
    centred = (waveforms - (waveforms * valid).sum(1, keepdim=True) / count) * valid
    return centred * torch.rsqrt(centred.square().sum(1, keepdim=True) / count + 1e-7)


class CachedTeacher:
    """A teacher's log posteriors for every utterance of a training set, made once and kept on the disk.

    With ``top_k`` the likeliest tokens of each frame are kept in 16 bits, and what is left of the
    probability is spread evenly over the others; without, all of them. Features of the front end are there
    for students that share it.
    """

    needs_audio = False

    def __init__(self, directory: Path, config: ModelConfig) -> None:
        self.config, self._directory = config, directory
        keys = np.load(directory / KEYS)  # (N,) of the utterances
        self._places = np.argsort(keys, kind="stable")
        self._keys = keys[self._places]  # (N,) ascending
        index = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        self._vocabulary_size, self._top_k = index["vocabulary_size"], index["top_k"]
        self._begins = np.load(directory / BEGINS)  # (N + 1,)
        width = record_width(self._vocabulary_size, self._top_k)
        self._outputs = np.memmap(directory / OUTPUTS, np.uint16, "r").reshape(
            -1, width
        )  # (all frames, record)
        self._features: npt.NDArray[np.float16] | None = None  # (all frames, C)
        if index["features"]:
            kept = np.memmap(directory / FEATURES, np.float16, "r")
            self._features = kept.reshape(-1, config.feature_channels)

    def __call__(self, batch: Batch) -> Targets:
        places = self._find(batch.keys.numpy(force=True))
        rows = [self._row(place) for place in places]
        frames = max(batch.time_mask.shape[1], *map(len, rows))  # as many as a student with this front end
        device = batch.waveforms.device
        features = None
        if self._features is not None:
            frames = batch.time_mask.shape[1]  # by the manifest's length, which may be a little short
            rows = [row[:frames] for row in rows]
            features = _padded([self._features_of(place)[:frames] for place in places], frames).to(device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        return Targets(_padded(rows, frames).to(device), lengths, None, features)

    def _find(self, keys: npt.NDArray[np.int64]) -> list[int]:
        """Return the indices of utterances in the cache; -1 for the silence of a batch without any.

        Raises TrainingError for an utterance that is not there.
        """
        at = np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)
        if (missing := (self._keys[at] != keys) & (keys >= 0)).any():
            raise TrainingError(
                f"{self._directory} has no outputs for {missing.sum()} utterances of a batch: remove it, so"
                " that it is made again"
            )
        return np.where(keys < 0, -1, self._places[at]).tolist()  # type: ignore[no-any-return]

    def has_features_of(self, student: CTCModel) -> bool:
        """Return True if features are stored; the caller of ``cached`` selects this."""
        return self._features is not None

    def _features_of(self, row: int) -> npt.NDArray[np.float32]:
        """(F, C) of an utterance; zeros, of a batch without any."""
        assert self._features is not None
        if row < 0:
            return np.zeros((1, self._features.shape[1]), np.float32)
        return self._features[self._begins[row] : self._begins[row + 1]].astype(np.float32)

    def _row(self, row: int) -> npt.NDArray[np.float32]:
        """Log posteriors (F, V) of an utterance; of none, of a batch without any, a frame."""
        if row < 0:
            return np.zeros((1, self._vocabulary_size), np.float32)
        records = np.array(self._outputs[self._begins[row] : self._begins[row + 1]])
        return unpack(records, self._vocabulary_size, self._top_k)


def cached(
    directory: Path,
    artifact: Artifact,
    data: TrainingSet,
    top_k: int,
    state: PartialState,
    progress: Callable[[str], None],
    features: bool = False,
) -> CachedTeacher:
    """Open the cache in a directory; if there is none, all processes make it together.

    Args:
        top_k: tokens kept of each frame; 0 for all.
        features: whether the front end's are kept, for a student that would make the same of all utterances.
        progress: called with the size of the cache before it is made, and now and then while it is.

    Raises:
        TrainingError: a cache that another teacher, other audio or other settings made, or too small a disk.
    """
    index: dict[str, Any] = {
        "teacher_sha256": fingerprint(artifact),
        "audio_sha256": audio_fingerprint(data),
        "top_k": min(top_k, artifact.config.vocab_size),
        "vocabulary_size": artifact.config.vocab_size,
        "features": features,
    }
    if (directory / INDEX).exists():
        there = json.loads((directory / INDEX).read_text(encoding="utf-8"))
        names = {
            "teacher_sha256": "another teacher",
            "audio_sha256": "other audio",
            "top_k": "another top_k",
            "features": "another freeze_front_end or augmentation",
        }
        for key, name in names.items():
            if there[key] != index[key]:
                raise TrainingError(f"{directory} was made with {name}: remove it, or choose another output")
        return CachedTeacher(directory, artifact.config)
    refuse_equal_keys(data)
    width = record_width(index["vocabulary_size"], index["top_k"])
    frames = artifact.config.frames((data.seconds * SAMPLE_RATE).astype(np.int64) + 1)
    width += artifact.config.feature_channels if features else 0
    estimate = int(frames.sum()) * 2 * width
    parts = [directory.with_name(f"{directory.name}-{n}") for n in range(state.num_processes)]
    progress(f"keeping the teacher's outputs in {directory}: {in_bytes(estimate)}")
    directory.parent.mkdir(parents=True, exist_ok=True)
    needed = 1.1 * estimate * (2 if len(parts) > 1 else 1)  # while the parts are joined
    if (free := shutil.disk_usage(directory.parent).free) < needed:
        raise TrainingError(
            f"{directory} needs {in_bytes(needed)}, but {in_bytes(free)} are free: "
            "leave out cache_top_k, or lower it"
        )
    part = state.process_index
    even = frames.sum() * np.arange(1, len(parts)) / len(parts)
    places = np.split(np.arange(len(data)), np.searchsorted(np.cumsum(frames), even))[part]
    paths = [data.utterances[int(row)].path for row in data.rows[places]]
    _fill(parts[part], artifact, paths, data.keys[places], index, state.device, progress)
    state.wait_for_everyone()
    if state.is_main_process:
        _join(parts, directory)
    state.wait_for_everyone()
    return CachedTeacher(directory, artifact.config)


def refuse_equal_keys(data: TrainingSet) -> None:
    """Raise TrainingError for two recordings that a cache could not tell apart."""
    order = np.argsort(data.keys, kind="stable")
    for place in np.flatnonzero(np.diff(data.keys[order]) == 0):
        first, second = (data.utterances[int(row)] for row in data.rows[order[place : place + 2]])
        if first.path != second.path:
            raise TrainingError(
                f"{first.path} and {second.path} have the same set ({first.set_name}), id ({first.id}) and"
                " file name: rename a folder or an id, or leave out cache_top_k"
            )


def _join(parts: Sequence[Path], directory: Path) -> None:
    """Make one cache of those of consecutive utterances, which are removed."""
    if len(parts) == 1:
        parts[0].replace(directory)
        return
    with atomic.directory(directory) as temporary:
        for name in (OUTPUTS, FEATURES):
            with (temporary / name).open("wb") as whole:
                for part in parts:
                    with (part / name).open("rb") as file:
                        shutil.copyfileobj(file, whole)
        counts = [np.diff(np.load(part / BEGINS)) for part in parts]
        np.save(temporary / BEGINS, np.concatenate([[0], np.cumsum(np.concatenate(counts))]))
        np.save(temporary / KEYS, np.concatenate([np.load(part / KEYS) for part in parts]))
        shutil.copy(parts[0] / INDEX, temporary / INDEX)
    for part in parts:
        shutil.rmtree(part)


def _fill(
    directory: Path,
    artifact: Artifact,
    paths: Sequence[Path],
    keys: npt.NDArray[np.int64],
    index: dict[str, Any],
    device: torch.device,
    progress: Callable[[str], None],
) -> None:
    """Run the teacher over recordings. Files that cannot be read get one frame: training skips them."""
    model = CTCModel.from_artifact(artifact).eval().to(device)
    do_normalize = bool(artifact.preprocessor.get("do_normalize", True))  # its student's may be another
    begins = [0]
    with atomic.directory(directory) as temporary:
        with (temporary / OUTPUTS).open("wb") as outputs, (temporary / FEATURES).open("wb") as kept:
            for path in tracked(paths, len(paths), "the teacher's outputs", progress):
                try:
                    waveform = reading.read(path)
                    log_posteriors, features = _heard(model, waveform, do_normalize)
                except LittlefootError:
                    log_posteriors, features = _nothing_heard(model.config)
                outputs.write(pack(log_posteriors, index["top_k"]).tobytes())
                if index["features"]:
                    kept.write(features.astype(np.float16).tobytes())
                begins.append(begins[-1] + len(log_posteriors))
        np.save(temporary / BEGINS, np.array(begins))
        np.save(temporary / KEYS, keys)
        (temporary / INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


@torch.no_grad()
def _heard(
    model: CTCModel, waveform: npt.NDArray[np.float32], do_normalize: bool
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Log posteriors (F, V) and features (F, C) of a recording."""
    if model.config.frames(len(waveform)) < 1:
        return _nothing_heard(model.config)
    device = next(model.parameters()).device
    waveform = reading.normalize(waveform) if do_normalize else waveform
    lengths = torch.tensor([len(waveform)], device=device)
    output = model.encode(torch.from_numpy(pad([waveform])).to(device), lengths)
    assert output.frame_lengths is not None  # lengths were given
    frames = int(output.frame_lengths[0])
    log_posteriors = torch.log_softmax(output.logits[0, :frames], -1)
    return log_posteriors.cpu().numpy(), output.features[0, :frames].cpu().numpy()


def _nothing_heard(config: ModelConfig) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Return a frame without information."""
    return np.zeros((1, config.vocab_size), np.float32), np.zeros((1, config.feature_channels), np.float32)


def _padded(rows: Sequence[npt.NDArray[np.float32]], frames: int) -> Tensor:
    """(F, D) each as one (B, frames, D), zeros after each."""
    padded = np.zeros((len(rows), frames, rows[0].shape[1]), np.float32)
    for place, row in zip(padded, rows, strict=True):
        place[: len(row)] = row
    return torch.from_numpy(padded)


def audio_fingerprint(data: TrainingSet) -> str:
    """Compute a SHA-256 of the recordings' names and sizes, in order."""
    digest = hashlib.sha256()
    for row in data.rows:
        utterance = data.utterances[int(row)]
        size = utterance.path.stat().st_size if utterance.path.exists() else -1
        digest.update(f"{utterance.set_name}\t{utterance.id}\t{utterance.path.name}\t{size}\n".encode())
    return digest.hexdigest()
