"""Distillation: train a smaller student on the outputs of its teacher.

Shrinking Bigfoot (Peng et al. 2021) is ``kl`` and ``feature_penalty`` with a student of fewer layers; the
other losses are those of later work (see ``littlefoot.compress.losses``). Apart from ``ctc`` none of them
needs texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from littlefoot import artifact as artifacts
from littlefoot.artifact import Artifact
from littlefoot.compress import losses
from littlefoot.compress.distillation_settings import (
    HIDDEN_LOSSES,
    PATH_LOSSES,
    PROJECTED_LOSSES,
    DistillationSettings,
    LayerPairs,
    LossConfig,
)
from littlefoot.compress.frames import interpolate, peaks, same_frames
from littlefoot.compress.lattices import teacher_lattices
from littlefoot.compress.methods import StepContext
from littlefoot.compress.student import StudentConfig, chosen_layers, geometry, make_student
from littlefoot.compress.teacher import Targets, Teacher, make_teacher
from littlefoot.errors import ConfigError, TrainingError
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import EncoderOutput
from littlefoot.training import train as trainer
from littlefoot.training.data import Batch, TrainingSet
from littlefoot.training.forward_backward import Denominator
from littlefoot.training.lfmmi import lattice_mmi, make_denominator, sequence_kl
from littlefoot.training.module import CTCModel
from littlefoot.training.objective import Objective, ctc_loss, ctc_losses

Settings = TypeVar("Settings", bound=DistillationSettings)


@dataclass(frozen=True)
class DistillConfig(DistillationSettings):
    """Settings of one distillation."""

    student: StudentConfig = field(default_factory=StudentConfig)


def infer_shape(model: ModelConfig, config: DistillConfig) -> ModelConfig:
    """Return the student's configuration. Raises ConfigError if the model cannot have such a student."""
    student = config.student.sized(model)
    return geometry(model, student, chosen_layers(model.num_hidden_layers, student))


def distill(model: Artifact, config: DistillConfig, step: StepContext) -> Artifact:
    """Make a student from a model and train it on the outputs of its teacher.

    Raises:
        ConfigError: a geometry or losses that are impossible, before anything is trained.
        TrainingError: the student's output is constant, at the start or for too long, data in
            another alphabet, and what ``littlefoot.training.train.train`` raises.
    """
    student = make_student(CTCModel.from_artifact(model), config.student)
    student.card = model.card
    data = training_set(student, config, step)
    check_alive(student, data)
    teacher = make_teacher(model, config, step, data, student)
    return learn(Distillation(student, teacher, config, denominator_of(step, student, config)), data, step)


def learn(objective: Distillation[Any], data: TrainingSet, step: StepContext) -> Artifact:
    """Train the student on ``data``, from the step's directory. Or leave it as it begins."""
    if step.untrained:
        return objective.model.to_artifact()
    out = step.directory / "model"
    trainer.train(objective, step.speech(), objective.settings.train, out, step.resume, data)
    return artifacts.load(out)


