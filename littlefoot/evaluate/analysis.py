"""Measure how far each layer of a model moves its input, and how similar layers are.

The measures are those of W2V2-Light (Kim et al. 2022), after ALBERT (Lan et al. 2020): distance and cosine
between the input and the output of a layer; and linear CKA (Kornblith et al. 2019) between the layers of one
model or of two.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.errors import ConfigError
from littlefoot.runtime import graph
from littlefoot.runtime.openvino import observe

Array = npt.NDArray[np.float32]

MAX_FRAMES = 1500
"""Largest number of frames that CKA compares; it needs all pairs of them."""


@dataclass(frozen=True)
class LayerMotion:
    """The change that a layer makes to its input, as means over frames."""

    distance: float
    """Length of the change."""
    relative_distance: float
    """Length of the change over the length of the input."""
    cosine: float
    """Cosine between input and output: 1 if the direction stays."""


@dataclass(frozen=True)
class Analysis:
    """The measurements of one model."""

    layers: list[LayerMotion]
    states: list[Array]
    """Hidden states (N, D) before the first layer and after each, at some frames of all recordings."""


def analyze(model: Artifact, clips: Sequence[Array]) -> Analysis:
    """Run prepared clips, (T,) float32 each, and measure the layers.

    Raises ConfigError if no clip is long enough.
    """
    usable = [clip for clip in clips if model.config.frames(len(clip)) >= 1]
    if not usable:
        raise ConfigError("there is no recording long enough to be analysed: name others with --data")
    network = graph.build(model, hidden=True)
    share = max(1, MAX_FRAMES // len(usable))
    kept: list[list[Array]] = [[] for _ in network.hidden]
    sums = np.zeros((len(network.hidden) - 1, 3))
    frames = 0
    for number, outputs in enumerate(observe(network, usable)):
        states = [outputs[name][0].astype(np.float64) for name in network.hidden]  # (F, D) each
        frames += len(states[0])
        for layer, (entered, left) in enumerate(itertools.pairwise(states)):
            sums[layer] += _motion(entered, left)
        # Frames at the same times of each clip for every frame rate, so that models can be compared.
        moments = np.random.default_rng(number).random(share)
        chosen = np.sort((moments * len(states[0])).astype(np.int64))
        for place, state in zip(kept, states, strict=True):
            place.append(state[chosen].astype(np.float32))
    layers = [LayerMotion(*(float(value) for value in row / frames)) for row in sums]
    return Analysis(layers, [np.concatenate(state) for state in kept])


def _motion(entered: npt.NDArray[np.float64], left: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Sum distance, relative distance and cosine over frames: (3,)."""
    distance = np.linalg.norm(left - entered, axis=1)
    before, after = np.linalg.norm(entered, axis=1), np.linalg.norm(left, axis=1)
    cosine = (entered * left).sum(1) / np.maximum(before * after, 1e-12)
    return np.array([distance.sum(), (distance / np.maximum(before, 1e-12)).sum(), cosine.sum()])


def cka(first: Sequence[Array], second: Sequence[Array]) -> npt.NDArray[np.float64]:
    """Compute linear CKA between every two layers' states, (N, D) each: (layers, other layers) in 0 ... 1.

    It is 1 where the states of one layer equal those of the other up to rotation, shift and scale.
    """
    mine = [_gram(states) for states in first]
    theirs = mine if second is first else [_gram(states) for states in second]
    return np.array([[float((a * b).sum()) for b in theirs] for a in mine])


def _gram(states: Array) -> Array:
    """Return the inner products of centred states, (N, N), scaled to norm one."""
    centred = (states - states.mean(0)).astype(np.float32)
    products = centred @ centred.T
    norm = float(np.linalg.norm(products))
    result: Array = products / np.float32(norm if norm > 0 else 1.0)
    return result


def plot(analyses: dict[str, Analysis], path: Path) -> None:
    """Plot distance and cosine by layer, and CKA within each model and with the first one.

    Raises MissingExtraError without matplotlib.
    """
    pyplot = _pyplot()
    names = list(analyses)
    figure, axes = pyplot.subplots(
        2, max(2, len(names)), figsize=(5.2 * max(2, len(names)), 9), squeeze=False, layout="constrained"
    )
    for name, analysis in analyses.items():
        numbers = range(1, len(analysis.layers) + 1)
        axes[0, 0].plot(numbers, [row.relative_distance for row in analysis.layers], "o-", label=name)
        axes[0, 1].plot(numbers, [row.cosine for row in analysis.layers], "o-", label=name)
    for place, title in zip(axes[0], ("distance from input, relative", "cosine with input"), strict=False):
        place.set(title=title, xlabel="layer")
        place.grid(alpha=0.3)
        place.legend()
    first = analyses[names[0]].states
    for place, name in zip(axes[1], names, strict=False):
        states = analyses[name].states
        values = cka(first, first) if name == names[0] else cka(states, first)
        image = place.imshow(values, vmin=0, vmax=1, origin="lower", cmap="viridis")
        place.set(
            title=f"CKA: {name} and {names[0]}", xlabel=f"layer of {names[0]}", ylabel=f"layer of {name}"
        )
        figure.colorbar(image, ax=place, shrink=0.8)
    for unused in [*axes[0, 2:], *axes[1, len(names) :]]:
        unused.axis("off")
    figure.savefig(path)


def _pyplot() -> Any:
    from littlefoot.errors import MissingExtraError

    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtraError("the plot", "matplotlib", "bench") from error
    matplotlib.use("agg")
    from matplotlib import pyplot

    return pyplot
