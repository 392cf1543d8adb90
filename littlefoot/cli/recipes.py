"""Carry out recipes: functions that several commands share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from littlefoot.cli.progress import tell

if TYPE_CHECKING:
    from littlefoot.artifact import Artifact
    from littlefoot.compress.recipe import Recipe


def carry_out(
    recipe: Recipe,
    model: Artifact,
    name: str,
    out: Path,
    data: Sequence[Path] | None,
    resume: bool,
    overwrite: bool,
) -> None:
    """Run a recipe on a model called ``name`` and save the result; OUT-steps keeps the steps' results.

    The output has been checked (``artifact.check_output``), before the model was loaded.
    """
    from littlefoot.audio import manifest
    from littlefoot.compress import run
    from littlefoot.compress.methods import is_main_process

    main = is_main_process()

    def progress(message: str) -> None:
        if main:
            tell(message)

    corpus = manifest.index(list(data)) if data else None
    directory = out.with_name(out.name + "-steps")
    made = run(model, recipe, corpus, directory, name, resume, progress)
    if main:
        save(made, model, out, overwrite)


def save(made: Artifact, loaded: Artifact, out: Path, overwrite: bool) -> None:
    """Save a model that was made from ``loaded``, and print its size."""
    from littlefoot import artifact
    from littlefoot.artifact import weights_file_bytes

    artifact.save(made, out, overwrite)
    before, after = (weights_file_bytes(a) / 1e6 for a in (loaded, made))
    tell(
        f"saved {out}: {made.parameters / 1e6:.2f} of {loaded.parameters / 1e6:.2f} million parameters, "
        f"{after:.2f} of {before:.2f} MB"
    )