class Distillation(Objective, Generic[Settings]):
    """A student, and how far it is from its teacher. The projections of hidden states are trained with it."""

    method = "distillation"

    def __init__(
        self,
        student: CTCModel,
        teacher: Teacher,
        settings: Settings,
        denominator: Denominator | None = None,
    ) -> None:
        """``denominator`` is for ``loss.sequence_kl``."""
        super().__init__(student)
        self.settings, self.loss, self.denominator = settings, settings.loss, denominator
        loss = self.loss
        self.needs_text = loss.ctc > 0
        self._teacher, self._theirs = teacher, teacher.config
        self._collapsed_since: int | None = None
        self.pairs: LayerPairs = ()
        if loss.hidden():
            self.pairs = layer_pairs(student.config.num_hidden_layers, self._theirs.num_hidden_layers, loss)
            if not (student.config.one_frame_rate or same_frames(self._theirs, student.config)):
                raise ConfigError(
                    "hidden states cannot be compared: the blocks' frames are not those of the logits, and "
                    "the student's front end has other frames than its teacher's: set hidden losses to 0"
                )
        self.projections = nn.ModuleList()
        if any(getattr(loss, name) for name in PROJECTED_LOSSES):
            self.projections.extend(
                _projection(student.config.hidden_size, self._theirs.hidden_size) for _ in self.pairs
            )

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """Return the weighted sum and each of its terms, unweighted; and ``blank``, the share of blank
        frames.
        """
        model, loss = self.model, self.loss
        targets = self._teacher(batch)
        output = self._encode(batch, targets)
        assert output.frame_lengths is not None  # lengths were given
        logits, frames = output.logits, output.frame_lengths
        valid = _valid(frames, logits)  # (B, F)
        theirs = self._at_my_frames(targets.logits, targets, logits.shape[1], loss.frames)
        weights = self._weights(batch, targets) if loss.adaptive else None

        terms: dict[str, Tensor] = {}
        if loss.kl:
            terms["kl"] = losses.kl_divergence(logits, theirs, valid, loss.temperature, weights)
        if loss.logit_mse:
            terms["logit_mse"] = losses.logit_mse(logits, theirs, valid, weights)
        if loss.logit_cosine:
            terms["logit_cosine"] = losses.logit_cosine(logits, theirs, valid, weights)
        terms.update(self._path_terms(logits, theirs, frames, targets))
        if loss.feature_penalty:
            assert output.feature_lengths is not None  # lengths were given
            heard = _valid(output.feature_lengths, output.features)
            terms["feature_penalty"] = losses.feature_penalty(output.features, heard)
        terms.update(self._hidden_terms(output, targets))
        if loss.ctc:
            blank = model.vocabulary.blank
            terms["ctc"] = ctc_loss(logits, frames, batch.targets, batch.target_lengths, blank)

        total = torch.stack([getattr(loss, name) * value for name, value in terms.items()]).sum()
        for name, value in self.more_terms(output.hidden_states, theirs, valid).items():
            total, terms[name] = total + value, value
        silent = (logits.argmax(-1) == model.vocabulary.blank).float()
        return {"loss": total, **terms, "blank": losses.frame_mean(silent, valid)}

    @cached_property
    def shares_front_end(self) -> bool:
        """Return True if the student keeps its teacher's front end, which is then not computed."""
        train = self.settings.train
        frozen = train.freeze_front_end and not train.shard  # shards cannot be compared
        return frozen and self._same_features_as_teacher()

    def _same_features_as_teacher(self) -> bool:
        return self._teacher.has_features_of(self.model)

    @property
    def needs_audio(self) -> bool:  # type: ignore[override]
        return self._teacher.needs_audio or not self.shares_front_end

    def _encode(self, batch: Batch, targets: Targets) -> EncoderOutput:
        """Run the student on a batch, or on the teacher's features if its own would be the same."""
        if self.shares_front_end:
            assert targets.features is not None  # has_features_of
            return self.model.encode_features(
                *(targets.features, targets.frames, batch.time_mask, batch.feature_mask),
                *(self.make_ops, self.geometry(batch)),
            )
        return self.model.encode(
            *(batch.waveforms, batch.lengths, batch.time_mask, batch.feature_mask),
            *(self.make_ops, self.geometry(batch)),
        )

    def geometry(self, batch: Batch) -> ModelConfig:
        """Return the configuration by which the student computes a batch."""
        return self.model.config

    def _path_terms(
        self, logits: Tensor, theirs: Tensor, frames: Tensor, targets: Targets
    ) -> dict[str, Tensor]:
        """Losses on whole paths through the denominator."""
        if self.denominator is None:  # its maker gives one where it is needed
            return {}
        terms: dict[str, Tensor] = {}
        scales = self.settings.train.lfmmi_acoustic_scale, self.settings.train.lfmmi_l2
        if self.loss.sequence_kl:
            terms["sequence_kl"] = sequence_kl(logits, theirs, frames, self.denominator, *scales)
        if self.loss.lattice_mmi:
            lattices = teacher_lattices(
                targets.logits, targets.frames, self.model.vocabulary, self.denominator.model
            )
            terms["lattice_mmi"] = lattice_mmi(logits, frames, lattices, self.denominator, *scales)
        return terms

    def drawn(self, choices: Sequence[int]) -> int:
        """One of them for this step, the same in all processes."""
        return choices[int(np.random.default_rng(self.step).integers(len(choices)))]

    def more_terms(self, hidden_states: list[Tensor], theirs: Tensor, valid: Tensor) -> dict[str, Tensor]:
        """Return further losses of a method by name; ``theirs`` (B, F, V) are the teacher's logits."""
        return {}

    def _hidden_terms(self, output: EncoderOutput, targets: Targets) -> dict[str, Tensor]:
        """Return the mean of each loss on hidden states over all pairs of layers, or their sum."""
        assert output.hidden_lengths is not None  # lengths were given
        valid = _valid(output.hidden_lengths, output.hidden_states[0])
        sums: dict[str, list[Tensor]] = {name: [] for name in HIDDEN_LOSSES if getattr(self.loss, name)}
        for number, (mine, theirs) in enumerate(self.pairs):
            assert targets.hidden_states is not None  # a cache, which has none, is refused
            state, wanted = output.hidden_states[mine], targets.hidden_states[theirs]
            wanted = self._at_my_frames(wanted, targets, state.shape[1], "interpolate")
            projected = self.projections[number](state) if self.projections else state
            for name, values in sums.items():
                values.append(
                    getattr(losses, name)(projected if name in PROJECTED_LOSSES else state, wanted, valid)
                )
        pairs = 1 if self.loss.hidden_sum else len(self.pairs)
        return {name: torch.stack(values).sum() / pairs for name, values in sums.items()}

    def _at_my_frames(self, values: Tensor, targets: Targets, frames: int, how: str) -> Tensor:
        """Interpolate a teacher's states (B, F', D) at the student's frames, (B, frames, D)."""
        if same_frames(self._theirs, self.model.config) and values.shape[1] == frames:
            return values
        if how == "interpolate":
            return interpolate(values, self._theirs, self.model.config, frames, targets.frames)
        blank = self.model.vocabulary.blank
        return peaks(values, self._theirs, self.model.config, frames, targets.frames, blank)

    def _weights(self, batch: Batch, targets: Targets) -> Tensor:
        """(B,): how much the teacher's word counts."""
        if self.needs_text:
            blank = self.model.vocabulary.blank
            total = ctc_losses(targets.logits, targets.frames, batch.targets, batch.target_lengths, blank)
            return losses.utterance_weights(total / batch.target_lengths.clamp(min=1))
        log_posteriors = torch.log_softmax(targets.logits.float(), -1)
        entropy = -(log_posteriors.exp() * log_posteriors).sum(-1)  # (B, F)
        heard = torch.arange(entropy.shape[1], device=entropy.device) < targets.frames[:, None]
        return losses.utterance_weights((entropy * heard).sum(1) / targets.frames.clamp(min=1))

    def inspect(self, row: dict[str, Any]) -> None:
        """Raises TrainingError when the student has predicted only blanks for ``collapse_steps`` steps."""
        if row["blank"] < 0.9999:
            self._collapsed_since = None
            return
        if self._collapsed_since is None:
            self._collapsed_since = row["step"]
        if row["step"] - self._collapsed_since >= self.settings.collapse_steps:
            raise TrainingError(
                f"the student has predicted only blanks from step {self._collapsed_since} to {row['step']}: "
                "lower train.lr, keep more layers, or give loss.ctc some weight"
            )


