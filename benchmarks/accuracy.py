"""Word and character error rates of the bundled model, in full precision and in 8 bits, on every test set.

    python benchmarks/accuracy.py ../shared/data

Quantizes the model with the sets kathleen and coffee, transcribes the split, and prints a Markdown table.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.audio import manifest
from littlefoot.compress.calibration import load_clips, recordings
from littlefoot.compress.quantize import QuantizeConfig, quantize
from littlefoot.evaluate.evaluation import Evaluation, evaluate_recognizer
from littlefoot.evaluate.metrics import Score
from littlefoot.runtime import registry
from littlefoot.runtime.recognizer import Recognizer

CALIBRATION = ("kathleen", "coffee")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of sets, each with a manifest.tsv")
    parser.add_argument("--model", default="littlefoot-en")
    parser.add_argument("--split", default="test")
    options = parser.parse_args()

    original = checkpoint.load(options.model)
    clips = load_clips(recordings([options.data / name for name in CALIBRATION]), original)
    small, _ = quantize(original, clips, QuantizeConfig(), print)
    print(table([measure(a, options.data, options.split) for a in (original, small)], options.split))


def measure(model: Artifact, data: Path, split: str) -> Evaluation:
    """Scores on the sets below ``data`` that have the split."""
    rows = [
        u for path in sorted(data.glob("*/manifest.tsv")) for u in manifest.read(path) if u.split == split
    ]
    return evaluate_recognizer(Recognizer(model, registry.create(model)), rows)


def table(results: list[Evaluation], split: str) -> str:
    """Return a row for each set: rates with 95 % intervals in full precision and in 8 bits."""
    full, small = results
    lines = [
        f"| {split} set | words | WER %, full | WER %, int8 | CER %, full | CER %, int8 |",
        "|---|---|---|---|---|---|",
    ]
    for name, score in {**full.per_set, "all": full.score}.items():
        other = small.score if name == "all" else small.per_set[name]
        label = f"{name} (against pseudo-labels)" if name in full.pseudo_labelled else name
        cells = [str(score.words), *map(wer, (score, other)), *map(cer, (score, other))]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    for name, recall in full.slot_recall.items():
        both = [percent(r.rate, r.interval) for r in (recall, small.slot_recall[name])]
        lines.append(f"| {name}: slot words recognised, % | {recall.words} | {' | '.join(both)} | | |")
    return "\n".join(lines) + "\n"


def wer(score: Score) -> str:
    return percent(score.wer, score.wer_interval)


def cer(score: Score) -> str:
    return percent(score.cer, score.cer_interval)


def percent(rate: float, interval: tuple[float, float]) -> str:
    low, high = interval
    return f"{100 * rate:.2f} ({100 * low:.2f} - {100 * high:.2f})"


if __name__ == "__main__":
    main()
