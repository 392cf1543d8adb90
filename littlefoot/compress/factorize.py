"""Replace linear layers of the blocks by products of two smaller ones, without training.

LiteASR (Kamahori et al. 2025) keeps the principal components of a layer's outputs. Here the components are
chosen by what their loss does to the model's posteriors: errors are weighted by the Fisher information of the
outputs, as in Fisher-weighted factorization (Hsu et al. 2022), of which all entries are used. To second order
the KL divergence of the posteriors is then half the sum of the eigenvalues that are left out, in nats per
frame. So components of all layers are comparable, and one threshold decides on all ranks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from littlefoot.artifact import Artifact
from littlefoot.compress.calibration import load_clips, some
from littlefoot.compress.inner_rotation import balance
from littlefoot.compress.methods import StepContext
from littlefoot.errors import ConfigError
from littlefoot.network.config import ModelConfig
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import Layer
from littlefoot.network.weights import packable
from littlefoot.system.checks import Checked, Share
from littlefoot.training.module import CTCModel
from littlefoot.training.torch_ops import TorchOps

MULTIPLE, NARROW_MULTIPLE, NARROW = 16, 8, 128
"""Ranks are multiples of the first, so that columns of few bits fill bytes and tiles of the kernels; of the
second in layers that are narrower than the third."""
WORTHWHILE = 0.9
"""Share of a layer's multiplications from which on two factors take as long as the layer itself."""
DAMPING = 1e-6
"""Share of the mean variance that is added to every direction, because some have none in the speech."""


@dataclass(frozen=True)
class FactorizeConfig(Checked):
    """Settings of the factorization."""

    section = "factorize."

    operations: Share = 0.5
    """Share of the multiplications with the weights of the blocks' linear layers that remains."""


def infer_shape(model: ModelConfig, config: FactorizeConfig) -> ModelConfig:
    """Return the model's configuration with the ranks that it has without speech, which determines them.

    Raises ConfigError for a model that has factors already, or a share that no rank is small enough for.
    """
    if model.linear_ranks:
        raise ConfigError(
            "the layers are factorized already: take the model that this was made of, then factorize once"
        )
    layers = factorable(model)
    least = sum(
        min(multiplications(layer, multiple(layer)), multiplications(layer)) for layer in layers.values()
    )
    if config.operations * (whole := sum(map(multiplications, layers.values()))) < least:
        raise ConfigError(
            f"operations {config.operations} cannot be reached: with the lowest ranks the layers still have "
            f"{least / whole:.2f} of their multiplications"
        )
    values = {name: evenly_falling(min(layer.shape)) for name, layer in layers.items()}
    return model.replace(linear_ranks=choose_ranks(layers, values, config.operations), littlefoot={})


def factorable(model: ModelConfig) -> dict[str, Layer]:
    """Return the linear layers of the blocks, which may become products of two."""
    listed = inventory(model)
    return {name: listed.layers[name] for name in packable(model)}


def evenly_falling(channels: int) -> Tensor:
    """Return the eigenvalues (C,) of a layer that no speech has been measured on."""
    return torch.linspace(1, 0, channels, dtype=torch.float64)


