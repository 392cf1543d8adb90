"""What a model's weights take on the disk."""

from __future__ import annotations

from littlefoot.artifact.artifact import Artifact


def bytes_by_part(artifact: Artifact) -> dict[str, int]:
    """Bytes of the weights as stored: ``front_end`` (with its projection), ``transformer``, ``head``."""
    parts = {"front_end": 0, "transformer": 0, "head": 0}
    for tensor, array in artifact.weights.items():
        front = tensor.startswith(("feature_extractor", "feature_projection"))
        part = "front_end" if front else "head" if tensor.startswith("lm_head") else "transformer"
        parts[part] += array.nbytes
    return parts
