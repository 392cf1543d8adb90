"""The one format that training and inference both know: directories, read and written with numpy only.

``save`` and ``load`` are all that most code needs; ``checkpoint`` finds and loads any model.
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
