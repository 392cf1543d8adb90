"""Students beside their teacher: errors on all test sets, size and speed, as a table and a plot.

    python benchmarks/students.py ../shared/data littlefoot-en runs/students/bigfoot ...

The first model is the teacher. --truncate 2 adds the teacher with its first two layers and no training, the
baseline that costs nothing. Speed is that of one thread on 10 s of audio: every round runs every model once,
the table has medians and the median of the ratios round by round. --plot draws it (needs matplotlib).
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accuracy import measure as evaluate
from speed import measure as clock
from speed import noise, ratio

from littlefoot.artifact import Artifact, checkpoint
from littlefoot.evaluate.evaluation import Evaluation
from littlefoot.runtime import registry

SECONDS = 10.0


@dataclass(frozen=True)
class Row:
    """The measurements of a model."""

    name: str
    artifact: Artifact
    result: Evaluation
    seconds: list[float]
    """Seconds of each round."""

    @property
    def megabytes(self) -> float:
        """Return the MB of the weights, at the width they are computed with."""
        arrays = self.artifact.weights.values()
        return sum(a.size * (4 if a.dtype.kind == "f" else a.itemsize) for a in arrays) / 1e6

    @property
    def x_realtime(self) -> float:
        return SECONDS / statistics.median(self.seconds)


def main() -> None:
    """Measure, print, and draw where asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of sets, each with a manifest.tsv")
    parser.add_argument("models", nargs="+", help="bundled names or artifacts, the teacher first")
    parser.add_argument("--truncate", type=int, action="append", default=[], help="layers of a baseline")
    parser.add_argument("--split", default="test")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--plot", type=Path, help="picture to draw, .svg or .png")
    options = parser.parse_args()

    artifacts = {Path(name).name: checkpoint.load(name) for name in options.models}
    teacher = next(iter(artifacts.values()))
    for layers in options.truncate:
        artifacts[f"first {layers} layers, untrained"] = truncated(teacher, layers, "first_k")
        artifacts[f"every k-th of {layers} layers, untrained"] = truncated(teacher, layers, "every_k")
    engines = {name: registry.create(a, threads=1) for name, a in artifacts.items()}
    waveform = noise(SECONDS)
    entries = {name: lambda e=e: e.run(waveform) for name, e in engines.items()}
    times = clock(entries, options.rounds)
    rows = [
        Row(name, a, evaluate(a, options.data, options.split), times[name].wall)
        for name, a in artifacts.items()
    ]
    print(table(rows))
    if options.plot:
        plot(rows, options.plot)


def truncated(teacher: Artifact, layers: int, initialisation: str) -> Artifact:
    """Return the teacher with some of its layers, otherwise unchanged."""
    from littlefoot.compress.student import StudentConfig, make_student
    from littlefoot.training.module import CTCModel

    config = StudentConfig(layers=layers, initialisation=initialisation)
    return make_student(CTCModel.from_artifact(teacher), config).to_artifact()


def table(rows: Sequence[Row]) -> str:
    """Return a row for each model, in Markdown."""
    teacher = rows[0]
    lines = [
        "| model | layers | parameters | MB | WER % | points lost | CER % | x real time, one thread "
        "| times as fast |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        score = row.result.score
        low, high = score.wer_interval
        cells = [
            row.name,
            str(row.artifact.config.num_hidden_layers),
            f"{row.artifact.parameters / 1e6:.2f} M",
            f"{row.megabytes:.2f}",
            f"{100 * score.wer:.1f} ({100 * low:.1f} - {100 * high:.1f})",
            f"{100 * (score.wer - teacher.result.score.wer):.1f}",
            f"{100 * score.cer:.1f}",
            f"{row.x_realtime:.0f}",
            f"{ratio(teacher.seconds, row.seconds):.2f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def plot(rows: Sequence[Row], path: Path) -> None:
    """WER against size and against speed."""
    from matplotlib import pyplot, ticker

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(12, 4.8), sharey=True, layout="constrained")
    for axes, label, values in (
        (left, "MB of weights", [row.megabytes for row in rows]),
        (right, "x real time, one thread", [row.x_realtime for row in rows]),
    ):
        for number, (row, value) in enumerate(zip(rows, values, strict=True)):
            mark = "os^"[number // 10 % 3]  # there are ten colours
            low, high = (100 * abs(row.result.score.wer - end) for end in row.result.score.wer_interval)
            wer = 100 * row.result.score.wer
            axes.errorbar(value, wer, yerr=[[low], [high]], fmt=mark, capsize=2, label=row.name)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(ticker.NullLocator())
        axes.set_xlabel(label)
        axes.grid(alpha=0.3)
    left.set_ylabel("WER %, all test sets, 95 % intervals")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", fontsize=9)
    figure.savefig(path)


if __name__ == "__main__":
    main()
