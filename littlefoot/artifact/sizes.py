"""What a model's weights take on the disk."""

from __future__ import annotations

from littlefoot.artifact.artifact import Artifact
from littlefoot.network.inventory import Part, inventory

_PARTS = {Part.PROJECTION: "front_end", Part.POSITIONS: "transformer"}
"""Parts of a network that count as another's."""


def bytes_by_part(artifact: Artifact) -> dict[str, int]:
    """Bytes of the weights as stored: ``front_end`` (with its projection), ``transformer``, ``head``."""
    parts = {"front_end": 0, "transformer": 0, "head": 0}
    layers = inventory(artifact.config)
    for tensor, array in artifact.weights.items():
        part = layers.owner(tensor).part
        parts[_PARTS.get(part, part.value)] += array.nbytes
    return parts
