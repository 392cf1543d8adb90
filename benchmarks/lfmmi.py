"""Compare the cost of LF-MMI and of PyTorch's CTC loss: forward and backward pass of a batch of logits.

    python benchmarks/lfmmi.py ../shared/data/* --threads 2

The denominator is made of the manifests' training texts, and so are the batch's; logits are random. The
losses take turns, and the ratio is the median of those of each round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from littlefoot.artifact import load
from littlefoot.audio import manifest
from littlefoot.training.forward_backward import Denominator
from littlefoot.training.lfmmi import lfmmi, make_denominator
from littlefoot.training.objective import ctc_loss
from littlefoot.training.train_config import TrainConfig


def main() -> None:
    """Measure, and print a Markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("manifests", nargs="+", type=Path)
    parser.add_argument("--histories", nargs="+", type=int, default=[500, TrainConfig.lfmmi_histories, 2000])
    parser.add_argument("--order", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each utterance, in frames of 20 ms")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    corpus = manifest.index([path for path in options.manifests if path.is_dir()]).of_split("train")
    vocabulary = load(Path("littlefoot/bundled/littlefoot-en")).vocabulary
    length = round(options.seconds * 50)
    characters = round(options.seconds * 14)  # as in read speech
    text = vocabulary.encode(" ".join(row.text for row in corpus[: 10 * options.batch]))
    device = torch.device(options.device)
    targets = torch.tensor(text[: options.batch * characters], device=device)
    target_lengths = torch.full((options.batch,), characters, device=device)
    frames = torch.full((options.batch,), length, device=device)
    logits = torch.randn(options.batch, length, len(vocabulary.tokens), device=device) * 3
    logits.requires_grad_()

    print("| histories | states | arcs | CTC, ms | LF-MMI, ms | ratio |\n|---|---|---|---|---|---|")
    for histories in options.histories:
        config = TrainConfig(lfmmi_order=options.order, lfmmi_histories=histories)
        denominator = make_denominator(corpus, vocabulary, config)

        def ctc() -> Tensor:
            return ctc_loss(logits, frames, targets, target_lengths, vocabulary.blank)

        def mmi(denominator: Denominator = denominator) -> Tensor:
            return lfmmi(logits, frames, targets, target_lengths, denominator)

        timed(ctc, device), timed(mmi, device)
        times = [(timed(ctc, device), timed(mmi, device)) for _ in range(options.rounds)]
        graph = denominator.graph
        print(
            f"| {len(denominator.model.final)} | {len(graph.label)} | {len(graph.source)} "
            f"| {1000 * statistics.median(first for first, _ in times):.0f} "
            f"| {1000 * statistics.median(second for _, second in times):.0f} "
            f"| {statistics.median(second / first for first, second in times):.2f} |"
        )


def timed(loss: Callable[[], Tensor], device: torch.device) -> float:
    """Seconds of a loss's forward and backward pass."""
    began = time.perf_counter()
    loss().backward()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
