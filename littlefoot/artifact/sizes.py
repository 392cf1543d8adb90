"""Compute the bytes of a model: of its files, and of its weights by part."""

from __future__ import annotations

from pathlib import Path

from littlefoot.artifact.artifact import Artifact
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import Part

_PARTS = {Part.PROJECTION: "front_end", Part.POSITIONS: "transformer", Part.ADAPTER: "head"}
"""Parts of a network that count as another part."""


def megabytes(folder: Path) -> float:
    """Return the size of an artifact's files on the disk, in 10^6 bytes."""
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


def bytes_by_part(artifact: Artifact) -> dict[str, int]:
    """Return the bytes of the weights as stored: ``front_end`` (with its projection), ``transformer``,
    ``head`` (with the layers of ``add_adapter``).
    """
    parts = {"front_end": 0, "transformer": 0, "head": 0}
    layers = inventory(artifact.config)
    for tensor, array in artifact.weights.items():
        part = layers.owner(tensor).part
        parts[_PARTS.get(part, part.value)] += array.nbytes
    return parts