def _valid(lengths: Tensor, values: Tensor) -> Tensor:
    """(B, F): 1 for the frames of (B, F, D) that lie within the lengths (B,), 0 for others."""
    return (torch.arange(values.shape[1], device=values.device) < lengths[:, None]).float()


def _projection(student: int, teacher: int) -> nn.Linear:
    """Project the student's width to the teacher's. It is initialised as the identity, where both have the
    index.
    """
    projection = nn.Linear(student, teacher)
    nn.init.eye_(projection.weight)
    nn.init.zeros_(projection.bias)
    return projection


def layer_pairs(mine: int, theirs: int, loss: LossConfig) -> LayerPairs:
    """Return the pairs [student's, teacher's] of hidden states that are compared.

    Raises ConfigError for layers that one of them does not have.
    """
    if not loss.layers:
        return tuple((layer, round(layer * theirs / mine)) for layer in range(1, mine + 1))
    for pair in loss.layers:
        if not (0 <= pair[0] <= mine and 0 <= pair[1] <= theirs):
            raise ConfigError(
                f"loss.layers {list(pair)}: the student has states 0 to {mine}, the teacher 0 to {theirs}"
            )
    return loss.layers


def denominator_of(
    step: StepContext, student: CTCModel, settings: DistillationSettings
) -> Denominator | None:
    """Make the n-gram of the training texts for the losses on paths; None if they have no weight."""
    if step.untrained or not any(getattr(settings.loss, name) for name in PATH_LOSSES):
        return None
    return make_denominator(step.speech().of_split("train"), student.vocabulary, settings.train)


def training_set(student: CTCModel, settings: DistillationSettings, step: StepContext) -> TrainingSet:
    """Prepare the speech for the training of the student.

    Raises TrainingError if texts are needed and most of them are outside of the teacher's alphabet.
    """
    rows = step.speech().of_split("train")
    data = trainer.training_set(student, rows, settings.train, needs_text=settings.loss.ctc > 0)
    outside = data.left_out[f"text outside the {data.outside}"]
    if 2 * outside > len(rows):
        found = ", ".join(repr(character) for character, _ in data.unknown.most_common(10))
        raise TrainingError(
            f"{outside} of {len(rows)} texts have characters that the teacher's alphabet lacks ({found}): "
            "take a teacher of this language, change the texts, or set loss.ctc to 0, which needs no texts"
        )
    return data


@torch.no_grad()
def check_alive(student: CTCModel, data: TrainingSet) -> None:
    """Raise TrainingError if a student predicts the same for every frame of speech: it could not learn."""
    heard = 0
    for waveform in data.recordings(range(len(data))):
        if student.config.frames(len(waveform)) < 2:
            continue
        logits = student.eval().encode(torch.from_numpy(waveform)[None]).logits[0]
        if not torch.isfinite(logits).all():
            raise TrainingError("the fresh student's outputs are not finite: the teacher is damaged")
        if logits.std(0).max() > 1e-4 * (1 + logits.abs().max()):
            return
        heard += 1
        if heard == 3:
            raise TrainingError(
                f"the fresh student predicts the same for every frame of {heard} recordings: choose other"
                " layers (student.initialisation), or do not leave so much of it random"
            )
