"""Describe the training of an artifact: a section of config.json, and the model card."""

from __future__ import annotations

from dataclasses import asdict

from littlefoot.network.provenance import Origin, Training
from littlefoot.training.data import TrainingSet
from littlefoot.training.validation import DevScore


def training_record(
    method: str, data: TrainingSet, step: int, epoch: int, score: DevScore | None
) -> Training:
    """Make ``littlefoot.training`` of config.json: settings, sets, their fingerprint, and the measured
    errors.
    """
    return Training.model_validate(
        {
            "method": method,
            "step": step,
            "epoch": epoch,
            "data": {name: asdict(size) for name, size in data.sets.items()},
            "data_sha256": data.digest,
            "dev": None if score is None else asdict(score),
            "settings": asdict(data.train),
        }
    )


def model_card(introduction: str, record: Training, origin: Origin | None = None) -> str:
    """README.md: the recipe's own words, then what was trained on and what was measured.

    Args:
        introduction: empty for words of ours.
        record: as ``training_record`` makes it.
        origin: the repository on the Hub, and its commit, of what the training began with.
    """
    lines = [introduction.strip() or "# Speech recogniser trained with littlefoot", "", "## Training", ""]
    if origin and origin.commit not in introduction:
        lines += [f"It began with commit `{origin.commit}` of {origin.repository}.", ""]
    lines += [
        f"{record.step} steps ({record.epoch} full epochs) of {record.method} on:",
        "",
        "| set | utterances | hours |",
        "|---|---|---|",
    ]
    for name, row in record.data.items():
        lines.append(f"| {name} | {row.utterances} | {row.seconds / 3600:.2f} |")
    if record.dev:
        lines += ["", "Dev split, greedy decoding:", "", "| set | WER % | CER % |", "|---|---|---|"]
        for name, wer in record.dev.wer.items():
            lines.append(f"| {name} | {100 * wer:.1f} | {100 * record.dev.cer[name]:.1f} |")
    return "\n".join(lines) + "\n"
