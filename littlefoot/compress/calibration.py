"""Sample layers' inputs on real audio, from which quantization chooses its ranges."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact
from littlefoot.audio import manifest, reading
from littlefoot.errors import ConfigError
from littlefoot.network.weights import packable
from littlefoot.runtime import graph
from littlefoot.runtime.openvino import observe
from littlefoot.system.progress import tracked

Array = npt.NDArray[np.float32]

MAX_ROWS = 512
SINGLE_VALUES = 65536
MAX_CLIPS = 64
MAX_CLIP_SECONDS = 15.0
MOMENT_ROWS = 16384
"""Frames of all clips together over which second moments are taken: four times the channels of a large
model."""
_MAX_VALUES = 4_000_000


@dataclass(frozen=True)
class LayerInput:
    """The input that one or more layers share (query, key and value read the same tensor)."""

    layers: tuple[str, ...]
    low: Array
    """(C,) smallest value seen in each channel, in all of the audio; (1,) for a factor of a product."""
    high: Array
    rows: Array
    """A random sample: (N, C) frames for linear layers, (N, C, K) windows for a convolution, (N, 1) single
    values for a factor of a product."""
    moments: Array | None = None
    """(C, C) means of the products of each two channels, for the Transformer's linear layers if ``collect``
    was asked for them."""

    def second_moments(self) -> Array:
        """Return ``moments``. Raises ValueError if ``collect`` was not asked for them."""
        if self.moments is None:
            raise ValueError(f"{self.layers[0]}: few bits need collect(..., moments=True)")
        return self.moments


def collect(
    artifact: Artifact,
    clips: Iterable[Array],
    progress: Callable[[str], None] = lambda message: None,
    moments: bool = False,
) -> list[LayerInput]:
    """Run prepared clips, (T,) float32 each, through the full-precision model and sample every layer's input.

    Long work reports its progress. Raises ConfigError if there is no audio, or only silence.

    Args:
        moments: also take the second moments of the Transformer's linear layers' inputs, which rounding to
            fewer than 8 bits needs: C * C values for each of them.
    """
    network = graph.build(artifact, observe=True)
    groups = _groups(network.observed)
    shapes = {
        name: artifact.weights[f"{name}.weight"].shape if f"{name}.weight" in artifact.weights else (1, 1)
        for names in network.observed.values()
        for name in names
    }
    generator = np.random.default_rng(0)
    shortest = artifact.config.shortest
    usable = [clip for clip in clips if len(clip) >= shortest and np.ptp(clip) > 0]
    if not usable:
        raise ConfigError("the calibration audio is empty or silent: give recordings of speech")
    samples: dict[tuple[str, ...], list[Array]] = {}
    low: dict[tuple[str, ...], Array] = {}
    high: dict[tuple[str, ...], Array] = {}
    products: dict[tuple[str, ...], Array] = {}
    counts: Counter[tuple[str, ...]] = Counter()
    few = packable(artifact.config) if moments else {}
    uses = Counter(groups.values())
    for values in tracked(observe(network, usable), len(usable), "sampling layers' inputs", progress):
        for value, array in values.items():
            group = groups[value]
            name = group[0]
            smallest, largest = _extremes(array, shapes[name])
            low[group] = np.minimum(low.get(group, smallest), smallest)
            high[group] = np.maximum(high.get(group, largest), largest)
            count = max(1, _budget(shapes[name], len(usable)) // uses[group])
            stride = network.strides.get(name)
            samples.setdefault(group, []).append(_sample(array, shapes[name], stride, count, generator))
            if few.keys() & group:
                most = MOMENT_ROWS // (len(usable) * uses[group])
                frames = _some_frames(array, shapes[name], most, generator)
                products[group] = products.get(group, np.float32(0)) + frames.T @ frames
                counts[group] += len(frames)
    return [
        LayerInput(
            *(group, low[group], high[group], np.concatenate(rows)),
            products[group] / np.float32(counts[group]) if group in products else None,
        )
        for group, rows in samples.items()
    ]


def _groups(observed: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
    """Return for each tensor all layers that read it, and those that read the other inputs of these layers.

    A layer whose weights are used at several depths reads several tensors, and has one range for all.
    """
    group_of: dict[str, set[str]] = {}
    for layers in observed.values():
        joined = set(layers).union(*(group_of.get(layer, set()) for layer in layers))
        for layer in joined:
            group_of[layer] = joined
    order = {layer: place for place, layer in enumerate(dict.fromkeys(itertools.chain(*observed.values())))}
    return {
        value: tuple(sorted(group_of[layers[0]], key=order.__getitem__)) for value, layers in observed.items()
    }


def _extremes(array: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Return the smallest and the largest value of each channel of a layer's input, (C,) each."""
    if shape == (1, 1):  # a factor of a product
        channels = array.reshape(-1, 1)
    elif len(shape) == 2:
        channels = array.reshape(-1, shape[1])
    else:  # (1, C, 1, T)
        channels = array[0, :, 0].T
    return channels.min(axis=0), channels.max(axis=0)


