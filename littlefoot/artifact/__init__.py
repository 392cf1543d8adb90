"""Read and write the one format that training and inference share: a directory, with numpy only.

``save`` and ``load`` suffice for most code; ``checkpoint`` finds and loads any model.
"""

from littlefoot.artifact.artifact import (
    Artifact,
    check_output,
    check_transformers,
    fingerprint,
    first_layers,
    is_artifact,
    load,
    save,
    weights_file_bytes,
)

__all__ = [
    "Artifact",
    "check_output",
    "check_transformers",
    "fingerprint",
    "first_layers",
    "is_artifact",
    "load",
    "save",
    "weights_file_bytes",
]
