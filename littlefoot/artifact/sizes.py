"""Compute the bytes of a model: of its files, and of its weights by part."""

from __future__ import annotations

from pathlib import Path

from littlefoot.artifact import checksums
from littlefoot.artifact.artifact import POSSIBLE_FILES, Artifact, is_artifact
from littlefoot.network import names
from littlefoot.network.inventory import inventory
from littlefoot.network.layers import Part

_PARTS = {Part.PROJECTION: "front_end", Part.POSITIONS: "transformer", Part.ADAPTER: "head"}
"""Parts of a network that count as another part."""


def disk_bytes(path: Path) -> int:
    """Return the bytes of a model's files on the disk: of an artifact all, of a checkpoint its weights.

    ``path`` is its directory, or file (``checkpoint.load_from``).
    """
    files = [path] if path.is_file() else stored_files(path)
    return sum(file.stat().st_size for file in files)


def stored_files(directory: Path) -> list[Path]:
    """Return the files of a model that ``disk_bytes`` counts."""
    if is_artifact(directory):
        possible = (directory / name for name in (*POSSIBLE_FILES, checksums.NAME))
        return [path for path in possible if path.exists()]
    return sorted(directory.glob("model*.safetensors")) or sorted(directory.glob("pytorch_model*.bin"))


def megabytes(path: Path) -> float:
    """Return ``disk_bytes`` in 10^6 bytes."""
    return disk_bytes(path) / 1e6


def bytes_by_part(artifact: Artifact) -> dict[str, int]:
    """Return the bytes of the weights as stored: ``front_end`` (with its projection), ``transformer``,
    ``head`` (with the layers of ``add_adapter``).
    """
    parts = {"front_end": 0, "transformer": 0, "head": 0}
    layers = inventory(artifact.config)
    for tensor, array in names.as_stored(artifact.weights).items():
        part = layers.owner(tensor).part
        parts[_PARTS.get(part, part.value)] += array.nbytes
    return parts
