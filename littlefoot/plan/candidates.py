"""Chains of methods that may make a model small or fast enough.

A candidate is a shape (fewer layers, factorized, pruned, shared), possibly streaming, in a precision. Its
settings have the values that gave the best results in our comparisons (RESULTS.md). The search determines
which chain is best for a model, and how small the model should become.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from littlefoot.compress.quantize import POST_TRAINING_WIDTHS
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.encoder import position_padding
from littlefoot.network.inventory import inventory
from littlefoot.plan.sizes import ROUNDING, MethodCall, header_bytes, mixed_megabytes

TRAINED = ("distill", "prune", "share", "stream", "lowbit")
WEIGHTS = {"prune": 1.0, "distill": 2.0, "share": 2.0, "stream": 2.0, "lowbit": 1.0}
"""Weights by which the training steps are divided among the methods of a chain."""
LOOK_AHEAD = 3 / 8
"""Share of a streaming model's latency that its positional convolution looks ahead (RESULTS.md, section
Live), at most as far as in the original model."""
DEPTHS = (0.75, 0.5, 1 / 3, 0.25)
OPERATIONS = (0.75, 0.5)
SPARSITIES = tuple(percent / 100 for percent in range(10, 90, 5))
PRECISIONS: dict[str, tuple[MethodCall, ...]] = {
    "": (),
    "int8": (("quantize", {"max_disagreement": 1.0}),),  # the judge measures the errors
    "4 bits": (("quantize", {"bits": 4, "max_disagreement": 1.0}),),
    # With 8 bits, the positional convolution would take a sixth of the file.
    "3 bits": (("lowbit", {"bits": 3, "positions": 4}),),
    "2 bits": (("lowbit", {"bits": 2, "positions": 4}),),
    "1 bit": (("lowbit", {"bits": 1, "positions": 4}),),
}
POST_TRAINING: dict[str, tuple[MethodCall, ...]] = {
    f"{bits} bits without training": (("quantize", {"bits": bits, "max_disagreement": 1.0}),)
    for bits in (3, 2)
}
"""Precisions that need no training, for the model's own shape. 8 and 4 bits never need training."""
MIXED_BITS = (6.0, 3.5, 2.5)
"""Mean bits per weight of models with mixed bits, if the target has no size."""
HEADER_MARGIN = 1.1
"""Bytes of the file's header that are reserved, as a multiple of its estimate."""
SHARED_INT8: tuple[MethodCall, ...] = (("lowbit", {"bits": 8}),)
"""Training for a shared layer: one range must fit its inputs at all depths."""


@dataclass(frozen=True)
class Candidate:
    """A chain of methods."""

    shape: str
    """Description of the shape, such as ``4 of 8 layers``; empty for the model's own."""
    precision: str
    """Key of PRECISIONS or POST_TRAINING, or a description of mixed bits; empty for float32."""
    steps: tuple[MethodCall, ...]

    @property
    def name(self) -> str:
        """Return the name that messages and tables show."""
        return f"{self.shape or 'all of it'}, {self.precision or 'float32'}"

    @property
    def shaping(self) -> tuple[MethodCall, ...]:
        """Return the steps before the precision is lowered."""
        return tuple(step for step in self.steps if step[0] not in ROUNDING)

    @property
    def family(self) -> tuple[str, str]:
        """Return a key that is the same for candidates that differ only in the amounts of their settings."""
        return "+".join(method for method, _ in self.steps), self.precision

    @property
    def trained(self) -> bool:
        """Return True if the candidate needs training."""
        return any(method in TRAINED for method, _ in self.steps)


def candidates(
    config: ModelConfig,
    latency_ms: float | None = None,
    training: bool = True,
    by_bytes: bool = False,
    size: float | None = None,
) -> list[Candidate]:
    """List all chains for a model's geometry.

    Args:
        latency_ms: largest algorithmic latency, if the result must stream.
        training: whether training is possible; otherwise only post-training methods are listed.
        by_bytes: prune a share of the bytes, so that sizes are known before training selects the parts;
            otherwise a share of the operations, to which computing time is proportional.
        size: bytes of the file in the target, which a model of mixed bits should fill.

    Raises:
        ConfigError: the model's frames do not allow the latency, or the result must stream and training is
            not possible.
    """
    if latency_ms is None:
        live: tuple[MethodCall, ...] = ()
    elif not training:
        raise ConfigError("a streaming model needs training: name training speech with --data")
    else:
        chunk, ahead = frames_of(config, latency_ms)
        live = (("stream", {"chunk_frames": chunk, "right_context_frames": ahead, "teacher": "first"}),)
    shapes: Iterable[tuple[str, tuple[MethodCall, ...]]] = _shapes(config) if training else [("", ())]
    found = []
    for (shape, made), (precision, last) in itertools.product(shapes, PRECISIONS.items()):
        shared = any(method == "share" for method, _ in made)
        if by_bytes:
            made = tuple(_by_bytes(step, last) for step in made)
        steps = (*made, *live, *(SHARED_INT8 if shared and precision == "int8" else last))
        candidate = Candidate(shape, precision, steps)
        if steps and (training or not candidate.trained) and not (shared and precision == "4 bits"):
            found.append(candidate)
    own: dict[str, tuple[MethodCall, ...]] = {**POST_TRAINING, **_mixed(config, size)}
    return found + [Candidate("", precision, (*live, *last)) for precision, last in own.items()]


