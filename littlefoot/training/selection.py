"""Select the model of a run that is kept: the best on the dev sets, or the mean of the best few."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import torch
from accelerate import Accelerator

from littlefoot import artifact
from littlefoot.artifact import Artifact
from littlefoot.artifact.artifact import CONFIG
from littlefoot.artifact.json_files import read_json
from littlefoot.network.config import ModelConfig
from littlefoot.training.card import model_card, training_record
from littlefoot.training.data import TrainingSet
from littlefoot.training.module import CTCModel
from littlefoot.training.objective import Objective
from littlefoot.training.validation import DevScore, DevSet, mean_wer


class Selection:
    """The best ``keep`` models so far, as artifacts in a directory; or only the newest."""

    def __init__(
        self,
        directory: Path,
        keep: int,
        objective: Objective,
        data: TrainingSet,
        dev: DevSet,
        accelerator: Accelerator,
    ) -> None:
        self.directory, self.method = directory, objective.method
        self.newest = objective.keeps_newest or not dev.size
        self.keep = 1 if self.newest else keep
        self.data, self.dev = data, dev
        self.autocast, self.device = accelerator.autocast, accelerator.device
        self.model, self.make_ops = objective.model, objective.make_ops

    def offer(self, model: CTCModel, step: int, epoch: int) -> DevScore | None:
        """Evaluate a model and keep it if it is good enough. Returns its score, None without a dev set."""
        score = self.dev.score(model, self.autocast, self.make_ops) if self.dev.size else None
        there = self._ranked()
        if score is None or self.newest or len(there) < self.keep or score.mean_wer < there[-1][0]:
            made = self._described(model, step, epoch, score)
            artifact.save(made, self.directory / f"step-{step:08d}", overwrite=True)
            for _, path in self._ranked()[self.keep :]:
                doomed = path.with_name(
                    f".{path.name}"
                )  # so that a kill during removal leaves no partial model
                path.rename(doomed)
                shutil.rmtree(doomed)
        return score

    def choose(self) -> tuple[Artifact, float | None]:
        """Return the best model, or the mean of those kept if that is better, and its mean WER on the dev
        sets.

        The mean of several points of one run often lies in a flatter and lower region than each of them
        (Izmailov et al. 2018).
        """
        ranked = self._ranked()
        best_wer, best = ranked[0][0], artifact.load(ranked[0][1])
        if not self.dev.size:
            return best, None
        if len(ranked) > 1:
            models = [CTCModel.from_artifact(artifact.load(path)) for _, path in ranked]
            weights = [dict(model.named_parameters()) for model in models]
            mean = {
                name: torch.stack([values[name].detach() for values in weights]).mean(0)
                for name in weights[0]
            }
            model = self.model.with_weights(mean).to(self.device)
            score = self.dev.score(model, self.autocast, self.make_ops)
            if score.mean_wer < best_wer:
                record = best.config.littlefoot.training
                assert record is not None, "the models that are kept have a record of their training"
                return self._described(model, record.step, record.epoch, score), score.mean_wer
        return best, best_wer

    def _described(self, model: CTCModel, step: int, epoch: int, score: DevScore | None) -> Artifact:
        """Return the model as an artifact whose card and config describe the training."""
        record = training_record(self.method, self.data, step, epoch, score)
        made = model.to_artifact()
        card = model_card(made.card, record, made.config.littlefoot.origin)
        return dataclasses.replace(made, config=made.config.noting(training=record), card=card)

    def _ranked(self) -> list[tuple[float, Path]]:
        """Return mean WER and directory of each model, the best or newest first; WER 0 without a dev set."""
        found: list[tuple[float, int, Path]] = []
        for path in self.directory.glob("step-*"):
            if match := re.fullmatch(r"step-(\d{8})", path.name):
                record = ModelConfig.from_dict(read_json(path / CONFIG)).littlefoot.training
                dev, step = record and record.dev, int(match[1])
                found.append((mean_wer(dev.wer) if dev else 0.0, step, path))
        found.sort(key=lambda row: (-row[1],) if self.newest else row[:2])
        return [(wer, path) for wer, _, path in found]