def _budget(shape: tuple[int, ...], clips: int) -> int:
    """Return the number of rows to take from each clip."""
    row = int(np.prod(shape[1:]))
    rows = SINGLE_VALUES if row == 1 else min(MAX_ROWS, _MAX_VALUES // row)
    return max(1, rows // clips)


def _sample(
    array: npt.NDArray[Any],
    shape: tuple[int, ...],
    stride: int | None,
    count: int,
    generator: np.random.Generator,
) -> Array:
    """Sample random frames of a linear layer's input (1, F, C) -> (N, C), windows of a convolution's (1, C,
    1, T) -> (N, C, K), or single values (N, 1).
    """
    if len(shape) == 2:
        rows = array.reshape(-1, shape[1])
        return rows[generator.integers(len(rows), size=count)].astype(np.float32)
    assert stride is not None  # a convolution has one
    image = array[0, :, 0]  # (C, T)
    windows = np.lib.stride_tricks.sliding_window_view(image, min(shape[2], image.shape[1]), axis=1)
    windows = windows[:, ::stride].transpose(1, 0, 2)  # (F, C, K), a view
    chosen = windows[generator.integers(len(windows), size=count)]
    return np.pad(chosen, ((0, 0), (0, 0), (0, shape[2] - chosen.shape[2]))).astype(np.float32)


def _some_frames(
    array: npt.NDArray[Any], shape: tuple[int, ...], count: int, generator: np.random.Generator
) -> Array:
    """Return all frames (N, C) of a linear layer's input, or ``count`` of them."""
    frames = array.reshape(-1, shape[1]).astype(np.float32, copy=False)
    if len(frames) <= (count := max(1, count)):
        return frames
    chosen: Array = frames[np.sort(generator.choice(len(frames), count, replace=False))]
    return chosen


def recordings(sources: Sequence[Path]) -> list[Path]:
    """Find the recordings of ``sources``: files, and manifests (the training split, or all if there is none).

    Raises ManifestError for a manifest that cannot be read.
    """
    paths: list[Path] = []
    for source in sources:
        if source.is_dir() or source.suffix in (".tsv", ".jsonl"):
            corpus = manifest.index(source)
            paths += [utterance.path for utterance in corpus.of_split("train") or corpus]
        else:
            paths.append(source)
    return paths


T = TypeVar("T")


def some(items: Sequence[T]) -> list[T]:
    """Return all items, or MAX_CLIPS of them spread over the list, the same every time."""
    if len(items) <= MAX_CLIPS:
        return list(items)
    generator = np.random.default_rng(0)
    return [items[int(i)] for i in sorted(generator.choice(len(items), MAX_CLIPS, replace=False))]


def load_clips(paths: Sequence[Path], artifact: Artifact) -> list[Array]:
    """Load calibration audio for the model: (T,) float32 each, at most MAX_CLIPS of MAX_CLIP_SECONDS."""
    clips = []
    for path in some(paths):
        clip = next(reading.blocks(path, MAX_CLIP_SECONDS))
        clips.append(reading.normalize(clip) if artifact.preprocessor.get("do_normalize", True) else clip)
    return clips
