"""Rotate the channels between the two factors of factorized layers, so that rounding costs less.

The components of a factorized layer differ by orders of magnitude, and a row of few bits has one scale. Any
invertible matrix may be multiplied to the first factor and its inverse to the second. Factors of equal norms
in each component, rotated at random, have the least expected error of rounding rows to a grid (the idea of
QuaRot, Ashkboos et al. 2024, where rotations cost time at run time; these cost nothing).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from littlefoot.artifact import Artifact

Weight = npt.NDArray[Any]

_TINY = 1e-60
"""Added to squares, so that a component of zeros stays one."""


def rotated(artifact: Artifact) -> Artifact:
    """Return a model that computes the same, with rotated channels between factors.

    A model without factorized layers is returned as it is.
    """
    weights = dict(artifact.weights)
    for name in artifact.config.linear_ranks:
        up, down = f"{name}.up.weight", f"{name}.down.weight"
        weights[up], weights[down] = rotated_factors(weights[up], weights[down])
    return replace(artifact, weights=weights) if artifact.config.linear_ranks else artifact


def rotated_factors(up: Weight, down: Weight) -> tuple[Weight, Weight]:
    """Return two factors, (C', r) and (r, C), of the same product, with balanced and rotated components."""
    rank, kind = len(down), up.dtype
    up, down = up.astype(np.float64), down.astype(np.float64)
    scale = balance(up, down)
    rotation, _ = np.linalg.qr(np.random.default_rng(rank).standard_normal((rank, rank)))
    return (up / scale @ rotation.T).astype(kind), (rotation @ (down * scale[:, None])).astype(kind)


def balance(up: Any, down: Any) -> Any:
    """Return the scale (r,) that gives both factors of each component the same norm.

    Divide ``up`` (C', r) by it and multiply ``down`` (r, C): arrays or tensors of float64.
    """
    return (((up * up).sum(0) + _TINY) / ((down * down).sum(1) + _TINY)) ** 0.25