@dataclass
class Moments:
    """Second moments of one side of a layer, its inputs or its outputs, whichever has fewer channels."""

    of_inputs: bool
    count: int
    total: Tensor
    """(C,) sum over frames, in float64 as the others: few large channels must not hide the rest."""
    squares: Tensor
    """(C, C) sum of the products of each two channels."""
    fisher: Tensor
    """(C, C) sum of the products of each two derivatives of a sampled log likelihood by the channels."""

    @classmethod
    def of(cls, layer: Layer) -> Moments:
        """Begin without speech."""
        outputs, inputs = layer.shape
        side = min(outputs, inputs)
        zeros = torch.zeros(side, side, dtype=torch.float64)
        return cls(inputs <= outputs, 0, torch.zeros(side, dtype=torch.float64), zeros, zeros.clone())

    def components(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return eigenvalues (C,), the largest first, and matrices ``up`` and ``down`` (C, C).

        The first r columns of ``up`` and rows of ``down`` make the projection to rank r that loses least:
        half the sum of the other eigenvalues, in nats per frame. Without speech each channel is as
        good as one of the others, and eigenvalues fall evenly.
        """
        identity = torch.eye(len(self.total), dtype=torch.float64)
        if not self.count:
            return evenly_falling(len(identity)), identity, identity
        mean = self.mean()
        covariance = self.squares / self.count - torch.outer(mean, mean)
        spread = covariance.diagonal().mean().clamp(min=1e-12)
        root = torch.linalg.cholesky(covariance + DAMPING * spread * identity)
        values, vectors = torch.linalg.eigh(root.T @ (self.fisher / self.count) @ root)
        values, vectors = values.flip(0).clamp(min=0), vectors.flip(1)
        return values, root @ vectors, torch.linalg.solve_triangular(root.T, vectors, upper=True).T

    def mean(self) -> Tensor:
        """Return the mean of each channel, (C,)."""
        return self.total / max(self.count, 1)


class WatchedOps(TorchOps):
    """Operations that record the moments of layers, and of the derivatives when gradients are computed."""

    def __init__(self, *arguments: Any, watched: Mapping[str, Moments]) -> None:
        super().__init__(*arguments)
        self._watched = watched

    def linear(self, x: Tensor, name: str) -> Tensor:
        y = super().linear(x, name)
        if (moments := self._watched.get(name)) is not None:
            y = y if y.requires_grad else y.requires_grad_()
            weight = self.weights[f"{name}.weight"]
            channels = (x if moments.of_inputs else y).detach().reshape(-1, len(moments.total)).double()
            moments.count += len(channels)
            moments.total += channels.sum(0)
            moments.squares += channels.T @ channels

            def add(gradient: Tensor) -> None:
                rows = gradient.reshape(-1, gradient.shape[-1])
                rows = (rows @ weight if moments.of_inputs else rows).double()
                moments.fisher += rows.T @ rows

            y.register_hook(add)  # type: ignore[no-untyped-call]
        return y


def factorize(model: Artifact, config: FactorizeConfig, step: StepContext) -> Artifact:
    """Factorize the linear layers of a model's blocks by their moments on some of the speech.

    Raises ConfigError as ``infer_shape``, or if none of the speech can be used.
    """
    infer_shape(model.config, config)
    network = CTCModel.from_artifact(model).eval().requires_grad_(False)
    layers = factorable(model.config)
    moments = {name: Moments.of(layer) for name, layer in layers.items()}
    if not step.untrained:
        step.progress("measuring which directions of the layers matter")
        paths = [utterance.path for utterance in some(step.speech().of_split("train"))]
        measure(network, load_clips(paths, model), moments)
    found = {name: each.components() for name, each in moments.items()}
    ranks = choose_ranks(layers, {name: values for name, (values, *_) in found.items()}, config.operations)
    lost = sum(layers[name].uses * float(found[name][0][rank:].sum()) / 2 for name, rank in ranks.items())
    step.progress(
        f"{len(ranks)} of {len(layers)} layers have two factors, which lose about {lost:.3f} nats per frame"
    )
    weights = dict(model.weights)
    for name, rank in ranks.items():
        matrix = network.get_parameter(f"{name}.weight").double()
        bias = network.get_parameter(f"{name}.bias").double() if layers[name].bias else None
        kept = weights.pop(f"{name}.weight").dtype
        weights.pop(f"{name}.bias", None)
        for leaf, value in factors(matrix, bias, moments[name], found[name], rank).items():
            weights[f"{name}.{leaf}"] = value.numpy().astype(kept)
    return replace(model, config=model.config.replace(linear_ranks=ranks, littlefoot={}), weights=weights)


def measure(
    network: CTCModel, clips: Sequence[npt.NDArray[np.float32]], moments: Mapping[str, Moments]
) -> None:
    """Add up the moments over prepared clips, (T,) each.

    The Fisher information is the mean of squared derivatives of log p(t), where each frame's token t is drawn
    from the model's own posterior p.

    Raises ConfigError if no clip is long enough.
    """
    usable = [clip for clip in clips if network.config.frames(len(clip)) > 0]
    if not usable:
        raise ConfigError("none of the recordings can be used: check the manifests")
    generator = torch.Generator().manual_seed(0)
    operations = partial(WatchedOps, watched=moments)
    for clip in usable:
        logits = network.encode(torch.from_numpy(clip)[None], make_ops=operations).logits[0]
        posteriors = torch.log_softmax(logits, -1)
        drawn = torch.multinomial(posteriors.detach().exp(), 1, generator=generator)
        posteriors.gather(1, drawn).sum().backward()  # type: ignore[no-untyped-call]


def choose_ranks(
    layers: Mapping[str, Layer], values: Mapping[str, Tensor], operations: float
) -> dict[str, int]:
    """Return the ranks of layers that become two factors, by their names.

    A component is kept if its eigenvalue is worth the multiplications it costs; bisection finds the price
    with which ``operations`` of all multiplications remain.
    """
    whole = sum(map(multiplications, layers.values()))
    worth = {name: values[name] / sum(layers[name].shape) for name in layers}  # both for each use

    def at(price: float) -> dict[str, int]:
        ranks = {name: _rounded(int((worth[name] > price).sum()), layers[name]) for name in layers}
        return {
            name: rank
            for name, rank in ranks.items()
            if multiplications(layers[name], rank) < WORTHWHILE * multiplications(layers[name])
        }

    def remaining(ranks: Mapping[str, int]) -> int:
        return sum(multiplications(layer, ranks.get(name)) for name, layer in layers.items())

    low, high = 0.0, 2 * max(float(each.max()) for each in worth.values())
    for _ in range(100):
        middle = (low + high) / 2
        if remaining(at(middle)) > operations * whole:
            low = middle
        else:
            high = middle
    return at(high)


def factors(
    matrix: Tensor,
    bias: Tensor | None,
    moments: Moments,
    components: tuple[Tensor, Tensor, Tensor],
    rank: int,
) -> dict[str, Tensor]:
    """Return ``down.weight`` (r, C), ``up.weight`` (C', r) and, with a bias, ``up.bias`` (C',).

    The layer has a weight (C', C).

    What the projection loses of the mean goes into the bias. Both factors of a component have the same norm,
    so that steps of training change them alike.
    """
    _, up, down = components
    up, down = up[:, :rank], down[:rank]
    mean = moments.mean()
    if moments.of_inputs:
        made = {"up.weight": matrix @ up, "down.weight": down}
        lost = matrix @ (mean - up @ (down @ mean))
    else:
        made = {"up.weight": up, "down.weight": down @ matrix}
        centre = mean if bias is None else mean - bias
        lost = centre - up @ (down @ centre)
    scale = balance(made["up.weight"], made["down.weight"])
    made = {"up.weight": made["up.weight"] / scale, "down.weight": made["down.weight"] * scale[:, None]}
    return made if bias is None else {**made, "up.bias": bias + lost}


def multiplications(layer: Layer, rank: int | None = None) -> int:
    """Count the multiplications of a layer for one frame, with two factors if there is a rank."""
    outputs, inputs = layer.shape
    return layer.uses * (outputs * inputs if rank is None else rank * (outputs + inputs))


def multiple(layer: Layer) -> int:
    """Return the number of which a layer's rank is a multiple."""
    return MULTIPLE if min(layer.shape) >= NARROW else NARROW_MULTIPLE


def _rounded(rank: int, layer: Layer) -> int:
    return max(1, -(-rank // multiple(layer))) * multiple(layer)