def _mixed(config: ModelConfig, size: float | None) -> dict[str, tuple[MethodCall, ...]]:
    """Return steps that choose the bits of each layer, for the size or for several mean bit widths."""
    if size is not None:
        budgets = {"mixed bits": (size - HEADER_MARGIN * header_bytes(config, 8)) / 1e6}
    else:
        budgets = {f"mixed bits, {bits:g} on average": mixed_megabytes(config, bits) for bits in MIXED_BITS}
    most = mixed_megabytes(config, max(MIXED_BITS) + 1)  # a larger budget suffices for 8 bits everywhere
    return {
        name: (("quantize", {"budget_mb": round(budget, 6)}),)
        for name, budget in budgets.items()
        if mixed_megabytes(config, min(POST_TRAINING_WIDTHS)) <= budget <= most
    }


def _by_bytes(step: MethodCall, last: tuple[MethodCall, ...]) -> MethodCall:
    """Make a pruning step count the bytes that will be stored; return other steps unchanged."""
    method, values = step
    if method != "prune":
        return step
    if not last:
        return method, {**values, "measure": "parameters"}
    return method, {**values, "measure": "bytes", "bits": last[0][1].get("bits", 8)}


def _shapes(config: ModelConfig) -> Iterator[tuple[str, tuple[MethodCall, ...]]]:
    yield "", ()
    depth = config.num_hidden_layers
    for layers in sorted({math.ceil(depth * share) for share in DEPTHS} - {depth}, reverse=True):
        spread = "spread" if 2 * layers > depth else "every_k"
        # With a frozen front end, the student makes fewer errors after a short training.
        distill: MethodCall = (
            "distill",
            {
                "student": {
                    "layers": layers,
                    "initialisation": spread,
                },
                "loss": {"kl": 1.0},
                "train": {"freeze_front_end": True},
            },
        )
        yield f"{layers} of {depth} layers", (distill,)
    if config.linear_ranks:
        return
    repair: MethodCall = (
        "distill",
        {"teacher": "first", "loss": {"kl": 1.0}, "train": {"freeze_front_end": True}},
    )
    for operations in OPERATIONS:
        factorize: MethodCall = ("factorize", {"operations": operations})
        yield f"factorized to {100 * operations:.0f} %", (factorize, repair)
    if config.layer_blocks or config.layer_maps:
        return
    axes = {axis.kind.value for axis in inventory(config).axes.values()}
    parts = [part for part in ("heads", "ffn", "conv") if part in axes]
    for sparsity in SPARSITIES:
        prune: MethodCall = ("prune", {"sparsity": sparsity, "measure": "operations", "parts": parts})
        yield (
            f"pruned by {100 * sparsity:.0f} %",
            (prune, ("distill", {"teacher": "first", "loss": {"kl": 1.0}})),
        )
    if depth > 1 and not config.layer_attention_heads and not config.layer_intermediate_size:
        loss = {"kl": 1.0, "hidden_mse": 0.01}
        for group, rank in ((2, 8), (0, 8), (0, 0)):
            share: MethodCall = ("share", {"group": group, "map_group": 2, "delta_rank": rank, "loss": loss})
            yield f"layers shared by {group or depth}" + (", with deltas" if rank else ""), (share,)


def frames_of(config: ModelConfig, latency_ms: float) -> tuple[int, int]:
    """Compute the frames of the longest chunk and its right context that a latency allows.

    Raises ConfigError if even the shortest chunks have a larger latency, or if the model cannot stream.
    """
    norm = "affine" if config.feat_extract_norm == "group" else config.feat_extract_norm
    step = config.chunk_step
    streaming = config.replace(chunk_frames=step, left_context_frames=step, feat_extract_norm=norm)
    shortest = streaming.algorithmic_latency_ms
    assert shortest is not None  # it streams
    if latency_ms < shortest:
        raise ConfigError(
            f"a latency of {latency_ms:g} ms cannot be reached: the model's frames are {config.frame_ms:g} "
            f"ms apart, and its shortest latency is {math.ceil(shortest)} ms"
        )
    frames = step + int((latency_ms - shortest) / config.feature_frame_ms + 1e-9)
    ahead = min(int(LOOK_AHEAD * frames), position_padding(config)[1])
    chunk = max((frames - ahead) // step, 1) * step
    return chunk, min(ahead, frames - chunk)


def written(
    candidate: Candidate, config: ModelConfig, steps: int, train: Mapping[str, Any], final: bool
) -> dict[str, Any]:
    """Build the recipe of a candidate, for a YAML file.

    Args:
        config: configuration of the original model.
        steps: training steps of all methods together.
        train: training settings of every method.
        final: True selects the best of several states of the model; a trial takes the last.
    """
    whole = sum(WEIGHTS[method] for method, _ in candidate.steps if method in TRAINED)
    recipe = []
    for method, values in candidate.steps:
        settings = dict(values)
        if method in TRAINED:
            count = max(1, round(steps * WEIGHTS[method] / whole))
            own = settings.get("train", {})
            settings["train"] = {**_train(method, config, count, final), **own, **train}
        recipe.append({method: settings})
    return {"steps": recipe}


def _train(method: str, config: ModelConfig, steps: int, final: bool) -> dict[str, Any]:
    narrow = min(1.0, 256 / config.hidden_size)  # wide models need lower rates
    settings = {
        "steps": steps,
        "lr": round(narrow * (5e-4 if method == "lowbit" else 1e-3), 6),
        "warmup_steps": min(100, steps // 10),
        "batch_seconds": 32,
        "short_first": False,
        "eval_every": max(1, steps // 6) if final else steps,
        "average_best": 3 if final else 1,
    }
    if method == "distill":
        settings["dropout"] = False
    if method == "lowbit":
        settings |= {"time_mask_fraction": 0.0, "feature_mask_fraction": 0.0, "freeze_front_end": True}
    return settings
