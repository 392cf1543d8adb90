"""Lines for the beginning of a training's log: about the model, the speech, and what is left out."""

from __future__ import annotations

from littlefoot.audio.manifest import Corpus, Utterance
from littlefoot.training.data import TrainingSet
from littlefoot.training.module import CTCModel
from littlefoot.training.train_config import TrainConfig
from littlefoot.training.validation import DevSet


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


def absent_sets(config: TrainConfig, corpus: Corpus) -> list[str]:
    """Return a line for each setting of single sets that names one without rows to train on."""
    settings = {"set_weights": config.set_weights, "set_max_disagreement": config.set_max_disagreement}
    if not any(settings.values()):
        return []
    there = {utterance.set_name for utterance in corpus.of_split("train")}
    lines = []
    for setting, sets in settings.items():
        if absent := sorted(set(sets) - there):
            lines.append(f"train.{setting} has no effect on sets that are not there: {', '.join(absent)}")
    return lines


def overlap(corpus: Corpus) -> list[str]:
    """Return a warning for each split that has rows whose speaker and text are trained on too."""

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
